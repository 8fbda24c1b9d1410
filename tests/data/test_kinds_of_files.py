"""Kinds of annotation files met in practice: each is read right, or its photos are left out with the reason."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from conftest import regions, save_photo
from test_understanding import TRUTH, VIEWS, coco, labels, via, write_json, write_photos

import data_preparation
from viewpoint.annotations import read_annotation_file
from viewpoint.annotations.shapes import NOTHING_LEFT, SEVERAL_CARS, UNSURE
from viewpoint.data.labeling import CAR_ONLY
from viewpoint.data.scan import (
    CONFLICT,
    IN_UNUSED_FILE,
    MIRRORED,
    NEVER,
    NOT_READ,
    NOT_USED,
    OTHER_SIZE,
    PERHAPS,
    Reading,
    read_dataset,
    recorded_reading,
)

Spelling = Callable[[str], str]

# Where the parts are on a car whose nose points left, from 0 to 1; on one whose nose points right it is the mirror.
PLACES = {"front": 0.1, "leftfront": 0.4, "leftrear": 0.6, "rear": 0.9, "rightfront": 0.4, "rightrear": 0.6}


def other_side(part: str) -> str:
    return part.replace("left", "#").replace("right", "left").replace("#", "right")


def place(part: str, label: str) -> list[int]:
    """A box (x, y, width, height) where the part is on a photo of 60 x 40 pixels with this label."""
    kind = next((kind for kind in ("leftfront", "leftrear", "rightfront", "rightrear") if kind in part), "")
    x = PLACES[kind or ("front" if label.startswith("Front") else "rear")]
    # The left side of a car is seen with its nose to the left.
    return [round(50 * (1 - x if label.endswith("Right") else x)), 10, 8, 8]


def drawn(names=TRUTH, spell: Spelling = str, is_flipped: bool = False) -> dict:
    """A VIA export whose regions are drawn where the parts are; `is_flipped` mirrors photos and keeps their names."""
    entries = via(names=names)
    for name, label in names.items():
        parts = VIEWS[label]
        boxes = [place(part, label) for part in parts]
        entries[f"{name}1000"]["regions"] = [
            {
                "shape_attributes": {"name": "rect", "x": 52 - x if is_flipped else x, "y": y, "width": w, "height": h},
                "region_attributes": {"identity": spell(part)},
            }
            for part, (x, y, w, h) in zip(parts, boxes, strict=True)
        ]
    return entries


def skipped(folder: Path) -> dict[str, list[str]]:
    return read_dataset(folder)[2].skipped


# --- Left and right of who faces the car -------------------------------------------


def as_coco(entries: dict) -> dict:
    """A VIA export as a COCO file."""
    parts = sorted({part for names in VIEWS.values() for part in names})
    images = [{"id": number, "file_name": entry["filename"]} for number, entry in enumerate(entries.values(), 1)]
    annotations = [
        {
            "image_id": number,
            "category_id": parts.index(region["region_attributes"]["identity"]) + 1,
            "bbox": [region["shape_attributes"][key] for key in ("x", "y", "width", "height")],
        }
        for number, entry in enumerate(entries.values(), 1)
        for region in entry["regions"]
    ]
    categories = [{"id": index + 1, "name": part} for index, part in enumerate(parts)]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("form", [dict, as_coco])
def test_a_lot_with_swapped_sides_is_refused_beside_one_without(tmp_path, form):
    for lot, spell in (("good", str), ("swapped", other_side)):
        write_photos(tmp_path / lot)
        write_json(tmp_path / lot, form(drawn(spell=spell)), "parts.json")
    table, _, report = read_dataset(tmp_path)
    found = dict(zip(table["image_path"], table["label"], strict=True))
    assert found == {f"good/{name}": label for name, label in TRUTH.items()}
    [reason] = report.skipped[NOT_USED]
    assert "in 8 of its 8 photos" in reason
    assert "add --swap-sides swapped/parts.json" in reason
    assert len(report.skipped[IN_UNUSED_FILE]) == len(TRUTH)
    swapped = labels(tmp_path / "swapped", swap_sides=frozenset({"parts.json"}))
    assert swapped == TRUTH
    # The other way round, the option itself is what is wrong.
    wrong = read_dataset(tmp_path / "good", Reading(swap_sides=frozenset({"parts.json"})))[2].skipped[NOT_USED]
    assert "leave out --swap-sides parts.json" in wrong[0]


def test_the_option_takes_the_file_as_the_message_names_it_and_the_tools_read_alike(tmp_path, call):
    write_photos(tmp_path / "photos" / "lot 1")
    write_json(tmp_path / "photos" / "lot 1", drawn(spell=other_side), "parts.json")
    command = ["--data", tmp_path / "photos", "--output", tmp_path / "out", "--split", "none"]
    code, _, error = call(data_preparation, *command)
    assert code == 2 and "add --swap-sides 'lot 1/parts.json'" in error
    assert call(data_preparation, *command, "--swap-sides", "lot 1/parts.json")[0] == 0
    with (tmp_path / "out" / "labels.csv").open(encoding="utf-8") as file:
        assert {row["image_path"]: row["label"] for row in csv.DictReader(file)} == {
            f"lot 1/{name}": label for name, label in TRUTH.items()
        }
    assert recorded_reading(tmp_path / "out").swap_sides == {"lot 1/parts.json"}
    code, _, error = call(data_preparation, *command, "--swap-sides", "no.json")
    assert code == 2 and "--swap-sides no.json is not in" in error


def test_a_folder_of_labelme_files_is_judged_together(tmp_path):
    write_photos(tmp_path / "lot")
    for entry in drawn(spell=other_side).values():
        shapes = []
        for region in entry["regions"]:
            x, y, width, height = (region["shape_attributes"][key] for key in ("x", "y", "width", "height"))
            corners = [[x, y], [x + width, y + height]]
            label = region["region_attributes"]["identity"]
            shapes.append({"label": label, "points": corners, "shape_type": "rectangle"})
        content = {"imagePath": entry["filename"], "shapes": shapes}
        write_json(tmp_path / "lot", content, Path(entry["filename"]).stem + ".json")
    assert labels(tmp_path) == {}
    report = read_dataset(tmp_path)[2]
    assert "add --swap-sides lot)" in report.skipped[NOT_USED][0]
    assert report.annotation_files == 0
    found = labels(tmp_path, swap_sides=frozenset({"lot"}))
    assert found == {f"lot/{name}": label for name, label in TRUTH.items()}


def test_flipped_copies_with_the_old_names_are_left_out_one_by_one(tmp_path):
    copies = {name.replace("IMG", "flip"): label for name, label in TRUTH.items()}
    write_photos(tmp_path, [*TRUTH, *copies])
    write_json(tmp_path, drawn() | drawn(copies, is_flipped=True))
    straight = {name: label for name, label in copies.items() if label in ("Front", "Rear")}
    assert labels(tmp_path) == TRUTH | straight
    assert set(skipped(tmp_path)[MIRRORED]) == copies.keys() - straight.keys()


# --- Regions that do not count -----------------------------------------------------

BOX = {"name": "rect", "x": 1, "y": 2, "width": 20, "height": 10}


@pytest.mark.parametrize(
    "shape",
    [
        BOX | {"width": 0},
        BOX | {"x": 0, "y": 0, "width": 0, "height": 0},
        {"name": "polygon", "all_points_x": [], "all_points_y": []},
        {"name": "polygon", "all_points_x": [5, 5, 5], "all_points_y": [7, 7, 7]},
        {"name": "circle", "cx": 5, "cy": 5, "r": 0},
    ],
)
def test_regions_without_an_area_do_not_vote_and_are_counted(tmp_path, shape):
    names = {"front.jpg": "Front", "empty.jpg": "Front"}
    write_photos(tmp_path, names)
    entries = via(names=names)
    doors = [
        {"shape_attributes": shape, "region_attributes": {"identity": f"left{end}door"}} for end in ("front", "rear")
    ]
    entries["front.jpg1000"]["regions"] += doors
    entries["empty.jpg1000"]["regions"] = doors  # which must not make it a Background
    write_json(tmp_path, entries)
    assert labels(tmp_path) == {"front.jpg": "Front"}
    report = read_dataset(tmp_path)[2]
    assert report.skipped[NOTHING_LEFT] == ["empty.jpg"]
    assert "4 regions without an area, which do not vote" in report.notes


@pytest.mark.parametrize(
    "shape", [{"name": "point", "cx": 3, "cy": 4}, {"name": "polyline", "all_points_x": [1, 9]}, {}]
)
def test_points_lines_and_regions_that_are_not_drawn_vote(tmp_path, shape):
    write_photos(tmp_path)
    entries = via()
    for entry in entries.values():
        for region in entry["regions"]:
            region["shape_attributes"] = shape
    write_json(tmp_path, entries)
    assert labels(tmp_path) == TRUTH


EMPTY_COCO = [
    {"bbox": [0, 0, 0, 0], "segmentation": []},
    {"bbox": [], "segmentation": []},
    {"bbox": [4, 4, 0, 9], "segmentation": [[4, 4, 4, 4, 4, 4]]},
    {"segmentation": [[]]},
]


@pytest.mark.parametrize("nothing", [*EMPTY_COCO, {"bbox": [1, 2, 9, 9], "score": 0.03}, {"score": 3}])
def test_coco_annotations_of_nothing_or_with_a_low_score_do_not_vote(tmp_path, nothing):
    write_photos(tmp_path)
    content = coco()
    sides = {category["id"] for category in content["categories"] if category["name"].startswith("left")}
    for annotation in content["annotations"]:
        if "score" in nothing:
            annotation["score"] = 97 if nothing["score"] == 3 else 0.97
    fronts = [image["id"] for image in content["images"] if TRUTH[image["file_name"]] == "Front"]
    content["annotations"] += [{"image_id": id, "category_id": side} | nothing for id in fronts for side in sides]
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH
    reason = UNSURE if "score" in nothing else "without an area"
    assert f"4 regions {reason}, which do not vote" in read_dataset(tmp_path)[2].notes


@pytest.mark.parametrize(
    "something",
    [
        {"bbox": [0, 0, 0, 0], "segmentation": {"counts": "abc", "size": [40, 60]}},
        {"bbox": [1, 2, 9, 9], "segmentation": []},
        {},
    ],
)
def test_coco_annotations_of_something_vote(tmp_path, something):
    write_photos(tmp_path)
    content = coco()
    content["annotations"] = [
        {key: annotation[key] for key in ("image_id", "category_id")} | something
        for annotation in content["annotations"]
    ]
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH


def test_two_cars_told_apart_by_a_group_are_left_out_and_pieces_of_a_part_are_not(tmp_path):
    write_photos(tmp_path, ["one.jpg", "two.jpg", "pieces.jpg"])

    def labelme(name: str, groups: dict[int | None, list[str]]) -> None:
        points = [[1, 2], [21, 12]]
        shapes = [
            {"label": part, "points": points, "group_id": group, "shape_type": "rectangle"}
            for group, parts in groups.items()
            for part in parts
        ]
        write_json(tmp_path, {"imagePath": f"{name}.jpg", "shapes": shapes}, f"{name}.json")

    labelme("one", {1: VIEWS["FrontLeft"]})
    labelme("two", {1: VIEWS["FrontLeft"], 2: VIEWS["Rear"]})
    labelme("pieces", {None: VIEWS["FrontLeft"], 1: ["leftfrontdoor", "leftfrontdoor"], 2: ["bonnet"]})
    assert labels(tmp_path) == {"one.jpg": "FrontLeft", "pieces.jpg": "FrontLeft"}
    assert skipped(tmp_path) == {SEVERAL_CARS: ["two.jpg"]}


@pytest.mark.parametrize("names", [["car", "dent"], ["car", "scratch", "dent"], ["car", "wheel"]])
def test_a_car_without_parts_that_say_its_view_is_no_background(tmp_path, names):
    write_photos(tmp_path, ["car.jpg", "close.jpg"])
    entries = via(names={"car.jpg": "Front", "close.jpg": "Front"})
    entries["car.jpg1000"]["regions"] = regions(*names)
    entries["close.jpg1000"]["regions"] = regions("bonnet", "dent")
    write_json(tmp_path, entries)
    assert labels(tmp_path) == {"close.jpg": "Background"}
    assert skipped(tmp_path) == {CAR_ONLY: ["car.jpg"]}


def test_keypoints_of_a_whole_car_are_no_parts(tmp_path):
    write_photos(tmp_path)
    images = [{"id": number, "file_name": name} for number, name in enumerate(TRUTH)]
    keypoints = {"keypoints": [5, 5, 2, 9, 9, 1], "num_keypoints": 2, "bbox": [1, 2, 9, 9]}
    annotations = [{"image_id": image["id"], "category_id": 1} | keypoints for image in images]
    category = {"id": 1, "name": "car", "keypoints": ["left_front_wheel", "right_back_light"]}
    write_json(tmp_path, {"images": images, "annotations": annotations, "categories": [category]})
    assert labels(tmp_path) == {}
    assert "12 annotations with keypoints, which do not vote" in skipped(tmp_path)[NOT_USED][0]


# --- Which photo, which version ----------------------------------------------------


def with_sizes(folder: Path, entries: dict, change: int = 0) -> dict:
    """A VIA export with the true sizes of the photos in a folder, changed by some bytes."""
    for entry in entries.values():
        entry["size"] = (folder / entry["filename"]).stat().st_size + change
    return {f"{entry['filename']}{entry['size']}": entry for entry in entries.values()}


@pytest.mark.parametrize("form", [int, str])
def test_of_two_photos_of_one_name_the_size_on_the_disk_decides(tmp_path, form):
    write_photos(tmp_path)
    longer = dict.fromkeys(TRUTH, "FrontLeft")
    entries = with_sizes(tmp_path, via()) | with_sizes(tmp_path, via(names=longer), 977)
    for entry in entries.values():
        entry["size"] = form(entry["size"])
    write_json(tmp_path, entries)
    assert labels(tmp_path) == TRUTH


def test_two_photos_of_one_name_of_which_none_has_the_size_are_left_out(tmp_path):
    write_photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    names = dict.fromkeys(["a.jpg", "b.jpg", "c.jpg"], "Front")
    entries = with_sizes(tmp_path, via(names=names))
    first = next(iter(entries.values()))
    entries["a.jpg5"] = first | {"size": 5}
    entries["a.jpg6"] = first | {"size": 6, "regions": via(names={"a.jpg": "FrontLeft"})["a.jpg1000"]["regions"]}
    del entries[next(iter(entries))]
    write_json(tmp_path, entries)
    assert labels(tmp_path) == {"b.jpg": "Front", "c.jpg": "Front"}
    assert skipped(tmp_path) == {OTHER_SIZE: ["a.jpg"]}


def test_a_file_beside_the_photos_that_is_about_others_of_their_names_loses_by_the_size(tmp_path):
    write_photos(tmp_path)
    write_json(tmp_path, with_sizes(tmp_path, via()), "lot_1.json")
    write_json(tmp_path, with_sizes(tmp_path, via(names=dict.fromkeys(TRUTH, "FrontLeft")), 500), "lot_2.json")
    assert labels(tmp_path) == TRUTH


@pytest.mark.parametrize(
    ("file", "photos"),
    [
        ("lot_1/via.json", "lot_2"),
        ("lot A/annotations/via.json", "lot B/images"),
        ("annotations/instances_val.json", "train"),
        ("2024-05-01/via.json", "2024-05-02"),
        ("test.json", "valid"),
    ],
)
def test_a_lot_without_its_photos_gives_no_labels_to_another(tmp_path, file, photos):
    write_photos(tmp_path / photos)
    path = tmp_path / file
    write_json(path.parent, via(), path.name)
    assert labels(tmp_path) == {}
    assert len(skipped(tmp_path)[NEVER]) == len(TRUTH)


@pytest.mark.parametrize(
    ("file", "photos"),
    [
        ("annotations/via.json", "images"),
        ("annotations/instances_train.json", "images/train"),
        ("instances_train.json", "lot_2"),
        ("lot_1/json/via.json", "lot_1/photos"),
    ],
)
def test_annotations_apart_from_their_photos_are_read(tmp_path, file, photos):
    write_photos(tmp_path / photos)
    path = tmp_path / file
    write_json(path.parent, via(), path.name)
    assert labels(tmp_path) == {f"{photos}/{name}": label for name, label in TRUTH.items()}


def test_each_split_has_the_photos_of_its_own_folder(tmp_path):
    for split, label in (("train", "FrontLeft"), ("val", "Rear")):
        write_photos(tmp_path / split)
        write_json(tmp_path / "annotations", via(names=dict.fromkeys(TRUTH, label)), f"instances_{split}.json")
    found = labels(tmp_path)
    assert set(found.values()) == {"FrontLeft", "Rear"}
    assert all(label == ("Rear" if path.startswith("val/") else "FrontLeft") for path, label in found.items())
    assert len(found) == 2 * len(TRUTH)


def test_photos_found_by_name_are_others_when_their_sizes_are(tmp_path):
    write_photos(tmp_path / "images")
    entries = with_sizes(tmp_path / "images", via(), 40)
    write_json(tmp_path / "annotations", entries)
    assert labels(tmp_path) == {}
    write_json(tmp_path / "annotations", with_sizes(tmp_path / "images", via()))
    assert len(labels(tmp_path)) == len(TRUTH)


def test_two_files_that_find_the_same_photos_by_name_only_must_agree(tmp_path):
    write_photos(tmp_path / "images")
    write_json(tmp_path / "annotations", via(), "a.json")
    write_json(tmp_path / "annotations", via() | via(names={"IMG_0000.jpg": "FrontLeft"}), "b.json")
    found = labels(tmp_path)
    assert found == {f"images/{name}": label for name, label in TRUTH.items() if name != "IMG_0000.jpg"}
    assert skipped(tmp_path) == {CONFLICT: ["images/IMG_0000.jpg"]}
    assert labels(tmp_path, merge="fuller")["images/IMG_0000.jpg"] == "FrontLeft"


@pytest.mark.parametrize("name", ["backup/parts.json", "parts_old.json", "parts - Copy.json", "parts.json.bak.json"])
def test_a_backup_with_more_parts_does_not_count(tmp_path, name):
    write_photos(tmp_path)
    write_json(tmp_path, via())
    more = via(names=dict.fromkeys(TRUTH, "FrontLeft"))
    path = tmp_path / name
    for entry in more.values():
        entry["filename"] = "../" * (path.parent != tmp_path) + entry["filename"]
    write_json(path.parent, more, path.name)
    assert labels(tmp_path) == TRUTH


def test_a_label_that_hangs_on_the_fuller_version_is_told(tmp_path):
    write_photos(tmp_path)
    write_json(tmp_path, via(), "monday.json")
    write_json(tmp_path, via() | via(names={"IMG_0000.jpg": "FrontLeft"}), "tuesday.json")
    assert labels(tmp_path) == TRUTH | {"IMG_0000.jpg": "FrontLeft"}
    [note] = [note for note in read_dataset(tmp_path)[2].notes if "the fuller annotation counts" in note]
    assert note.startswith("1 label would be another one")


# --- CSV dialects and CVAT ---------------------------------------------------------


def via_table(delimiter: str, above: str = "", encoding: str = "utf-8", names=TRUTH) -> bytes:
    """VIA's CSV as a spreadsheet saves it, with lines above the header."""
    columns = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
    table = io.StringIO()
    writer = csv.writer(table, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow([*columns, "region_shape_attributes", "region_attributes"])
    for name, label in names.items():
        parts = VIEWS[label]
        for number, part in enumerate(parts):
            writer.writerow([name, 1000, "{}", len(parts), number, json.dumps(BOX), json.dumps({"identity": part})])
    return (above + table.getvalue()).encode(encoding)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("via.csv", via_table(";", "sep=;\r\n", "utf-8-sig")),
        ("via.csv", via_table(",", "sep=,\r\n")),
        ("via.csv", via_table("\t")),
        ("via.tsv", via_table("\t", encoding="utf-16")),
        ("via.txt", via_table("\t", "Damage inspection 2024\r\n\r\n")),
        ("via.csv", via_table(";", "Annotations of lot 7;;;;;;\r\n")),
        ("via.csv", via_table("|").replace(b"filename", b'"Filename"')),
    ],
)
def test_the_dialects_of_spreadsheets_are_read(tmp_path, name, content):
    write_photos(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert labels(tmp_path) == TRUTH


SHAPES = {
    "box": lambda: 'xtl="1" ytl="2" xbr="21" ybr="12"',
    "polygon": lambda: 'points="1.0,2.0;21.5,2.0;21.5,12.0"',
    "polyline": lambda: 'points="1.0,2.0;21.5,2.0"',
    "points": lambda: 'points="1.0,2.0"',
    "mask": lambda: 'rle="5, 200" left="1" top="2" width="20" height="10"',
    "ellipse": lambda: 'cx="9" cy="9" rx="4" ry="3"',
}


def cvat_xml(shape: str = "box", names=TRUTH, more: str = "") -> str:
    """A file as CVAT exports it for images, all regions of one kind."""
    images = []
    for number, (name, label) in enumerate(names.items()):
        inside = "".join(
            f'<{shape} label="{part}" source="manual" occluded="0" {SHAPES[shape]()} z_order="0">'
            f'<attribute name="damaged">false</attribute></{shape}>'
            for part in VIEWS[label]
        )
        images.append(f'<image id="{number}" name={quoteattr(name)} width="60" height="40">{inside}{more}</image>')
    meta = "<meta><task><name>lot</name></task></meta>"
    all_images = "".join(images)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{all_images}</annotations>'


@pytest.mark.parametrize("shape", SHAPES)
def test_cvat_for_images_is_read_with_every_shape(tmp_path, shape):
    write_photos(tmp_path)
    (tmp_path / "annotations.xml").write_text(cvat_xml(shape), encoding="utf-8")
    assert labels(tmp_path) == TRUTH


def test_cvat_outlines_are_those_of_the_file(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(cvat_xml("polygon"), encoding="utf-16")
    part = read_annotation_file(path).entries[0].parts[0]
    assert (part.names, part.outlines) == (("bonnet",), (((1, 2), (21.5, 2), (21.5, 12)),))


def test_cvat_says_group_ids_and_empty_boxes(tmp_path):
    write_photos(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    names = dict.fromkeys(["a.jpg", "b.jpg", "c.jpg"], "Front")
    flat = '<box label="leftfrontdoor" xtl="0" ytl="0" xbr="0" ybr="0"/>'
    text = cvat_xml(names=names, more=flat)
    second = "".join(f'<box label="{part}" xtl="1" ytl="2" xbr="9" ybr="9" group_id="2"/>' for part in VIEWS["Rear"])
    text = text.replace(f"{flat}</image>", f"{second}</image>", 1)
    (tmp_path / "annotations.xml").write_text(text)
    assert labels(tmp_path) == {"b.jpg": "Front", "c.jpg": "Front"}
    assert skipped(tmp_path) == {SEVERAL_CARS: ["a.jpg"]}


BOMB = '<!DOCTYPE a [<!ENTITY b "bonnet"><!ENTITY c "&b;&b;">]>'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (cvat_xml()[:-40], "not readable as XML"),
        (cvat_xml().replace("<annotations>", f"{BOMB}<annotations>"), "a document type"),
        (cvat_xml().replace("<image ", '<track id="0" label="bonnet"><box/></track><image ', 1), "CVAT for images"),
        ("<annotations>" * 5000, "not readable as XML"),
        ("<x><annotations></annotations></x>", "not the XML that CVAT exports"),
    ],
)
def test_xml_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, text, reason):
    write_photos(tmp_path)
    (tmp_path / "annotations.xml").write_text(text, encoding="utf-8")
    assert labels(tmp_path) == {}
    assert reason in skipped(tmp_path)[NOT_USED][0]
    assert len(skipped(tmp_path)[PERHAPS]) == len(TRUTH)


