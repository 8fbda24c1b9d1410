"""Write whole files or nothing, also several together, and lock what is being written. Standard library only."""

import contextlib
import errno
import glob
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from viewpoint.common.cli import UserError

# What os.open and os.fsync say of folders on mounts that cannot flush them: SMB, FUSE, VirtualBox.
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EISDIR)

# In the names of temporary files, because processes in containers or on other computers may have the same id.
PROCESS = f"{secrets.randbelow(10**6):06}"

# --- Writing -----------------------------------------------------------------------


@contextlib.contextmanager
def write_atomically(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`, for a file or a folder; rename it to `path` on success.

    When the block raises, the temporary is removed and an earlier file at `path` stays.
    Raises UserError when the folder cannot be written.
    """
    path = link_target(Path(path))
    if not path.name:
        raise UserError(f"{path} names no file to write; give a file name")
    temporary = temporary_beside(path)
    try:
        with rename_when_done(temporary, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
            yield temporary
    finally:
        remove(temporary)


def temporary_beside(path: Path, kind: str = "tmp") -> Path:
    """A hidden name beside `path` for an unfinished file, or with `kind` "old.tmp" for a copy of the earlier one."""
    # The suffix stays at the end because Keras and Matplotlib choose the format by it.
    return path.with_name(f".{path.stem}.{os.getpid()}{PROCESS}.{kind}{path.suffix}")


@contextlib.contextmanager
def write_together(paths: Sequence[Path], others: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """Yield a temporary path for each of these files or folders, by path; on success, replace them all.

    On an error all earlier files stay, or come back. After a kill or a power cut some of `paths` may
    be missing, but old and new ones are never mixed; of `others`, all files, each is the old or the new one.
    Raises UserError when a folder cannot be written.
    """
    targets = {path: link_target(path) for path in [*paths, *others]}
    temporaries = {path: temporary_beside(target) for path, target in targets.items()}
    copies = {path: temporary_beside(target, "old.tmp") for path, target in targets.items() if target.exists()}
    try:
        for target in targets.values():
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target)
        yield temporaries
        # All that needs room or can fail in other ways comes before the first change.
        for path, copy in copies.items():
            if not path.is_dir():
                shutil.copyfile(path, copy)
        for temporary in temporaries.values():
            for file in [temporary, *temporary.rglob("*")]:
                flush_to_disk(file)
        try:
            for path in paths:
                # Renamed, because a folder cannot be copied or removed in one step.
                targets[path].replace(copies[path]) if path.is_dir() else targets[path].unlink(missing_ok=True)
            for path, temporary in temporaries.items():
                temporary.replace(targets[path])
            for folder in {target.parent for target in targets.values()}:
                flush_to_disk(folder)
        except BaseException:
            for path, target in targets.items():
                with contextlib.suppress(OSError):  # a copy that cannot be put back stays where it is
                    put_back(copies.pop(path), target) if path in copies else remove(target)
            raise
    except OSError as error:
        raise UserError(f"cannot write {paths[0]}: {error.strerror or error}") from error
    finally:
        for file in [*temporaries.values(), *copies.values()]:
            remove(file)


def put_back(copy: Path, path: Path) -> None:
    """Rename a copy to `path`, or where renaming fails, copy its content."""
    if not copy.exists():  # a folder that was not renamed yet
        return
    if copy.is_dir():
        remove(path)
    try:
        copy.replace(path)
    except OSError:
        (shutil.copytree if copy.is_dir() else shutil.copyfile)(copy, path)
        remove(copy)


def link_target(path: Path) -> Path:
    """The file to write for `path`: where it is a link, what it points to, so that the link stays."""
    return path.resolve() if path.is_symlink() else path


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
            old = temporary_beside(path, "old.tmp")
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
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # The files in the folder are on the disk by then.
        if not (is_folder and error.errno in CANNOT_FLUSH):
            raise


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


# --- Locking -----------------------------------------------------------------------


@contextlib.contextmanager
def lock(folder: Path, option: str, name: str = "") -> Iterator[None]:
    """Let no other process write into `folder`, or with `name` only that file in it, during the block.

    The lock is a hidden file that the system releases when the process ends, however it ends. Raises
    UserError, with the option that gives another path, when another process holds it. Where files
    cannot be locked, as on some network mounts, nothing is locked.
    """
    path, is_new = folder / (f".{name}.lock" if name else ".lock"), not folder.exists()
    with contextlib.ExitStack() as stack:
        is_free = None
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(10):
                file = stack.enter_context(path.open("a+b", buffering=0))
                is_free = try_to_lock(file.fileno())
                # Whoever held it before may have removed the file since it was opened.
                if not is_free or is_open_file(path, file.fileno()):
                    break
            if is_free:  # the names are for people only
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        if is_free is False:
            file.seek(0)
            holder = file.read(200).decode(errors="replace") or "another process"
            raise UserError(
                f"{folder / name} is in use by {holder}; wait until it has finished, or give another one with {option}"
            )
        try:
            yield
        finally:
            if is_free:
                remove(path)  # Windows keeps it, because it is open
                with contextlib.suppress(OSError):  # it has files by now
                    folder.rmdir() if is_new else None


def is_open_file(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def try_to_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False when another process has. Raises OSError where that is impossible."""
    if os.name == "nt":
        import msvcrt

        # A byte far behind the content, because others cannot read what is locked.
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
