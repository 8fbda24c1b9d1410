"""parts.jsonl: the parts of each labelled photo, so that train.py can draw them in its report.

data_preparation.py writes it. A JSON file would be taken for annotations on the next run.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from viewpoint.annotations.photo import Part

PARTS_NAME = "parts.jsonl"
FIRST_KEY = '{"image_path": '


def write_parts(photos: Mapping[str, tuple[Part, ...]], path: Path) -> None:
    """Write a line for each photo: its path, and its parts with outlines in whole pixels of the upright photo."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for image_path, parts in sorted(photos.items()):
            regions = [
                {"names": part.names, "outlines": [[[round(x), round(y)] for x, y in one] for one in part.outlines]}
                for part in parts
            ]
            row = {"image_path": image_path, "parts": regions}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_parts(path: Path, wanted: Collection[str] | None = None) -> dict[str, tuple[Part, ...]]:
    """The parts of the photos of `wanted` that the file has, or of all its photos; {} when missing or damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            return {path: parts for path, parts in map(parse_line, file) if wanted is None or path in wanted}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def parse_line(line: str) -> tuple[str, tuple[Part, ...]]:
    """The photo of a line. Raises ValueError, KeyError or TypeError when the line is damaged."""
    row = json.loads(line)
    parts = tuple(
        Part(tuple(part["names"]), tuple(tuple((x, y) for x, y in one) for one in part["outlines"]))
        for part in row["parts"]
    )
    return row["image_path"], parts