# --- What is not read --------------------------------------------------------------

VOC = "<annotation><filename>IMG_0000.jpg</filename><object><name>bonnet</name></object></annotation>"
UNREAD = [
    ("IMG_0000.xml", VOC, "Pascal VOC"),
    ("labels/IMG_0000.txt", "0 0.5 0.5 0.2 0.1\n3 0.1 0.1 0.2 0.2\n", "YOLO"),
    ("IMG_0000.txt", "2 0.1 0.1 0.5 0.1 0.5 0.5\n", "YOLO"),
    ("boxes.csv", "image,xmin,ymin,xmax,ymax,label\nIMG_0000.jpg,1,2,9,9,bonnet\n", "VoTT"),
    ("boxes.csv", "lot/IMG_0000.jpg,1,2,9,9,bonnet\n", "VoTT"),
    ("via3.csv", "# Exported using VGG Image Annotator\n# CSV_HEADER = metadata_id,file_list\n", "VIA 3"),
    ("parts.jsonl", '{"image": "IMG_0000.jpg"}\n', "JSON lines"),
    ("parts.json.gz", gzip.compress(b"{}", mtime=0), "unpack it"),
    ("parts.xlsx", b"PK\3\4", "save it as CSV"),
    ("faces.xml", "<?xml version='1.0'?><dataset><images/></dataset>", "dlib"),
]


