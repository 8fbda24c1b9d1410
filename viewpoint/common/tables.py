"""Text in the encodings that programs and people use, and CSV files with comma, semicolon or tab.

Standard library only.
"""

import codecs
import contextlib
import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from viewpoint.common.cli import UserError
from viewpoint.common.writing import write_atomically

# What a spreadsheet takes for a formula, with the apostrophes that protect() wrote before it.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
LATIN_1_NOTE = "is not UTF-8; it was read as Latin-1"


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file for people and for read_table(), as a whole or not at all.

    A text that a spreadsheet would take for a formula gets an apostrophe before it. Raises UserError when the file
    cannot be written.
    """
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            cells = [protect(cell) for cell in row]
            # csv itself leaves out the quotes around a carriage return, which ends a line when it is read.
            has_return = any("\r" in str(cell) for cell in cells)
            (csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n") if has_return else writer).writerow(cells)


def protect(cell: object) -> object:
    """A cell as a spreadsheet takes it for what it is: "'=door" for the text "=door"."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file of write_csv(), which people may have edited, and all its rows; see stream_table."""
    columns, rows = stream_table(path)
    return columns, [
        {name: text[1:] if text[:1] == "'" and FORMULA.match(text) else text for name, text in row.items()}
        for row in rows
    ]


def stream_table(path: Path) -> tuple[list[str], Iterator[dict[str, str]]]:
    """The columns of a CSV file and its rows, each {column: text}; rows without any text are passed over.

    The rows are read as they are asked for. Spreadsheets in many countries save semicolons, and
    Windows' own encoding or UTF-16. Raises UserError when the file is missing or damaged, also later
    when the damage comes later, and at a row that has more or fewer cells than the header.
    """
    with explained(path):
        encoding = encoding_of_file(path)
        with path.open(encoding=encoding, newline="") as file:
            delimiter = max(",;\t", key=file.readline().count)
            file.seek(0)
            columns = [name.strip() for name in csv.DictReader(file, delimiter=delimiter, strict=True).fieldnames or []]
    return columns, read_rows(path, encoding, delimiter)


def read_rows(path: Path, encoding: str, delimiter: str) -> Iterator[dict[str, str]]:
    """The rows of a CSV file in this encoding and with this delimiter, as stream_table gives them."""
    with explained(path), path.open(encoding=encoding, newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or []]
        for row in reader:
            # DictReader puts surplus cells under the key None, and None into missing cells.
            if None in row or None in row.values():
                if not any(row.values()):
                    continue
                raise UserError(
                    f"line {reader.line_num} of {path} does not have one cell for each of the columns "
                    f'{", ".join(reader.fieldnames or [])}; put a text that contains "{delimiter}" into "quotes"'
                )
            if any(row.values()):
                yield row


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of reading a CSV file into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from error


# --- Encodings ---------------------------------------------------------------------


def encoding_of(content: bytes) -> str:
    """UTF-16 when a file begins with its mark, else UTF-8 with or without one."""
    return "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def decode(content: bytes) -> tuple[str, list[str]]:
    """The text of a file in UTF-8, UTF-16 (with a BOM) or Latin-1 as Windows extends it, and notes on it.

    Raises UnicodeDecodeError, a ValueError, for damaged UTF-16.
    """
    try:
        return content.decode(encoding_of(content)), []
    except UnicodeDecodeError:
        if encoding_of(content) == "utf-16":
            raise
    try:
        return content.decode("cp1252"), [LATIN_1_NOTE]
    except UnicodeDecodeError:
        return content.decode("latin-1"), [LATIN_1_NOTE]


def encoding_of_file(path: Path) -> str:
    """The encoding in which decode() would read a text file of any size.

    Raises ValueError for damaged UTF-16 and for NUL characters, which no text has, and OSError.
    """
    with path.open("rb") as file:
        first = encoding_of(file.read(4))
        for encoding in (first, "cp1252", "latin-1"):
            file.seek(0)
            decoder = codecs.getincrementaldecoder(encoding)()
            try:
                while block := file.read(1 << 20):
                    if "\0" in decoder.decode(block):
                        raise ValueError("it holds NUL characters, as no text does")
                decoder.decode(b"", final=True)
            except UnicodeDecodeError:
                if first == "utf-16":
                    raise
            else:
                return encoding
    return "latin-1"
