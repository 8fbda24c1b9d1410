"""What all four scripts need to treat people, files and cores well. Standard library only."""

import argparse
import contextlib
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


def share(text: str) -> float:
    """An option's value from 0 to 1, for argparse."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")


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
