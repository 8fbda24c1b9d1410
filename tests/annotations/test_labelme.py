"""LabelMe: every shape becomes a part with its outline, and odd files do not raise."""

import json
import math

import pytest
from conftest import save_photo

from viewpoint.annotations import labelme, read_annotation_file
from viewpoint.annotations.shapes import ELLIPSE_POINTS
from viewpoint.data.scan import parse_dataset

SQUARE = ((10, 20), (30, 20), (30, 40), (10, 40))


def labelme_file(*shapes: object, image_path: object = "car.jpg") -> dict:
    """The content of a file of LabelMe 5 with these shapes."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": image_path,
        "imageData": "/9j/4AAQSkZJRg==",
        "imageHeight": 40,
        "imageWidth": 60,
    }


def shape(label: object, points: object, kind: object = "polygon") -> dict:
    return {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}


def read_part(one_shape: object):
    [entry] = labelme.read(labelme_file(one_shape), "identity").entries
    [part] = entry.parts
    return part


def test_a_folder_of_labelme_files_is_labelled(tmp_path):
    drawn = {"front.jpg": ["bonnet", "leftheadlamp"], "rear.jpg": ["tailgate", "righttaillamp"], "tree.jpg": []}
    for name, labels in drawn.items():
        save_photo(tmp_path / name)
        content = labelme_file(*(shape(label, SQUARE) for label in labels), image_path=name)
        (tmp_path / name).with_suffix(".json").write_text(json.dumps(content))
    labelled = dict(parse_dataset(tmp_path)[["image_path", "label"]].values)
    assert labelled == {"front.jpg": "FrontLeft", "rear.jpg": "RearRight", "tree.jpg": "Background"}


@pytest.mark.parametrize(
    ("kind", "points", "outline"),
    [
        ("polygon", SQUARE, SQUARE),
        ("rectangle", [[30, 20], [10, 40]], SQUARE),  # two opposite corners, drawn from any of the four
        ("rectangle", SQUARE, SQUARE),  # all four, as X-AnyLabeling writes them
        ("mask", [[10, 20], [30, 40]], SQUARE),
        ("oriented_rectangle", SQUARE, SQUARE),
        ("line", SQUARE[:2], SQUARE[:2]),
        ("linestrip", SQUARE[:3], SQUARE[:3]),
        ("point", SQUARE[:1], SQUARE[:1]),
        (None, SQUARE, SQUARE),
    ],
)
def test_every_shape_has_its_outline(kind, points, outline):
    part = read_part(shape("bonnet", points, kind))
    assert part.names == ("bonnet",)
    assert part.outlines == (outline,)


def test_a_circle_goes_through_the_point_on_its_rim():
    [outline] = read_part(shape("tyre", [[50, 50], [53, 54]], "circle")).outlines
    assert len(outline) == ELLIPSE_POINTS
    assert [math.dist((50, 50), point) for point in outline] == pytest.approx([5] * ELLIPSE_POINTS)


def test_files_of_the_first_versions_have_polygons_only_and_do_not_say_so():
    content = {
        "shapes": [{"label": "bonnet", "points": SQUARE, "line_color": None, "fill_color": None}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "..\\photos\\car.jpg",
        "imageData": "",
    }
    [entry] = labelme.read(content, "identity").entries
    assert entry.filename == "..\\photos\\car.jpg"
    assert entry.parts[0].outlines == (SQUARE,)


@pytest.mark.parametrize("label", [None, "", "  ", 7, ["bonnet"]])
def test_a_shape_without_a_text_as_label_is_a_region_without_a_name(label):
    part = read_part(shape(label, SQUARE))
    assert (part.names, part.outlines) == ((), (SQUARE,))


@pytest.mark.parametrize(
    "points",
    [
        None,
        5,
        "ab",
        [],
        [1, 2],
        [[1, 2, 3]],
        [["x", 2]],
        [[1, None]],
        [[float("nan"), 1]],
        [[1e400, 1]],
        [[10**400, 1]],
    ],
)
@pytest.mark.parametrize("kind", ["polygon", "rectangle", "circle", "mask", 3, ["polygon"]])
def test_malformed_points_leave_the_name_and_no_outline(points, kind):
    part = read_part(shape("bonnet", points, kind))
    assert (part.names, part.outlines) == (("bonnet",), ())


@pytest.mark.parametrize("no_shape", [None, 5, "polygon", [], {}])
def test_what_is_no_shape_is_a_region_without_a_name(no_shape):
    part = read_part(no_shape)
    assert (part.names, part.outlines) == ((), ())


@pytest.mark.parametrize("change", [{"imagePath": ""}, {"imagePath": None}, {"shapes": None}, {"shapes": {}}])
def test_a_file_without_a_photo_or_a_list_of_shapes_is_malformed(change):
    file = labelme.read(labelme_file() | change, "identity")
    assert (file.entries, file.malformed) == ([], ["imagePath or shapes"])


@pytest.mark.parametrize("content", [None, [], {}, {"shapes": []}, {"imagePath": "car.jpg"}])
def test_other_json_is_left_to_other_readers(content):
    assert labelme.read(content, "identity") is None


def test_a_json_file_of_no_known_format_is_refused(tmp_path):
    (tmp_path / "other.json").write_text('{"name": "package"}')
    with pytest.raises(ValueError, match="neither VIA 1, VIA 2, COCO nor LabelMe"):
        read_annotation_file(tmp_path / "other.json")
