"""What every command line needs: errors in one sentence, option types, printable text. Standard library only."""

import argparse
import contextlib
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path


class UserError(Exception):
    """A problem that the user can fix: one sentence naming the file, the problem and the fix.

    The sentence is escaped(), so that it can go to any screen and into any file.
    """

    def __init__(self, message: str) -> None:
        super().__init__(escaped(message))


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main() and exit with what it returns (None: 0), with 2 on a UserError, 130 on Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's or a test's stream has no reconfigure()
            # A log in ASCII must not stop the script at a photo's name.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        sys.exit(main() or 0)
    except UserError as error:
        complain(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt as interruption:
        advice = str(interruption) or "no output was left half written"
        complain(f"interrupted; {advice}")
        sys.exit(130)


def complain(message: str) -> None:
    """Print a message for people to standard error, after the name of the script."""
    print(f"\n{Path(sys.argv[0]).name}: {message}", file=sys.stderr)


# --- Interrupted runs --------------------------------------------------------------


@contextlib.contextmanager
def resumable(state: Path) -> Iterator[None]:
    """Let Ctrl-C during the block end with the command that continues, if the file `state` is there by then."""
    try:
        yield
    except KeyboardInterrupt:
        if not state.is_file():
            raise
        words = ["python", *sys.argv, *(["--resume"] if "--resume" not in sys.argv else [])]
        raise KeyboardInterrupt(f"continue with: {shlex.join(words)}") from None


def refuse_other_settings(path: Path, run: str, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise UserError when the interrupted run that left the file `path` had other settings; `run` is its kind."""
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            raise UserError(
                f"{path} belongs to a {run} with another {name} ({before.get(name)}, now {now.get(name)}); "
                "use the same options, or start over without --resume"
            )


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


# --- Text --------------------------------------------------------------------------


LONGEST = 400  # characters of a text that is printed as it is; a photo in an address, "data:image/...", has millions


def writable(text: str) -> str:
    """The text with what UTF-8 cannot hold, such as an odd byte of a file name, escaped."""
    return text.encode(errors="backslashreplace").decode()


def escaped(text: str) -> str:
    """The text with line breaks and other control characters escaped, because they could garble a terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in writable(text))


def printable(text: str) -> str:
    """The text escaped(), and shortened when it is endless."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... ({len(text)} characters) ... {text[-LONGEST // 4 :]}"
    return escaped(text)


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
