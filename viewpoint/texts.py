"""Text in the encodings that programs and people use. Standard library only."""

import codecs

LATIN_1_NOTE = "is not UTF-8; it was read as Latin-1"


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
