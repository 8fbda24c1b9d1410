"""From a folder to labelled photos: read the annotations, match them with photos, label each photo or say why not."""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import pandas as pd

import config
from viewpoint.annotations import format_of, read_annotation_file
from viewpoint.annotations.matching import DOUBTFUL, MISSING, Name, match_names, size_of
from viewpoint.annotations.part_names import PART_NAMES_NAME, known_meanings, read_part_names
from viewpoint.annotations.photo import AnnotationFile, Part, Photo, Report
from viewpoint.annotations.unread import ONE_A_PHOTO, describe_unread
from viewpoint.annotations.vocabulary import DAMAGE, KNOWN, door_windows
from viewpoint.common.cli import UserError, counted, escaped, printable
from viewpoint.common.files import list_folder, relative_name
from viewpoint.common.images import File, ImageError, image_error, is_photo, stored_geometry
from viewpoint.common.orientation import UPRIGHT, turn_outlines, upright_dimensions
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.data.dataset import COLUMNS, SUMMARY_NAME, is_parts_file, is_summary, read_summary
from viewpoint.data.doubts import compare_places
from viewpoint.data.duplicates import perceptual_hash
from viewpoint.data.labeling import NAMELESS, UNKNOWN_PARTS, VAGUE, count_votes, decide, part_names, read_names
from viewpoint.data.provenance import content_hash

NOT_USED = "annotation file not used"
NOT_READ = "looks like annotations in a format that is not read"
NEVER, PERHAPS = "never annotated", "perhaps annotated in a file that could not be read"
IN_UNUSED_FILE = "annotated in a file that was not used"
EMPTY = "without any region (--empty skip)"
CONFLICT = "annotated twice with different labels; choose with --merge union or --merge fuller"
OTHER_PHOTO = "annotated in a file that is named like another photo"
MIRRORED = "left and right parts where a mirrored car has them: a flipped copy, or names on the wrong side"
OTHER_SIZE = "annotated several times, each time for a photo of another size in bytes"

# A file or data set with more than this fraction of photos that are not understood is refused.
REFUSED_FRACTION = 0.5
# Photos without any region are suspicious from this fraction of all, or as a block of this size at the end of a file.
EMPTY_FRACTION = 0.2
MIN_EMPTY_BLOCK, EMPTY_BLOCK_FRACTION = 5, 0.1
# Labels whose end hangs on a tie or a single part are worth a warning from this fraction of the vehicle photos.
CLOSE_FRACTION = 0.2
# The classes that name an end of the vehicle; others may be pure side views.
ENDED_CLASSES = frozenset(name for name in config.CLASSES if name.startswith(("Front", "Rear")))
# So many photos, or up to this fraction of all, may have a stray region without a name.
FEW_STRAYS, STRAY_PHOTOS = 3, 0.05
MIN_VEHICLES = 20
# From so many photos whose sides are swapped, if they are the majority, the whole file is refused.
MIN_SWAPPED = 3
# A single photo is left out when so many times more pairs of parts are drawn as in a mirror than are not.
SURELY_MIRRORED = 3

# The part on the other side of the car.
OTHER_SIDE = dict(zip(config.LEFT_PARTS, config.RIGHT_PARTS, strict=True))
OTHER_SIDE |= {right: left for left, right in OTHER_SIDE.items()}
# In the name of a file or folder they say that something newer counts.
BACKUP_WORDS = frozenset("backup backups bak old older archive archived previous copy".split())


@dataclass(frozen=True)
class Reading:
    """How to read a folder: data_preparation.py's options, and what part_names.csv says."""

    label_key: str = config.IDENTITY_KEY  # the attribute that names the parts
    empty: str = "background"  # or "skip": what photos without any region are
    # Of entries that contradict each other use the "fuller" one or their "union"; None leaves the photo out.
    merge: str | None = None
    follow_links: bool = False
    meanings: Mapping[str, str] = field(default_factory=dict)  # from further cleaned names to part names of config.py
    # Annotation files, or folders of files for one photo each, relative to the data folder, whose left and right are
    # those of somebody who faces the car.
    swap_sides: frozenset[str] = frozenset()


