"""Files: list them, and write their paths so that every program can read them. Standard library only."""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import config
from viewpoint.common.cli import printable, writable

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
