"""Reader of VIA 1 and VIA 2 annotations and of VIA 2 projects. Standard library only.

Source: https://www.robots.ox.ac.uk/~vgg/software/via/.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar

import config
from viewpoint.annotations.json_file import as_dict
from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.places import place_finder, says_no, texts_of, ticked, views_of
from viewpoint.annotations.shapes import group_of, is_drawn, via_outline, why_ignored
from viewpoint.annotations.vocabulary import DAMAGE, clean_name, part_of

Key = TypeVar("Key")
# From the attributes of a region to the texts that name its parts.
NameFinder = Callable[[dict], list[str]]

# A photo without regions is a Background only where this file attribute, of the VIA project that
# tools/select_photos.py writes, is ticked.
NO_PARTS_KEY = "no_parts"

# Said of a file with entries for which is_waiting is true.
WAITING = f'has photos without regions and without the tick "{NO_PARTS_KEY}", not annotated yet: {{}}'


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photos of a parsed VIA file, None when it is not one.

    The part names are read from the region attribute `label_key`, or else from the only text
    attribute that the file uses, or else from the keys of the attributes. VIA's attribute-only
    exports have no entries, and photos to which nobody came yet give none (see is_waiting).
    Raises ValueError for VIA 3 and when several attributes could name the parts.
    """
    if not isinstance(content, dict):
        return None
    if {"project", "metadata", "view"} <= content.keys():
        raise ValueError("a VIA 3 project; export the photos' annotations with VIA 2")
    options = read_options(content.get("_via_attributes"), "region")
    file_options = read_options(content.get("_via_attributes"), "file")
    content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict):
        return None
    if content and content.keys() <= {"region", "file"}:
        return AnnotationFile()
    if content and not any(isinstance(entry, dict) and "filename" in entry for entry in content.values()):
        return None
    file, regions_of = AnnotationFile(), {}
    entries = {key: entry for key, entry in content.items() if not is_waiting(entry)}
    if len(entries) < len(content):
        file.notes.append(WAITING.format(len(content) - len(entries)))
    for key, entry in entries.items():
        name, regions = as_dict(entry).get("filename"), as_dict(entry).get("regions")
        if isinstance(name, str) and name and isinstance(regions, (list, dict)):
            regions_of[key] = [(name_options(one, options), shape) for one, shape in list_regions(regions)]
        else:
            file.malformed.append(key)
    for key, parts in named_parts(file, regions_of, label_key).items():
        about_photo, size = as_dict(entries[key].get("file_attributes")), read_size(entries[key].get("size"))
        views = views_of(name_options(about_photo, file_options))
        file.entries.append(Entry(key, entries[key]["filename"], parts, size=size, views=views))
    return file


def read_size(value: object) -> int | None:
    """The size of a photo's file in bytes; None where VIA does not know it and writes -1, or nothing usable."""
    text = str(value).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 and text.strip("0") else None


def is_waiting(entry: object) -> bool:
    """Whether an entry of tools/select_photos.py is as it was written: no region, and nobody ticked that there is none.

    In other projects, where that is not asked, a photo without regions counts as annotated.
    """
    if not isinstance(entry, dict) or entry.get("regions"):
        return False
    ticks = as_dict(entry.get("file_attributes")).get(NO_PARTS_KEY)
    return ticks is not None and not texts_of(ticks)


def read_regions(regions: object) -> tuple[Part, ...]:
    """The parts of one photo's VIA regions that count, VIA 2's list or VIA 1's dict, named by config.IDENTITY_KEY."""
    parts = make_parts(list_regions(regions), lambda attributes: texts_of(attributes.get(config.IDENTITY_KEY)))
    return tuple(part for part in parts if not part.ignored)


def list_regions(regions: object) -> list[tuple[dict, dict]]:
    """The (attributes, shape) of each region, {} for what is missing or malformed."""
    values = regions.values() if isinstance(regions, dict) else regions if isinstance(regions, list) else []
    fields = map(as_dict, values)
    return [(as_dict(region.get("region_attributes")), as_dict(region.get("shape_attributes"))) for region in fields]


def named_parts(
    file: AnnotationFile, regions_of: dict[Key, list[tuple[dict, dict]]], label_key: str
) -> dict[Key, tuple[Part, ...]]:
    """The parts of each photo of a file, from its regions as list_regions gives them; a note on their names in `file`.

    Raises ValueError when several attributes could name the parts.
    """
    names_of, note = find_names([one for regions in regions_of.values() for one, _ in regions], label_key)
    file.notes += [note] if note else []
    return {key: make_parts(regions, names_of) for key, regions in regions_of.items()}


