"""Files: list them, keep paths inside a folder, write whole files or nothing, lock. Standard library only."""

import contextlib
import errno
import glob
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import config
from viewpoint.common.cli import UserError, printable, writable

# --- Listing -----------------------------------------------------------------------

# Why a file is not listed.
JUNK = "made by the system or another program"
UNREAD_FORMAT = "photo or video in a format that is not read"
LEAVES = "link that leaves the folder; --follow-links reads it"
BROKEN = "link that leads nowhere"
SPECIAL = "neither a file nor a folder"
UNREADABLE = "folder that cannot be read"

# Folders that systems and other programs make for themselves: thumbnails, deleted files, versions.
JUNK_FOLDERS = frozenset(
    "@eadir #recycle $recycle.bin .trash .trashes .appledouble __macosx .thumbnails "
    ".ipynb_checkpoints __pycache__ .git .svn .hg node_modules".split()
)
# macOS's "._" companions of files on foreign disks, the unfinished files of write_atomically, and the
# trash folders of Linux.
JUNK_NAME = re.compile(r"\._.*|\..+\.\d+\.(old\.)?tmp(\..+)?|\.trash-\d+")

# What os.open and os.fsync say of folders on mounts that cannot flush them: SMB, FUSE, VirtualBox.
CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EISDIR)

# In the names of temporary files, because processes in containers or on other computers may have the same id.
PROCESS = f"{secrets.randbelow(10**6):06}"

READ_EXTENSIONS = frozenset([*config.IMAGE_EXTENSIONS, ".json", ".csv"])


@dataclass
class Listing:
    """The files below a folder, sorted, and what is not among them: its names by reason.

    The names are relative to the folder and printable.
    """

    files: list[Path]
    left_out: dict[str, list[str]]


def list_folder(folder: Path, follow_links: bool = False, extensions: Collection[str] = READ_EXTENSIONS) -> Listing:
    """List the files below `folder`, each photo once.

    Links are followed when they stay inside `folder`, with `follow_links` also when they leave it.
    A photo to which a link leads is listed under its own path where that is inside `folder`.

    `left_out` has what would count by its extension, one of `extensions`, but is not listed: links
    that leave the folder or lead nowhere, files of the system and of other programs, and photos in
    formats that are not read. It also has folders that cannot be read.
    """
    walk = Walk(folder, follow_links, extensions)
    walk.list_below(folder, walk.top)
    while walk.links:  # a folder outside may hold further links
        links, walk.links = sorted(walk.links), []
        for link in links:
            walk.follow(link)
    walk.files.update(link for real, link in walk.outside.items() if real.parent not in walk.visited)
    left_out = {reason: sorted(names) for reason, names in sorted(walk.left_out.items()) if names}
    return Listing(sorted(walk.files), left_out)


