"""Read a JSON file as people export, merge and edit them: any usual encoding, repeated keys."""

import codecs
import json
from pathlib import Path

import config

REPEATED_KEYS = "has repeated keys: all entries and regions were read, and the last value of any other key"


def read_json(path: Path) -> tuple[object, list[str]]:
    """The content of a JSON file in UTF-8, UTF-16 (with a BOM) or Latin-1, and notes on it.

    When a key is repeated in an object, its earlier values stay under keys with a number added.
    Raises ValueError when the file is too large or not JSON.
    """
    notes = []

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
        if path.stat().st_size > config.MAX_JSON_MEGABYTES * 1e6:
            raise ValueError(f"larger than {config.MAX_JSON_MEGABYTES} MB; split it, or raise MAX_JSON_MEGABYTES")
        content = path.read_bytes()
        try:
            is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
            notes.append("is not UTF-8; it was read as Latin-1")
        return json.loads(text, object_pairs_hook=keep_all), notes
    except (OSError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not readable as JSON: {error}") from error
