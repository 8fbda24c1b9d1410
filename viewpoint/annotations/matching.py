"""From the photo names written in annotation files to the photos of a folder. Standard library only.

Most names lead from the folder of their annotation file to a photo, to the letter or but for its
spelling. The others were written on another computer, or files were moved since. For those a photo
of equal name is looked for nearby. It counts only when nothing speaks for another photo, because
cameras call the first photo of every car IMG_0001.jpg.
"""

import bisect
import functools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

# Why nothing was found for a name.
MALFORMED = "malformed entry"
MISSING = "annotated but missing"
OUTSIDE = "photo outside the data folder"
SEVERAL_PHOTOS = "several photos fit the name"
SEVERAL_NAMES = "several names of its file fit the same photo"
NAMED_EXACTLY = "only a photo fits that another name leads to exactly"
DOUBTFUL = "a photo of equal name elsewhere may be another one"

# The names of splits, and what they mean.
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
# Of the photos that fit a name, this many are looked at.
FEW = 20

OTHER_SPELLING = "found under another spelling"

# How well a photo fits a name. A photo elsewhere fits by the number of folders in its path that are as written.
EXACT, OTHER_FORM, OTHER_CASE = 1002, 1001, 1000


@dataclass(frozen=True)
class Match:
    """What was found for a name: the photo's path relative to the folder, with "/", or None and the reason.

    `found_as` tells how a photo was found whose name is not written to the letter, as the rest of a
    sentence: "72 photos found in images/train by name".
    """

    image_path: str | None
    reason: str = ""
    found_as: str = ""

    @property
    def was_moved(self) -> bool:
        """Whether the photo is not where the name says, but was found by it."""
        return self.found_as not in ("", OTHER_SPELLING)


@dataclass
class Name:
    """A name in an annotation file, and what was found for it so far: `photo`, or a `reason` why none."""

    text: str
    photo: str | None = None
    reason: str = ""
    found_as: str = ""
    rank: int = 0  # how well `photo` fits
    meant: str = ""  # the path that it means: two names with the same are the same name
    is_outside: bool = False  # leads out of the folder
    original: str | None = None  # the file outside to which it leads
    parts: list[str] = field(default_factory=list)  # the folders and the file name in it
    path_end: str = ""  # those of the folders that there are, as PhotoIndex.longest_path_end gives them
    candidate: str | None = None  # the only photo that fits in another place

    @property
    def is_open(self) -> bool:
        """Whether nothing is decided."""
        return self.photo is None and not self.reason

    @property
    def found(self) -> str | None:
        """The photo that was found, at its place or, unless there is a reason against it, elsewhere."""
        return self.photo or (None if self.reason else self.candidate)

    @property
    def file_name(self) -> str:
        """The file name in it, in lower case."""
        return lower(self.parts[-1]) if self.parts else ""

    def match(self, index: "PhotoIndex") -> Match:
        """What was found when everything has been tried."""
        if self.photo is None:
            return Match(None, self.reason or (OUTSIDE if self.is_outside else MISSING))
        return Match(index.relative(self.photo), "", self.found_as)


def match_names(folder: Path, names_of: dict[Path, list[str]], photos: Iterable[Path]) -> dict[Path, list[Match]]:
    """Find the photos that annotation files name: {annotation file: a match for each of its names, in order}.

    `folder` is the data folder, resolved; the keys of `names_of` and `photos` are absolute paths
    below it. No photo outside is matched, unless `photos` has a link to it.
    """
    index = PhotoIndex(folder, photos)
    files = {
        path: {text: find_in_place(index, str(path.parent), text) for text in dict.fromkeys(texts)}
        for path, texts in names_of.items()
    }
    taken = {name.photo for names in files.values() for name in names.values() if name.photo}
    for json_file, names in group_names(files):
        if any(name.is_open for name in names):
            find_by_file_name(index, json_file, names, taken)
    for names_of_file in files.values():
        keep_the_best(list(names_of_file.values()))
    return {path: [files[path][text].match(index) for text in texts] for path, texts in names_of.items()}


def group_names(files: dict[Path, dict[str, Name]]) -> list[tuple[Path, list[Name]]]:
    """Names that probably belong to one group of photos, with their annotation file.

    The names of a file are a group; files with one name each, as LabelMe writes them, are one group in each folder,
    which gets no name of a file.
    """
    groups = [(path, list(names.values())) for path, names in files.items() if len(names) > 1]
    singles: dict[Path, list[Name]] = defaultdict(list)
    for path, names in files.items():
        if len(names) == 1:
            singles[path.parent / "_"] += names.values()
    return [*groups, *singles.items()]


# --- Spellings ---------------------------------------------------------------------


