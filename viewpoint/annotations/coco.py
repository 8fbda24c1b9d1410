"""Reader of COCO object annotations. Standard library only.

Source: https://cocodataset.org/#format-data. Ids lead from an annotation to its image and its
category. Exports of many tools break them, so an id is followed only where it leads without
doubt; everything else is counted and said.
"""

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from viewpoint.annotations.json_file import as_dict
from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.places import place_finder, views_of
from viewpoint.annotations.shapes import coco_outlines, group_of, is_drawn_in_coco, why_ignored
from viewpoint.annotations.vocabulary import part_of
from viewpoint.common.cli import counted

# An image of the file: its id as id_text gives it, and its file name.
Target = tuple[str, str]

# When more than this fraction of the annotations leads nowhere, an image without annotations may be their target.
LOST_FRACTION = 0.1
# From this fraction of images without annotations, annotation ids that start again are a sign of joined files.
RESTARTED_FRACTION = 0.2
# When more than this fraction names no image at all, the parts of any image may be incomplete.
BLANK_FRACTION = 0.01

LOST = "without annotations in a COCO file whose annotations lead nowhere"
# Where exporters write the name of a part into an annotation.
NAME_KEYS = ("category_name", "category", "label", "class", "name")
READ_KEYS = (*NAME_KEYS, "id", "image_id", "category_id", "file_name", "segmentation")
# Where tools write what is said of a whole photo, besides the attributes of CVAT and the extras of Roboflow.
PHOTO_KEYS = ("view", "viewpoint", "label", "class", "tags", "user_tags")

SHARED_ID = "shares its COCO image id with other photos"


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photos of a parsed COCO file, None when it is not one.

    The categories name the parts, so `label_key` is not used. An image without annotations has no
    parts. Raises ValueError when ids seem to be off by some number, or most annotations lead nowhere.
    """
    if not isinstance(content, dict):
        return None
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return None
    file = AnnotationFile()
    entries, views = read_images(images, file.malformed)
    proper = [annotation for annotation in annotations if isinstance(annotation, dict)]
    targets = find_targets(list(entries), proper)
    names, name_notes = find_names(content.get("categories"), proper)
    parts: dict[Target, list[Part]] = defaultdict(list)
    shared: Counter[tuple[Target, ...]] = Counter()
    lost = 0
    for annotation, found, part_name in zip(proper, targets, names, strict=True):
        part = make_part(annotation, part_name)
        lost += not found
        if len(found) > 1:
            shared[found] += 1
        for target in found:
            parts[target].append(part)
    lost += len(annotations) - len(proper)
    refuse_lost(lost, proper, len(annotations))
    refuse_restarted_ids(proper, unused=sum(not parts[target] for target in entries) / max(1, len(entries)))
    sharing = {target for group in shared for target in group}
    if shared:
        file.notes.append(
            f"has {counted(shared.total(), 'annotation')} that point at {counted(len(shared), 'image id')} "
            f"that {len(sharing)} photos share; export the photos as VIA JSON, which keeps them apart"
        )
    if lost:
        file.notes.append(f"has {counted(lost, 'annotation')} that lead to no image")
    if keypoints := sum(bool(annotation.get("keypoints")) for annotation in proper):
        file.notes.append(f"has {counted(keypoints, 'annotation')} with keypoints, which do not vote")
    file.notes += name_notes
    for target, key in entries.items():
        problem = SHARED_ID if target in sharing else ""
        if not parts[target] and lost > LOST_FRACTION * len(annotations):
            problem = LOST
        file.entries.append(Entry(key, target[1], tuple(parts[target]), problem, views=views[target]))
    return file


def read_images(
    images: Iterable[object], malformed: list[str]
) -> tuple[dict[Target, str], dict[Target, tuple[str, ...]]]:
    """The images of a file with a name for messages, and what is said of the view of each whole photo.

    Images without a file name are added to `malformed`.
    """
    entries: dict[Target, str] = {}
    views: dict[Target, tuple[str, ...]] = defaultdict(tuple)
    for number, image in enumerate(map(as_dict, images)):
        name = image.get("file_name") or image.get("path")
        if isinstance(name, str) and name:
            target = id_text(image.get("id")), name
            entries.setdefault(target, f"image {number}")
            views[target] += views_of(said_of_photo(image))
        else:
            malformed.append(f"image {number}")
    return entries, views


def make_part(annotation: dict, name: str) -> Part:
    """The part that an annotation marks; `name` is "" where nothing names it."""
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    ignored = why_ignored(annotation, is_drawn_in_coco(segmentation, box))
    return Part((name,) if name else (), coco_outlines(segmentation, box), group_of(annotation), ignored)


def said_of_photo(image: dict) -> dict[str, object]:
    """The attributes and tags of a whole photo."""
    said = as_dict(image.get("attributes")) | as_dict(image.get("extra"))
    said.pop("name", None)
    return said | {key: image[key] for key in PHOTO_KEYS if key in image}


# --- From an annotation to its image -------------------------------------------------


def id_text(value: object) -> str:
    """An id in one form: 7, 7.0, "7" and "007" are the same; "" for a missing one."""
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    return str(int(text.split(".")[0])) if re.fullmatch(r"[0-9]{1,40}(\.0*)?", text) else text


def reference_of(annotation: dict) -> object:
    """What an annotation says of its image: its id, or else its file name."""
    reference = annotation.get("image_id")
    return annotation.get("file_name") if reference is None else reference


def refuse_lost(lost: int, annotations: list[dict], count: int) -> None:
    """Raise ValueError when too many of the file's `count` annotations lead to no image, or name none."""
    blank = sum(id_text(reference_of(annotation)) == "" for annotation in annotations)
    if lost > count / 2 or blank > BLANK_FRACTION * count:
        raise ValueError(
            f"{lost} of its {counted(count, 'annotation')} lead to no image, so that parts of any photo "
            "may be missing; export it again"
        )


