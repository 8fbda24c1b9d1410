"""What people said of labels on the review page: read and write corrections.csv, and apply it."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

import config
from viewpoint.annotations.photo import Report
from viewpoint.common.cli import UserError
from viewpoint.common.tables import read_table, write_csv
from viewpoint.data.dataset import CORRECTIONS_NAME

WRONG = "Wrong"  # marks a photo whose label is wrong and whose right class nobody gave


def read_corrections(path: Path | str) -> dict[str, str]:
    """What a person said of each photo on the review page: {image_path: a class or WRONG}.

    {} when the file does not exist. Raises UserError when it is not a CSV with the columns
    image_path and label, or has an unknown label, or two labels for one photo.
    """
    path = Path(path)
    if not path.exists():
        return {}
    columns, rows = read_table(path)
    if not {"image_path", "label"} <= set(columns):
        raise UserError(f"{path} does not have the columns image_path and label; save it again from review.html")
    corrections: dict[str, str] = {}
    for row in rows:
        image_path, label = row["image_path"], row["label"].strip()
        if label not in (*config.CLASSES, WRONG):
            known = ", ".join([*config.CLASSES, WRONG])
            raise UserError(f"{path} calls {image_path} {label!r}; use one of {known}")
        if corrections.setdefault(image_path, label) != label:
            raise UserError(f"{path} calls {image_path} both {corrections[image_path]} and {label}; keep one of them")
    return corrections


def write_corrections(corrections: Mapping[str, str], path: Path) -> None:
    """Write {image_path: a class or WRONG} to a CSV, sorted. Raises UserError when it cannot be written."""
    write_csv(path, ["image_path", "label"], sorted(corrections.items()))


def apply_corrections(df: pd.DataFrame, corrections: dict[str, str], report: Report) -> pd.DataFrame:
    """The labelled photos with the labels that a person gave, without those marked as WRONG.

    Counts the changes in `report`, and notes corrections of photos that are not there.
    """
    for image_path in sorted(set(corrections) - set(df["image_path"])):
        report.skip(f"corrected in {CORRECTIONS_NAME}, but not among the labelled photos", image_path)
    given = df["image_path"].map(corrections)
    wrong = given == WRONG
    for image_path in df["image_path"][wrong]:
        report.leave_out(f"marked as wrong in {CORRECTIONS_NAME}, without a right class", image_path)
    report.corrections = Counter(
        changed=int((given.notna() & ~wrong & (given != df["label"])).sum()),
        confirmed=int((given == df["label"]).sum()),
        left_out=int(wrong.sum()),
    )
    return df.assign(label=given.fillna(df["label"]))[~wrong].reset_index(drop=True)
