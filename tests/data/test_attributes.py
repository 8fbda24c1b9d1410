"""Labels from what is written beside the names of the parts, in every format: right, or left out with the reason."""

import csv
import io
import json
from pathlib import Path

import pytest
from conftest import save_photo

from viewpoint.data.labeling import CONTRADICTED, NO_CLASS
from viewpoint.data.scan import NOT_USED, Reading, read_dataset

ENDS = {"Front": ["bonnet", "frontbumper", "frontws"], "Rear": ["tailgate", "rearbumper", "rearws"]}
SIDES = {"": [], "Left": ["left"], "Right": ["right"]}
# Each photo shows an end, and the doors, mirror and wheel of a side: the names do not say which.
PHOTOS = {
    f"{end}{side}{number}.jpg": [(part, "") for part in ENDS[end]]
    + [(part, place) for place in SIDES[side] for part in ("door", "orvm", "tyre")]
    for number in range(2)
    for end in ENDS
    for side in SIDES
}
TRUTH = {name: name[:-5] for name in PHOTOS}


def via(folder: Path, values: dict, key="side", photo: dict | None = None) -> None:
    entries = {
        name: {
            "filename": name,
            "regions": [
                {
                    "region_attributes": {"identity": part} | ({key: values[place]} if place else {}),
                    "shape_attributes": {},
                }
                for part, place in parts
            ],
            "file_attributes": (photo or {}).get(name, {}),
        }
        for name, parts in PHOTOS.items()
    }
    (folder / "via.json").write_text(json.dumps(entries))


def via_csv(folder: Path, values: dict) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    writer.writerow(columns.split(","))
    for name, parts in PHOTOS.items():
        for number, (part, place) in enumerate(parts):
            attributes = {"part": part} | ({"position": values[place]} if place else {})
            writer.writerow(
                [name, 9, "{}", len(parts), number, '{"name": "point", "cx": 1, "cy": 1}', json.dumps(attributes)]
            )
    (folder / "via.csv").write_text(file.getvalue())


def labelme(folder: Path, values: dict, flags=lambda value: {"flags": {value: True}}) -> None:
    for name, parts in PHOTOS.items():
        shapes = [
            {
                "label": part,
                "points": [[1, 1], [9, 9]],
                "shape_type": "rectangle",
                **(flags(values[place]) if place else {}),
            }
            for part, place in parts
        ]
        (folder / name).with_suffix(".json").write_text(json.dumps({"imagePath": name, "shapes": shapes}))


def labelme_attributes(folder: Path, values: dict) -> None:
    """As X-AnyLabeling writes them."""
    labelme(folder, values, lambda value: {"attributes": {"side": value}})


def coco(folder: Path, values: dict, supercategory=True) -> None:
    kinds = sorted({pair for parts in PHOTOS.values() for pair in parts})
    annotations = [
        {"image_id": image, "category_id": kinds.index(pair), "bbox": [1, 1, 9, 9]}
        | ({} if supercategory or not pair[1] else {"attributes": {"occluded": False, "side": values[pair[1]]}})
        for image, parts in enumerate(PHOTOS.values())
        for pair in parts
    ]
    content = {
        "images": [{"id": image, "file_name": name} for image, name in enumerate(PHOTOS)],
        "categories": [
            {"id": id, "name": part, "supercategory": values[place] if supercategory and place else "car"}
            for id, (part, place) in enumerate(kinds)
        ],
        "annotations": [one | {"id": number} for number, one in enumerate(annotations)],
    }
    (folder / "coco.json").write_text(json.dumps(content))


def coco_attributes(folder: Path, values: dict) -> None:
    """As CVAT writes them."""
    coco(folder, values, supercategory=False)


def cvat(folder: Path, values: dict) -> None:
    box = '<box label="{}" xtl="1" ytl="1" xbr="9" ybr="9"><attribute name="side">{}</attribute></box>'
    images = [
        f'<image name="{name}">{"".join(box.format(part, values.get(place, "")) for part, place in parts)}</image>'
        for name, parts in PHOTOS.items()
    ]
    (folder / "cvat.xml").write_text(f"<annotations>{''.join(images)}</annotations>")


