"""What every command line needs: errors in one sentence, option types, printable text. Standard library only."""

import argparse
import contextlib
import difflib
import math
import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import config


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
            # A log in ASCII must not stop the script at a photo's name, and has the lines of both in their order.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    try:
        check_class_names(config.CLASSES)
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


# --- Command lines -----------------------------------------------------------------


class HelpFormatter(argparse.HelpFormatter):
    """Shows the default of each option that has one, as people write it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default, text = action.default, (action.help or "").replace(" (default: %(default)s)", "")
        is_none = default is None or default is False or default in ([], argparse.SUPPRESS)  # 0 is a default
        if is_none or not action.option_strings:
            return text
        if isinstance(default, (list, tuple)):
            default = (" " if action.nargs else ",").join(map(str, default))
        shown = "on" if default is True else f"{default:.4g}" if isinstance(default, float) else str(default)
        return f"{text} (default: {shown})"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, and exits with 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.without_name: dict[str, bool] = {}  # of each add_main(), whether it is required

    def add_main(self, option: str, nargs: str | None = None, required: bool = True, **keywords: Any) -> None:
        """Add an option whose value may also be given without its name: `--images photos`, or only `photos`."""
        name = option.removeprefix("--")
        metavar = keywords.setdefault("metavar", name.upper())
        self.without_name[name] = required
        self.add_argument(option, nargs=nargs, **keywords)
        text, kind = f"the same as {option} {metavar}", keywords.get("type", str)
        self.add_argument(f" {name}", nargs="*" if nargs else "?", type=kind, metavar=metavar, help=text)

    def parse_args(self, args=None, namespace=None):
        """As argparse does, but a misspelled option is named before anything that is missing because of it."""
        for word in sys.argv[1:] if args is None else args:
            name = str(word).partition("=")[0]
            if name == "--":
                break
            if re.fullmatch(r"-{1,2}[A-Za-z].*", name) and not any(
                option.startswith(name) for option in self._option_string_actions
            ):
                close = difflib.get_close_matches(name, self._option_string_actions, 1)
                advice = f"did you mean {close[0]}?" if close else "--help lists them"
                self.error(f"there is no option {name}; {advice}")
        found = super().parse_args(args, namespace)
        values = vars(found)
        for name, required in self.without_name.items():
            if given := values.pop(f" {name}"):
                if isinstance(given, list):
                    values[name] = [*given, *(values[name] or [])]
                elif str(values[name]) != str(self.get_default(name)):
                    self.error(f"{given} and --{name} {values[name]} are two; give one")
                else:
                    values[name] = given
            if required and not values[name]:
                self.error(f"the following arguments are required: --{name}")
        return found

    def refuse_unused(self, args: argparse.Namespace, names: Sequence[str], is_used: bool, user: str) -> None:
        """Exit with 2 when an option is not at its default but unused; `user` is the option that would use it."""
        for name in () if is_used else names:
            if str(getattr(args, name)) != str(self.get_default(name)):
                self.error(f"--{name.replace('_', '-')} does nothing without {user}")

    def error(self, message: str) -> NoReturn:
        complain(f"error: {message}")
        sys.exit(2)


def make_parser(description: str, **options: Any) -> Parser:
    """A parser for a script's options that shows their defaults and knows --version."""
    parser = Parser(description=description, formatter_class=HelpFormatter, **options)
    parser.add_argument("--version", action="version", version=f"%(prog)s {config.VERSION}", help="print the version")
    return parser


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


def print_first(items: Sequence[str], most: int, indent: str = "  ", rest: str = "") -> None:
    """Print the first `most` of a list, a line each, and how many more there are, or `rest`, which says where."""
    for item in items[:most]:
        print(f"{indent}{item}")
    if len(items) > most:
        print(f"{indent}... {rest or f'and {len(items) - most} more'}")


def command(script: str, options: Sequence[tuple[str, Path | str | None, Path | str | None]] = ()) -> str:
    """A shell command that people can paste: `python SCRIPT` and those options that differ from their default.

    `options` holds (option, value, default); values are quoted where the shell needs it.
    """
    words = ["python", script]
    for option, value, default in options:
        if value is not None and (default is None or Path(value) != Path(default)):
            words += [option, str(value)]
    return shlex.join(words)


def print_next(shell_command: str) -> None:
    """Print the command to run next, except in `make demo`, which runs it itself."""
    if os.environ.get("VIEWPOINT_SAY_NEXT") != "no":
        print(f"Next: {shell_command}")
