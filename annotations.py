"""From annotations to labels: what is in the JSON files, and which way each photo looks.

Reads VIA 1, VIA 2, VIA 2 projects and COCO. Every part votes by the lists in config.py; the
majority decides. Standard library only.
"""

import codecs
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import config
from common import list_files, printable, relative_name

VOTES = {
    "front": frozenset(config.FRONT_PARTS),
    "rear": frozenset(config.REAR_PARTS),
    "left": frozenset(config.LEFT_PARTS),
    "right": frozenset(config.RIGHT_PARTS),
}
DAMAGE = frozenset(config.DAMAGE_PARTS)
TWICE = "has keys that stand twice: entries and regions were all read, of other keys the last"
KNOWN = frozenset().union(*VOTES.values(), DAMAGE, config.NEUTRAL_PARTS)

# --- From regions to a label -------------------------------------------------------


def clean_name(name: str) -> str:
    """A part name trimmed, in lower case, without "partial_"; half characters, which JSON can hold, escaped."""
    name = name.encode(errors="backslashreplace").decode()
    return name.strip().lower().removeprefix(config.PARTIAL_PREFIX).strip()


def region_names(region: object) -> list[str]:
    """The part names of one VIA region: one, or all that are ticked when the attribute is a checkbox.

    A region without a name, which hurried annotators leave behind, has none.
    """
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    value = attributes.get(config.IDENTITY_KEY) if isinstance(attributes, dict) else None
    return [name for name in map(clean_name, texts_of(value)) if name]


def texts_of(value: object) -> list[str]:
    """What an attribute says: a text, a list of texts, or the ticked keys of VIA's checkbox, {"door": true}."""
    if isinstance(value, dict):
        return [key for key, ticked in value.items() if says_yes(ticked)]
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]


def says_yes(value: object) -> bool:
    """Whether a value ticks a box: anything but nothing, zero, "false" and "no"."""
    return bool(value) and str(value).strip().lower() not in ("", "0", "false", "no", "off", "none", "null")


def region_identities(regions: list | dict) -> set[str]:
    """The distinct part names of an image's regions, VIA 2's list or VIA 1's dict."""
    return {name for region in list_regions(regions) for name in region_names(region)}


def list_regions(regions: object) -> list:
    """VIA 2's list or VIA 1's dict of regions as a list; [] for anything else."""
    return list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else []


def count_votes(identities: Iterable[str]) -> dict[str, int]:
    """How many of the distinct part names vote front, rear, left and right."""
    return {name: len(parts.intersection(identities)) for name, parts in VOTES.items()}


def extract_viewpoint_label(regions: list | dict) -> str:
    """The class of an image, one of config.CLASSES, from its VIA regions (list or dict).

    Fewer than two distinct parts besides damage, or parts that say nothing, make a
    Background. Otherwise the majority of front and rear votes decides the end (a tie, or
    side votes alone, mean Front) and the majority of left and right votes the side.
    """
    identities = region_identities(regions)
    if len(identities - DAMAGE) < 2:
        return "Background"
    votes = count_votes(identities)
    if not any(votes.values()):
        return "Background"
    end = "Rear" if votes["rear"] > votes["front"] else "Front"
    if votes["left"] > votes["right"]:
        return end + "Left"
    if votes["right"] > votes["left"]:
        return end + "Right"
    return end


# --- From a folder to annotations --------------------------------------------------


@dataclass
class Report:
    """What reading a folder met: files read, things skipped by reason, unknown parts.

    `hashes` holds the perceptual hash of each labelled photo, a 64-bit number, `regions` its
    VIA regions, `corrections` how many labels a person confirmed, changed and left out, and
    `notes` what was unusual about a file, but no reason to skip it.
    """

    annotation_files: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)
    unknown_parts: Counter = field(default_factory=Counter)
    hashes: dict[str, int] = field(default_factory=dict)
    regions: dict[str, list | dict] = field(default_factory=dict)
    corrections: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def skip(self, reason: str, what: str) -> None:
        self.skipped.setdefault(reason, []).append(printable(what))


