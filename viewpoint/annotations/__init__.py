"""Annotation files: one reader a format, all of which give photos with named parts and their outlines.

A reader is a module with a function read(content, label_key) that takes a parsed JSON file and
gives an AnnotationFile, or None when the file has another format. It raises ValueError, with the
reason, when the format is its own but the file cannot be used.
"""

from pathlib import Path

import config
from viewpoint.annotations import coco, via
from viewpoint.annotations.json_file import read_json
from viewpoint.annotations.photo import AnnotationFile

# A new format is one file in this folder and one line here. The first that knows a file reads it.
READERS = (coco.read, via.read)


def read_annotation_file(path: Path, label_key: str = config.IDENTITY_KEY) -> AnnotationFile:
    """Read an annotation file of any known format.

    `label_key` is the attribute that names the part. Raises ValueError, with the reason, when the
    file is too large, not JSON, of no known format, or does not say which attribute names the parts.
    """
    content, notes = read_json(path)
    for read in READERS:
        file = read(content, label_key)
        if file is not None:
            file.notes = notes + file.notes
            return file
    raise ValueError("neither VIA 1, VIA 2 nor COCO")
