"""What the readers make of annotation files: photos with named parts and their outlines, and one report."""

from collections import Counter
from dataclasses import dataclass, field

from viewpoint.common.cli import printable

# Points (x, y) around a part, in pixels of the upright photo; a single point is a part without extent.
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Part:
    """One annotated region of a photo.

    `names` holds one part name, several where the annotation ticks several, or none where
    nothing usable was written; `outlines` holds its polygons, none where no shape was drawn.
    `group` is the id of the car that it belongs to, where the file tells several apart; `ignored`
    says why the region does not count, for example "without an area".
    """

    names: tuple[str, ...]
    outlines: tuple[Outline, ...] = ()
    group: str = ""
    ignored: str = ""


@dataclass(frozen=True)
class Photo:
    """An annotated photo: its parts under known names, two hashes, and the upright photo's width and height.

    `hash` is duplicates.perceptual_hash, `content` is provenance.photo_hash.
    """

    parts: tuple[Part, ...]
    hash: int
    content: str = ""
    size: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Entry:
    """What an annotation file says of one photo: the photo's name as written there, and its parts.

    `key` is how the file itself calls the entry, for messages. `problem`, if any, says why the
    parts cannot be trusted to be those of this photo. `size` is that of the photo's file in bytes,
    None where the annotation file does not say it. `views` are the texts that name the view of the
    whole photo (see places.views_of).
    """

    key: str
    filename: str
    parts: tuple[Part, ...]
    problem: str = ""
    size: int | None = None
    views: tuple[str, ...] = ()


@dataclass
class AnnotationFile:
    """The content of one annotation file.

    `malformed` lists the keys of entries without a usable file name or list of regions, `notes`
    what was unusual, each as the rest of a sentence that begins with the file's name. `passed_over`
    counts the regions that do not count, by the reason.
    """

    entries: list[Entry] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


@dataclass
class Report:
    """What reading a folder met.

    `skipped` lists everything left out by reason, in printable form; `left_out` has the reason for
    each photo file among it, so that photos_found = labelled + left_out. `spellings` counts the
    names that are not spelled as in config.py, as (name, its meaning); `unknown_parts` the photos of
    each name that means no part, `with_unknown_part` how many photos have such a name. `annotated`
    counts photos with regions, `without_known_part` those of them with no known part besides damage,
    `empty` labelled photos without any region, `fuller` those whose label another, less complete
    annotation would change. `notes` tell what was unusual but read, `warnings` what probably makes
    labels wrong.
    """

    annotation_files: int = 0
    photos_found: int = 0
    annotated: int = 0
    without_known_part: int = 0
    with_unknown_part: int = 0
    empty: int = 0
    fuller: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    spellings: Counter[tuple[str, str]] = field(default_factory=Counter)
    unknown_parts: Counter[str] = field(default_factory=Counter)
    corrections: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def skip(self, reason: str, what: str) -> None:
        """Note that something was left out, in a printable form."""
        self.skipped.setdefault(reason, []).append(printable(what))

    def leave_out(self, reason: str, image_path: str, detail: str = "") -> None:
        """Note that a photo was left out; `detail` is added to its path."""
        self.left_out[image_path] = reason
        self.skip(reason, image_path + detail)
