"""LabelMe: every shape becomes a part with its outline, and odd files do not raise.

COCO: ids that lead where they should, and all the ways in which they do not.
VIA's CSV export: read like VIA's JSON, and told from other CSV files by its header.
"""

import csv
import io
import json
import math
import os

import pytest
from conftest import regions, save_photo, write_via

import config
from viewpoint.annotations import format_of, labelme, read_annotation_file, via_csv
from viewpoint.annotations.coco import LOST, SHARED_ID, read
from viewpoint.annotations.shapes import ELLIPSE_POINTS
from viewpoint.data.labeling import part_names
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


# --- COCO --------------------------------------------------------------------------


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


# --- VIA's CSV export --------------------------------------------------------------


HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def via_rows(photos: dict[str, list[dict]]) -> str:
    """The CSV that VIA exports for these regions, its quotes where VIA puts them."""
    lines = [HEADER]
    for name, found in photos.items():
        for number, region in enumerate(found):
            cells = [json.dumps(region[f"{kind}_attributes"]).replace('"', '""') for kind in ("shape", "region")]
            lines.append(f'{name},123,"{{}}",{len(found)},{number},"{cells[0]}","{cells[1]}"')
        if not found:
            lines.append(f'{name},123,"{{}}",0,0,"{{}}","{{}}"')
    return "\n".join(lines)


def names_by_photo(text: str) -> dict[str, set[str]]:
    file = via_csv.read(text, "identity")
    return {entry.filename: part_names(entry.parts) for entry in file.entries}


def test_a_csv_gives_what_the_json_of_the_same_project_gives(tmp_path):
    photos = {"front.jpg": regions("bonnet", "leftheadlamp"), "rear.jpg": regions("tailgate"), "tree.jpg": []}
    write_via(tmp_path / "via.json", photos)
    (tmp_path / "via.csv").write_text(via_rows(photos))
    from_csv = read_annotation_file(tmp_path / "via.csv")
    assert from_csv == read_annotation_file(tmp_path / "via.json")
    assert [len(entry.parts) for entry in from_csv.entries] == [2, 1, 0]


def test_a_folder_with_a_csv_is_labelled(tmp_path):
    for name in ("front.jpg", "tree.jpg"):
        save_photo(tmp_path / name)
    (tmp_path / "via_export_csv.csv").write_text(
        via_rows({"front.jpg": regions("bonnet", "leftheadlamp"), "tree.jpg": []})
    )
    labelled = dict(parse_dataset(tmp_path)[["image_path", "label"]].values)
    assert labelled == {"front.jpg": "FrontLeft", "tree.jpg": "Background"}


TEXT = via_rows({"été.jpg": regions("bonnet", "grille")})


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), None),
        (TEXT.replace("\n", "\r\n").encode("utf-16"), None),
        (TEXT.encode("latin-1"), "is not UTF-8; it was read as Latin-1"),
        (f"#{TEXT}".encode(), None),  # VIA 1.0
        (TEXT.replace("\n", "\r").encode(), None),
        (TEXT.replace("\n", "\r\n\r\n").encode(), None),
    ],
)
def test_every_usual_encoding_and_line_end_is_read(tmp_path, content, note):
    path = tmp_path / "via.CSV"
    path.write_bytes(content)
    assert format_of(path)
    file = read_annotation_file(path)
    assert file.notes == ([note] if note else [])
    assert [(entry.filename, part_names(entry.parts)) for entry in file.entries] == [("été.jpg", {"bonnet", "grille"})]


def test_a_csv_that_a_spreadsheet_saved_with_semicolons_is_read():
    text = io.StringIO()
    rows = csv.reader(io.StringIO(via_rows({"car.jpg": regions("bonnet", "grille")})))
    csv.writer(text, delimiter=";").writerows(rows)
    assert names_by_photo(text.getvalue()) == {"car.jpg": {"bonnet", "grille"}}


def test_a_table_with_its_columns_in_another_order_and_an_index_is_read():
    rows = list(csv.DictReader(io.StringIO(via_rows({"car.jpg": regions("bonnet", "grille")}))))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["", *reversed(HEADER.split(","))])
    writer.writeheader()
    writer.writerows({"": number, **row} for number, row in enumerate(rows))
    assert names_by_photo(text.getvalue()) == {"car.jpg": {"bonnet", "grille"}}


