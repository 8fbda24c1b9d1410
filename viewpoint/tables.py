"""Read CSV files as people save them: any usual encoding, comma, semicolon or tab. Standard library only."""

import csv
import io
from pathlib import Path

from viewpoint.cli import UserError
from viewpoint.texts import decode


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The columns of a CSV file and its rows, each {column: text}; rows without any text are passed over.

    Spreadsheets in many countries save semicolons, and Windows' own encoding or UTF-16. Raises
    UserError when the file is missing or damaged, or a row has more or fewer cells than the header.
    """
    try:
        content = path.read_bytes()
        text, _ = decode(content)
        if "\0" in text:
            raise ValueError("it holds NUL characters, as no text does")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns, rows = list(reader.fieldnames or []), []
        for row in reader:
            # DictReader puts surplus cells under the key None, and None into missing cells.
            if None in row or None in row.values():
                if not any(row.values()):
                    continue
                raise UserError(
                    f"line {reader.line_num} of {path} does not have one cell for each of the columns "
                    f'{", ".join(columns)}; put a text that contains "{delimiter}" into "quotes"'
                )
            if any(row.values()):
                rows.append(row)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV file: {error}") from error
    return columns, rows
