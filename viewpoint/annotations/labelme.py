"""Reader of LabelMe annotations, one JSON file for each photo. Standard library only.

Source: https://github.com/wkentaro/labelme, labelme/_label_file.py. X-AnyLabeling writes the same format.
"""

from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.regions import group_of, why_ignored
from viewpoint.annotations.shapes import is_drawn, labelme_outline


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photo of a parsed LabelMe file, None when it is not one.

    The shapes' labels name the parts, so `label_key` is not used. The photo inside the file
    (imageData), its size and the flags are not needed.
    """
    if not isinstance(content, dict) or not {"imagePath", "shapes"} <= content.keys():
        return None
    name, shapes = content["imagePath"], content["shapes"]
    if not isinstance(name, str) or not name or not isinstance(shapes, list):
        return AnnotationFile(malformed=["imagePath or shapes"])
    return AnnotationFile([Entry("imagePath", name, tuple(map(make_part, shapes)))])


def make_part(shape: object) -> Part:
    """The part that a shape marks, without a name where it has no label, without an outline where it is malformed."""
    fields = shape if isinstance(shape, dict) else {}
    label, outline = fields.get("label"), labelme_outline(fields)
    names = (label,) if isinstance(label, str) and label.strip() else ()
    ignored = why_ignored(fields, is_drawn(fields.get("shape_type"), outline, fields.get("points")))
    return Part(names, (outline,) if outline else (), group_of(fields), ignored)
