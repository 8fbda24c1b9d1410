"""Reader of the CSV files that VIA 1 and VIA 2 export: a row for each region. Standard library only.

Source: https://www.robots.ox.ac.uk/~vgg/software/via/, pack_via_metadata(). VIA writes file names
without quotes, so a name with a comma takes several cells. A photo without regions has one row,
whose region_count is 0 and whose attributes are "{}". VIA 1.0 begins the header with "#".
"""

import csv
import io
import json
from dataclasses import dataclass

from viewpoint.annotations import via
from viewpoint.annotations.json_file import START_BYTES
from viewpoint.annotations.photo import AnnotationFile, Entry
from viewpoint.annotations.places import views_of

SHAPE, ATTRIBUTES = "region_shape_attributes", "region_attributes"
INCOMPLETE = "has another number of regions than its region_count says"
TITLE_LINES = 5  # lines above the header


@dataclass(frozen=True)
class Header:
    """The header of a VIA CSV: the delimiter, the columns, and the number of its line, from 1."""

    delimiter: str
    columns: list[str]
    line: int


def read_header(text: str) -> Header | None:
    """The header of VIA's CSV, from the beginning of a file; None for any other file.

    Spreadsheets in many countries save a CSV file with semicolons or tabs, and some of them write
    "sep=;" above it; people add a title.
    """
    for number, line in enumerate(text[:START_BYTES].splitlines()[: TITLE_LINES + 1], 1):
        for delimiter in (",", ";", "\t", "|"):
            columns = [column.strip(' "#').lower() for column in line.split(delimiter)]
            if {"filename", SHAPE, ATTRIBUTES} <= set(columns):
                return Header(delimiter, columns, number)
    return None


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photos of the text of a VIA CSV, None when it is not one.

    The part names are found as in VIA's JSON. A region whose cells are damaged has no name. Raises
    ValueError when several attributes could name the parts, or the text is not CSV.
    """
    if not isinstance(content, str) or (header := read_header(content)) is None:
        return None
    file = AnnotationFile()
    try:
        joined = join_rows(content, header, file)
    except csv.Error as error:
        raise ValueError(f"not readable as CSV: {error}") from error
    regions_of = {photo: via.list_regions(found) for photo, (_, found, _) in joined.items()}
    for (name, size), parts in via.named_parts(file, regions_of, label_key).items():
        count, found, views = joined[name, size]
        problem = INCOMPLETE if count.isdigit() and count != str(len(found)) else ""
        file.entries.append(Entry(name + size, name, parts, problem, via.read_size(size), views))
    return file


def join_rows(
    text: str, header: Header, file: AnnotationFile
) -> dict[tuple[str, str], tuple[str, list[dict], tuple[str, ...]]]:
    """The rows of each photo: {(file name, size): (region_count, regions as in VIA's JSON, Entry.views)}.

    As in VIA, photos of one name but different size are different photos. Rows without a file name
    are added to the malformed entries of `file`; a note says how many photos nobody annotated yet.
    """
    joined: dict[tuple[str, str], tuple[str, list[dict], tuple[str, ...]]] = {}
    waiting = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.delimiter)
    for row in reader:
        if reader.line_num <= header.line or not any(row):
            continue
        cells = cells_of(row, header.columns, header.delimiter)
        name, count = cells.get("filename", ""), cells.get("region_count", "").strip()
        if not name.strip():
            file.malformed.append(f"line {reader.line_num}")
            continue
        about_photo = parse(cells.get("file_attributes"))
        if count == "0" and via.is_waiting({"file_attributes": about_photo}):
            waiting += 1
            continue
        _, found, _ = joined.setdefault((name, cells.get("file_size", "")), (count, [], views_of(about_photo)))
        shape, attributes = parse(cells.get(SHAPE)), parse(cells.get(ATTRIBUTES))
        if shape != {} or attributes != {} or count not in ("", "0"):
            found.append({"shape_attributes": shape, "region_attributes": attributes})
    file.notes += [via.WAITING.format(waiting)] if waiting else []
    return joined


def cells_of(row: list[str], columns: list[str], delimiter: str) -> dict[str, str]:
    """A row by column, without the columns that it is too short for; surplus cells belong to the file name."""
    start, surplus = columns.index("filename"), max(0, len(row) - len(columns))
    name = delimiter.join(row[start : start + surplus + 1])
    return dict(zip(columns, [*row[:start], name, *row[start + surplus + 1 :]], strict=False))


def parse(cell: str | None) -> dict | None:
    """The JSON object in a cell, {} for an empty cell, None when the cell is missing or holds anything else."""
    try:
        value = json.loads(cell or "{}") if cell is not None else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