def make_parts(regions: list[tuple[dict, dict]], names_of: NameFinder) -> tuple[Part, ...]:
    """The parts of regions as list_regions gives them."""
    parts = []
    for attributes, shape in regions:
        outline = via_outline(shape)
        names = tuple(dict.fromkeys(names_of(attributes)))
        ignored = why_ignored(attributes, is_drawn(shape.get("name"), outline, shape.get("all_points_x")))
        parts.append(Part(names, (outline,) if outline else (), group_of(attributes), ignored))
    return tuple(parts)


# --- Where the part names are ------------------------------------------------------


def find_names(regions: list[dict], label_key: str) -> tuple[NameFinder, str]:
    """How to find the part names in the attributes of a region, and a note on it for people, or "".

    `regions` holds the attributes of every region of a file. Raises ValueError when several
    attributes could name the parts.
    """
    keys: Counter[str] = Counter()
    nameless = 0
    for attributes in regions:
        used = [key for key, value in attributes.items() if texts_of(value) or part_of(key)]
        keys.update(used)
        nameless += bool(used) and clean_name(label_key) not in map(clean_name, used)
    wanted = [key for key in keys if clean_name(key) == clean_name(label_key)]
    as_keys = sum(part_of(key) is not None for key in keys)
    if not keys or wanted:
        note = f'has regions without "{label_key}", which name no part, but with other attributes: {nameless}'
        return read_from(wanted, regions), note * bool(nameless)
    if as_keys > len(keys) / 2:
        # Where some regions give values, a region without any is one that nobody filled in.
        blank_counts = all(says_no(value) for one in regions for key, value in one.items() if key in keys)
        return (lambda attributes: filled_keys(attributes, keys, blank_counts)), "has the part names as attribute keys"
    if len(keys) == 1:
        [found] = keys
        note = f'has no attribute "{label_key}"; the part names were read from "{found}"'
        return read_from([found], regions), note
    naming = [key for key in keys if names_parts(key, regions)]
    if len(naming) == 1:
        note = f'has no attribute "{label_key}"; the part names were read from "{naming[0]}", the only one that has any'
        return read_from(naming, regions), note
    raise ValueError(f'no attribute "{label_key}" but {", ".join(sorted(keys))}; give the right one with --label-key')


def read_from(keys: list[str], regions: list[dict]) -> NameFinder:
    """Finds the part names in the attributes `keys`, each with the place that the other attributes give it."""

    def others(attributes: dict) -> dict:
        return {key: value for key, value in attributes.items() if key not in keys}

    add_place = place_finder(map(others, regions))
    return lambda attributes: [
        add_place(text, others(attributes)) for key in keys for text in texts_of(attributes.get(key))
    ]


def names_parts(key: str, regions: list[dict]) -> bool:
    """Whether most texts in an attribute are known names of parts, and not only of damage."""
    texts = [text for attributes in regions for text in texts_of(attributes.get(key))]
    known = [part for part in map(part_of, texts) if part and part not in DAMAGE]
    return len(known) > len(texts) / 2


def filled_keys(attributes: dict, keys: Iterable[str], blank_counts: bool) -> list[str]:
    """The `keys` that a region ticks; one without a value counts if it is the only one, or `blank_counts`."""
    present = [key for key in attributes if key in keys]
    blank_counts = blank_counts or len(present) == 1
    return [
        text
        for key in present
        for text in ([key] if blank_counts and attributes[key] == "" else ticked(key, attributes[key]))
    ]


# --- Options of a dropdown, radio button or checkbox ---------------------------------


def read_options(attributes: object, of: str) -> dict[str, dict[str, str]]:
    """The names that a project gives the option ids of "region" or "file" attributes: {attribute: {id: name}}."""
    found = {}
    for key, attribute in as_dict(as_dict(attributes).get(of)).items():
        options = as_dict(attribute).get("options")
        if isinstance(options, dict):
            found[key] = {id: option_name(id, name) for id, name in options.items() if isinstance(name, str)}
    return found


def option_name(id: str, description: str) -> str:
    """The part name of an option: its description, or its id; "" when both name parts, but different ones."""
    by_id, by_description = part_of(id), part_of(description)
    if by_id and by_description and by_id != by_description:
        return ""
    return id if by_id or not description.strip() else description


def name_options(attributes: dict, options: dict[str, dict[str, str]]) -> dict:
    """The attributes of a region or photo with names in the place of option ids."""

    def name(key: str, value: object) -> object:
        names = options[key]
        if isinstance(value, dict):
            return {names.get(id, id): ticked for id, ticked in value.items()}
        if isinstance(value, list):
            return [name(key, item) for item in value]
        return names.get(str(value), value)

    return {key: name(key, value) if key in options else value for key, value in attributes.items()}
