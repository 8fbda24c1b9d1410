"""What the readers make of annotation files: photos with named parts and their outlines, and one report."""

from collections import Counter
from dataclasses import dataclass, field

from viewpoint.common.cli import printable

# Points (x, y) around a part, in pixels of the upright photo; a single point is a part without extent.
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Part:
    """One annotated region of a photo."""

    names: tuple[str, ...]  # one, several where the annotation ticks several, none where nothing usable was written
    outlines: tuple[Outline, ...] = ()  # its polygons, none where no shape was drawn
    group: str = ""  # the id of the car that it belongs to, where the file tells several apart
    ignored: str = ""  # why the region does not count, for example "without an area"


@dataclass(frozen=True)
class Photo:
    """An annotated photo."""

    parts: tuple[Part, ...]  # under known names
    hash: int  # duplicates.perceptual_hash
    content: str = ""  # provenance.photo_hash
    size: tuple[int, int] = (1, 1)  # width and height of the upright photo


@dataclass(frozen=True)
class Entry:
    """What an annotation file says of one photo: the photo's name as written there, and its parts."""

    key: str  # how the file itself calls the entry, for messages
    filename: str
    parts: tuple[Part, ...]
    problem: str = ""  # why the parts cannot be trusted to be those of this photo
    size: int | None = None  # of the photo's file in bytes, where the annotation file says it
    views: tuple[str, ...] = ()  # texts that name the view of the whole photo (see places.views_of)


@dataclass
class AnnotationFile:
    """The content of one annotation file."""

    entries: list[Entry] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)  # the keys of entries without a file name or list of regions
    notes: list[str] = field(default_factory=list)  # what was unusual, each to be read after the file's name
    passed_over: Counter[str] = field(default_factory=Counter)  # the regions that do not count, by the reason


@dataclass
class Report:
    """What reading a folder met; each photo file is labelled or in `left_out`."""

    annotation_files: int = 0
    photos_found: int = 0
    annotated: int = 0  # photos with regions
    without_known_part: int = 0  # those of them with no known part besides damage
    with_unknown_part: int = 0  # photos with a name that means no part
    empty: int = 0  # labelled photos without any region
    fuller: int = 0  # photos whose label another, less complete annotation would change
    skipped: dict[str, list[str]] = field(default_factory=dict)  # everything left out by reason, printable
    left_out: dict[str, str] = field(default_factory=dict)  # the reason for each photo file among it
    spellings: Counter[tuple[str, str]] = field(default_factory=Counter)  # names not as in config.py: (name, meaning)
    unknown_parts: Counter[str] = field(default_factory=Counter)  # the photos of each name that means no part
    corrections: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # what was unusual but read
    warnings: list[str] = field(default_factory=list)  # what probably makes labels wrong

    def skip(self, reason: str, what: str) -> None:
        """Note that something was left out, in a printable form."""
        self.skipped.setdefault(reason, []).append(printable(what))

    def leave_out(self, reason: str, image_path: str, detail: str = "") -> None:
        """Note that a photo was left out; `detail` is added to its path."""
        self.left_out[image_path] = reason
        self.skip(reason, image_path + detail)
