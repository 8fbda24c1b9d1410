"""outlines.jsonl: where the parts of each photo are, so that train.py can frame its vehicle in other ways.

data_preparation.py writes it beside the splits, one line a photo. Without it, or for photos that
are not in it, train.py crops photos without knowing where the vehicle is.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import config
from viewpoint.annotations.photo import Part
from viewpoint.labeling import label_parts

# Left, top, right and bottom as fractions of a photo's width and height.
Box = tuple[float, float, float, float]
WHOLE_PHOTO: Box = (0.0, 0.0, 1.0, 1.0)

# A part's name and its polygon: fractions of the photo's width and height in turns, x, y, x, y ...
Outlined = tuple[str, Sequence[float]]


def describe_outlines(photos: Mapping[str, tuple[Sequence[Part], tuple[int, int]]]) -> Iterable[str]:
    """The lines of outlines.jsonl, for photos by image_path: their parts, and width and height in pixels."""
    for image_path, (parts, (width, height)) in photos.items():
        # A thousandth of a photo is a fifth of a pixel of the model's input.
        outlined = [
            (name, [round(value, 3) for x, y in outline for value in (x / width, y / height)])
            for part in parts
            for name in part.names
            for outline in part.outlines or [()]
        ]
        yield json.dumps({"image_path": image_path, "parts": outlined}, ensure_ascii=False) + "\n"


def read_outlines(path: Path) -> dict[str, list[Outlined]]:
    """The outlined parts of each photo by image_path; {} when the file is missing, lines that are damaged left out."""
    outlines = {}
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                try:
                    photo = json.loads(line)
                    parts = [(str(name), [float(value) for value in points]) for name, points in photo["parts"]]
                    outlines[str(photo["image_path"])] = parts
                except (ValueError, TypeError, KeyError):
                    continue
    except (OSError, UnicodeDecodeError):
        return {}
    return outlines


def vehicle_boxes(
    image_paths: Iterable[str], labels: Iterable[str], outlines: Mapping[str, Sequence[Outlined]]
) -> list[Box | None]:
    """Where the vehicle of each photo is: the box around all its parts; None where that is not known.

    A photo of the class Background counts as a whole. The box is not known for a vehicle whose
    label does not follow from its parts, because a person has corrected it.
    """
    boxes: list[Box | None] = []
    for image_path, label in zip(image_paths, labels, strict=True):
        parts = outlines.get(image_path, [])
        points = [value for _, polygon in parts for value in polygon]
        if label == config.BACKGROUND:
            boxes.append(WHOLE_PHOTO)
        elif points and label == label_parts({name for name, _ in parts}):
            left, right = max(0.0, min(points[0::2])), min(1.0, max(points[0::2]))
            top, bottom = max(0.0, min(points[1::2])), min(1.0, max(points[1::2]))
            boxes.append((left, top, right, bottom) if left < right and top < bottom else None)
        else:
            boxes.append(None)
    return boxes