def recorded_reading(dataset_dir: Path) -> Reading:
    """How data_preparation.py read the photos of a dataset folder: its summary.json, and the part_names.csv there."""
    recorded = read_summary(dataset_dir / SUMMARY_NAME).get("reading")
    recorded = recorded if isinstance(recorded, dict) else {}
    names_path = dataset_dir / PART_NAMES_NAME
    meanings = known_meanings(read_part_names(names_path), names_path)
    options = {name: recorded[name] for name in ("label_key", "empty", "merge", "follow_links") if name in recorded}
    swap = frozenset(recorded.get("swap_sides", ()))
    return Reading(meanings=meanings, swap_sides=swap, **options)


@dataclass(frozen=True)
class Annotated:
    """What all annotation files together say of one photo."""

    parts: tuple[Part, ...]
    source: str  # the first file that says it
    problem: str = ""
    group: str = ""  # that file, or its folder where each file is for one photo
    size: int | None = None  # of the photo that the file states, in bytes
    was_moved: bool = False  # the photo was only found by its name
    views: tuple[str, ...] = ()  # as in Entry

    def decide(self, strict: bool = False) -> tuple[str | None, str]:
        """labeling.decide of the parts and views."""
        return decide(self.parts, strict, self.views)


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
    paths = [path for path in listing.files if not is_summary(path)]
    contents = read_files(paths, folder, reading, report)
    files = {path: file for path, file in contents.items() if file}
    photos_found = {path: relative_name(path, folder) for path in paths if is_photo(path)}
    report.photos_found = len(photos_found)
    annotations = match_photos(files, photos_found, folder, reading, report)
    unread = find_unread((path for path in paths if path not in contents), folder, report)
    unread.update(path.parent for path in contents.keys() - files.keys())
    for path, name in photos_found.items():
        if name not in annotations:
            is_perhaps = path.stem in unread or not unread.isdisjoint(path.parents)
            report.leave_out(PERHAPS if is_perhaps else NEVER, name)
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
    reasons = {reason: items for reason, items in report.skipped.items() if reason not in (NEVER, PERHAPS)}
    if not reasons:
        return (
            f"no annotated photo found below {folder}: {report.annotation_files} annotation files there; put the "
            "annotation files of VIA, COCO, LabelMe or CVAT into the folder of their photos"
        )
    first = next((reason for reason in (NOT_USED, NOT_READ) if reason in reasons), None) or max(
        reasons, key=lambda reason: len(reasons[reason])
    )
    count = f"{len(reasons[first])} x " if len(reasons[first]) > 1 else ""
    advice = "; put the annotation files into the folder of their photos" if first in (MISSING, DOUBTFUL) else ""
    return f"no photo below {folder} could be labelled; {count}{first}: {reasons[first][0]}{advice}"


# --- From annotation files to photos -------------------------------------------------


def read_files(
    paths: Iterable[Path], folder: Path, reading: Reading, report: Report
) -> dict[Path, AnnotationFile | None]:
    """The content of every annotation file, None for one that cannot be read."""
    files: dict[Path, AnnotationFile | None] = {}
    passed_over = Counter[str]()
    for path in paths:
        if not format_of(path):
            continue
        name = relative_name(path, folder)
        try:
            if name != path.relative_to(folder).as_posix():
                raise ValueError("its path is not UTF-8, or holds a carriage return; rename it")
            file = read_annotation_file(path, reading.label_key)
        except ValueError as error:
            report.skip(NOT_USED, f"{name} ({error})")
            files[path] = None
            continue
        report.annotation_files += 1
        report.notes += [printable(f"{name} {note}") for note in file.notes]
        for key in file.malformed:
            report.skip("malformed entry", f"{name}: {key}")
        passed_over.update(file.passed_over)
        files[path] = file
    report.notes += [f"{counted(n, 'region')} {reason}, which do not vote" for reason, n in passed_over.items()]
    return files


