"""What people said of part names that no list knows: read, extend and write part_names.csv.

data_preparation.py lists the unknown names in dataset/part_names.csv. A person writes into the
column `means` what a name means, and the next run reads it. So nobody has to edit config.py for
the names of another trade or language.
"""

import csv
from collections import Counter
from pathlib import Path

from viewpoint.annotations.vocabulary import clean_name, part_of
from viewpoint.common.cli import UserError
from viewpoint.common.files import write_atomically
from viewpoint.common.tables import read_table

PART_NAMES_NAME = "part_names.csv"
COLUMNS = ["name", "count", "means"]
# Words for `means` besides part names, and the part of config.py that behaves like them.
BEHAVES_LIKE = {"nothing": "others", "damage": "damage"}


def read_part_names(path: Path) -> dict[str, str]:
    """The meanings that people filled in, "" where they have not yet: {cleaned name: text of `means`}.

    {} when the file does not exist. Raises UserError when it is not such a CSV.
    """
    if not path.exists():
        return {}
    columns, rows = read_table(path)
    if not {"name", "means"} <= set(columns):
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)}; correct or remove it")
    return {clean_name(row["name"]): row["means"].strip() for row in rows}


def known_meanings(meanings: dict[str, str], path: Path) -> dict[str, str]:
    """The part of config.py that each filled-in name means: {cleaned name: known part name}.

    Raises UserError when a meaning is neither a part name nor one of BEHAVES_LIKE.
    """
    parts = {}
    for name, text in meanings.items():
        if text:
            part = BEHAVES_LIKE.get(text.lower()) or part_of(text)
            if part is None:
                raise UserError(
                    f"{path} says that {name!r} means {text!r}, which is not a part name in config.py; "
                    f"write one of those, such as bonnet or leftfrontdoor, or {' or '.join(BEHAVES_LIKE)}"
                )
            parts[name] = part
    return parts


def write_part_names(path: Path, unknown: Counter[str], meanings: dict[str, str], read: Counter[str]) -> None:
    """Write the unknown names, the most frequent first, and below them everything that people filled in.

    `unknown` and `read` count the photos of the names that are not known and of those that are by `meanings`.
    """
    rows = [(name, count, "") for name, count in unknown.most_common()]
    rows += [(name, read[name], text) for name, text in meanings.items() if text]
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
