"""Reader of LabelMe annotations, one JSON file for each photo. Standard library only.

Source: https://github.com/wkentaro/labelme, labelme/_label_file.py. X-AnyLabeling writes the same format.
"""

from collections.abc import Callable

from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.places import place_finder, views_of
from viewpoint.annotations.regions import group_of, why_ignored
from viewpoint.annotations.shapes import is_drawn, labelme_outline


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photo of a parsed LabelMe file, None when it is not one.

    The shapes' labels name the parts, so `label_key` is not used. The photo inside the file
    (imageData) and its size are not needed.
    """
    if not isinstance(content, dict) or not {"imagePath", "shapes"} <= content.keys():
        return None
    name, shapes = content["imagePath"], content["shapes"]
    if not isinstance(name, str) or not name or not isinstance(shapes, list):
        return AnnotationFile(malformed=["imagePath or shapes"])
    add_place = place_finder(map(attributes_of, shapes))
    parts = tuple(make_part(shape, add_place) for shape in shapes)
    return AnnotationFile([Entry("imagePath", name, parts, views=views_of(content.get("flags")))])


def attributes_of(shape: object) -> dict[str, object]:
    """What a shape says besides its label: its flags, its description, and X-AnyLabeling's attributes."""
    fields = shape if isinstance(shape, dict) else {}
    more = [found for key in ("flags", "attributes") if isinstance(found := fields.get(key), dict)]
    return {key: value for found in [*more, {"description": fields.get("description")}] for key, value in found.items()}


def make_part(shape: object, add_place: Callable[[str, dict], str]) -> Part:
    """The part that a shape marks, without a name where it has no label, without an outline where it is malformed."""
    fields = shape if isinstance(shape, dict) else {}
    label, outline = fields.get("label"), labelme_outline(fields)
    names = (add_place(label, attributes_of(shape)),) if isinstance(label, str) and label.strip() else ()
    ignored = why_ignored(fields, is_drawn(fields.get("shape_type"), outline, fields.get("points")))
    return Part(names, (outline,) if outline else (), group_of(fields), ignored)