@pytest.fixture
def folder(tmp_path) -> Path:
    for seed, name in enumerate(PHOTOS):
        save_photo(tmp_path / name, seed=seed)
    return tmp_path


def labels(folder: Path) -> dict[str, str]:
    table, _, _ = read_dataset(folder)
    return dict(zip(table["image_path"], table["label"], strict=True))


FORMATS = [via, via_csv, labelme, labelme_attributes, coco, coco_attributes, cvat]


@pytest.mark.parametrize("values", [{"left": "left", "right": "right"}, {"left": "LH", "right": "rechts"}])
@pytest.mark.parametrize("write", FORMATS)
def test_sides_in_another_attribute_give_the_labels(folder, write, values):
    write(folder, values)
    assert labels(folder) == TRUTH


@pytest.mark.parametrize("write", [via, via_csv, labelme_attributes, coco_attributes, cvat])
def test_sides_that_are_not_plain_are_asked_for(folder, write):
    write(folder, {"left": "driver", "right": "passenger"})
    table, _, report = read_dataset(folder)
    found = dict(zip(table["image_path"], table["label"], strict=True))
    assert found.items() <= {name: label for name, label in TRUTH.items() if label in ENDS}.items()
    asked = report.unknown_parts or report.skipped[NOT_USED][0]
    assert "door (" in str(asked)


def test_what_people_answer_is_read(folder):
    via(folder, {"left": "driver", "right": "passenger"})
    meanings = {
        f"{part} (side: {who})": f"{side}{part}"
        for part in ("door", "orvm", "tyre")
        for who, side in (("driver", "right"), ("passenger", "left"))
    }
    table, _, _ = read_dataset(folder, Reading(meanings=meanings))
    swapped = {"Left": "Right", "Right": "Left"}
    for name, label in zip(table["image_path"], table["label"], strict=True):
        assert label == next((TRUTH[name].replace(a, b) for a, b in swapped.items() if a in TRUTH[name]), TRUTH[name])


def test_ends_in_another_attribute_give_the_labels(folder):
    entries = {
        name: {
            "filename": name,
            "regions": [
                {"region_attributes": {"identity": "bumper", "where": label.lower()}},
                {"region_attributes": {"identity": "windshield", "where": label.lower()}},
            ],
        }
        for name in PHOTOS
        if (label := TRUTH[name]) in ENDS
    }
    (folder / "via.json").write_text(json.dumps(entries))
    assert labels(folder) == {name: TRUTH[name] for name in entries}


def test_a_lot_whose_parts_say_no_side_is_told_beside_one_whose_parts_do(tmp_path):
    for lot, parts in {"plain": ["bonnet", "grille", "leftdoor"], "lost": ["bonnet", "grille", "door"]}.items():
        entries = {}
        for number in range(20):
            name = save_photo(tmp_path / lot / f"{number}.jpg", seed=number).name
            entries[name] = {"filename": name, "regions": [{"region_attributes": {"identity": part}} for part in parts]}
        (tmp_path / lot / "via.json").write_text(json.dumps(entries))
    [warning] = read_dataset(tmp_path)[2].warnings
    assert "no part of 20 vehicle photos in lost/via.json says left or right" in warning


# --- Parts as attribute keys -------------------------------------------------------


@pytest.mark.parametrize("no", ["NA", "n.a.", "not_visible", "hidden", "0.0", "-", False])
def test_parts_whose_value_says_no_are_not_there(folder, no):
    every = sorted({part for parts in ENDS.values() for part in parts} | {"leftdoor", "rightdoor"})
    entries = {}
    for name in PHOTOS:
        end = "Rear" if TRUTH[name].startswith("Rear") else "Front"
        there = {*ENDS[end], TRUTH[name].removeprefix(end).lower() + "door"}
        entries[name] = {
            "filename": name,
            "regions": [{"region_attributes": {part: "yes" if part in there else no for part in every}}],
        }
    (folder / "via.json").write_text(json.dumps(entries))
    assert labels(folder) == TRUTH


# --- Two names, either, and windows ------------------------------------------------


