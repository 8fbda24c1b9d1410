"""Read text and JSON files as people export, merge and edit them: any usual encoding, repeated keys."""

import json
from pathlib import Path

import config
from viewpoint.common.tables import decode, encoding_of

REPEATED_KEYS = "has repeated keys: all entries and regions were read, and the last value of any other key"


START_BYTES = 4000  # more than the header of a table, and what a spreadsheet puts above it, can have


def read_start(path: Path) -> str | None:
    """How a text file in any usual encoding begins; None when it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(START_BYTES)
    except OSError:
        return None
    return start.decode(encoding_of(start), errors="ignore").lstrip("\ufeff")


def as_dict(value: object) -> dict:
    """A JSON object, {} for any other value."""
    return value if isinstance(value, dict) else {}


def read_text(path: Path) -> tuple[str, list[str]]:
    """The text of a file in any usual encoding, and notes on it. Raises ValueError when it cannot be read."""
    try:
        if path.stat().st_size > config.MAX_JSON_MEGABYTES * 1e6:
            raise ValueError(f"larger than {config.MAX_JSON_MEGABYTES} MB; split it, or raise MAX_JSON_MEGABYTES")
        return decode(path.read_bytes())
    except OSError as error:
        raise ValueError(f"not readable: {error}") from error


def read_json(path: Path) -> tuple[object, list[str]]:
    """The content of a JSON file, and notes on it.

    When a key is repeated in an object, its earlier values stay under keys with a number added.
    Raises ValueError when the file is too large or not JSON.
    """
    text, notes = read_text(path)

    def keep_all(pairs: list[tuple[str, object]]) -> dict[str, object]:
        unique = dict(pairs)
        if len(unique) < len(pairs):
            if REPEATED_KEYS not in notes:
                notes.append(REPEATED_KEYS)
            last = {key: index for index, (key, _) in enumerate(pairs)}
            for index, (key, value) in enumerate(pairs):
                unique[key if index == last[key] else f"{key} ({index})"] = value
        return unique

    try:
        return json.loads(text, object_pairs_hook=keep_all), notes
    except (json.JSONDecodeError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":
            raise ValueError(
                "several JSON documents in one file, as in JSON lines or in files joined by hand; export them as one "
                f"VIA or COCO file (not readable as JSON: {error})"
            ) from error
        raise ValueError(f"not readable as JSON: {error}") from error
