"""What the readers make of annotation files: photos with named parts and their outlines, and one report."""

from collections import Counter
from dataclasses import dataclass, field

from viewpoint.cli import printable

# Points (x, y) around a part, in pixels of the upright photo; a single point is a part without extent.
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Part:
    """One annotated region of a photo.

    `names` holds one part name, several where the annotation ticks several, or none where
    nothing usable was written; `outlines` holds its polygons, none where no shape was drawn.
    """

    names: tuple[str, ...]
    outlines: tuple[Outline, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What an annotation file says of one photo: the photo's name as written there, and its parts.

    `key` is how the file itself calls the entry, for messages.
    """

    key: str
    filename: str
    parts: tuple[Part, ...]


@dataclass
class AnnotationFile:
    """The content of one annotation file.

    `malformed` lists the keys of entries without a usable file name or list of regions, `notes`
    what was unusual, each as the rest of a sentence that begins with the file's name.
    """

    entries: list[Entry] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Report:
    """What reading a folder met: how many files were read, what was left out by reason, what was unusual."""

    annotation_files: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    unknown_parts: Counter[str] = field(default_factory=Counter)
    corrections: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, what: str) -> None:
        """Note that something was left out, in a printable form."""
        self.skipped.setdefault(reason, []).append(printable(what))
