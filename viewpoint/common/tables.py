"""Write CSV files, and read them as people save them: any usual encoding, comma, semicolon or tab.

Standard library only.
"""

import contextlib
import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from viewpoint.common.cli import UserError
from viewpoint.common.files import write_atomically
from viewpoint.common.texts import encoding_of_file


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV file, as a whole or not at all. Raises UserError when it cannot be written."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file and all its rows; see stream_table."""
    columns, rows = stream_table(path)
    return columns, list(rows)


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