@pytest.mark.parametrize(("name", "content", "says"), UNREAD)
def test_files_that_look_like_annotations_are_named(tmp_path, name, content, says):
    write_photos(tmp_path, ["IMG_0000.jpg"])
    save_photo(tmp_path / "other" / "car.jpg")
    write_json(tmp_path / "other", via(names={"car.jpg": "Front"}))
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert labels(tmp_path) == {"other/car.jpg": "Front"}
    found = skipped(tmp_path)
    [item] = found.pop(NOT_READ)
    assert item.startswith(name)
    assert says in item
    assert found == {PERHAPS: ["IMG_0000.jpg"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", "2 cars, 4 doors\n"),
        ("classes.txt", "bonnet\n"),
        ("price.csv", "part,price\nbonnet,9\n"),
        ("a.xml", "<a/>"),
    ],
)
def test_other_files_are_not_named(tmp_path, name, content):
    write_photos(tmp_path, ["IMG_0000.jpg"])
    (tmp_path / name).write_text(content)
    assert skipped(tmp_path) == {NEVER: ["IMG_0000.jpg"]}


def test_many_files_of_one_kind_are_one_sentence(tmp_path):
    write_photos(tmp_path)
    for name in TRUTH:
        (tmp_path / name).with_suffix(".xml").write_text(VOC)
    [item] = skipped(tmp_path)[NOT_READ]
    assert item.startswith("IMG_0000.xml and 11 more (Pascal VOC")


