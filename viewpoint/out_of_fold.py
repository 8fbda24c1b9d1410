"""out_of_fold.csv: the probabilities of each photo from models that were not trained on it.

tools/crossval.py writes it, the review page of data_preparation.py reads it.
"""

import csv
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import config
from viewpoint.dataset import check_own, first_line
from viewpoint.files import write_atomically

OUT_OF_FOLD_NAME = "out_of_fold.csv"
FIRST_COLUMNS = ["image_path", "content"]  # then one for each class


def write_out_of_fold(probabilities: Mapping[str, Sequence[float]], data: Path, path: Path) -> None:
    """Write a row for each photo: image_path, a hash of the file's content, and its probability of each class.

    `probabilities` maps image_path, relative to `data`, to values in the order of config.CLASSES.
    Photos that are gone are left out. Raises UserError when another file is at `path`.
    """
    check_own(path, lambda path: first_line(path).split(",")[:2] == FIRST_COLUMNS)
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*FIRST_COLUMNS, *config.CLASSES])
        for image_path, values in sorted(probabilities.items()):
            if content := content_hash(data / image_path):
                writer.writerow([image_path, content, *(f"{value:.6f}" for value in values)])


def read_out_of_fold(path: Path, data: Path, wanted: Collection[str] | None = None) -> dict[str, dict[str, float]]:
    """The probabilities that are still valid: {image_path: {class: 0 to 1}}; {} when the file is missing.

    `wanted` names the photos to look for, None all of them: each is read in full. A photo whose
    file has changed, or is gone, is left out, and so are all photos when config.CLASSES has
    changed. A photo with a corrected label stays: the models never saw its label.
    """
    header = [*FIRST_COLUMNS, *config.CLASSES]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first, *rows = csv.reader(file)
        if first != header:
            return {}
        return {
            image_path: dict(zip(config.CLASSES, map(float, values), strict=True))
            for image_path, content, *values in rows
            if (wanted is None or image_path in wanted) and content == content_hash(data / image_path)
        }
    except (OSError, ValueError, csv.Error):  # missing, empty or damaged
        return {}


def content_hash(path: Path) -> str | None:
    """A short hash of a file's content; None when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except (OSError, ValueError):
        return None
