"""What all four scripts need to treat people, files and cores well. Standard library only."""

import argparse
import contextlib
import math
import os
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class UserError(Exception):
    """A problem that the user can fix: one sentence naming the file, the problem and the fix."""


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main() and exit: 0 (or what main returns) when done, 2 on a UserError."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        sys.exit(_complain(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(_complain("interrupted: no output file was left half written", 130))


def _complain(message: str, exit_code: int) -> int:
    print(f"\n{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return exit_code


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: an option's value, an int or a float, from `low` to `high`."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        name = "whole number" if kind is int else "number"
        limits = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise argparse.ArgumentTypeError(f"{text} is not a {name} {limits}")

    return parse


SHARE = number(float, 0, 1)
WHOLE = number(int, 0)
COUNT = number(int, 1)
SEED = number(int, 0, 2**32 - 1)  # what NumPy takes


def list_files(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """All files below `folder`, sorted; links to folders are not followed.

    `on_error` is told of each folder that cannot be read.
    """
    return sorted(Path(root, name) for root, _, names in os.walk(folder, onerror=on_error) for name in names)


def relative_name(path: Path, folder: Path) -> str:
    """`path` relative to `folder`, with "/"; bytes that are not UTF-8, which could not be printed, escaped."""
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()


def printable(text: str) -> str:
    """The text with line breaks and other control characters escaped, which could garble a terminal."""
    text = text.encode(errors="backslashreplace").decode()
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


@contextlib.contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder; rename it on success.

    When the block raises, the temporary is removed and whatever stood at `path` stays.
    Raises UserError when the folder cannot be written.
    """
    path = Path(path)
    if not path.name:
        raise UserError(f"{path} names no file to write; give a file name")
    # The suffix stays at the end because Keras and Matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def map_in_order(function: Callable, items: Iterable, threads: int) -> Iterator:
    """Yield function(item) for each item, in order, computed in threads.

    Only a few items are ahead of the one yielded, so memory stays flat however many there are.
    """
    pending = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
