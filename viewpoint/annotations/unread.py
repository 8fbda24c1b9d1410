"""Files that look like annotations of formats that are not read, so that nobody misses them. Standard library only."""

import contextlib
import re
import zipfile
from pathlib import Path

from viewpoint.annotations.json_file import read_start
from viewpoint.common.files import is_file

EXPORT = "export them as VIA JSON, COCO JSON or CVAT for images"

# Formats with a file for each photo, which has the photo's name.
VOC = f"Pascal VOC XML, as LabelImg writes it; {EXPORT}"
YOLO = f"YOLO text files; {EXPORT}"
ONE_A_PHOTO = (VOC, YOLO)

BOX_CSV = f"a CSV of boxes, as VoTT and TensorFlow use it; {EXPORT}"
VIA_3_CSV = "the CSV of VIA 3; export the photos' annotations with VIA 2"
DLIB = f"the XML of dlib's imglab; {EXPORT}"
JSON_LINES = f"JSON lines; {EXPORT}"
PACKED = "a packed file; unpack it"
SPREADSHEET = "a spreadsheet; if it holds the table that VIA exports, save it as CSV"

SPREADSHEETS = (".xlsx", ".xls", ".ods")
PACKED_NAME = re.compile(r".*\.(json|jsonl|csv|xml)\.(gz|bz2|xz|zst)")
BOX_COLUMNS = ({"xmin", "ymin", "xmax", "ymax"}, {"x_min", "y_min", "x_max", "y_max"}, {"x1", "y1", "x2", "y2"})
# A row without a header: a photo, four numbers, a name.
BOX_ROW = re.compile(r"[^,;\t]+\.(jpe?g|png|bmp|webp)([,;\t]\s*-?[\d.]+){4}[,;\t].+", re.IGNORECASE)
YOLO_ROW = re.compile(r"\d+(\s+(0?\.\d+|[01](\.\d+)?)(e-\d+)?){4,}")


def describe_unread(path: Path) -> str:
    """Of which format the annotations in a file seem to be, and what to do; "" when it does not look like any."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if suffix in SPREADSHEETS:
        return SPREADSHEET
    if PACKED_NAME.fullmatch(name) or (suffix == ".zip" and holds_annotations(path)):
        return PACKED
    if suffix not in (".xml", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson") or not is_file(path):
        return ""
    return describe_text(suffix, read_start(path) or "")


def describe_text(suffix: str, text: str) -> str:
    """As describe_unread, from the beginning of a text file."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if suffix == ".xml":
        return VOC if re.search(r"<annotation[\s>]", text) else DLIB if re.search(r"<dataset[\s>]", text) else ""
    if suffix in (".jsonl", ".ndjson"):
        return JSON_LINES
    if suffix == ".txt" and YOLO_ROW.fullmatch(first):
        return YOLO
    if "CSV_HEADER" in text:
        return VIA_3_CSV
    for line in lines[:3]:
        columns = {column.strip(' "').lower() for column in re.split("[,;\t]", line)}
        if BOX_ROW.fullmatch(line) or any(box <= columns for box in BOX_COLUMNS):
            return BOX_CSV
    return ""


def holds_annotations(path: Path) -> bool:
    """Whether a ZIP file has JSON, CSV or XML files in it."""
    with (
        contextlib.suppress(OSError, ValueError, NotImplementedError, zipfile.BadZipFile),
        zipfile.ZipFile(path) as file,
    ):
        return any(name.lower().endswith((".json", ".csv", ".xml")) for name in file.namelist())
    return False