def find_unread(paths: Iterable[Path], folder: Path, report: Report) -> set[Path | str]:
    """Report what looks like annotations but is not read; the folders and the names of photos that it may be about."""
    about: set[Path | str] = set()
    found: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in paths:
        if not is_photo(path) and not is_parts_file(path) and (what := describe_unread(path)):
            found[path.parent, what].append(path)
            about.add(path.stem if what in ONE_A_PHOTO else path.parent)
    for (_, what), same in found.items():
        more = f" and {len(same) - 1} more" if len(same) > 1 else ""
        report.skip(NOT_READ, f"{relative_name(same[0], folder)}{more} ({what})")
    return about


def match_photos(
    files: dict[Path, AnnotationFile], photos: Mapping[Path, str], folder: Path, reading: Reading, report: Report
) -> dict[str, Annotated]:
    """What the files say of each photo that they name: {image_path: ...}, sorted; `photos` has all image_paths."""
    matches = match_names(folder, {path: [e.filename for e in file.entries] for path, file in files.items()}, photos)
    by_stem = {path.with_suffix(""): image_path for path, image_path in photos.items()}
    candidates: dict[str, list[Annotated]] = defaultdict(list)
    moved = Counter[str]()
    meanings = window_meanings(files)
    for path, file in files.items():
        source, known = relative_name(path, folder), {**meanings[path], **reading.meanings}
        # Files for one photo each, as LabelMe writes them, are judged together.
        group = source if len(file.entries) > 1 else PurePosixPath(source).parent.as_posix()
        doubtful = are_other_photos(file, matches[path], folder)
        grouped: dict[str, list[Annotated]] = defaultdict(list)
        for entry, match in zip(file.entries, matches[path], strict=True):
            if match.image_path is None or (doubtful and match.was_moved):
                report.skip(match.reason or DOUBTFUL, f"{source}: {entry.filename}")
                continue
            moved[match.found_as] += 1
            own_photo = by_stem.get(path.with_suffix(""), match.image_path)
            problem = OTHER_PHOTO if len(file.entries) == 1 and own_photo != match.image_path else entry.problem
            parts = read_names(entry.parts, known, report.spellings)
            parts = swap_sides(parts) if group in reading.swap_sides else parts
            one = Annotated(parts, source, problem, group, entry.size, match.was_moved, entry.views)
            grouped[match.image_path].append(one)
        annotated = {
            image_path: merge(folder / image_path, image_path, found, reading, report)
            for image_path, found in grouped.items()
        }
        if reading.empty == "background":
            warn_of_empty_block(
                [bool(one.parts or one.views) for one in annotated.values()], source, len(files), report
            )
        if reason := refusal(annotated, file.notes):
            report.annotation_files -= 1
            report.skip(NOT_USED, f"{source} ({reason})")
            annotated = {image_path: replace(one, problem=IN_UNUSED_FILE) for image_path, one in annotated.items()}
        for image_path, one in annotated.items():
            candidates[image_path].append(one)
    report.notes += [printable(f"{counted(n, 'photo')} {how}") for how, n in moved.items() if how]
    merged = {path: merge(folder / path, path, found, reading, report) for path, found in sorted(candidates.items())}
    if report.fuller:
        report.notes.append(
            f"{counted(report.fuller, 'label')} would be another one after an annotation of the same photo that lacks "
            "some of the parts; the fuller annotation counts, unless it is in a folder or file named as a backup"
        )
    return merged


def window_meanings(files: dict[Path, AnnotationFile]) -> dict[Path, dict[str, str]]:
    """What door_windows finds in each file, or in the files of a folder together where each is for one photo."""
    texts: dict[Path, set[str]] = defaultdict(set)
    groups = {path: path if len(file.entries) > 1 else path.parent for path, file in files.items()}
    for path, file in files.items():
        texts[groups[path]].update(text for entry in file.entries for part in entry.parts for text in part.names)
    found = {group: door_windows(names) for group, names in texts.items()}
    return {path: found[group] for path, group in groups.items()}


