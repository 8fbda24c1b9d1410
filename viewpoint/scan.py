"""From a folder to labelled photos: find the annotations, match them with photos, label each photo."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagehash
import pandas as pd
from tqdm import tqdm

import config
from viewpoint.annotations import read_annotation_file
from viewpoint.annotations.photo import Part, Report
from viewpoint.cli import UserError, printable
from viewpoint.dataset import COLUMNS, is_summary
from viewpoint.files import is_file, is_inside, list_files, relative_name
from viewpoint.images import ImageError, is_photo, open_image
from viewpoint.labeling import count_votes, label_parts, part_names
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.vocabulary import KNOWN

HASHED_SIZE = 64  # a perceptual hash uses 9x8 pixels, so large photos need not be decoded in full


@dataclass(frozen=True)
class Photo:
    """An annotated photo: its parts, and its perceptual hash (imagehash.dhash) as a 64-bit number."""

    parts: tuple[Part, ...]
    hash: int


def read_dataset(
    folder: Path | str, label_key: str = config.IDENTITY_KEY
) -> tuple[pd.DataFrame, dict[str, Photo], Report]:
    """Label every annotated, readable photo below `folder`: (parse_dataset's table, photos by path, report).

    `label_key` is the attribute that names the parts. Raises UserError when the folder is missing
    or has no photo that could be labelled.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of your photos with --data")
    if str(folder).encode(errors="ignore").decode() != str(folder):
        raise UserError(f"the name of {folder} is not UTF-8, which a CSV file cannot hold; rename the folder")
    report = Report()
    annotations = choose_annotations(folder, report, label_key)

    def hash_photo(image_path: str) -> int | ImageError | None:
        """The photo's perceptual hash, the reason why it cannot be read, or None if it is missing."""
        if not is_file(folder / image_path):
            return None
        try:
            return int(str(imagehash.dhash(open_image(folder / image_path, HASHED_SIZE))), 16)
        except ImageError as error:
            return error

    rows, photos = [], {}
    hashes = tqdm(map_in_order(hash_photo, annotations, cpu_count()), "Reading photos", len(annotations), unit="photo")
    for (image_path, parts), result in zip(annotations.items(), hashes, strict=True):
        if result is None:
            report.skip("annotated but missing", image_path)
        elif isinstance(result, ImageError):
            reason = str(result).rpartition(f"{image_path}: ")[2]
            report.skip("unreadable", f"{image_path} ({reason})")
        else:
            photos[image_path] = Photo(parts, result)
            names = part_names(parts)
            report.unknown_parts.update(names - KNOWN)
            rows.append([image_path, label_parts(names), *count_votes(names).values()])
    for path in list_files(folder):
        if relative_name(path, folder) not in annotations and is_inside(path, folder) and is_photo(path):
            report.skip("never annotated", relative_name(path, folder))
    if not rows:
        raise UserError(nothing_found(folder, report))
    return pd.DataFrame(rows, columns=COLUMNS), photos, report


def parse_dataset(folder: Path | str) -> pd.DataFrame:
    """Label every annotated, readable photo below `folder`.

    Returns one row for each photo, sorted by image_path (relative to `folder`, with "/"), with its
    label and the columns front_votes, rear_votes, left_votes and right_votes (int).
    Raises UserError when the folder is missing or has no photo that could be labelled.
    """
    return read_dataset(folder)[0]


def nothing_found(folder: Path, report: Report) -> str:
    """What to tell people whose folder gave no labelled photo: the reason, and what to do."""
    if report.annotation_files:
        first = next(((reason, items[0]) for reason, items in report.skipped.items()), ("no entries in them", ""))
        return (
            f"no annotated photo found below {folder}: {report.annotation_files} annotation files read, but "
            f"{first[0]}: {first[1]}; put each JSON file into the folder of its photos"
        )
    unused = report.skipped.get("JSON file not used")
    reason = f", but not used: {unused[0]}" if unused else ""
    return (
        f"no annotated photo found below {folder}: {len(unused or [])} JSON files there{reason}; "
        "put the JSON file that VIA exports into the folder of its photos"
    )


def choose_annotations(
    folder: Path, report: Report, label_key: str = config.IDENTITY_KEY
) -> dict[str, tuple[Part, ...]]:
    """The parts of each annotated photo: {image_path relative to `folder`: parts}, sorted.

    When a photo is annotated several times, in one file or in several versions, the entry with
    the most distinct parts is used: earlier exports are usually less complete. On a tie the first
    file wins. `report` says where the labels differ.
    """
    chosen: dict[str, tuple[Part, ...]] = {}
    for json_name, photo, parts in find_annotations(folder, report, label_key):
        image_path = photo.relative_to(folder).as_posix()
        earlier = chosen.get(image_path)
        if earlier is not None:
            if label_parts(part_names(earlier)) != label_parts(part_names(parts)):
                report.skip(
                    "annotated twice with different labels, the fuller entry counts", f"{image_path} ({json_name})"
                )
            if len(part_names(parts)) <= len(part_names(earlier)):
                continue
        chosen[image_path] = parts
    return dict(sorted(chosen.items()))


def find_annotations(
    folder: Path, report: Report, label_key: str = config.IDENTITY_KEY
) -> Iterator[tuple[str, Path, tuple[Part, ...]]]:
    """Yield (annotation file, photo, parts) for each well-formed entry below `folder`."""

    def note(error: OSError) -> None:
        report.skip("folder that cannot be read", f"{error.filename} ({error.strerror})")

    for json_path in list_files(folder, note):
        # Opening a pipe of that name would wait forever.
        if json_path.suffix.lower() != ".json" or not is_file(json_path) or is_summary(json_path):
            continue
        json_name = relative_name(json_path, folder)
        try:
            if not is_inside(json_path, folder):
                raise ValueError("a link that leaves the data folder")
            if json_name != json_path.relative_to(folder).as_posix():
                raise ValueError("its path is not UTF-8, or holds a carriage return; rename it")
            file = read_annotation_file(json_path, label_key)
        except ValueError as error:
            report.skip("JSON file not used", f"{json_name} ({error})")
            continue
        report.annotation_files += 1
        report.notes += [printable(f"{json_name} {note}") for note in file.notes]
        for key in file.malformed:
            report.skip("malformed entry", f"{json_name}: {key}")
        for entry in file.entries:
            # JSON can hold unpaired surrogates, which no file name can; a CSV file cannot hold a
            # carriage return inside a line.
            if entry.filename.encode(errors="ignore").decode() != entry.filename or "\r" in entry.filename:
                report.skip("malformed entry", f"{json_name}: {entry.key}")
                continue
            # Normalized, so that "./a.jpg" and "a.jpg" are one photo, and before the check: after
            # a link, ".." would lead elsewhere.
            photo = Path(os.path.normpath(json_path.parent / entry.filename))
            if is_inside(photo, folder) and photo.is_relative_to(folder):
                yield json_name, photo, entry.parts
            else:
                report.skip("photo outside the data folder", f"{json_name}: {entry.filename}")
