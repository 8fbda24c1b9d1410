"""The files that data_preparation.py writes, and how the other scripts read them.

Starts fast: pandas is imported only by the functions that give a table, so that test_predict.py
can predict a CSV without it.
"""

import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import config
from viewpoint.annotations.photo import Part
from viewpoint.common.cli import UserError
from viewpoint.common.files import is_file
from viewpoint.common.images import CHART_NAME, is_own_chart
from viewpoint.common.tables import stream_table

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")
COLUMNS = ["image_path", "label", "front_votes", "rear_votes", "left_votes", "right_votes"]
SUMMARY_NAME = "summary.json"
CORRECTIONS_NAME = "corrections.csv"
SPLIT_HISTORY_NAME = "splits.csv"  # the split of every photo that ever had one
LABELS_NAME = "labels"  # the table, and with .csv the file, of --split none
REVIEW_NAME = "review.html"
# The parts of each labelled photo, a JSON object a line: a JSON file would be taken for annotations on the next run.
PARTS_NAME = "parts.jsonl"
FIRST_KEY = '{"image_path": '


def class_counts(labels: Iterable[str]) -> dict[str, int]:
    """Photos of every class, in class order."""
    counts = Counter(labels)
    return {name: counts[name] for name in config.CLASSES}


# --- Reading a split ---------------------------------------------------------------


def stream_rows(
    csv_path: Path | str,
    data_dir: Path | str | None = None,
    name_columns: Sequence[str] = ("image_path",),
    may_lack_labels: bool = False,
) -> Iterator[dict[str, str]]:
    """The rows of a split's CSV, each {column: text}, with the full path of the photo added as `file`.

    The photo is named by the first of `name_columns` that there is; `image_path` holds it in any case.
    `data_dir` is the folder that it starts from; without it, the one recorded in the summary.json
    beside the CSV, or else the CSV's own folder. `label` need not be there, and with `may_lack_labels`
    it may be empty in some rows. Raises UserError when the file is missing, not such a CSV, or has a
    label that is not a class.
    """
    csv_path = Path(csv_path)
    if not csv_path.exists():
        raise UserError(f"{csv_path} not found; run data_preparation.py first")
    columns, rows = stream_table(csv_path)
    name_column = next((name for name in name_columns if name in columns), None)
    if name_column is None:
        raise UserError(f"{csv_path} has no column {' or '.join(name_columns)}; make it with data_preparation.py")
    root = Path(data_dir) if data_dir else recorded_data_dir(csv_path.parent)
    for row in rows:
        if may_lack_labels and not row.get("label", "").strip():
            row.pop("label", None)
        if "label" in row and row["label"] not in config.CLASSES:
            raise UserError(
                f"{csv_path} has the unknown class {row['label']!r}; "
                f"use {', '.join(config.CLASSES)}, or run data_preparation.py again"
            )
        row["image_path"] = row[name_column]
        row["file"] = str(root / row["image_path"])
        yield row


def read_rows(csv_path: Path | str, data_dir: Path | str | None = None) -> list[dict[str, str]]:
    """All rows of a split's CSV; see stream_rows."""
    return list(stream_rows(csv_path, data_dir))


def read_split(csv_path: Path | str, data_dir: Path | str | None = None) -> "pd.DataFrame":
    """The rows of a split's CSV as a table of texts; see read_rows."""
    import pandas as pd  # slow to import

    rows = read_rows(csv_path, data_dir)
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["image_path", "label", "file"])


def recorded_data_dir(dataset_dir: Path) -> Path:
    """The photo folder that summary.json records, relative to `dataset_dir`; or else that."""
    return dataset_dir / read_summary(dataset_dir / SUMMARY_NAME).get("data_dir", ".")


def data_set_id(dataset_dir: Path) -> str:
    """A name for the data set, under which a browser keeps the marks of its review page.

    The one that summary.json records, so that it stays when the folder is moved; at first it is
    made of the names of the computer and the folder.
    """
    recorded = read_summary(dataset_dir / SUMMARY_NAME).get("id")
    if isinstance(recorded, str) and recorded:
        return recorded
    return hashlib.sha256(os.fsencode(f"{platform.node()} {dataset_dir.resolve()}")).hexdigest()[:16]


# --- parts.jsonl -------------------------------------------------------------------


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
            rows = [row for row in map(json.loads, file) if wanted is None or row["image_path"] in wanted]
        return {row["image_path"]: tuple(map(as_part, row["parts"])) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def as_part(row: dict) -> Part:
    """A part of a line. Raises ValueError, KeyError or TypeError when it is damaged."""
    return Part(tuple(row["names"]), tuple(tuple((x, y) for x, y in one) for one in row["outlines"]))


# --- The project's own files in a folder of photos ---------------------------------


def read_summary(path: Path) -> dict:
    """The content of a summary.json that data_preparation.py wrote; {} when the file is missing or another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and isinstance(content.get("data_dir"), str) else {}


def is_summary(path: Path) -> bool:
    """Whether a JSON file is a summary that data_preparation.py wrote, and so not an annotation file."""
    return path.name == SUMMARY_NAME and bool(read_summary(path))


def is_parts_file(path: Path) -> bool:
    """Whether a file is the parts.jsonl that data_preparation.py wrote."""
    return path.name == PARTS_NAME and first_line(path).startswith(FIRST_KEY)


def refuse_to_overwrite(folder: Path) -> None:
    """Raise UserError when data_preparation.py would overwrite a file in `folder` that it did not write.

    The folder may be the user's own folder of photos, with files of these names in it.
    """
    for name in (f"{table}.csv" for table in (*SPLITS, LABELS_NAME)):
        check_own(folder / name, lambda path: first_line(path).split(",")[:2] == COLUMNS[:2])
    check_own(folder / SUMMARY_NAME, is_summary)
    check_own(folder / CHART_NAME, is_own_chart)
    check_own(folder / PARTS_NAME, is_parts_file)
    check_own(folder / REVIEW_NAME, lambda path: "<!DOCTYPE html>" in first_line(path))


def check_own(path: Path, is_own: Callable[[Path], bool]) -> None:
    """Raise UserError when a file exists that does not look like the project's own."""
    if is_file(path) and not is_own(path):
        raise UserError(
            f"{path} was not written by this project and would be overwritten; "
            "rename it, or give another folder with --output"
        )


def first_line(path: Path) -> str:
    """The first line of a text file; "" when it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
