"""Annotation files: one reader a format, all of which give photos with named parts and their outlines.

A reader is a module with a function read(content, label_key) that takes the content of a file,
parsed JSON or the text of a CSV or XML file, and gives an AnnotationFile, or None when the file has another
format. It raises ValueError, with the reason, when the format is its own but the file cannot be used.
"""

from collections.abc import Callable
from pathlib import Path

import config
from viewpoint.annotations import coco, cvat, labelme, via, via_csv
from viewpoint.annotations.json_file import read_json, read_start, read_text
from viewpoint.annotations.photo import AnnotationFile
from viewpoint.annotations.shapes import settle
from viewpoint.common.files import is_file

Reader = Callable[[object, str], AnnotationFile | None]

# A new format is one file in this folder and one entry here. The first that knows a file reads it.
READERS: dict[str, tuple[Reader, ...]] = {
    ".json": (coco.read, labelme.read, via.read),
    ".csv": (via_csv.read,),
    ".xml": (cvat.read,),
}
NOT_UNDERSTOOD = {
    ".json": "neither VIA 1, VIA 2, COCO nor LabelMe; export the annotations as one of these",
    ".csv": "not the CSV that VIA exports",
    ".xml": "not the XML that CVAT exports for images",
}
# Spreadsheets save tables with tabs under these names.
CSV_SUFFIXES = (".csv", ".tsv", ".txt")


def format_of(path: Path) -> str | None:
    """The key of READERS for a file to be read for annotations, None for any other.

    These are every .json, a .csv or other table that begins as VIA's CSV does, and an .xml that begins as CVAT's.
    One that cannot be read counts, because that is to be told.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".xml", *CSV_SUFFIXES) or not is_file(path):  # opening a pipe would wait forever
        return None
    if suffix == ".json":
        return suffix
    start = read_start(path)
    if suffix == ".xml":
        return suffix if start is None or cvat.START.search(start) else None
    return ".csv" if start is None or via_csv.read_header(start) else None


def read_annotation_file(path: Path, label_key: str = config.IDENTITY_KEY) -> AnnotationFile:
    """Read an annotation file of any known format.

    `label_key` is the attribute that names the part. Raises ValueError, with the reason, when the
    file is too large or damaged, of no known format, or does not say which attribute names the parts.
    """
    suffix = path.suffix.lower()
    suffix = ".csv" if suffix in CSV_SUFFIXES else suffix if suffix in READERS else ".json"
    content: object
    content, notes = read_json(path) if suffix == ".json" else read_text(path)
    for read in READERS[suffix]:
        file = read(content, label_key)
        if file is not None:
            file.notes = notes + file.notes
            return settle(file)
    raise ValueError(NOT_UNDERSTOOD[suffix])
