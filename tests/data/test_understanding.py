"""For every photo the right label, or none with the reason; and a refusal when most is not understood.

Each test builds annotation files as people report them in public trackers, in several variants,
and compares with the labels that the photos have.
Confident learning on numbers worked out by hand.
out_of_fold.csv: what is written is read again, and rows that no longer fit are not.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import save_photo

import config
import data_preparation
from viewpoint.common.cli import UserError
from viewpoint.data.doubts import find_label_errors, self_confidence
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold, write_out_of_fold
from viewpoint.data.scan import IN_UNUSED_FILE, NOT_USED, Reading, read_dataset

VIEWS = {
    "Front": ["bonnet", "frontbumper", "frontws"],
    "FrontLeft": ["bonnet", "frontbumper", "frontws", "leftfrontdoor", "leftreardoor"],
    "FrontRight": ["bonnet", "frontbumper", "frontws", "rightfrontdoor", "rightreardoor"],
    "Rear": ["tailgate", "rearbumper", "rearws"],
    "RearLeft": ["tailgate", "rearbumper", "rearws", "leftfrontdoor", "leftreardoor"],
    "RearRight": ["tailgate", "rearbumper", "rearws", "rightfrontdoor", "rightreardoor"],
}
TRUTH = {f"IMG_{number:04}.jpg": label for number, label in enumerate([*VIEWS] * 2)}


def write_photos(folder: Path, names=TRUTH) -> None:
    for seed, name in enumerate(names):
        save_photo(folder / name, seed=seed)


def write_json(folder: Path, content: object, name: str = "annotations.json") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def via(attributes_of=lambda part: {"identity": part}, names=TRUTH) -> dict:
    """A VIA 2 export of the photos, each region with the attributes that the function gives its part."""
    return {
        f"{name}1000": {
            "filename": name,
            "size": 1000,
            "regions": [{"shape_attributes": {}, "region_attributes": attributes_of(part)} for part in VIEWS[label]],
        }
        for name, label in names.items()
    }


def coco(image_id=lambda index: index + 1, category_id=lambda index: index + 1) -> dict:
    """A COCO file of the photos, whose annotations have the ids that the functions give for indices from 0."""
    parts = sorted({part for names in VIEWS.values() for part in names})
    return {
        "images": [{"id": index + 1, "file_name": name} for index, name in enumerate(TRUTH)],
        "categories": [{"id": index + 1, "name": part} for index, part in enumerate(parts)],
        "annotations": [
            {"image_id": image_id(index), "category_id": category_id(parts.index(part)), "bbox": [1, 2, 9, 9]}
            for index, label in enumerate(TRUTH.values())
            for part in VIEWS[label]
        ],
    }


def labels(folder: Path, **options) -> dict[str, str]:
    table, _, report = read_dataset(folder, Reading(**options))
    assert report.photos_found == len(table) + len(report.left_out)
    return dict(zip(table["image_path"], table["label"], strict=True))


def refusal(folder: Path) -> str:
    """Why the one annotation file of a folder was not used; none of its photos is labelled."""
    table, _, report = read_dataset(folder)
    assert table.empty
    [reason] = report.skipped[NOT_USED]
    return reason


# --- Ids ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        coco(),
        coco(image_id=lambda index: float(index + 1)),
        coco(image_id=lambda index: f"{index + 1:012}"),
        coco(image_id=lambda index: f"IMG_{index:04}.jpg"),
        coco(category_id=lambda index: f"{index + 1}.0"),
    ],
)
def test_ids_in_any_form_lead_to_the_right_labels(tmp_path, content):
    write_photos(tmp_path)
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH


def test_one_image_entry_for_each_annotation_is_joined(tmp_path):
    write_photos(tmp_path)
    content = coco()
    names = {image["id"]: image["file_name"] for image in content["images"]}
    content["images"] = []
    for number, annotation in enumerate(content["annotations"], 1):
        content["images"].append({"id": number, "file_name": names[annotation["image_id"]]})
        annotation["image_id"] = number
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (coco(image_id=lambda index: index), "ids seem to be off by 1"),
        (coco(category_id=lambda index: index + 2), "ids seem to be off by 1"),
        (coco(category_id=lambda index: None), "annotations without a category that names a part"),
        (coco(category_id=lambda index: index + 100), "ids seem to be off by 99"),
        (coco(image_id=lambda index: f"x{index}"), "52 of its 52 annotations lead to no image"),
        ({**coco(), "categories": []}, "annotations without a category that names a part"),
    ],
)
def test_ids_that_lead_nowhere_are_refused_with_counts(tmp_path, content, reason):
    write_photos(tmp_path)
    write_json(tmp_path, content)
    assert reason in refusal(tmp_path)


@pytest.mark.parametrize("shared", [1, 3])
def test_photos_that_share_an_id_get_no_label_and_others_do(tmp_path, shared):
    """The first photos have the id of the last one of them, as parseInt makes of names that begin with a date."""
    write_photos(tmp_path)
    content = coco(image_id=lambda index: max(index + 1, shared + 1))
    for image in content["images"]:
        image["id"] = max(image["id"], shared + 1)
    write_json(tmp_path, content)
    assert labels(tmp_path) == dict(list(TRUTH.items())[shared + 1 :])


# --- Names -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "", 7, "undefined", "not_defined", {}])
def test_regions_without_names_are_no_backgrounds(tmp_path, value):
    write_photos(tmp_path)
    write_json(tmp_path, via(lambda part: {"identity": value}))
    assert "12 of its 12 annotated photos were not understood: regions without a part name" in refusal(tmp_path)


@pytest.mark.parametrize("unnamed", ["leftfrontdoor", "frontbumper", "rearws"])
def test_half_named_photos_are_labelled_right_or_not_at_all(tmp_path, unnamed):
    write_photos(tmp_path)
    write_json(tmp_path, via(lambda part: {} if part == unnamed else {"identity": part}))
    found = labels(tmp_path)
    assert found.items() <= TRUTH.items()
    assert found.keys() >= {name for name, label in TRUTH.items() if unnamed not in VIEWS[label]}


PARTS = sorted({part for names in VIEWS.values() for part in names})
OPTIONS = {str(number): part for number, part in enumerate(PARTS)}
IDS = {part: id for id, part in OPTIONS.items()}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dropdown", lambda part: IDS[part]),
        ("radio", lambda part: IDS[part]),
        ("checkbox", lambda part: {IDS[part]: True}),
    ],
)
def test_option_ids_are_read_by_the_names_in_the_project(tmp_path, kind, value):
    write_photos(tmp_path)
    attributes = {"region": {"identity": {"type": kind, "options": OPTIONS}}, "file": {}}
    content = {"_via_img_metadata": via(lambda part: {"identity": value(part)}), "_via_attributes": attributes}
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH
    # Without the names there is nothing to read.
    write_json(tmp_path, content["_via_img_metadata"])
    assert "regions without a part name" in refusal(tmp_path)


def test_one_entry_for_each_region_is_joined(tmp_path):
    write_photos(tmp_path)
    content = {
        f"{key}_{number}": {**entry, "regions": [region]}
        for key, entry in via().items()
        for number, region in enumerate(entry["regions"])
    }
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH


@pytest.mark.parametrize(
    "spell",
    [
        lambda part: part.replace("front", "front_", 1).replace("left", "left_").replace("right", "right_"),
        lambda part: part.upper() + "_1",
        lambda part: {"bonnet": "Hood", "rearws": "back_glass", "frontws": "Front-Glass"}.get(part, f'"{part}".'),
        lambda part: "".join(chr(ord(letter) + 0xFEE0) for letter in part),  # full-width letters
    ],
)
def test_other_spellings_give_the_same_labels_and_are_told(tmp_path, spell):
    write_photos(tmp_path)
    write_json(tmp_path, via(lambda part: {"identity": spell(part)}))
    assert labels(tmp_path) == TRUTH
    _, _, report = read_dataset(tmp_path)
    assert sum(report.spellings.values()) > 0 or spell("bonnet").lower() != "bonnet_1"


def test_an_unknown_name_among_known_ones_costs_only_the_photos_that_it_could_change(tmp_path):
    """Without the doors, FrontLeft would be Front; with them as unknown names it gets no label."""
    write_photos(tmp_path)
    write_json(tmp_path, via(lambda part: {"identity": part.replace("leftfrontdoor", "tuer vl")}))
    found = labels(tmp_path)
    assert found == {name: label for name, label in TRUTH.items() if "leftfrontdoor" not in VIEWS[label]}
    assert labels(tmp_path, meanings={"tuer vl": "leftfrontdoor"}) == TRUTH


def test_number_plates_as_names_do_no_harm(tmp_path):
    write_photos(tmp_path)
    content = via()
    for number, entry in enumerate(content.values()):
        entry["regions"].append({"region_attributes": {"identity": f"KA 01 AB {4711 + number}"}})
    write_json(tmp_path, content)
    assert labels(tmp_path) == TRUTH
    assert not read_dataset(tmp_path)[2].unknown_parts


# --- Several files -----------------------------------------------------------------


def test_two_people_annotated_a_photo_each(tmp_path):
    """One did the ends, the other the sides."""
    write_photos(tmp_path)
    sides = {"leftfrontdoor", "leftreardoor", "rightfrontdoor", "rightreardoor"}
    for name, wanted in (("ends.json", lambda part: part not in sides), ("sides.json", lambda part: part in sides)):
        content = via()
        for entry in content.values():
            entry["regions"] = [r for r in entry["regions"] if wanted(r["region_attributes"]["identity"])]
        write_json(tmp_path, content, name)
    assert labels(tmp_path, merge="union") == TRUTH
    # Without a word from people, only the photos that one file describes alone are labelled.
    assert labels(tmp_path) == {name: label for name, label in TRUTH.items() if label in ("Front", "Rear")}
    assert labels(tmp_path, merge="fuller")["IMG_0001.jpg"] == "Front"


def test_a_file_that_is_not_understood_does_not_spoil_the_others(tmp_path):
    write_photos(tmp_path / "good")
    write_json(tmp_path / "good", via())
    write_photos(tmp_path / "bad")
    write_json(tmp_path / "bad", via(lambda part: {"identity": f"teil {part[::-1]}"}))
    table, _, report = read_dataset(tmp_path)
    assert dict(zip(table["image_path"], table["label"], strict=True)) == {f"good/{n}": v for n, v in TRUTH.items()}
    assert set(report.left_out.values()) == {IN_UNUSED_FILE}
    assert "say in part_names.csv what they mean" in report.skipped[NOT_USED][0]


# --- Photos that nobody came to ----------------------------------------------------


def empty_entries(count: int) -> dict:
    return {f"z{n}": {"filename": f"z{n}.jpg", "size": 1, "regions": []} for n in range(count)}


@pytest.mark.parametrize(
    ("before", "after", "warnings"),
    [
        (2, 0, []),
        (0, 2, []),
        (0, 5, ["the last 5 of the 17 photos", "5 of 17 labelled photos are Background"]),
        (4, 0, ["4 of 16 labelled photos are Background"]),
    ],
)
def test_many_photos_without_a_region_or_a_block_of_them_are_suspicious(tmp_path, before, after, warnings):
    empty = empty_entries(before + after)
    write_photos(tmp_path, [*TRUTH, *(entry["filename"] for entry in empty.values())])
    first, last = list(empty.items())[:before], list(empty.items())[before:]
    write_json(tmp_path, dict(first) | via() | dict(last))
    table, _, report = read_dataset(tmp_path)
    assert report.empty == before + after == (table["label"] == "Background").sum()
    assert len(report.warnings) == len(warnings)
    for text, warning in zip(warnings, report.warnings, strict=True):
        assert text in warning
    assert labels(tmp_path, empty="skip") == TRUTH


# --- The script --------------------------------------------------------------------


@pytest.fixture
def prepare(call) -> Callable[..., tuple[int, str, str]]:
    """Runs the script on a folder: (exit code, output, error)."""
    return lambda folder, *options: call(
        data_preparation, "--data", folder, "--output", folder.parent / "dataset", *options
    )


FOREIGN = {"bonnet": "motorhaube", "frontbumper": "stossfaenger vorn", "frontws": "frontscheibe"}


def test_a_foreign_vocabulary_is_refused_and_read_once_people_filled_it_in(prepare, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos)
    translate = {part: FOREIGN.get(part, f"teil {part[::-1]}") for part in PARTS}
    write_json(photos, via(lambda part: {"identity": translate[part]}))
    code, printed, error = prepare(photos)
    assert code == 2
    assert "part names that no list knows" in error
    assert "Next: python train.py" not in printed
    assert not (tmp_path / "dataset" / "train.csv").exists()
    path = tmp_path / "dataset" / "part_names.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == set(translate.values())
    back = {name: part for part, name in translate.items()}
    lines = [f"{row['name']},{row['count']},{back[row['name']]}\n" for row in rows]
    path.write_text("name,count,means\n" + "".join(lines))
    code, _, error = prepare(photos, "--split", "none")
    assert code == 0, error
    with (tmp_path / "dataset" / "labels.csv").open(newline="") as file:
        assert {row["image_path"]: row["label"] for row in csv.DictReader(file)} == TRUTH


def test_only_backgrounds_are_refused(prepare, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos)
    write_json(photos, via(lambda part: {"identity": "scratch"}))
    code, _, error = prepare(photos)
    assert code == 2
    assert "12 of 12 annotated photos have no known part besides damage" in error


def test_too_few_photos_to_split_come_with_the_summary_and_the_review_page(prepare, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos)
    write_json(photos, via(lambda part: {"identity": part.replace("rearws", "heckscheibe")}))
    code, printed, error = prepare(photos, "--review")
    assert code == 2
    assert "too few photos to split" in error
    assert "FrontLeft          2" in printed
    assert "in 6 photos; 2 of these left out (see Skipped):\n  heckscheibe in 6 photos\n" in printed
    assert (tmp_path / "dataset" / "review.html").is_file()
    assert prepare(photos, "--split", "none")[0] == 0


def test_thousands_of_unknown_names_do_not_flood_the_screen(prepare, tmp_path):
    photos = tmp_path / "photos"
    write_photos(photos)
    letters = "abcdefghijklmnopqrstuvwxyz"
    content = via()
    for number, entry in enumerate(content.values()):
        for other in letters:
            text = f"zettel {letters[number]}{other}"
            entry["regions"].append({"region_attributes": {"identity": text}})
    write_json(photos, content)
    _, printed, _ = prepare(photos)
    assert sum(line.startswith("  zettel ") and line.endswith(" in 1 photo") for line in printed.splitlines()) == 20
    assert "... and 292 more" in printed


# --- Confident learning on numbers worked out by hand ------------------------------


LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.8, 0.2, 0.0],
        [0.1, 0.9, 0.0],  # mean of class 0: 0.6
        [0.0, 1.0, 0.0],
        [0.4, 0.6, 0.0],
        [0.52, 0.48, 0.0],  # mean of class 1: 0.693
    ]
)


def test_a_label_is_wrong_when_another_class_reaches_its_own_mean():
    # The third is as sure of class 1 as its photos are; the last prefers class 0, but with less than 0.6.
    assert find_label_errors(LABELS, PROBABILITIES).tolist() == [False, False, True, False, False, False]
    assert self_confidence(LABELS, PROBABILITIES) == pytest.approx([0.9, 0.8, 0.1, 1.0, 0.6, 0.48])


def test_a_class_that_is_often_unsure_needs_less_and_the_best_class_is_never_an_error():
    labels = np.array([0, 0, 1, 1])
    # Means: 0.75 and 0.3. The second reaches class 1's mean, but its label is still the best class.
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.6, 0.4]])
    assert find_label_errors(labels, probabilities).tolist() == [False, False, True, False]


# --- out_of_fold.csv ---------------------------------------------------------------


VALUES = [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


CONTENTS = {"a, b.jpg": "hash1", "c.jpg": "hash2"}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    contents = CONTENTS | {"a gone.jpg": "hash3", "b unreadable.jpg": ""}
    probabilities = {"c.jpg": VALUES, "a, b.jpg": VALUES[::-1], "a gone.jpg": VALUES, "b unreadable.jpg": VALUES}
    write_out_of_fold(probabilities, contents, path)
    return path


def test_photos_that_are_still_the_same_keep_their_probabilities(written):
    found = read_out_of_fold(written, CONTENTS | {"b unreadable.jpg": ""})
    assert list(found) == ["a, b.jpg", "c.jpg"]
    assert found["c.jpg"] == dict(zip(config.CLASSES, VALUES, strict=True))


def test_changed_photos_and_other_classes_are_ignored(written, monkeypatch):
    assert list(read_out_of_fold(written, CONTENTS | {"c.jpg": "another"})) == ["a, b.jpg"]
    monkeypatch.setattr(config, "CLASSES", [*config.CLASSES, "Left", "Right"])
    assert read_out_of_fold(written, CONTENTS) == {}


def test_a_missing_or_damaged_file_has_no_probabilities(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    assert read_out_of_fold(path, CONTENTS) == {}
    path.write_bytes(b"\xff\x00")
    assert read_out_of_fold(path, CONTENTS) == {}
    path.write_text("")
    assert read_out_of_fold(path, CONTENTS) == {}


def test_a_number_that_is_none_or_a_cut_row_makes_the_file_damaged(written):
    text = written.read_text()
    for damaged in (text.replace("0.400000", "much"), text[:-20]):
        written.write_text(damaged)
        assert read_out_of_fold(written, CONTENTS) == {}


def test_another_file_of_that_name_is_not_overwritten(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    path.write_text("photo;score\n")
    with pytest.raises(UserError, match="was not written by this project"):
        write_out_of_fold({}, {}, path)
