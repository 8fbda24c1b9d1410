"""Annotation files: one reader a format, all of which give photos with named parts and their outlines.

A reader is a module with a function read(content, label_key) that takes the content of a file,
parsed JSON or the text of a CSV, and gives an AnnotationFile, or None when the file has another
format. It raises ValueError, with the reason, when the format is its own but the file cannot be used.
"""

from collections.abc import Callable
from pathlib import Path

import config
from viewpoint.annotations import coco, labelme, via, via_csv
from viewpoint.annotations.json_file import read_json, read_text
from viewpoint.annotations.photo import AnnotationFile
from viewpoint.annotations.regions import settle
from viewpoint.common.files import is_file

Reader = Callable[[object, str], AnnotationFile | None]

# A new format is one file in this folder and one entry here. The first that knows a file reads it.
READERS: dict[str, tuple[Reader, ...]] = {".json": (coco.read, labelme.read, via.read), ".csv": (via_csv.read,)}
UNKNOWN = {
    ".json": "neither VIA 1, VIA 2, COCO nor LabelMe; export the annotations as one of these",
    ".csv": "not the CSV that VIA exports",
}


def is_annotation_file(path: Path) -> bool:
    """Whether a file is to be read for annotations: every .json, and a .csv that begins as VIA's CSV does."""
    suffix = path.suffix.lower()
    # Opening a pipe of that name would wait forever.
    return suffix in READERS and is_file(path) and (suffix != ".csv" or via_csv.is_via_csv(path))


def read_annotation_file(path: Path, label_key: str = config.IDENTITY_KEY) -> AnnotationFile:
    """Read an annotation file of any known format.

    `label_key` is the attribute that names the part. Raises ValueError, with the reason, when the
    file is too large or damaged, of no known format, or does not say which attribute names the parts.
    """
    suffix = ".csv" if path.suffix.lower() == ".csv" else ".json"
    content: object
    content, notes = read_text(path) if suffix == ".csv" else read_json(path)
    for read in READERS[suffix]:
        file = read(content, label_key)
        if file is not None:
            file.notes = notes + file.notes
            return settle(file)
    raise ValueError(UNKNOWN[suffix])