def one_form(path: str) -> str:
    """A path with "/" between its parts, no spaces around them, and accents composed with their letters (NFC)."""
    path = path.replace("\\", "/")
    if " " in path:
        path = "/".join(part.strip() for part in path.split("/"))
    return path if path.isascii() else unicodedata.normalize("NFC", path)


def lower(path: str) -> str:
    """A path in one form and in lower case."""
    return one_form(one_form(path).lower())


def split_name(text: str) -> list[str]:
    """The folders and the file name in a name as written: a URL, a Windows path or a Unix path; in one form."""
    text = text.rpartition("/local-files/?d=")[2]  # Label Studio's name for a local file
    _, is_url, address = text.partition("://")
    if is_url:
        text = re.split("[?#]", address)[0]
    return [part for part in one_form(text).split("/") if part not in ("", ".", "..")]


def is_absolute(text: str) -> bool:
    """Whether a name is a URL, or an absolute path on Windows or Unix."""
    return "://" in text or text.startswith(("/", "\\")) or bool(re.match(r"[A-Za-z]:[\\/]", text))


def is_writable(text: str) -> bool:
    """Whether a CSV file can hold a name: no carriage return, and nothing that is not Unicode."""
    return "\r" not in text and text.encode(errors="ignore").decode() == text


# --- The photos of the folder ------------------------------------------------------


