"""parts.jsonl: the parts of each labelled photo, so that the report of a training can draw them on its mistakes.

data_preparation.py writes it. A JSON file would be taken for annotations on the next run.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from viewpoint.annotations.photo import Part

PARTS_NAME = "parts.jsonl"
FIRST_KEY = '{"image_path": '


def write_parts(parts: Mapping[str, tuple[Part, ...]], path: Path) -> None:
    """Write a line for each photo: its path, and its parts with their outlines in whole pixels of the upright photo."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for image_path, drawn in sorted(parts.items()):
            regions = [
                {"names": part.names, "outlines": [[[round(x), round(y)] for x, y in one] for one in part.outlines]}
                for part in drawn
            ]
            file.write(json.dumps({"image_path": image_path, "parts": regions}, ensure_ascii=False) + "\n")


def read_parts(path: Path, wanted: Collection[str]) -> dict[str, tuple[Part, ...]]:
    """The parts of those photos of `wanted` that the file has; {} when it is missing or damaged."""
    found = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                if row["image_path"] in wanted:
                    found[row["image_path"]] = tuple(
                        Part(tuple(part["names"]), tuple(tuple((x, y) for x, y in one) for one in part["outlines"]))
                        for part in row["parts"]
                    )
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found
