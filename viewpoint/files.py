"""Files: list them, keep paths inside a folder, write whole files or nothing. Standard library only."""

import contextlib
import errno
import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from viewpoint.cli import UserError

# --- Reading -----------------------------------------------------------------------


def list_files(folder: Path, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """All files below `folder`, sorted; links to folders are not followed.

    `on_error` is called for each folder that cannot be read.
    """
    return sorted(Path(root, name) for root, _, names in os.walk(folder, onerror=on_error) for name in names)


def relative_name(path: Path, folder: Path) -> str:
    """`path` relative to `folder`, with "/" between folders.

    Bytes that are not UTF-8 and carriage returns are escaped, because a CSV file cannot hold them.
    """
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode().replace("\r", "\\r")


def relative_path(path: Path, start: Path) -> str:
    """`path` as seen from the folder `start`, with "/"; absolute where no relative path exists (Windows drives)."""
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path` lies below `folder` (already resolved) once links and ".." are followed."""
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # link loops, NUL characters
        return False


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False, too, for names that no file system can hold."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


# --- Writing -----------------------------------------------------------------------


@contextlib.contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder; rename it to `path` on success.

    When the block raises, the temporary is removed and an earlier file at `path` stays.
    Raises UserError when the folder cannot be written.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path  # write the file that a link points to and keep the link
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
    """When the block succeeds, flush `temporary`, a file or a folder, to the disk and rename it to `path`.

    So `path` is complete or absent, even after a power cut. Raises UserError, with the reason in
    one sentence, when the block or the renaming raises an OSError.
    """
    try:
        yield
        for file in [temporary, *temporary.rglob("*")]:
            flush_to_disk(file)
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
        flush_to_disk(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    # Windows flushes only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network mounts cannot flush a folder; the file itself is on the disk by then.
        if not (is_folder and error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EBADF)):
            raise
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a folder if it exists."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove temporaries of write_atomically(path) that killed runs left more than a day ago."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.tmp{glob.escape(path.suffix)}"):
        with contextlib.suppress(OSError):
            if leftover.stat().st_mtime < time.time() - 24 * 3600:
                remove(leftover)