class PhotoIndex:
    """The photos below a folder, by path, by spelling and by file name. Paths are texts here, for speed."""

    def __init__(self, folder: Path, photos: Iterable[Path]) -> None:
        self.folder = folder
        self.prefix = prefix_of(folder)
        self.paths = {path for path in map(str, photos) if is_writable(path)}
        self.real_folders: dict[str, str] = {}

    def place(self, path: str) -> str:
        """The folder of a path, for people."""
        return self.relative(path).rpartition("/")[0] or "the data folder"

    def relative(self, path: str) -> str:
        """A path inside the folder, relative to it and with "/"."""
        return path.removeprefix(self.prefix).replace(os.sep, "/")

    @cached_property
    def by_path(self) -> dict[str, list[str]]:
        """The photos by their path relative to the folder, in lower case; also by the path decoded as in a URL."""
        found: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            name = self.relative(path)
            for key in {lower(name), lower(unquote(name))}:
                found[key].append(path)
        return found

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The photos by file name, in lower case; sorted, so that those below a folder are side by side."""
        found: dict[str, list[str]] = defaultdict(list)
        for key, paths in self.by_path.items():
            found[key.rpartition("/")[2]] += paths
        return {name: sorted(set(paths)) for name, paths in found.items()}

    @cached_property
    def by_folder(self) -> dict[str, dict[str, list[str]]]:
        """The photos of each folder by file name, in lower case."""
        found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name, paths in self.by_name.items():
            for path in paths:
                found[folder_of(path)][name].append(path)
        return found

    @cached_property
    def path_ends(self) -> dict[str, set[str]]:
        """The folders of photos, each with all ends of its path in lower case: "", "/train", "/images/train", ..."""
        found = {}
        for folder in sorted(self.by_folder):
            path = "/" + lower(folder).strip("/")
            found[folder] = {"", *(path[slash.start() :] for slash in re.finditer("/", path))}
        return found

    @cached_property
    def by_path_end(self) -> dict[str, list[str]]:
        """The folders of photos, with a separator after them, by each end of their path; sorted."""
        found: dict[str, list[str]] = defaultdict(list)
        for folder, path_ends in self.path_ends.items():
            for path_end in path_ends:
                found[path_end].append(folder + os.sep)
        return found

    def fitting(self, name: str, path_end: str, prefix: str) -> Iterator[str]:
        """The photos of a file name, in lower case, in the folders below `prefix` whose path ends with `path_end`."""
        photos, folders = self.by_name.get(name, []), self.by_path_end.get(path_end, [])
        if len(photos) <= len(folders):
            return (path for path in below(photos, prefix) if path_end in self.path_ends[folder_of(path)])
        return (path for folder in below(folders, prefix) for path in self.by_folder[folder_of(folder)].get(name, []))

    @cached_property
    def listed_folders(self) -> dict[str, str]:
        """The folders of photos as they are listed, by their real path: they differ for links that leave the folder."""
        return {str(Path(folder).resolve()): folder for folder in sorted(self.by_folder)}

    def find(self, path: str) -> str | None:
        """The file at a path, through links: a photo as it is listed, any other by its real path; None without one."""
        if path in self.paths:
            return path
        file = Path(path)
        try:
            if not file.is_file():
                return None
            folder, name = folder_of(path), file.name
            if folder not in self.real_folders:
                real = str(Path(folder).resolve())
                self.real_folders[folder] = self.listed_folders.get(real, real)
            photo = f"{self.real_folders[folder]}{os.sep}{name}"
            if photo in self.paths:
                return photo
            real = str(file.resolve())
            # On disks that ignore case, and the form of letters, a file has many names.
            same = (photo for photo in self.by_path.get(lower(self.relative(real)), []) if file.samefile(photo))
            return next(same, real)
        except (OSError, ValueError, RuntimeError):  # names that no disk can hold, link loops
            return None

    def longest_path_end(self, folders: list[str], prefix: str) -> str:
        """As many of the last folders as written as a folder of photos below `prefix` has: "/images/train", or ""."""
        found = ""
        for start in reversed(range(len(folders))):
            longer = lower("/" + "/".join(folders[start:]))
            if not any(below(self.by_path_end.get(longer, []), prefix)):
                break
            found = longer
        return found


def prefix_of(folder: Path) -> str:
    """What the paths of all files below a folder begin with."""
    return str(folder).rstrip(os.sep) + os.sep


def folder_of(path: str) -> str:
    """The folder of a path."""
    return path.rpartition(os.sep)[0]


def below(paths: list[str], prefix: str) -> Iterator[str]:
    """Those of sorted paths that begin with `prefix`."""
    for index in range(bisect.bisect_left(paths, prefix), len(paths)):
        if not paths[index].startswith(prefix):
            return
        yield paths[index]


# --- At its place ------------------------------------------------------------------


def find_in_place(index: PhotoIndex, json_folder: str, text: str) -> Name:
    """A name, with the photo to which it leads from the folder of its annotation file, whatever the spelling."""
    name = Name(text, meant=text, is_outside=is_absolute(text) or "\0" in text)
    if not is_writable(text):
        name.reason = MALFORMED
    # A name of a Windows share is not looked up, because that asks a server.
    if name.reason or "\0" in text or text.replace("\\", "/").startswith("//"):
        return name
    # Normalized before anything else: after a link, ".." would lead elsewhere.
    path = os.path.normpath(Path(json_folder, text))
    found = index.find(path)
    if found is not None and (found in index.paths or found.startswith(index.prefix)):
        if not is_writable(found):
            return Name(text, reason=MALFORMED)
        name.photo, name.rank, name.meant = found, EXACT, one_form(path)
    elif found is not None and path.startswith(index.prefix):
        name.reason = OUTSIDE  # a link that leads there
        return name
    elif found is not None or not (path + os.sep).startswith(index.prefix):
        name.is_outside, name.original = True, found
    if name.photo:
        return name
    for spelling in dict.fromkeys([text, unquote(text)]):
        path = os.path.normpath(Path(json_folder, one_form(spelling)))
        fitting = index.by_path.get(lower(index.relative(path)), []) if path.startswith(index.prefix) else []
        same = [photo for photo in fitting if one_form(photo) == one_form(path)]
        if len(same or fitting) == 1:
            [name.photo] = same or fitting
            name.rank, name.found_as, name.meant = OTHER_FORM if same else OTHER_CASE, OTHER_SPELLING, one_form(path)
            return name
        if fitting:
            name.reason = SEVERAL_PHOTOS
            return name
    return name


# --- Elsewhere ---------------------------------------------------------------------


def find_by_file_name(index: PhotoIndex, json_file: Path, names: list[Name], taken: set[str]) -> None:
    """Find photos in other places for the open names of a group, or set the reason why none counts.

    A photo fits when it has the same file name and, where folders of photos have the names of the
    folders as written, is in one of them. It counts when it is the only one that fits, and

    - it is near: below the folder of the annotation file when some names lead to a photo from
      there, else below the nearest ancestor with photos for at least half of the names for which
      there are any;
    - no name leads to it exactly;
    - its folder is not named as another lot or split than the annotation file (lot_2, val);
    - its folder does not look like another group with the same file names, or like copies, where
      more photos fit a name of the group without being found for it than with;
    - photos are found for at least half of the group.
    """
    for name in names:
        name.parts = find_parts(index, name.text)
    search_prefix = find_search_folder(index, json_file.parent, names)
    is_other = functools.cache(functools.partial(is_named_otherwise, index, json_file))
    for name in names:
        name.path_end = index.longest_path_end(name.parts[:-1], search_prefix)
        fitting = index.fitting(name.file_name, name.path_end, search_prefix) if name.is_open else iter(())
        if name.original is not None:
            size = size_of(name.original)  # copies have the same
            fitting = (photo for photo in fitting if size_of(photo) == size)
        first_few = list(islice(fitting, FEW))
        likely = [photo for photo in first_few if not is_other(folder_of(photo))]
        if len(likely) == 1:
            [name.candidate] = likely
        elif first_few:
            name.reason = SEVERAL_PHOTOS if likely else DOUBTFUL
    other_folders = find_other_groups(index, names, taken)
    for name in names:
        if name.candidate in taken:
            name.reason = NAMED_EXACTLY
        elif name.candidate and folder_of(name.candidate) in other_folders:
            name.reason = DOUBTFUL
    is_most = 2 * sum(name.found is not None for name in names) >= len(names)
    for name in names:
        if name.is_open and name.candidate:
            if is_most:
                name.photo, name.found_as = name.candidate, f"found in {index.place(name.candidate)} by name"
                name.rank, name.meant = name.path_end.count("/"), "/".join(name.parts)
            else:
                name.reason = DOUBTFUL


def is_named_otherwise(index: PhotoIndex, json_file: Path, folder: str) -> bool:
    """Whether a folder of photos is named as another lot or split than an annotation file.

    That is where their paths part with names that differ only in numbers, single letters or the names of splits,
    or where the file is named after another split.
    """
    photos_in = index.relative(folder + os.sep).split("/")[:-1]
    folders = zip(index.relative(str(json_file)).split("/")[:-1], photos_in, strict=False)
    own, other = next((map(words_of, pair) for pair in folders if pair[0] != pair[1]), ([], []))
    if own != other and list(map(kind_of_word, own)) == list(map(kind_of_word, other)):
        return True
    split = {SPLITS[word] for word in words_of(json_file.stem) if word in SPLITS}
    split_of_photos = {SPLITS[word] for name in photos_in for word in words_of(name) if word in SPLITS}
    return bool(split and split_of_photos) and split.isdisjoint(split_of_photos)


def words_of(name: str) -> list[str]:
    """The runs of letters and of digits in a name, in lower case."""
    return re.findall(r"[^\W\d_]+|\d+", lower(name))


def kind_of_word(word: str) -> str:
    """A word, or "#" for one that tells lots or splits apart."""
    return "#" if word.isdigit() or len(word) == 1 or word in SPLITS else word


def find_parts(index: PhotoIndex, text: str) -> list[str]:
    """The folders and the file name in a name; decoded as in a URL when only then there is a photo of that name."""
    parts = split_name(text)
    decoded = [part for part in one_form(unquote("/".join(parts))).split("/") if part]
    if decoded and lower(parts[-1]) not in index.by_name and lower(decoded[-1]) in index.by_name:
        return decoded
    return parts


def find_search_folder(index: PhotoIndex, json_folder: Path, names: list[Name]) -> str:
    """The prefix of the folder in which the photos of a group are looked for; see find_by_file_name."""
    if any(name.photo for name in names):
        return prefix_of(json_folder)
    candidates = [index.by_name[name.file_name] for name in names if name.file_name in index.by_name]
    for folder in (json_folder, *json_folder.parents):
        prefix = prefix_of(folder)
        if folder == index.folder or 2 * sum(any(below(photos, prefix)) for photos in candidates) >= len(candidates):
            return prefix
    return index.prefix


def find_other_groups(index: PhotoIndex, names: list[Name], taken: set[str]) -> set[str]:
    """The folders with photos found elsewhere in which more names fit a photo without finding it than with."""
    found = {name.found for name in names if name.found and name.candidate not in taken}
    found_in = Counter(map(folder_of, found))
    path_ends_of: dict[str, set[str]] = defaultdict(set)
    for name in names:
        path_ends_of[name.file_name].add(name.path_end)
    others = set()
    for folder in {folder_of(name.candidate) for name in names if name.candidate}:
        both = path_ends_of.keys() & index.by_folder[folder].keys()
        fitting = sum(not path_ends_of[file_name].isdisjoint(index.path_ends[folder]) for file_name in both)
        if fitting > 2 * found_in[folder]:
            others.add(folder)
    return others


def size_of(path: Path | str) -> int | None:
    """The size of a file in bytes; None when it cannot be asked for."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


# --- One photo, several names ------------------------------------------------------


def keep_the_best(names: list[Name]) -> None:
    """Where several names of a file lead to the same photo, keep the one that fits best.

    Names that mean the same path are one name. Of different names that fit equally well none is
    kept, unless they lead to the photo exactly, through links.
    """
    names_for: dict[str, list[Name]] = defaultdict(list)
    for name in names:
        if name.photo:
            names_for[name.photo].append(name)
    for rivals in names_for.values():
        best = max(name.rank for name in rivals)
        kept = {name.meant for name in rivals if name.rank == best}
        for name in rivals:
            if name.meant not in kept or (len(kept) > 1 and best < EXACT):
                name.photo, name.reason = None, SEVERAL_NAMES
