"""Reader of LabelMe annotations, one JSON file for each photo. Standard library only.

Source: https://github.com/wkentaro/labelme, labelme/_label_file.py. X-AnyLabeling writes the same format.
"""

from collections.abc import Callable

from viewpoint.annotations.json_file import as_dict
from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.places import place_finder, views_of
from viewpoint.annotations.shapes import group_of, is_drawn, labelme_outline, why_ignored


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
    shapes = [as_dict(shape) for shape in shapes]
    add_place = place_finder(map(attributes_of, shapes))
    parts = tuple(make_part(shape, add_place) for shape in shapes)
    return AnnotationFile([Entry("imagePath", name, parts, views=views_of(content.get("flags")))])


def attributes_of(shape: dict) -> dict[str, object]:
    """What a shape says besides its label: its flags, its description, and X-AnyLabeling's attributes."""
    more = as_dict(shape.get("flags")) | as_dict(shape.get("attributes"))
    return more | {"description": shape.get("description")}


def make_part(shape: dict, add_place: Callable[[str, dict], str]) -> Part:
    """The part that a shape marks, without a name where it has no label, without an outline where it is malformed."""
    label, outline = shape.get("label"), labelme_outline(shape)
    names = (add_place(label, attributes_of(shape)),) if isinstance(label, str) and label.strip() else ()
    ignored = why_ignored(shape, is_drawn(shape.get("shape_type"), outline, shape.get("points")))
    return Part(names, (outline,) if outline else (), group_of(shape), ignored)