def are_other_photos(file: AnnotationFile, matches: list[Name], folder: Path) -> bool:
    """Whether the photos of equal name that were found elsewhere are others than those that a file means.

    They are when their sizes are mostly not those that the file states. Made-up sizes, all the same, say nothing.
    """
    sizes = [entry.size for entry in file.entries if entry.size]
    if len(set(sizes)) < 2 or len(set(sizes)) <= len(sizes) / 2:
        return False
    pairs = zip(file.entries, matches, strict=True)
    found = [(entry.size, folder / match.image_path) for entry, match in pairs if match.image_path and match.was_moved]
    return sum(size == size_of(path) for size, path in found) < len(found) / 2


def merge(path: Path, image_path: str, found: list[Annotated], reading: Reading, report: Report) -> Annotated:
    """One annotation of several of the photo at `path`, which `image_path` names.

    Entries for a photo of another size in bytes, and backups, do not count where there is another.
    Entries with one part name each are pieces of one annotation and are joined. Of others, one that
    has all the parts of the others counts, because earlier exports are less complete. Where none has,
    or the photo was only found by its name, and their labels differ, --merge decides: the parts of all
    count, or the entry with the most distinct known parts; without it the photo is left out.
    """
    usable = [one for one in found if not one.problem] or found
    usable = [one for one in usable if not is_backup(one.source, image_path)] or usable
    usable = of_its_size(path, usable)
    views = tuple(dict.fromkeys(view for one in usable for view in one.views))
    usable = [replace(one, views=views) for one in usable if one.parts] or [replace(usable[0], views=views)]
    if len(usable) == 1:
        return usable[0]
    names = [part_names(one.parts) & KNOWN for one in usable]
    union = replace(usable[0], parts=tuple(dict.fromkeys(part for one in usable for part in one.parts)))
    if reading.merge == "union" or all(len(part_names(one.parts)) <= 1 for one in usable):
        return union
    fullest = max(range(len(usable)), key=lambda index: len(names[index]))
    if len({one.decide() for one in usable}) > 1:
        if all(one <= names[fullest] for one in names) and not all(one.was_moved for one in usable):
            report.fuller += 1
        elif reading.merge is None:
            return replace(usable[fullest], problem=CONFLICT)
        else:
            report.notes.append(
                printable(f"{image_path} is annotated twice with different labels; the fuller entry counts")
            )
    return usable[fullest]


def of_its_size(path: Path, found: list[Annotated]) -> list[Annotated]:
    """Those of several annotations that are for a photo of this size; one with a problem if a file has only others."""
    if len({one.size for one in found if one.size}) < 2:
        return found
    size = size_of(path)
    if any(one.size == size for one in found):
        return [one for one in found if one.size in (size, None)]
    is_one_file = len({one.source for one in found}) == 1
    return [replace(found[0], problem=OTHER_SIZE)] if is_one_file else found


def is_backup(source: str, image_path: str) -> bool:
    """Whether an annotation file is a backup by its name or that of a folder in which the photo is not."""
    own = set(source.lower().split("/")) - set(image_path.lower().split("/"))
    return any(BACKUP_WORDS.intersection(re.findall("[a-z]+", name)) for name in own)