def find_targets(images: list[Target], annotations: list[dict]) -> list[tuple[Target, ...]]:
    """The images that each annotation may belong to: one, none, or several.

    Several images can share an id, and a text can be the id of one image and the file name of
    another, with or without its extension or folders. Raises ValueError when the ids seem to be off
    by some number.
    """
    by_id, by_name = defaultdict(list), defaultdict(set)
    for target in images:
        id, name = target
        if id:
            by_id[id].append(target)
        path = file_path(name)
        for text in {name, path.name, path.stem}:
            by_name[text].add(target)
    raw = [reference_of(annotation) for annotation in annotations]
    ids = [id_text(value) for value in raw]
    named = [by_name[value] | by_name[file_path(value).name] if isinstance(value, str) else set() for value in raw]
    refuse_shifted([id for id, names in zip(ids, named, strict=True) if not names], by_id, "image")
    return [tuple(sorted({*by_id.get(id, ()), *names})) for id, names in zip(ids, named, strict=True)]


def file_path(name: str) -> PurePosixPath:
    """A file name of any system as a path."""
    return PurePosixPath(name.strip().replace("\\", "/"))


def refuse_shifted(references: Iterable[str], ids: Iterable[str], what: str) -> None:
    """Raise ValueError when more ids lead somewhere after adding one number to all of them.

    Then the others lead to the wrong place, without an error: ids from 1 where the file counts from 0.
    """
    used = {int(reference) for reference in references if reference.isdigit()}
    given = {int(id) for id in ids if id.isdigit()}
    if not used or not given:
        return
    for shift in (1, -1, max(used) - max(given), min(used) - min(given)):
        if len({number - shift for number in used} & given) > len(used & given):
            raise ValueError(
                f"its annotations have {what} ids from {min(used)} to {max(used)}, but its list has {min(given)} to "
                f"{max(given)}, so the ids seem to be off by {abs(shift)}; correct them, or export the file again"
            )


