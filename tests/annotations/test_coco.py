"""COCO: ids that lead where they should, and all the ways in which they do not."""

import pytest

from viewpoint.annotations.coco import LOST, SHARED_ID, read

NAMES = ["bonnet", "frontbumper", "leftheadlamp"]


def coco(images: list, annotations: list, categories: object = None) -> dict:
    """A COCO file; images as (id, file name), annotations as (image id, category id)."""
    if categories is None:
        categories = [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)]
    return {
        "images": [{"id": id, "file_name": name} for id, name in images],
        "annotations": [{"image_id": image, "category_id": category} for image, category in annotations],
        "categories": categories,
    }


def parts_by_file(content: dict) -> dict[str, list[str]]:
    return {e.filename: [name for part in e.parts for name in part.names] for e in read(content, "").entries}


IMAGES = [(1, "a.jpg"), (2, "b.jpg")]


@pytest.mark.parametrize(
    ("images", "references"),
    [
        (IMAGES, [1, 2]),
        (IMAGES, [1.0, 2.0]),
        (IMAGES, ["1", "2"]),
        (IMAGES, ["0001", "0002"]),
        (IMAGES, ["1.0", " 2 "]),
        ([("001", "a.jpg"), ("002", "b.jpg")], [1, 2]),
        (IMAGES, ["a.jpg", "b.jpg"]),
        (IMAGES, ["a", "b"]),
        ([(1, "images/a.jpg"), (2, "images\\b.jpg")], ["a.jpg", "b"]),
        ([("x-1", "a.jpg"), ("x-2", "b.jpg")], ["x-1", "x-2"]),
    ],
)
def test_an_image_id_in_another_form_leads_to_its_image(images, references):
    first, second = parts_by_file(coco(images, [(references[0], 1), (references[1], 2)])).values()
    assert (first, second) == (["bonnet"], ["frontbumper"])


@pytest.mark.parametrize(
    "images",
    [
        [(20250116, "20250116_1.jpg"), (20250116, "20250116_2.jpg"), (7, "c.jpg")],  # VIA's parseInt of a date
        [(1, "lot1/a.jpg"), (1, "lot2/a.jpg"), (7, "c.jpg")],  # merged files
    ],
)
def test_photos_that_share_an_id_are_no_ones_and_counted(images):
    shared = images[0][0]
    file = read(coco(images, [(shared, 1), (shared, 2), (7, 3)]), "")
    assert [entry.problem for entry in file.entries] == [SHARED_ID, SHARED_ID, ""]
    assert "has 2 annotations that point at 1 image id that 2 photos share" in file.notes[0]


def test_of_two_extensions_with_one_stem_the_stem_leads_to_neither():
    file = read(coco([(1, "a.jpg"), (2, "a.png"), (3, "b.jpg")], [("a", 1), ("b", 1), ("b", 2)]), "")
    assert [entry.problem for entry in file.entries] == [SHARED_ID, SHARED_ID, ""]


@pytest.mark.parametrize("references", [[2, 3], [0, 1]])
def test_ids_that_are_off_by_one_are_refused_and_not_followed(references):
    """Image 2 exists, but it is not the image that was meant."""
    with pytest.raises(ValueError, match=r"image ids from . to ., but its list has 1 to 2, so .* off by 1"):
        read(coco(IMAGES, [(references[0], 1), (references[1], 2)]), "")


def test_category_ids_that_are_off_by_one_are_refused():
    with pytest.raises(ValueError, match="category ids from 2 to 4, but its list has 1 to 3"):
        read(coco(IMAGES, [(1, 2), (1, 3), (2, 4)]), "")


def test_annotations_that_lead_nowhere_are_counted_and_make_empty_images_doubtful():
    images = [*IMAGES, (3, "scene.jpg")]
    file = read(coco(images, [(1, 1), (1, 2), (2, 1), (99, 1)]), "")
    assert "has 1 annotation that lead to no image" in file.notes[0]
    assert [entry.problem for entry in file.entries] == ["", "", LOST]
    with pytest.raises(ValueError, match="3 of its 4 annotations lead to no image"):
        read(coco(images, [(1, 1), ("x", 2), ("y", 1), ("z", 1)]), "")


@pytest.mark.parametrize(
    "categories",
    [
        {"1": "bonnet", "2": "frontbumper"},
        {"1": {"name": "bonnet"}, "2": {"name": "frontbumper"}},
        {"bonnet": 1, "frontbumper": 2},
        [{"id": 1.0, "name": "bonnet"}, {"id": "02", "name": "frontbumper"}],
        ["bonnet", "frontbumper"],  # id 2 of two: they count from 1
    ],
)
def test_categories_in_other_forms_are_read(categories):
    assert parts_by_file(coco(IMAGES, [(1, 1), (1, 2)], categories))["a.jpg"] == ["bonnet", "frontbumper"]


@pytest.mark.parametrize(
    "categories", [[], {}, "none", [{"id": 1}], [{"id": 1, "name": " "}], [{"id": 1, "name": n} for n in NAMES]]
)
def test_without_a_category_a_region_has_no_name(categories):
    file = read(coco(IMAGES, [(1, 1), (1, 1)], categories), "")
    assert [part.names for part in file.entries[0].parts] == [(), ()]
    assert "has 2 annotations without a category that names a part" in file.notes[0]


def test_a_category_name_in_the_annotation_is_used_unless_it_contradicts():
    content = coco(IMAGES, [(1, 1), (1, None), (1, 2)])
    for annotation, name in zip(content["annotations"], ["hood", "left_headlamp", "tailgate"], strict=True):
        annotation["category_name"] = name
    content["annotations"][0]["category_name"] = "Bonnet"
    file = read(content, "")
    assert [part.names for part in file.entries[0].parts] == [("Bonnet",), ("left_headlamp",), ()]
    assert "category_id and category_name differ" in file.notes[0]


def test_a_polygon_without_the_list_around_it_is_an_outline():
    content = coco(IMAGES, [(1, 1)])
    content["annotations"][0]["segmentation"] = [1, 2, 21, 2, 21, 12]
    assert read(content, "").entries[0].parts[0].outlines == (((1, 2), (21, 2), (21, 12)),)
