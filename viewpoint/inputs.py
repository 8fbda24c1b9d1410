"""Which photos to predict: files, folders, globs, CSV files, and names from standard input. Starts fast."""

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
from viewpoint.cli import UserError
from viewpoint.dataset import stream_rows
from viewpoint.files import csv_name, list_folder, relative_name
from viewpoint.images import is_photo

STANDARD_INPUT = "-"
NAME_COLUMNS = ("image_path", "image_name")


@dataclass
class Input:
    """A photo to predict: its name in the output, its file, its true class if known.

    `is_named` says that somebody asked for this very photo, and did not only name its folder.
    """

    name: str
    file: Path
    label: str | None = None
    is_named: bool = True


@dataclass
class Inputs:
    """Photos to predict, in order. They can be iterated over several times, but not at the same time.

    `left_out` has what lies in a folder but is not read: names by reason, as in files.Listing.
    """

    count: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    sources: list[Callable[[], Iterable[Input]]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Input]:
        return itertools.chain.from_iterable(source() for source in self.sources)

    def add(self, count: int, source: Callable[[], Iterable[Input]]) -> None:
        """Add `count` photos, which `source()` lists."""
        self.count += count
        self.sources.append(source)


def find_inputs(images: Path | str, data_dir: Path | str | None = None) -> list[Input]:
    """The photos that list_inputs lists, without following links that leave a folder."""
    return list(list_inputs([images], data_dir))


def list_inputs(images: Sequence[Path | str], data_dir: Path | str | None = None, follow_links: bool = False) -> Inputs:
    """The photos to predict: files, all photos below folders (sorted), the rows of CSV files, globs, names.

    A glob has *, ? or [ and is not itself the name of a file; "-" stands for names on standard
    input, one a line. A single file or folder gives names relative to its folder; of several,
    names are the paths as given, so that they differ. CSV files and names on standard input are
    not held in memory. `data_dir` is the folder that names in a CSV or on standard input start
    from; without it, for a CSV as in dataset.stream_rows. `follow_links` also reads what links
    outside a folder lead to. Raises UserError when there is nothing to predict.
    """
    inputs = Inputs()
    several = len(images) > 1
    for path in map(Path, images):
        if str(path) == STANDARD_INPUT:
            add_names(inputs, Path(data_dir or ""))
        elif not path.exists() and glob.has_magic(str(path)):
            for match in find_matches(path):
                add_path(inputs, match, data_dir, follow_links, True)
        else:
            add_path(inputs, path, data_dir, follow_links, several)
    return inputs


def find_matches(pattern: Path) -> list[Path]:
    """What a glob matches, sorted; files only where they count as photos or are CSV files. Raises UserError if none."""
    matches = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207  (it may be absolute)
    wanted = [path for path in matches if path.is_dir() or path.suffix.lower() == ".csv" or is_photo(path)]
    if not wanted:
        raise UserError(f"no photos match {pattern}")
    return wanted


def add_path(inputs: Inputs, path: Path, data_dir: Path | str | None, follow_links: bool, several: bool) -> None:
    """Add a photo, the photos below a folder, or those of a CSV; `several` gives them their paths as names."""
    if path.is_dir():
        start = Path() if several else path
        listing = list_folder(path, follow_links, config.IMAGE_EXTENSIONS)
        found = [file for file in listing.files if is_photo(file)]
        if not found:
            raise UserError(nothing_found(path, listing.left_out))
        photos = [Input(name_of(file, start), file, is_named=False) for file in found]
        photos.sort(key=lambda item: item.name)
        inputs.add(len(photos), lambda: photos)
        for reason, names in listing.left_out.items():
            inputs.left_out.setdefault(reason, []).extend(names)
    elif path.suffix.lower() == ".csv":
        count = sum(1 for _ in stream_rows(path, data_dir, NAME_COLUMNS))  # also finds a mistake before the work
        if not count:
            raise UserError(f"no photos in {path}: it has no rows")
        inputs.add(count, lambda: read_csv(path, data_dir))
    elif not path.exists():
        raise UserError(f"{path} not found; give a photo, a folder, a glob or a CSV with --images")
    else:
        photo = Input(name_of(path, Path() if several else path.parent), path)
        inputs.add(1, lambda: [photo])


def name_of(path: Path, start: Path) -> str:
    """The name of a photo in the output: relative to `start`, or as given where `start` is the current folder."""
    return relative_name(path, start) if start != Path() else csv_name(path.as_posix())


def read_csv(path: Path, data_dir: Path | str | None) -> Iterator[Input]:
    """The photos of a CSV."""
    for row in stream_rows(path, data_dir, NAME_COLUMNS):
        yield Input(row["image_path"], Path(row["file"]), row.get("label"))


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

    count = sum(1 for _ in read_names())
    if not count:
        raise UserError("no names of photos on standard input; write one a line")
    inputs.add(count, read_names)


def nothing_found(folder: Path, left_out: dict[str, list[str]]) -> str:
    """What to tell people whose folder has no photos: the extensions, and what was not read."""
    reasons = [f"{reason}: {names[0]}" for reason, names in left_out.items()]
    besides = f"; not read: {', '.join(reasons)}" if reasons else ""
    return f"no photos in {folder} (looked for {', '.join(config.IMAGE_EXTENSIONS)}){besides}"
