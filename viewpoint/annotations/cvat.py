"""Reader of CVAT's XML for images. Standard library only.

Source: https://docs.cvat.ai/docs/manual/advanced/xml_format/, "Annotation". The attributes of a shape
are read like those of a VIA region, with its label among them.
"""

import contextlib
import re
from xml.etree import ElementTree

from viewpoint.annotations import via
from viewpoint.annotations.photo import AnnotationFile, Entry
from viewpoint.annotations.places import views_of

LABEL = "label"
START = re.compile(r"<annotations[\s>]")
# Elements of an image that are no regions: they describe the whole photo.
WHOLE_PHOTO = "tag"


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photos of the text of a CVAT file, None when it is not one.

    The labels name the parts, so `label_key` is not used. Raises ValueError for damaged XML, XML
    with a document type, which could make a small file grow without end, and annotations of videos.
    """
    if not isinstance(content, str):
        return None
    if "<!DOCTYPE" in content or "<!ENTITY" in content:
        raise ValueError("XML with a document type, which is not read; export it again")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"not readable as XML: {error}") from error
    if root.tag != "annotations":
        return None
    if root.find("track") is not None:
        raise ValueError('CVAT annotations of a video; export them as "CVAT for images"')
    file = AnnotationFile()
    regions_of = {
        image: [read_shape(shape) for shape in image if shape.tag != WHOLE_PHOTO] for image in root.findall("image")
    }
    for number, (image, parts) in enumerate(via.named_parts(file, regions_of, LABEL).items()):
        key, name = f"image {image.get('id', number)}", image.get("name", "")
        if name.strip():
            views = tuple(view for tag in image.findall(WHOLE_PHOTO) for view in views_of(read_shape(tag)[0]))
            file.entries.append(Entry(key, name, parts, views=views))
        else:
            file.malformed.append(key)
    return file


def read_shape(element: ElementTree.Element) -> tuple[dict, dict]:
    """The (attributes, shape) of a region, in VIA's terms."""
    attributes: dict[str, str] = {
        attribute.get("name", ""): attribute.text or "" for attribute in element if attribute.tag == "attribute"
    }
    attributes[LABEL] = element.get("label", "")
    if group := element.get("group_id", "").strip("0"):
        attributes["group_id"] = group
    with contextlib.suppress(KeyError, ValueError):
        return attributes, via_shape(element.tag, dict(element.items()))
    return attributes, {}


def via_shape(kind: str, fields: dict[str, str]) -> dict:
    """A shape of CVAT in VIA's terms; {} for one of another kind. Of a mask the box is used.

    Raises KeyError or ValueError when numbers are missing or are none.
    """
    if kind in ("box", "mask"):
        keys = ("xtl", "ytl", "xbr", "ybr") if kind == "box" else ("left", "top", "width", "height")
        left, top, width, height = (float(fields[key]) for key in keys)
        if kind == "box":
            width, height = width - left, height - top
        return {"name": "rect", "x": left, "y": top, "width": width, "height": height}
    if kind == "ellipse":
        return {"name": "ellipse"} | {key: float(fields[key]) for key in ("cx", "cy", "rx", "ry")}
    if kind in ("polygon", "polyline", "points"):
        points = [point.split(",") for point in fields["points"].split(";") if point.strip()]
        xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
        return {"name": "polygon" if kind == "polygon" else "polyline", "all_points_x": xs, "all_points_y": ys}
    return {}
