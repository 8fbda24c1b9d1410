"""What the scripts share to treat people, files and cores well. Standard library only."""

import argparse
import contextlib
import glob
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


class UserError(Exception):
    """A problem that the user can fix: one sentence naming the file, the problem and the fix."""


def run(main: Callable[[], int | None]) -> None:
    """Run a script's main() and exit: 0 (or what main returns) when done, 2 on a UserError."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # a notebook's or a test's stream
            stream.reconfigure(errors="backslashreplace")  # a log in ASCII must not fail at a name
    try:
        sys.exit(main() or 0)
    except UserError as error:
        sys.exit(_complain(f"error: {error}", 2))
    except KeyboardInterrupt:
        sys.exit(
            _complain(
                "interrupted: no output was left half written; train.py and test_predict.py go on with --resume", 130
            )
        )


def _complain(message: str, exit_code: int) -> int:
    print(f"\n{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    return exit_code


def number(kind: type[int] | type[float], low: float, high: float = math.inf) -> Callable[[str], float]:
    """A type for argparse: an option's value, an int or a float, from `low` to `high`."""

    def parse(text: str) -> float:
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high and math.isfinite(kind(text)):
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
    """`path` relative to `folder`, with "/"; what a CSV file cannot hold, bytes not UTF-8 and returns, escaped."""
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode().replace("\r", "\\r")


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
    path = path.resolve() if path.is_symlink() else path  # what a link points to is written, the link stays
    if not path.name:
        raise UserError(f"{path} names no file to write; give a file name")
    # The suffix stays at the end because Keras and Matplotlib choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        with rename_when_done(temporary, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            yield temporary
    finally:
        remove(temporary)


@contextlib.contextmanager
def rename_when_done(temporary: Path, path: Path) -> Iterator[None]:
    """When the block ends well, bring `temporary`, a file or a folder, to the disk and rename it to `path`.

    So `path` is whole or not there at all, even after a power cut. Raises UserError, with the
    reason in one sentence, when the block or the renaming meets an OSError.
    """
    try:
        yield
        for file in [temporary, *temporary.rglob("*")]:
            sync(file)
        if temporary.is_dir() and path.is_dir():
            # A folder cannot be renamed over another one.
            old = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
            path.replace(old)
            try:
                temporary.replace(path)
            except OSError:
                old.replace(path)
                raise
            remove(old)
        else:
            temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; folders only where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    # Windows brings only files to the disk that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed runs left of write_atomically(path): temporaries older than a day."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < time.time() - 24 * 3600:
                remove(leftover)


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