class Walk:
    """The state of list_folder. Links come last, when the files that they may lead to are listed."""

    def __init__(self, folder: Path, follow_links: bool, extensions: Collection[str]) -> None:
        self.folder, self.top = folder, folder.resolve()
        self.follow_links, self.extensions = follow_links, extensions
        self.files: set[Path] = set()
        self.links: list[Path] = []
        self.visited: set[Path] = set()  # real paths of folders
        self.outside: dict[Path, Path] = {}  # the link to each linked photo outside, by the photo's real path
        self.left_out: dict[str, set[str]] = {}

    def leave_out(self, reason: str, path: Path, detail: str = "") -> None:
        """Note a file or folder that is not listed."""
        self.left_out.setdefault(reason, set()).add(self.name(path) + detail)

    def name(self, path: Path) -> str:
        """The printable name of a path, relative to the folder."""
        return printable(relative_name(path, self.folder))

    def counts(self, path: Path) -> bool:
        """Whether a file would count by its extension."""
        return path.suffix.lower() in self.extensions

    def list_below(self, path: Path, real: Path) -> None:
        """List the files below a folder: `path` as it is to be written, `real` without links."""
        todo = [(path, real, False)]
        while todo:
            path, real, is_junk = todo.pop()
            if real in self.visited:
                continue
            self.visited.add(real)
            try:
                with os.scandir(path) as scan:
                    entries = list(scan)
            except OSError as error:
                if not is_junk:
                    self.leave_out(UNREADABLE, path, f" ({error.strerror})")
                continue
            for entry in entries:
                below, kind, junk = path / entry.name, kind_of(entry), is_junk or is_junk_name(entry.name)
                if kind == "folder":
                    todo.append((below, real / entry.name, junk or entry.name.lower() in JUNK_FOLDERS))
                else:
                    self.add(below, kind, junk)

    def add(self, path: Path, kind: str, is_junk: bool) -> None:
        """List a file or a link, or note why not."""
        if is_junk or kind == "special":
            if self.counts(path):
                self.leave_out(JUNK if is_junk else SPECIAL, path)
        elif kind == "link":
            self.links.append(path)
        elif path.suffix.lower() in config.UNREAD_EXTENSIONS:
            self.leave_out(UNREAD_FORMAT, path)
        else:
            self.files.add(path)

    def follow(self, link: Path) -> None:
        """List what a link leads to, unless it is listed already or must not be."""
        counts = self.counts(link) or not link.suffix  # without an extension it may lead to a folder or a photo
        try:
            real = link.resolve(strict=True)
            is_inside, is_folder, is_file = real.is_relative_to(self.top), real.is_dir(), real.is_file()
        except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
            if counts:
                self.leave_out(BROKEN, link)
            return
        if not is_inside and not self.follow_links:
            if counts or is_folder:
                self.leave_out(LEAVES, link)
        elif is_folder:
            self.list_below(link, real)
        elif not is_file:
            if counts:
                self.leave_out(SPECIAL, link)
        elif is_inside:
            self.add_link_inside(link, self.folder / real.relative_to(self.top))
        elif link.suffix.lower() in config.IMAGE_EXTENSIONS:
            self.outside.setdefault(real, link)
        else:
            self.files.add(link)

    def add_link_inside(self, link: Path, target: Path) -> None:
        """List a link to a file inside the folder, unless that is a photo and listed itself.

        An annotation file counts wherever a link to it is, because the names in it start there.
        git-annex and DVC store photos below .git or under names that say nothing: the links count.
        """
        if target.suffix.lower() in config.IMAGE_EXTENSIONS and target in self.files:
            return
        if link.suffix.lower() in config.IMAGE_EXTENSIONS:
            self.left_out.get(JUNK, set()).discard(self.name(target))
            if not target.suffix:
                self.files.discard(target)
        self.files.add(link)


def kind_of(entry: os.DirEntry[str]) -> str:
    """What an entry of a folder is: "link", "folder", "file", or "special", such as a pipe."""
    try:
        if entry.is_symlink():
            return "link"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "file" if entry.is_file(follow_symlinks=False) else "special"
    except OSError:  # opening it will give the reason
        return "file"


def is_junk_name(name: str) -> bool:
    """Whether a file or folder of this name was made by the system or another program."""
    return bool(JUNK_NAME.fullmatch(name.lower()))


# --- Paths -------------------------------------------------------------------------


def relative_name(path: Path, folder: Path) -> str:
    """`path` relative to `folder`, with "/" between folders, escaped by csv_name."""
    return csv_name(path.relative_to(folder).as_posix())


def csv_name(name: str) -> str:
    """A name with bytes that are not UTF-8 and carriage returns escaped, because a CSV file cannot hold them."""
    return writable(name).replace("\r", "\\r")


def relative_path(path: Path, start: Path) -> str:
    """`path` as seen from the folder `start`, with "/"; absolute where no relative path exists (Windows drives)."""
    try:
        return Path(os.path.relpath(path.resolve(), start.resolve())).as_posix()
    except ValueError:
        return path.resolve().as_posix()


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