def test_json_lines_under_the_name_of_json_are_named(tmp_path):
    write_photos(tmp_path, ["IMG_0000.jpg"])
    (tmp_path / "parts.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert "several JSON documents in one file" in skipped(tmp_path)[NOT_USED][0]


# --- Close votes -------------------------------------------------------------------


@pytest.mark.parametrize(("close", "is_warning"), [(2, False), (3, True)])
def test_labels_that_hang_on_a_tie_or_a_single_part_are_counted(tmp_path, close, is_warning):
    names = {f"{number:02}.jpg": "Front" for number in range(12)}
    write_photos(tmp_path, names)
    entries = via(names=names)
    kinds = [("headlamp", "rearbumper", "grille", "tailgate"), ("leftfrontdoor", "leftreardoor"), ("bonnet", "roof")]
    for number, parts in enumerate(kinds[:close]):
        entries[f"{number:02}.jpg1000"]["regions"] = regions(*parts)
    write_json(tmp_path, entries)
    report = read_dataset(tmp_path)[2]
    [text] = [text for text in (report.warnings if is_warning else report.notes) if "not sure" in text]
    single = "1 have one" if close == 3 else "0 have one"
    assert text.startswith(f"the end of {close} of 12 vehicle photos is not sure: 1 have as many")
    assert "1 neither" in text
    assert single in text
