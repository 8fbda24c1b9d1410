"""What people said of part names that no list knows: read, extend and write part_names.csv.

data_preparation.py lists the unknown names in dataset/part_names.csv. A person writes into the
column `means` what a name means, and the next run reads it. So nobody has to edit config.py for
the names of another trade or language.
"""

from collections import Counter
from pathlib import Path

from viewpoint.annotations.vocabulary import clean_name, part_of
from viewpoint.common.cli import UserError
from viewpoint.common.tables import read_table, write_csv

PART_NAMES_NAME = "part_names.csv"
COLUMNS = ["name", "count", "means"]
# Words for `means` besides part names, and the part of config.py that behaves like them.
BEHAVES_LIKE = {"nothing": "others", "damage": "damage"}


def read_part_names(path: Path) -> dict[str, dict[str, str]]:
    """The rows that people filled in, also with columns of their own: {cleaned name: {column: text}}.

    {} when the file does not exist. Raises UserError when it is not such a CSV, or gives a name two meanings.
    """
    if not path.exists():
        return {}
    columns, rows = read_table(path)
    if not {"name", "means"} <= set(columns):
        raise UserError(f"{path} does not have the columns {', '.join(COLUMNS)}; correct or remove it")
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        name, means = clean_name(row["name"]), row["means"].strip()
        earlier = found.get(name, {}).get("means", "")
        if means and earlier and meaning_of(means) != meaning_of(earlier):
            raise UserError(f"{path} says that {name!r} means both {earlier} and {means}; keep one of them")
        if means or name not in found:
            found[name] = row | {"means": means}
    return found


def meaning_of(text: str) -> str | None:
    """The part of config.py that a text of `means` stands for, None when it stands for none."""
    return BEHAVES_LIKE.get(text.lower()) or part_of(text)


def known_meanings(rows: dict[str, dict[str, str]], path: Path) -> dict[str, str]:
    """The part of config.py that each filled-in name means: {cleaned name: known part name}.

    Raises UserError when a meaning is neither a part name nor one of BEHAVES_LIKE.
    """
    parts = {}
    for name, row in rows.items():
        if text := row["means"]:
            part = meaning_of(text)
            if part is None:
                raise UserError(
                    f"{path} says that {name!r} means {text!r}, which is not a part name in config.py; "
                    f"write one of those, such as bonnet or leftfrontdoor, or {' or '.join(BEHAVES_LIKE)}"
                )
            parts[name] = part
    return parts


def write_part_names(
    path: Path, unknown: Counter[str], filled_in: dict[str, dict[str, str]], read: Counter[str]
) -> None:
    """Write the unknown names, the most frequent first, and below them everything that people filled in.

    `unknown` and `read` count the photos of the names that are not known and of those that are by
    `filled_in`, the rows of read_part_names.
    """
    more = {column: "" for row in filled_in.values() for column in row if column not in COLUMNS}
    rows = [
        more | filled_in.get(name, {}) | {"name": name, "count": n, "means": ""} for name, n in unknown.most_common()
    ]
    rows += [
        row | {"name": name, "count": read[name]}
        for name, row in filled_in.items()
        if name not in unknown and (row["means"] or any(row[column] for column in more))
    ]
    columns = [*COLUMNS, *more]
    write_csv(path, columns, ([row.get(column, "") for column in columns] for row in rows))