def refuse_restarted_ids(annotations: list[dict], unused: float) -> None:
    """Raise ValueError when the annotations' own ids start again and many images have none.

    Such a file was joined from several without giving the annotations of the later ones their new
    image ids. `unused` is the fraction of images without annotations.
    """
    ids = [id for id in (id_text(annotation.get("id")) for annotation in annotations) if id.isdigit()]
    numbers = [int(id) for id in ids]
    restarts = sum(after <= before for before, after in itertools.pairwise(numbers))
    if unused > RESTARTED_FRACTION and 0 < restarts < 20 and len(set(numbers)) > len(numbers) / 4:
        raise ValueError(
            f"the ids of its annotations start again {counted(restarts, 'time')}, and {unused:.0%} of its images have "
            "none: it seems to be joined from several files without new image ids; use the original files"
        )


# --- From an annotation to its part name ---------------------------------------------


def find_names(categories: object, annotations: list[dict]) -> tuple[list[str], list[str]]:
    """The part name of each annotation, with its place where other attributes say it; and notes for people.

    The name is "" when nothing leads to one. Raises ValueError when the ids of the categories seem to
    be off by some number.
    """
    ids = [id_text(annotation.get("category_id")) for annotation in annotations]
    names_of = read_categories(categories, set(ids))
    refuse_shifted(ids, names_of, "category")
    names, contradictions = [], 0
    for id, annotation in zip(ids, annotations, strict=True):
        by_id = names_of.get(id) or (id if part_of(id) else "")
        texts = [annotation.get(key) for key in NAME_KEYS]
        own = next((text for text in texts if isinstance(text, str) and text.strip()), "")
        contradicts = bool(by_id and own) and (part_of(by_id) or by_id) != (part_of(own) or own)
        contradictions += contradicts
        names.append("" if contradicts else own or by_id)
    notes = []
    if contradictions:
        notes.append(f"has {counted(contradictions, 'annotation')} whose category_id and category_name differ")
    if nameless := names.count("") - contradictions:
        lost = sorted({id for id in ids if not names_of.get(id)})
        which = f" (category_id {', '.join(lost[:5])})" if any(lost) else ""
        count = counted(nameless, "annotation")
        notes.append(f"has {count} without a category that names a part{which}; export them as VIA JSON")
    above = supercategories(categories)
    attributes = [said_of_part(one, above.get(id, "")) for id, one in zip(ids, annotations, strict=True)]
    add_place = place_finder(attributes)
    return [add_place(name, said) if name else "" for name, said in zip(names, attributes, strict=True)], notes


def supercategories(categories: object) -> dict[str, object]:
    """The supercategory of each category by its id."""
    proper = map(as_dict, categories if isinstance(categories, list) else ())
    return {id_text(one.get("id")): one.get("supercategory") for one in proper if one}


def said_of_part(annotation: dict, supercategory: object) -> dict[str, object]:
    """What an annotation says besides its name: CVAT's attributes, other texts, the supercategory of its category."""
    texts = {key: value for key, value in annotation.items() if isinstance(value, str) and key not in READ_KEYS}
    return texts | {"supercategory": supercategory} | as_dict(annotation.get("attributes"))


def read_categories(categories: object, used: set[str]) -> dict[str, str]:
    """The names of the categories by id, "" where a category has no name or an id has several.

    Also read: {id: name}, {id: {"name": name}}, {name: id}, and a list of names when the ids that
    are `used` show whether it counts from 0 or from 1.
    """
    pairs: list[tuple[object, object]] = []
    if isinstance(categories, dict):
        for key, value in categories.items():
            name = value.get("name") if isinstance(value, dict) else value
            pairs.append((name, key) if isinstance(name, (int, float)) else (key, name))
    elif isinstance(categories, list) and categories and all(isinstance(name, str) for name in categories):
        from_zero, from_one = "0" in used, str(len(categories)) in used
        if from_zero != from_one:
            pairs = list(enumerate(categories, start=int(from_one)))
    elif isinstance(categories, list):
        proper = [category for category in categories if isinstance(category, dict)]
        pairs = [(category.get("id"), category.get("name")) for category in proper]
    names: dict[str, str] = {}
    for id, name in pairs:
        text = name.strip() if isinstance(name, str) else ""
        key = id_text(id)
        names[key] = text if names.get(key, text) == text else ""
    names.pop("", None)
    return names
