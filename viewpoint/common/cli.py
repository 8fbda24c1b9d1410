"""What every command line needs: errors in one sentence, option types, printable text. Standard library only."""

import argparse
import contextlib
import math
import shlex
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import config


class UserError(Exception):
    """A problem that the user can fix: one sentence naming the file, the problem and the fix."""


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main() and exit with what it returns (None: 0), with 2 on a UserError, 130 on Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's or a test's stream has no reconfigure()
            # A log in ASCII must not stop the script at a photo's name.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        check_class_names(config.CLASSES)
        sys.exit(main() or 0)
    except UserError as error:
        complain(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        complain(
            "interrupted; no output was left half written, and train.py and test_predict.py continue with --resume"
        )
        sys.exit(130)


def complain(message: str) -> None:
    """Print a message for people to standard error, after the name of the script."""
    print(f"\n{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


# --- Option types for argparse -----------------------------------------------------


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """An option type for argparse: an int or a float from `low` to `high`, both included."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high and math.isfinite(kind(text)):
                return kind(text)
        name = "whole number" if kind is int else "number"
        limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:.10g}"
        raise argparse.ArgumentTypeError(f"{text} is not a {name} {limits}")

    return parse


FRACTION = number(float, 0, 1)
COUNT = number(int, 1)
SEED = number(int, 0, 2**32 - 1)  # the range that NumPy accepts


# --- Settings ----------------------------------------------------------------------


def check_class_names(names: Sequence[str]) -> None:
    """Raise UserError for a class name that CSV files, file names, Kotlin or Swift cannot hold as it is."""
    for name in names:
        is_plain = all(unicodedata.category(character)[0] in "LMN" or character in " _-" for character in name)
        if not is_plain or not name[:1].isalpha() or name != name.strip():
            raise UserError(
                f"config.py has the class {name!r}; class names are letters of any language, digits, spaces, - and _, "
                "and begin with a letter"
            )


# --- Text --------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text with line breaks and other control characters escaped, because they could garble a terminal."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def counted(count: int, singular: str, plural: str = "") -> str:
    """A count with its noun: "1 photo", "2 photos"; `plural` where adding an "s" is not enough."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def command(script: str, options: Sequence[tuple[str, Path | str | None, Path | str | None]] = ()) -> str:
    """A shell command that people can paste: `python SCRIPT` and those options that differ from their default.

    `options` holds (option, value, default); values are quoted where the shell needs it.
    """
    words = ["python", script]
    for option, value, default in options:
        if value is not None and (default is None or Path(value) != Path(default)):
            words += [option, str(value)]
    return shlex.join(words)