def read_annotation_file(path: Path, label_key: str | None = None) -> tuple[dict[str, object], list[str]]:
    """Read one VIA or COCO file as ({entry key: VIA entry}, what people should know of it).

    The part names of every region stand under config.IDENTITY_KEY, wherever the file had them:
    under `label_key` (None: config.IDENTITY_KEY), or else under the only text attribute that it
    uses, or else as keys. VIA's attribute-only exports give no entries. Raises ValueError, with
    the reason, when the file is too large, not JSON, neither VIA 1, VIA 2 nor COCO, or does not
    say which of several attributes names the parts.
    """
    content, notes = parse_json(path)
    if is_coco(content):
        content = entries_from_coco(content)
    elif isinstance(content, dict):
        if {"project", "metadata", "view"} <= set(content):
            raise ValueError("a VIA 3 project; export the photos' annotations with VIA 2")
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict):
        raise ValueError("neither VIA 1, VIA 2 nor COCO")
    if content and set(content) <= {"region", "file"}:
        return {}, notes
    if content and not any(isinstance(entry, dict) and "filename" in entry for entry in content.values()):
        raise ValueError("neither VIA 1, VIA 2 nor COCO")
    rename, note = find_names(content, label_key or config.IDENTITY_KEY)
    return {key: rename_regions(entry, rename) for key, entry in content.items()}, notes + [note] * bool(note)