def swap_sides(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts with left and right exchanged in their names."""
    return tuple(replace(part, names=tuple(OTHER_SIDE.get(name, name) for name in part.names)) for part in parts)


def refusal(annotated: dict[str, Annotated], notes: list[str]) -> str:
    """Why a file must not be used: most of its annotated photos are not understood; "" when they are.

    `notes` are those of the file, which may say more about the cause.
    """
    used = [one for one in annotated.values() if one.parts or one.views or one.problem]
    reasons = [one.problem or one.decide()[1] for one in used]
    bad = Counter(filter(None, reasons))
    # A file for a single photo is no more in doubt than its photo.
    if len(reasons) < 2 or bad.total() <= REFUSED_FRACTION * len(reasons):
        return ""
    [(reason, _)] = bad.most_common(1)
    counts = f"{bad.total()} of its {len(reasons)} annotated photos were not understood: {reason}"
    if reason == UNKNOWN_PARTS:
        names = Counter(name for one in annotated.values() for name in sorted(part_names(one.parts) - KNOWN))
        some = ", ".join(printable(name) for name, _ in names.most_common(5))
        return f"{counts}, such as {some}; say in {PART_NAMES_NAME} what they mean"
    if notes:
        return f"{counts}; it {'; it '.join(notes)}"
    if reason == NAMELESS:
        return (
            f"{counts}; name them, give the attribute that names them with --label-key, or use the VIA project file, "
            "which has the names of options"
        )
    return f"{counts}; correct the file, or export it again"


def warn_of_empty_block(has_parts: list[bool], source: str, files: int, report: Report) -> None:
    """Warn when the last photos of a file, or all of one of several, have no region: nobody came to them yet."""
    entries = len(has_parts)
    block = next((n for n, has_some in enumerate(reversed(has_parts)) if has_some), entries)
    if block == entries and files == 1:
        return
    if block >= max(MIN_EMPTY_BLOCK, EMPTY_BLOCK_FRACTION * entries):
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
        path = folder / image_path
        try:
            # Opened once: each photo comes over the network only once, and all three are of the same content.
            with path.open("rb") as file:
                image_hash = perceptual_hash(file)
                parts, size = upright_parts(annotations[image_path].parts, file)
                return Photo(parts, image_hash, content_hash(file), size)
        except ImageError as error:
            return error
        except OSError as error:
            return image_error(error, path)

    labels = decide_all(annotations, reading, report)
    photos = {}
    results = map_in_order(read_photo, labels, cpu_count())
    for image_path, result in zip(labels, progress(results, "Reading photos", len(labels)), strict=True):
        if isinstance(result, ImageError):
            reason = str(result).rpartition(f"{escaped(image_path)}: ")[2]
            report.leave_out("unreadable", image_path, f" ({reason})")
        else:
            photos[image_path] = result
    leave_out_swapped(labels, photos, annotations, reading, report)
    report.empty = sum(not photo.parts and not annotations[path].views for path, photo in photos.items())
    rows = [(path, labels[path], *count_votes(part_names(photo.parts)).values()) for path, photo in photos.items()]
    table = pd.DataFrame(rows, columns=COLUMNS)
    has_views = table["image_path"].map(lambda path: bool(annotations[path].views)).astype(bool)
    if has_views.any():
        report.notes.append(
            f"{counted(has_views.sum(), 'label')} written for the whole photo, which the parts do not contradict"
        )
    warn_of_missing_votes(table, {path: annotations[path].group for path in photos}, report)
    count_close_votes(table[~has_views], report)
    if report.empty > EMPTY_FRACTION * len(rows):
        report.warnings.append(
            f"{report.empty} of {len(rows)} labelled photos are {config.BACKGROUND} because they have no region; "
            "if nobody came to them yet, leave them out with --empty skip"
        )
    return table, photos


def decide_all(annotations: dict[str, Annotated], reading: Reading, report: Report) -> dict[str, str]:
    """The label of each photo that was understood; the others are left out."""
    labels = {}
    strays = {path for path, one in annotations.items() if one.decide() != one.decide(strict=True)}
    # Stray clicks are rare; many regions without a name follow a rule, perhaps one that decides labels.
    strict = len(strays) > max(FEW_STRAYS, STRAY_PHOTOS * len(annotations))
    if strays and not strict:
        count = counted(len(strays), "photo")
        report.notes.append(f"{count} with a stray region without a name among many named ones; it was passed over")
    for image_path, one in annotations.items():
        names = part_names(one.parts)
        report.unknown_parts.update(sorted(names - KNOWN))
        report.with_unknown_part += bool(names - KNOWN)
        report.annotated += bool(one.parts)
        report.without_known_part += bool(one.parts) and not names & KNOWN - DAMAGE - VAGUE
        label, reason = one.decide(strict)
        if one.problem or reason or (not one.parts and not one.views and reading.empty == "skip"):
            said = f" ({', '.join(one.views)})" if one.views else ""
            report.leave_out(one.problem or reason or EMPTY, image_path, said)
        elif label:
            labels[image_path] = label
    return labels


def leave_out_swapped(
    labels: dict[str, str],
    photos: dict[str, Photo],
    annotations: dict[str, Annotated],
    reading: Reading,
    report: Report,
) -> None:
    """Take the photos from `photos` whose left and right seem to be swapped: whole files, or single mirrored photos."""
    fits: dict[str, list[tuple[int, int]]] = defaultdict(list)
    mirrored = []
    for image_path, photo in photos.items():
        if config.MIRRORED_CLASS[labels[image_path]] != labels[image_path]:
            right, wrong = compare_places(photo.parts)
            fits[annotations[image_path].group].append((right, wrong))
            if wrong > 1 and wrong >= SURELY_MIRRORED * right:
                mirrored.append(image_path)
    swapped = set()
    for group, pairs in fits.items():
        judged, wrong = sum(a != b for a, b in pairs), sum(a < b for a, b in pairs)
        if wrong >= max(MIN_SWAPPED, judged / 2 + 0.5):
            swapped.add(group)
            remedy = "leave out" if group in reading.swap_sides else "if they are, add"
            report.skip(
                NOT_USED,
                f"{group} (in {wrong} of its {judged} photos that show a side, parts are drawn where they would be if "
                f"left and right were those of somebody who faces the car; {remedy} --swap-sides {shlex.quote(group)})",
            )
    unused = [path for path in photos if annotations[path].group in swapped]
    report.annotation_files -= len({annotations[path].source for path in unused})  # a folder has one for each photo
    for image_path in unused:
        report.leave_out(IN_UNUSED_FILE, image_path)
        del photos[image_path]
    for image_path in filter(photos.__contains__, mirrored):
        report.leave_out(MIRRORED, image_path)
        del photos[image_path]


def warn_of_missing_votes(table: pd.DataFrame, group_of: dict[str, str], report: Report) -> None:
    """Warn when no photo of many has a vote for a side, or for an end: they may be in another attribute.

    Judged for all photos together and, unless that says it already, for each group; `group_of` names the group
    of each photo (see Annotated).
    """
    vehicles = table[table["label"] != config.BACKGROUND]
    by_group = vehicles.groupby(vehicles["image_path"].map(group_of), sort=False)
    for what, columns in (("left or right", COLUMNS[4:]), ("front or rear", COLUMNS[2:4])):
        for group, rows in [("", vehicles), *by_group]:
            if len(rows) >= MIN_VEHICLES and not rows[columns].any(axis=None):
                report.warnings.append(
                    printable(
                        f"no part of {len(rows)} vehicle photos{group and f' in {group}'} says {what}; check that "
                        "the part names do, and not another attribute"
                    )
                )
                if not group:
                    break


def count_close_votes(table: pd.DataFrame, report: Report) -> None:
    """Say how many labels hang on a tie, on one vote or on no vote for an end; a warning from CLOSE_FRACTION of all."""
    vehicles = table[table["label"].isin(ENDED_CLASSES)]
    front, rear = vehicles["front_votes"], vehicles["rear_votes"]
    endless, single = (front + rear == 0).sum(), (front + rear == 1).sum()
    ties = (front == rear).sum() - endless
    if not (close := ties + endless + single):
        return
    text = (
        f"the end of {close} of {counted(len(vehicles), 'vehicle photo')} is not sure: {ties} have as many front as "
        f"rear parts and {endless} neither, which makes them Front, and {single} have one such part only; "
        "--review shows them"
    )
    (report.warnings if close > CLOSE_FRACTION * len(vehicles) else report.notes).append(text)


def upright_parts(parts: tuple[Part, ...], file: File) -> tuple[tuple[Part, ...], tuple[int, int]]:
    """The parts with outlines of the upright photo, also where they were drawn on the photo as stored, and its size.

    Browsers show a photo upright, so VIA's outlines are upright; older tools ignore the orientation.
    """
    width, height, orientation = stored_geometry(file)
    size = upright_dimensions(width, height, orientation)
    if orientation == UPRIGHT:
        return parts, size
    outlines = turn_outlines([outline for part in parts for outline in part.outlines], width, height, orientation)
    turned = iter(outlines)
    return tuple(replace(part, outlines=tuple(next(turned) for _ in part.outlines)) for part in parts), size
