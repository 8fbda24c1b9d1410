"""Reader of COCO object annotations. Standard library only.

Source: https://cocodataset.org/#format-data. Parts of a file that are not as described there
are passed over.
"""

from viewpoint.annotations.photo import AnnotationFile, Entry, Part
from viewpoint.annotations.shapes import coco_outlines
from viewpoint.vocabulary import clean_name


def read(content: object, label_key: str) -> AnnotationFile | None:
    """The photos of a parsed COCO file, None when it is not one.

    The categories name the parts, so `label_key` is not used. An image without annotations has no parts.
    """
    if not isinstance(content, dict):
        return None
    images, annotations = content.get("images"), content.get("annotations")
    if not isinstance(images, list) or not isinstance(annotations, list):
        return None
    categories = content.get("categories")
    names = {
        str(category.get("id")): category.get("name")
        for category in (categories if isinstance(categories, list) else [])
        if isinstance(category, dict)
    }
    parts: dict[str, list[Part]] = {}
    for annotation in annotations:
        if isinstance(annotation, dict):
            name = names.get(str(annotation.get("category_id")))
            cleaned = clean_name(name) if isinstance(name, str) else ""
            outlines = coco_outlines(annotation.get("segmentation"), annotation.get("bbox"))
            parts.setdefault(str(annotation.get("image_id")), []).append(Part((cleaned,) if cleaned else (), outlines))
    file = AnnotationFile()
    for number, image in enumerate(images):
        name = image.get("file_name") if isinstance(image, dict) else None
        if isinstance(name, str) and name:
            file.entries.append(Entry(f"image {number}", name, tuple(parts.get(str(image.get("id")), []))))
        else:
            file.malformed.append(f"image {number}")
    return file
