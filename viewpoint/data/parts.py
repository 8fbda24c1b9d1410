"""parts.jsonl: the parts of each labelled photo, so that train.py can frame vehicles and draw parts in its report.

data_preparation.py writes it. A JSON file would be taken for annotations on the next run.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from viewpoint.annotations.photo import Part

PARTS_NAME = "parts.jsonl"
FIRST_KEY = '{"image_path": '

# Left, top, right and bottom as fractions of a photo's width and height.
Box = tuple[float, float, float, float]
WHOLE_PHOTO: Box = (0.0, 0.0, 1.0, 1.0)

# The parts of a photo, and its width and height in pixels.
Drawn = tuple[tuple[Part, ...], tuple[int, int]]


def write_parts(photos: Mapping[str, Drawn], path: Path) -> None:
    """Write a line for each photo: its path, its size, and its parts with their outlines.

    The outlines are in whole pixels of the upright photo.
    """
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for image_path, (parts, size) in sorted(photos.items()):
            regions = [
                {"names": part.names, "outlines": [[[round(x), round(y)] for x, y in one] for one in part.outlines]}
                for part in parts
            ]
            row = {"image_path": image_path, "size": size, "parts": regions}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_parts(path: Path, wanted: Collection[str]) -> dict[str, tuple[Part, ...]]:
    """The parts of those photos of `wanted` that the file has; {} when it is missing or damaged."""
    return {image_path: parts for image_path, (parts, _) in read_drawn(path, wanted).items()}


def read_drawn(path: Path, wanted: Collection[str]) -> dict[str, Drawn]:
    """The parts and sizes of those photos of `wanted` that the file has; {} when it is missing or damaged."""
    try:
        with path.open(encoding="utf-8") as file:
            return {image_path: drawn for image_path, drawn in map(parse_line, file) if image_path in wanted}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def parse_line(line: str) -> tuple[str, Drawn]:
    """The photo of a line. Raises ValueError, KeyError or TypeError when the line is damaged."""
    row = json.loads(line)
    parts = tuple(
        Part(tuple(part["names"]), tuple(tuple((x, y) for x, y in one) for one in part["outlines"]))
        for part in row["parts"]
    )
    width, height = row["size"]
    return row["image_path"], (parts, (int(width), int(height)))


def vehicle_box(drawn: Drawn) -> Box | None:
    """The box around all outlined parts of a photo; None without any."""
    parts, (width, height) = drawn
    points = [point for part in parts for outline in part.outlines for point in outline]
    if not points:
        return None
    xs = [min(max(x / width, 0.0), 1.0) for x, _ in points]
    ys = [min(max(y / height, 0.0), 1.0) for _, y in points]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    return (left, top, right, bottom) if left < right and top < bottom else None
