"""From a folder to labelled photos: read the annotations, match them with photos, label each photo or say why not."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import imagehash
import pandas as pd
from tqdm import tqdm

import config
from viewpoint.annotations import is_annotation_file, read_annotation_file
from viewpoint.annotations.photo import AnnotationFile, Entry, Part, Report
from viewpoint.cli import UserError, counted, printable
from viewpoint.dataset import COLUMNS, is_summary
from viewpoint.files import list_folder, relative_name
from viewpoint.fingerprints import photo_hash
from viewpoint.images import ImageError, is_photo, open_image, stored_geometry, turn_outlines
from viewpoint.labeling import NAMELESS, UNKNOWN, count_votes, decide, part_names, read_names
from viewpoint.matching import match_names
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.part_names import PART_NAMES_NAME
from viewpoint.vocabulary import DAMAGE, KNOWN

HASHED_SIZE = 64  # a perceptual hash uses 9x8 pixels, so large photos need not be decoded in full

NOT_USED = "annotation file not used"
IN_UNUSED_FILE = "annotated in a file that was not used"
EMPTY = "without any region (--empty skip)"
CONFLICT = {
    "fuller": "annotated twice with different labels, the fuller entry counts",
    "union": "annotated twice with different labels, all parts count (--merge union)",
}

# A file or data set with more than this fraction of photos that are not understood is refused.
REFUSED_FRACTION = 0.5
# Photos without any region are suspicious from this fraction of all, or as a block of this size at the end of a file.
EMPTY_FRACTION = 0.2
MIN_EMPTY_BLOCK, EMPTY_BLOCK_FRACTION = 5, 0.1


@dataclass(frozen=True)
class Photo:
    """An annotated photo: its parts under known names, its perceptual hash (imagehash.dhash), and its content's hash.

    The perceptual hash is a number of 64 bits; see fingerprints.photo_hash for the other.
    """

    parts: tuple[Part, ...]
    hash: int
    content: str


@dataclass(frozen=True)
class Reading:
    """How to read a folder: data_preparation.py's options, and what part_names.csv says.

    `label_key` is the attribute that names the parts; `empty` is "background" or "skip" for
    photos without any region; `merge` is "fuller" or "union" for photos that several entries
    annotate; `meanings` maps further cleaned names to part names of config.py.
    """

    label_key: str = config.IDENTITY_KEY
    empty: str = "background"
    merge: str = "fuller"
    follow_links: bool = False
    meanings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotated:
    """What all annotation files together say of one photo, and the first file that says it."""

    parts: tuple[Part, ...]
    source: str
    problem: str = ""


def read_dataset(folder: Path | str, reading: Reading | None = None) -> tuple[pd.DataFrame, dict[str, Photo], Report]:
    """Label every annotated, readable photo below `folder`: (parse_dataset's table, photos by path, report).

    A photo that was not understood is left out, and the report says why. Raises UserError when the
    folder is missing.
    """
    folder, reading = Path(folder).resolve(), reading or Reading()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of your photos with --data")
    if str(folder).encode(errors="ignore").decode() != str(folder):
        raise UserError(f"the name of {folder} is not UTF-8, which a CSV file cannot hold; rename the folder")
    report = Report()
    listing = list_folder(folder, reading.follow_links)
    for reason, names in listing.left_out.items():
        for name in names:
            report.skip(reason, name)
    files = read_files(listing.files, folder, reading, report)
    found = [path for path in listing.files if is_photo(path)]
    report.photos_found = len(found)
    annotations = match_photos(files, found, folder, reading, report)
    for path in found:
        if relative_name(path, folder) not in annotations:
            report.leave_out("never annotated", relative_name(path, folder))
    table, photos = label_photos(annotations, folder, reading, report)
    return table, photos, report


def parse_dataset(folder: Path | str) -> pd.DataFrame:
    """Label every annotated, readable photo below `folder`.

    Returns one row for each photo, sorted by image_path (relative to `folder`, with "/"), with its
    label and the columns front_votes, rear_votes, left_votes and right_votes (int).
    Raises UserError when the folder is missing or has no photo that could be labelled.
    """
    table, _, report = read_dataset(folder)
    if table.empty:
        raise UserError(nothing_found(folder, report))
    return table


def nothing_found(folder: Path | str, report: Report) -> str:
    """What to tell people whose folder gave no labelled photo: the reason, and what to do."""
    reasons = {reason: items for reason, items in report.skipped.items() if reason != "never annotated"}
    if not reasons:
        advice = "put the annotation files of VIA, COCO or LabelMe into the folder of their photos"
        return f"no annotated photo found below {folder}: {report.annotation_files} annotation files there; {advice}"
    first = NOT_USED if NOT_USED in reasons else max(reasons, key=lambda reason: len(reasons[reason]))
    return f"no photo below {folder} could be labelled; {first}: {reasons[first][0]}"


# --- From annotation files to photos -------------------------------------------------


def read_files(paths: Iterable[Path], folder: Path, reading: Reading, report: Report) -> dict[Path, AnnotationFile]:
    """The content of every annotation file that can be read."""
    files = {}
    for path in paths:
        if not is_annotation_file(path) or is_summary(path):
            continue
        name = relative_name(path, folder)
        try:
            if name != path.relative_to(folder).as_posix():
                raise ValueError("its path is not UTF-8, or holds a carriage return; rename it")
            file = read_annotation_file(path, reading.label_key)
        except ValueError as error:
            report.skip(NOT_USED, f"{name} ({error})")
            continue
        report.annotation_files += 1
        report.notes += [printable(f"{name} {note}") for note in file.notes]
        for key in file.malformed:
            report.skip("malformed entry", f"{name}: {key}")
        files[path] = file
    return files


def match_photos(
    files: dict[Path, AnnotationFile], photos: list[Path], folder: Path, reading: Reading, report: Report
) -> dict[str, Annotated]:
    """What the files say of each photo that they name: {image_path relative to `folder`: ...}, sorted."""
    matches = match_names(folder, {path: [e.filename for e in file.entries] for path, file in files.items()}, photos)
    candidates: dict[str, list[Annotated]] = defaultdict(list)
    for path, file in files.items():
        source, moved = relative_name(path, folder), Counter[str]()
        grouped: dict[str, list[Entry]] = defaultdict(list)
        for entry, match in zip(file.entries, matches[path], strict=True):
            if match.image_path is None:
                report.skip(match.reason, f"{source}: {entry.filename}")
                continue
            moved[match.found_as] += 1
            grouped[match.image_path].append(entry)
        report.notes += [printable(f"{source}: {counted(n, 'photo')} {how}") for how, n in moved.items() if how]
        warn_of_empty_block(file, source, report)
        annotated = {
            image_path: merge(
                image_path, [from_entry(entry, source, reading, report) for entry in entries], reading, report
            )
            for image_path, entries in grouped.items()
        }
        if reason := refusal(annotated, file.notes):
            report.annotation_files -= 1
            report.skip(NOT_USED, f"{source} ({reason})")
            annotated = {image_path: replace(one, problem=IN_UNUSED_FILE) for image_path, one in annotated.items()}
        for image_path, one in annotated.items():
            candidates[image_path].append(one)
    return {path: merge(path, found, reading, report) for path, found in sorted(candidates.items())}


def from_entry(entry: Entry, source: str, reading: Reading, report: Report) -> Annotated:
    """One entry of an annotation file, with its parts under known names."""
    return Annotated(read_names(entry.parts, reading.meanings, report.spellings), source, entry.problem)


def merge(image_path: str, found: list[Annotated], reading: Reading, report: Report) -> Annotated:
    """One annotation of several of a photo.

    Entries with one region each are pieces of one annotation and are joined. Of others the one with
    the most distinct known parts counts, because earlier exports are usually less complete; on a tie
    the first. With --merge union all their parts count.
    """
    usable = [one for one in found if not one.problem] or found
    first = usable[0]
    if len(usable) == 1:
        return first
    union = replace(first, parts=tuple(dict.fromkeys(part for one in usable for part in one.parts)))
    if all(len(one.parts) <= 1 for one in usable):
        return union
    if len({decide(one.parts) for one in usable}) > 1:
        report.skip(CONFLICT[reading.merge], f"{image_path} ({usable[-1].source})")
    return union if reading.merge == "union" else max(usable, key=lambda one: len(part_names(one.parts) & KNOWN))


def refusal(annotated: dict[str, Annotated], notes: list[str]) -> str:
    """Why a file must not be used: most of its annotated photos are not understood; "" when they are.

    `notes` are those of the file, which may say more about the cause.
    """
    reasons = [one.problem or decide(one.parts)[1] for one in annotated.values() if one.parts or one.problem]
    bad = Counter(filter(None, reasons))
    # A file for a single photo is no more in doubt than its photo.
    if len(reasons) < 2 or bad.total() <= REFUSED_FRACTION * len(reasons):
        return ""
    [(reason, _)] = bad.most_common(1)
    counts = f"{bad.total()} of its {len(reasons)} annotated photos were not understood: {reason}"
    if reason == UNKNOWN:
        names = Counter(name for one in annotated.values() for name in part_names(one.parts) - KNOWN)
        some = ", ".join(printable(name) for name, _ in names.most_common(5))
        return f"{counts}, such as {some}; say in {PART_NAMES_NAME} what they mean"
    if notes:
        return f"{counts}; it {'; it '.join(notes)}"
    if reason == NAMELESS:
        return f"{counts}; name them, or give the attribute that names them with --label-key"
    return f"{counts}; correct the file, or export it again"


def warn_of_empty_block(file: AnnotationFile, source: str, report: Report) -> None:
    """Warn when the last entries of a file, one after the other, have no region: nobody came to them yet."""
    entries = len(file.entries)
    block = next((n for n, entry in enumerate(reversed(file.entries)) if entry.parts), entries)
    if MIN_EMPTY_BLOCK <= block < entries and block >= EMPTY_BLOCK_FRACTION * entries:
        report.warnings.append(
            printable(
                f"the last {block} of the {entries} photos in {source} have no region, as if nobody had come to them "
                f"yet; they count as {config.BACKGROUND}, and --empty skip leaves them out"
            )
        )


# --- From annotations to labels ------------------------------------------------------


def label_photos(
    annotations: dict[str, Annotated], folder: Path, reading: Reading, report: Report
) -> tuple[pd.DataFrame, dict[str, Photo]]:
    """Label the photos that were understood and can be read: (parse_dataset's table, photos by path)."""

    def read_photo(image_path: str) -> Photo | ImageError:
        try:
            image_hash = imagehash.dhash(open_image(folder / image_path, HASHED_SIZE))
            parts = upright_parts(annotations[image_path].parts, folder / image_path)
            return Photo(parts, int(str(image_hash), 16), photo_hash(folder / image_path))
        except ImageError as error:
            return error

    labels = {}
    for image_path, one in annotations.items():
        names = part_names(one.parts)
        report.unknown_parts.update(names - KNOWN)
        report.annotated += bool(one.parts)
        report.without_known_part += bool(one.parts) and not names & KNOWN - DAMAGE
        label, reason = decide(one.parts)
        if one.problem or reason or (not one.parts and reading.empty == "skip"):
            report.leave_out(one.problem or reason or EMPTY, image_path)
        else:
            labels[image_path] = label
    rows, photos = [], {}
    results = map_in_order(read_photo, labels, cpu_count())
    for (image_path, label), result in zip(
        labels.items(), tqdm(results, "Reading photos", len(labels), unit="photo"), strict=True
    ):
        if isinstance(result, ImageError):
            reason = str(result).rpartition(f"{image_path}: ")[2]
            report.leave_out("unreadable", image_path, f" ({reason})")
            continue
        photos[image_path] = result
        report.empty += not result.parts
        rows.append([image_path, label, *count_votes(part_names(result.parts)).values()])
    if report.empty > EMPTY_FRACTION * len(rows):
        report.warnings.append(
            f"{report.empty} of {len(rows)} labelled photos are {config.BACKGROUND} because they have no region; "
            "if nobody came to them yet, leave them out with --empty skip"
        )
    return pd.DataFrame(rows, columns=COLUMNS), photos


def upright_parts(parts: tuple[Part, ...], path: Path) -> tuple[Part, ...]:
    """The parts with outlines of the upright photo, also where they were drawn on the photo as stored.

    Browsers show a photo upright, so VIA's outlines are upright; older tools ignore the orientation.
    """
    width, height, orientation = stored_geometry(path)
    if orientation == 1:
        return parts
    outlines = turn_outlines([outline for part in parts for outline in part.outlines], width, height, orientation)
    turned = iter(outlines)
    return tuple(replace(part, outlines=tuple(next(turned) for _ in part.outlines)) for part in parts)
