"""From the spellings in annotation files to the part names of config.py. Standard library only."""

import config

DAMAGE = frozenset(config.DAMAGE_PARTS)
KNOWN = DAMAGE.union(config.FRONT_PARTS, config.REAR_PARTS, config.LEFT_PARTS, config.RIGHT_PARTS, config.NEUTRAL_PARTS)


def clean_name(name: str) -> str:
    """A part name trimmed, in lower case, without "partial_".

    Unpaired surrogates, which JSON can hold and no file can, are escaped.
    """
    name = name.encode(errors="backslashreplace").decode()
    return name.strip().lower().removeprefix(config.PARTIAL_PREFIX).strip()
