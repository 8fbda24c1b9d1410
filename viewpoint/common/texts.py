"""Text in the encodings that programs and people use. Standard library only."""

import codecs
from pathlib import Path

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