def label_names(folder: Path, *names: str, others: tuple[str, ...] = ()) -> tuple[str | None, str]:
    """The label of a photo whose parts have these names, or why it is left out; `others` are names of another photo."""
    entries = {
        file: {"filename": file, "regions": [{"region_attributes": {"identity": name}} for name in some]}
        for file, some in (("car.jpg", names), ("other.jpg", others))
    }
    for seed, file in enumerate(entries):
        save_photo(folder / file, seed=seed)
    (folder / "via.json").write_text(json.dumps(entries))
    table, _, report = read_dataset(folder)
    found = dict(zip(table["image_path"], table["label"], strict=True))
    return found.get("car.jpg"), report.left_out.get("car.jpg", "")


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["bonnet", "Hood", "tailgate", "rearbumper"], "Rear"),  # one front part, two rear parts
        (["windshield", "front glass", "rearbumper", "taillight"], "Rear"),
        (["Boot/Dickey", "scratch"], "Background"),  # one part is a close-up
        (["boot or dickey", "rearbumper"], "Rear"),
        (["bonnet", "hood"], "Background"),
        (["Headlight/Taillight", "bonnet"], None),  # either
        (["rear bumper", "tailgate", "Headlight/Taillight", "rearws"], None),
        (["wheel/tyre", "tailgate", "rearbumper"], "Rear"),  # neither votes
        (["car", "dent"], None),  # a whole car, from any side
        (["LFD 01", "bonnet", "frontbumper"], None),
        (["RRD-002", "bonnet", "frontbumper"], None),
    ],
)
def test_one_part_by_two_names_and_names_that_may_be_two_parts(tmp_path, names, label):
    assert label_names(tmp_path, *names)[0] == label


@pytest.mark.parametrize("window", ["Rear_Door_Glass", "window of the rear door", "back door window", "RearDoorWindow"])
def test_the_window_of_a_rear_door_is_not_the_rear_window(tmp_path, window):
    assert label_names(tmp_path, "bonnet", window, "leftreardoor") == ("FrontLeft", "")


def test_a_back_window_beside_a_back_windshield_is_a_door_s(tmp_path):
    names = "bonnet", "Back-window", "leftreardoor"
    assert label_names(tmp_path, *names, "rearbumper")[0] == "RearLeft"
    assert label_names(tmp_path, *names, others=("Back-windshield", "tailgate"))[0] == "FrontLeft"


# --- The view of a whole photo -----------------------------------------------------


def test_views_of_whole_photos_are_the_labels_unless_the_parts_contradict_them(folder):
    said = {"Front0.jpg": {"view": "Front"}, "Rear0.jpg": {"view": "front"}, "FrontLeft1.jpg": {"view": "side"}}
    via(folder, {"left": "left", "right": "right"}, photo=said)
    _, _, report = read_dataset(folder)
    assert report.left_out == {"Rear0.jpg": CONTRADICTED, "FrontLeft1.jpg": NO_CLASS}
    assert "FrontLeft1.jpg (side)" in report.skipped[NO_CLASS]
    assert "1 label written for the whole photo, which the parts do not contradict" in report.notes


@pytest.mark.parametrize("tool", ["labelme", "via", "coco", "coco tags", "cvat"])
def test_photos_without_regions_get_the_view_that_is_written_for_them_and_are_no_backgrounds(tmp_path, tool):
    save_photo(tmp_path / "car.jpg")
    content = {
        "labelme": {"imagePath": "car.jpg", "shapes": [], "flags": {"Rear Left": True, "Front": False}},
        "via": {"car.jpg": {"filename": "car.jpg", "regions": [], "file_attributes": {"viewpoint": "rearleft"}}},
        "coco": {
            "images": [{"id": 1, "file_name": "car.jpg", "attributes": {"view": "rear left"}}],
            "annotations": [],
        },
        "coco tags": {
            "images": [{"id": 1, "file_name": "car.jpg", "extra": {"name": "front.jpg", "user_tags": ["RearLeft"]}}],
            "annotations": [],
        },
        "cvat": '<annotations><image name="car.jpg"><tag label="Rear left"></tag></image></annotations>',
    }[tool]
    path = tmp_path / ("car.xml" if tool == "cvat" else "car.json")
    path.write_text(content if tool == "cvat" else json.dumps(content))
    table, _, report = read_dataset(tmp_path, Reading(empty="skip"))
    assert table["label"].tolist() == ["RearLeft"]
    assert not report.empty