def parse_json(path: Path) -> tuple[object, list[str]]:
    """The content of a JSON file in UTF-8, UTF-16 (by its BOM) or Latin-1, and notes on it.

    A key that stands twice in an object is kept twice, the first time with a number behind it.
    Raises ValueError when it is too large or not JSON.
    """
    notes = []

    def keep_all(pairs: list[tuple[str, object]]) -> dict[str, object]:
        unique = dict(pairs)
        if len(unique) < len(pairs):
            if TWICE not in notes:
                notes.append(TWICE)
            last = {key: index for index, (key, _) in enumerate(pairs)}
            for index, (key, value) in enumerate(pairs):
                unique[key if index == last[key] else f"{key} ({index})"] = value
        return unique

    try:
        if path.stat().st_size > config.MAX_JSON_MEGABYTES * 1e6:
            raise ValueError(f"larger than {config.MAX_JSON_MEGABYTES} MB; split it, or raise MAX_JSON_MEGABYTES")
        content = path.read_bytes()
        try:
            is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
            text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
            notes.append("is not UTF-8; it was read as Latin-1")
        return json.loads(text, object_pairs_hook=keep_all), notes
    except (OSError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not readable as JSON: {error}") from error


def find_names(entries: dict[str, object], label_key: str) -> tuple[Callable[[dict], list[str]], str]:
    """How to find the part names in a region's attributes, and what to tell people of it, if anything.

    Raises ValueError when several attributes could name the parts.
    """
    keys, nameless = Counter(), 0
    for entry in entries.values():
        for region in list_regions(entry.get("regions") if isinstance(entry, dict) else None):
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            if isinstance(attributes, dict):
                used = [key for key, value in attributes.items() if texts_of(value) or clean_name(key) in KNOWN]
                keys.update(used)
                nameless += bool(used) and clean_name(label_key) not in map(clean_name, used)
    wanted = [key for key in keys if clean_name(key) == clean_name(label_key)]
    as_keys = sum(clean_name(key) in KNOWN for key in keys)
    if not keys or wanted:
        note = f'has regions without "{label_key}", which name no part, but with other attributes: {nameless}'
        return lambda attributes: [t for key in wanted for t in texts_of(attributes.get(key))], note * bool(nameless)
    if as_keys > len(keys) / 2:
        return lambda attributes: filled_keys(attributes, keys), "has the part names as attribute keys"
    if len(keys) == 1:
        [found] = keys
        note = f'has no attribute "{label_key}"; the part names were read from "{found}"'
        return lambda attributes: texts_of(attributes.get(found)), note
    raise ValueError(f'no attribute "{label_key}" but {", ".join(sorted(keys))}; give the right one with --label-key')


def filled_keys(attributes: dict, keys: Iterable[str]) -> list[str]:
    """Those of `keys` that a region gives a value, or, where it gives none to any, those that it has."""
    present = [key for key in attributes if key in keys]
    return [key for key in present if says_yes(attributes[key])] or [key for key in present if attributes[key] == ""]


def rename_regions(entry: object, names_of: Callable[[dict], list[str]]) -> object:
    """A VIA entry whose regions hold their part names, by `names_of`, under config.IDENTITY_KEY only."""
    if not isinstance(entry, dict) or not isinstance(entry.get("regions"), (list, dict)):
        return entry
    regions = []
    for region in list_regions(entry["regions"]):
        if isinstance(region, dict) and isinstance(region.get("region_attributes"), dict):
            names = dict.fromkeys(names_of(region["region_attributes"]), True)
            region = {**region, "region_attributes": {config.IDENTITY_KEY: names}}
        regions.append(region)
    return {**entry, "regions": regions}


def is_coco(content: object) -> bool:
    """Whether a JSON value has the two lists that every COCO file has."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def entries_from_coco(content: dict) -> dict[str, object]:
    """COCO's images, annotations and categories as VIA entries; an image without annotations has no regions.

    Source: https://cocodataset.org/#format-data. Parts of it that are not as described there are passed over.
    """
    categories = content.get("categories")
    names = {
        str(category.get("id")): category.get("name")
        for category in (categories if isinstance(categories, list) else [])
        if isinstance(category, dict)
    }
    regions = {}
    for annotation in content["annotations"]:
        if isinstance(annotation, dict):
            region = {
                "shape_attributes": shape_from_coco(annotation),
                "region_attributes": {config.IDENTITY_KEY: names.get(str(annotation.get("category_id")))},
            }
            regions.setdefault(str(annotation.get("image_id")), []).append(region)
    return {
        f"image {number}": {"filename": image.get("file_name"), "regions": regions.get(str(image.get("id")), [])}
        if isinstance(image, dict)
        else image
        for number, image in enumerate(content["images"])
    }


def shape_from_coco(annotation: dict) -> dict:
    """The first polygon of a COCO annotation, or else its box, as a VIA shape; {} if it has neither."""
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], list):
        return {"name": "polygon", "all_points_x": segmentation[0][::2], "all_points_y": segmentation[0][1::2]}
    if isinstance(box, list) and len(box) == 4:
        return {"name": "rect", **dict(zip(("x", "y", "width", "height"), box, strict=True))}
    return {}


def find_annotations(
    folder: Path, report: Report, label_key: str | None = None
) -> Iterator[tuple[str, Path, list | dict]]:
    """Yield (JSON file, photo path, regions) for each well-formed entry below `folder`."""

    def note(error: OSError) -> None:
        report.skip("folder that cannot be read", f"{error.filename} ({error.strerror})")

    for json_path in list_files(folder, note):
        # A pipe of that name would be waited for.
        if json_path.suffix.lower() != ".json" or not is_file(json_path):
            continue
        json_name = relative_name(json_path, folder)
        try:
            if not is_inside(json_path, folder):
                raise ValueError("a link that leaves the data folder")
            if json_name != json_path.relative_to(folder).as_posix():
                raise ValueError("its path is not UTF-8, or holds a carriage return; rename it")
            entries, notes = read_annotation_file(json_path, label_key)
        except ValueError as error:
            report.skip("JSON file not used", f"{json_name} ({error})")
            continue
        report.annotation_files += 1
        report.notes += [printable(f"{json_name} {note}") for note in notes]
        for key, entry in entries.items():
            name = entry.get("filename") if isinstance(entry, dict) else None
            regions = entry.get("regions") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name or not isinstance(regions, (list, dict)):
                report.skip("malformed entry", f"{json_name}: {key}")
            # JSON can escape half a character, which no file can be written with; a CSV file
            # cannot hold a carriage return that is not the end of a line.
            elif name.encode(errors="ignore").decode() != name or "\r" in name:
                report.skip("malformed entry", f"{json_name}: {key}")
            else:
                # Normalised, so that "./a.jpg" and "a.jpg" are one photo, and before it is
                # checked: behind a link, ".." would lead elsewhere.
                photo = Path(os.path.normpath(json_path.parent / name))
                if is_inside(photo, folder) and photo.is_relative_to(folder):
                    yield json_name, photo, regions
                else:
                    report.skip("photo outside the data folder", f"{json_name}: {name}")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether `path`, links and ".." followed, lies below `folder` (already resolved)."""
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, ValueError):  # link loops; NUL characters
        return False


def is_file(path: Path) -> bool:
    """Whether `path` is a file; False, too, for names that no file system can hold."""
    try:
        return path.is_file()
    except OSError:
        return False


def choose_annotations(folder: Path, report: Report, label_key: str | None = None) -> dict[str, list | dict]:
    """One annotation for each photo: {image_path relative to folder: regions}, sorted.

    A photo that is annotated several times, in one file or in several versions, takes the entry
    with the most distinct parts, for an earlier export is the poorer one; the first file wins a
    draw. `report` says where the labels would differ.
    """
    chosen = {}
    for json_name, photo, regions in find_annotations(folder, report, label_key):
        image_path = photo.relative_to(folder).as_posix()
        earlier = chosen.get(image_path)
        if earlier is not None:
            if extract_viewpoint_label(earlier) != extract_viewpoint_label(regions):
                report.skip(
                    "annotated twice with different labels, the fuller entry counts", f"{image_path} ({json_name})"
                )
            if len(region_identities(regions)) <= len(region_identities(earlier)):
                continue
        chosen[image_path] = regions
    return dict(sorted(chosen.items()))
