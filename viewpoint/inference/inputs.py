"""Which photos and videos to predict: files, folders, globs, CSV files, names from standard input. Starts fast."""

import functools
import glob
import itertools
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import config
from viewpoint.common.cli import UserError, counted
from viewpoint.common.files import csv_name, is_file, list_folder
from viewpoint.common.images import is_photo
from viewpoint.data.dataset import stream_rows

STANDARD_INPUT = "-"
NAME_COLUMNS = ("image_path", "image_name")


@dataclass
class Input:
    """A photo or video to predict: its name in the output, its file, its true class if known.

    `is_named` says that somebody asked for this very file, and did not only name its folder.
    """

    name: str
    file: Path
    label: str | None = None
    is_named: bool = True


@dataclass
class Inputs:
    """Photos and videos to predict, in order. They can be iterated over several times, but not at the same time.

    `left_out` has what lies in a folder but is not read: names by reason, as in files.Listing.
    """

    count: int = 0
    videos: int = 0  # that many of `count`
    left_out: dict[str, list[str]] = field(default_factory=dict)
    sources: list[Callable[[], Iterable[Input]]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Input]:
        return itertools.chain.from_iterable(source() for source in self.sources)

    def __str__(self) -> str:
        parts = ((self.count - self.videos, "photo"), (self.videos, "video"))
        return " and ".join(counted(count, what) for count, what in parts if count)

    def add(self, source: Callable[[], Iterable[Input]]) -> int:
        """Add the photos and videos that `source()` lists, and return how many these are."""
        before = self.count
        for item in source():
            self.count += 1
            self.videos += is_video(item.file)
        self.sources.append(source)
        return self.count - before


def is_video(path: Path) -> bool:
    """Whether a file counts as a video, by its extension."""
    return path.suffix.lower() in config.VIDEO_EXTENSIONS


def find_inputs(images: Path | Sequence[Path], data_dir: Path | None = None) -> list[Input]:
    """The photos that list_inputs lists, without following links that leave a folder."""
    paths = [images] if isinstance(images, Path) else images
    return [item for item in list_inputs(paths, data_dir) if not is_video(item.file)]


def list_inputs(images: Sequence[Path | str], data_dir: Path | str | None = None, follow_links: bool = False) -> Inputs:
    """What to predict: files, all photos and videos below folders (sorted), the rows of CSV files, globs, names.

    A glob has *, ? or [ and is not itself the name of a file; "-" stands for names on standard
    input, one a line. A photo is named by its path below the folder given, and of several, below the
    one folder that all of them are in; a file stands for its folder, a glob for the part before its
    first wildcard. CSV files and names on standard input keep their own names, and are not held in
    memory: these start from `data_dir`, or without it, for a CSV as in dataset.stream_rows.
    `follow_links` also reads what links outside a folder lead to. Raises UserError when there is
    nothing to predict.
    """
    inputs = Inputs()
    paths: list[Path] = []
    folders: list[Path] = []
    for path in map(Path, images):
        if not path.exists() and glob.has_magic(str(path)):
            paths += find_matches(path)
            folders.append(Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)))
        else:
            paths.append(path)
            if str(path) != STANDARD_INPUT and not is_csv(path):
                folders.append(path if path.is_dir() else path.parent)
    try:
        # Without "..", but with links as they are.
        start = os.path.commonpath([os.path.normpath(folder.absolute()) for folder in folders])
    except ValueError:  # no folder, or several drives of Windows
        start = ""
    for path in paths:
        if str(path) == STANDARD_INPUT:
            add_names(inputs, Path(data_dir or ""))
        elif is_csv(path):
            if not inputs.add(functools.partial(read_csv, path, data_dir)):  # also finds a mistake before the work
                raise UserError(f"no photos in {path}: it has no rows")
        else:
            add_path(inputs, path, start, follow_links)
    return inputs


def is_csv(path: Path) -> bool:
    """Whether a path is to be read as a CSV file of names."""
    return path.suffix.lower() == ".csv" and not path.is_dir()


def find_matches(pattern: Path) -> list[Path]:
    """What a glob matches, sorted; files only where they count as photos or are CSV files. Raises UserError if none."""
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207  (it may be absolute)
    wanted = [path for path in matches if path.is_dir() or is_csv(path) or is_wanted(path)]
    if not wanted:
        raise UserError(f"no photos match {pattern}")
    return wanted


def is_wanted(path: Path) -> bool:
    """Whether a file in a folder counts as a photo or video."""
    return is_photo(path) or (is_video(path) and is_file(path))


def add_path(inputs: Inputs, path: Path, start: str, follow_links: bool) -> None:
    """Add a file, or what is below a folder, with names that start from the folder `start`; as given where it is ""."""
    if not path.exists():
        raise UserError(f"{path} not found; give a photo, a folder, a glob or a CSV")
    prefix = Path(os.path.relpath(path, start) if start else path)
    if not path.is_dir():
        inputs.add(lambda: [Input(csv_name(prefix.as_posix()), path)])
        return
    listing = list_folder(path, follow_links, [*config.IMAGE_EXTENSIONS, *config.VIDEO_EXTENSIONS])
    files = filter(is_wanted, listing.files)
    found = sorted((csv_name((prefix / file.relative_to(path)).as_posix()), file) for file in files)
    if not found:
        raise UserError(nothing_found(path, listing.left_out))
    inputs.add(lambda: (Input(name, file, is_named=False) for name, file in found))
    for reason, names in listing.left_out.items():
        inputs.left_out.setdefault(reason, []).extend(names)


def read_csv(path: Path, data_dir: Path | str | None) -> Iterator[Input]:
    """The photos of a CSV, some of them perhaps without a label. Raises UserError for a photo with two labels."""
    labels: dict[int, str] = {}  # by the hash of the name, because there may be very many
    for row in stream_rows(path, data_dir, NAME_COLUMNS, may_lack_labels=True):
        name, label = row["image_path"], row.get("label")
        if label and label != (other := labels.setdefault(hash(name), label)):
            raise UserError(f"{path} names {name} twice, as {other} and as {label}; keep the row that is right")
        yield Input(name, Path(row["file"]), label)


def add_names(inputs: Inputs, folder: Path) -> None:
    """Add the photos whose names, relative to `folder`, are on standard input. Raises UserError when none are."""
    # In a file, because they are read twice: to count them for the progress bar, and to predict them.
    names = tempfile.TemporaryFile()
    weakref.finalize(inputs, names.close)
    shutil.copyfileobj(sys.stdin.buffer, names)

    def read_names() -> Iterator[Input]:
        names.seek(0)
        for line in names:
            if name := os.fsdecode(line.rstrip(b"\r\n")):
                yield Input(csv_name(name), folder / name)

    if not inputs.add(read_names):
        raise UserError("no names of photos on standard input; write one a line")


def nothing_found(folder: Path, left_out: dict[str, list[str]]) -> str:
    """What to tell people whose folder has no photos: the extensions, and what was not read."""
    reasons = [f"{reason}: {names[0]}" for reason, names in left_out.items()]
    besides = f"; not read: {', '.join(reasons)}" if reasons else ""
    extensions = ", ".join([*config.IMAGE_EXTENSIONS, *config.VIDEO_EXTENSIONS])
    return f"no photos in {folder} (looked for {extensions}){besides}"