def test_a_comma_in_a_file_name_does_not_shift_the_cells():
    assert names_by_photo(via_rows({"a, b,c.jpg": regions("bonnet")})) == {"a, b,c.jpg": {"bonnet"}}


def test_rows_of_one_photo_are_joined_wherever_they_are():
    first, second, third = via_rows({"a.jpg": regions("bonnet", "grille"), "b.jpg": regions("boot")}).splitlines()[1:]
    assert names_by_photo("\n".join([HEADER, first, third, second])) == {
        "a.jpg": {"bonnet", "grille"},
        "b.jpg": {"boot"},
    }


@pytest.mark.parametrize(
    "cell", ['"not json"', "7", '"[1]"', '"{""identity"": ""bonnet"', "[" * 100_000, '"{""identity"": null}"']
)
def test_a_region_whose_attributes_are_damaged_has_no_name(cell):
    good, bad = via_rows({"car.jpg": regions("bonnet", "grille")}).splitlines()[1:]
    bad = bad[: bad.rindex(',"') + 1] + cell
    [entry] = via_csv.read("\n".join([HEADER, good, bad]), "identity").entries
    assert [part.names for part in entry.parts] == [("bonnet",), ()]


def test_a_row_that_ends_early_is_a_region_without_a_name():
    file = via_csv.read(f'{HEADER}\ncar.jpg,123,"{{}}",1,0', "identity")
    assert [part.names for part in file.entries[0].parts] == [()]


def test_a_row_without_a_file_name_is_malformed():
    text = via_rows({"car.jpg": regions("bonnet"), " ": regions("grille")})
    assert via_csv.read(text, "identity").malformed == ["line 3"]


def test_lost_rows_are_noticed_by_the_region_count():
    lines = via_rows({"a.jpg": regions("bonnet", "grille"), "b.jpg": []}).splitlines()
    assert [entry.problem for entry in via_csv.read("\n".join(lines), "identity").entries] == ["", ""]
    found = via_csv.read("\n".join([*lines[:2], lines[3]]), "identity").entries
    assert [entry.problem for entry in found] == ["has another number of regions than its region_count says", ""]


def test_the_attribute_that_names_the_parts_is_found_as_in_json():
    text = via_rows({"car.jpg": regions("bonnet")}).replace("identity", "part")
    file = via_csv.read(text, "identity")
    assert part_names(file.entries[0].parts) == {"bonnet"}
    assert file.notes == ['has no attribute "identity"; the part names were read from "part"']
    two = text.replace('""part"": ""bonnet""', '""part"": ""bonnet"", ""beside"": ""grille""')
    with pytest.raises(ValueError, match="give the right one with --label-key"):
        via_csv.read(two, "identity")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "image_path,label\na.jpg,Front\n", "filename,label\na.jpg,Front\n", f"see {HEADER[:30]}", "\0" * 50],
)
def test_other_csv_files_are_no_annotation_files(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert not format_of(path)
    assert via_csv.read(text, "identity") is None
    with pytest.raises(ValueError, match="not the CSV that VIA exports"):
        read_annotation_file(path)


def test_json_files_and_nothing_else_count_without_a_look_inside(tmp_path):
    for name in ("a.json", "b.JSON", "c.txt", "d.csv.bak", "e"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.json").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if format_of(path)] == ["a.json", "b.JSON"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["via.csv", "via.json"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert not format_of(tmp_path / name)


def test_large_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "MAX_JSON_MEGABYTES", 0.0001)
    path = tmp_path / "via.csv"
    path.write_text(via_rows({"car.jpg": regions("bonnet")}))
    assert format_of(path)
    with pytest.raises(ValueError, match=r"larger than 0\.0001 MB"):
        read_annotation_file(path)


def test_what_is_not_csv_is_refused_with_the_reason():
    cell = "x" * (csv.field_size_limit() + 1)
    with pytest.raises(ValueError, match="not readable as CSV: field larger than field limit"):
        via_csv.read(f"{HEADER}\n{cell}", "identity")
