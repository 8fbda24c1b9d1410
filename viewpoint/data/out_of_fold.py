"""out_of_fold.csv: the probabilities of each photo from models that were not trained on it.

tools/crossval.py writes it; the review page of data_preparation.py and train.py's threshold use it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import config
from viewpoint.common.cli import UserError
from viewpoint.common.tables import read_table, write_csv
from viewpoint.data.dataset import check_own, first_line

OUT_OF_FOLD_NAME = "out_of_fold.csv"
FIRST_COLUMNS = ["image_path", "content"]  # then one for each class


def write_out_of_fold(probabilities: Mapping[str, Sequence[float]], contents: Mapping[str, str], path: Path) -> None:
    """Write a row for each photo: image_path, the hash of the file's content, and its probability of each class.

    `probabilities` maps image_path to values in the order of config.CLASSES, `contents` to
    provenance.photo_hash. Raises UserError when another file is at `path`.
    """
    check_own(path, lambda path: first_line(path).split(",")[:2] == FIRST_COLUMNS)
    rows = [
        [name, contents[name], *(f"{value:.6f}" for value in values)] for name, values in sorted(probabilities.items())
    ]
    write_csv(path, [*FIRST_COLUMNS, *config.CLASSES], rows)


def read_out_of_fold(path: Path, contents: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """The probabilities that are still valid: {image_path: {class: 0 to 1}}; {} when the file is missing.

    Of the photos in `contents`, {image_path: provenance.photo_hash}, one whose file has changed
    is left out, and so are all when config.CLASSES has changed. A photo with a corrected label
    stays: the models never saw its label.
    """
    try:
        columns, rows = read_table(path)
        if columns != [*FIRST_COLUMNS, *config.CLASSES]:
            return {}
        return {
            row["image_path"]: {name: float(row[name]) for name in config.CLASSES}
            for row in rows
            if row["content"] and row["content"] == contents.get(row["image_path"])
        }
    except (UserError, ValueError):  # missing, empty or damaged
        return {}
