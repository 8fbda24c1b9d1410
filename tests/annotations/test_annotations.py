"""Untidy annotation files: every variety is read or refused by name, and nothing escapes the folder."""

import json
import os
from pathlib import Path

import pytest
from conftest import ANY, regions, save_photo, write_via
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import config
from viewpoint.annotations import read_annotation_file
from viewpoint.annotations.json_file import read_json
from viewpoint.annotations.vocabulary import KNOWN
from viewpoint.common.cli import UserError
from viewpoint.common.files import LEAVES
from viewpoint.data.labeling import extract_viewpoint_label
from viewpoint.data.scan import CONFLICT, NOT_USED, Reading, parse_dataset, read_dataset
from viewpoint.inference.inputs import find_inputs


def write(folder: Path, content: object, name: str = "via.json", encoding: str = "utf-8") -> Path:
    """Write a JSON file, and a photo of the name that most tests use, beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "car.jpg").exists():
        save_photo(folder / "car.jpg")
    (folder / name).write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))
    return folder / name


def via(*attributes: dict) -> dict:
    """A VIA 2 export of car.jpg with a region for each of these attributes."""
    return {
        "car.jpg9": {"filename": "car.jpg", "size": 9, "regions": [{"region_attributes": one} for one in attributes]}
    }


# --- Where the part names are ------------------------------------------------------

# So many votes that one region without a name cannot change the label.
SAFELY_FRONT_LEFT = [{"identity": part} for part in ("bonnet", "frontbumper", "leftfrontdoor", "leftmirror")]


@pytest.mark.parametrize(
    ("attributes", "note"),
    [
        ([{"identity": "bonnet"}, {"identity": "LeftFrontDoor\n"}], None),
        ([{"identity": {"bonnet": True, "tailgate": False}}, {"identity": {"leftfrontdoor": True}}], None),
        ([{"identity": "bonnet", "colour": "red"}, {"identity": "leftfrontdoor", "colour": "red"}], None),
        ([{"identity": ["bonnet", "leftfrontdoor"]}], None),
        ([{"identity": {"bonnet": 1, "tailgate": 0, "leftfrontdoor": "on", "rearbumper": "no"}}], None),
        ([*SAFELY_FRONT_LEFT, {"name": "tailgate"}], "with other attributes: 1"),
        ([{" Identity": "bonnet"}, {"identity": "leftfrontdoor"}], None),
        ([{"name": "bonnet"}, {"name": "leftfrontdoor"}], 'the part names were read from "name"'),
        ([{"Class Name": "Bonnet"}, {"Class Name": {"Leftfrontdoor": True}}], 'read from "Class Name"'),
        ([{"bonnet": "scratch"}, {"leftfrontdoor": ""}, {"LeftFender": "dent"}], "part names as attribute keys"),
        ([{"bonnet": "yes", "tailgate": ""}, {"bonnet": "", "leftfrontdoor": "yes"}], "part names as attribute keys"),
        ([{"bonnet": "yes", "tailgate": "no"}, {"leftfrontdoor": True}], "part names as attribute keys"),
    ],
)
def test_part_names_are_found_wherever_people_put_them(tmp_path, attributes, note):
    write(tmp_path, via(*attributes))
    df, _, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["FrontLeft"]
    assert (note in report.notes[0]) if note else not report.notes


def test_of_several_attributes_the_only_one_with_part_names_is_read(tmp_path):
    write(tmp_path, via({"part": "tailgate", "state": "bent"}, {"part": "rearbumper", "state": "whole"}))
    df, _, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["Rear"]
    assert 'read from "part", the only one that has any' in report.notes[0]


def test_a_file_that_leaves_the_choice_open_is_refused_until_a_label_key_is_given(tmp_path):
    write(tmp_path, via({"part": "tailgate", "beside": "rearws"}, {"part": "rearbumper", "beside": "tailgate"}))
    with pytest.raises(UserError, match=r'"identity" but beside, part; give the right one with --label-key'):
        parse_dataset(tmp_path)
    df, _, _ = read_dataset(tmp_path, Reading(label_key="Part"))
    assert df["label"].tolist() == ["Rear"]


# --- Varieties of files ------------------------------------------------------------

COCO = {
    "images": [{"id": 7, "file_name": "car.jpg"}, {"id": 8, "file_name": "empty.jpg"}],
    "categories": [{"id": 1, "name": "tailgate"}, {"id": 2, "name": "Righttaillamp"}],
    "annotations": [
        {"image_id": 7, "category_id": 1, "segmentation": [[1, 2, 30, 2, 30, 20]], "bbox": [1, 2, 29, 18]},
        {"image_id": 7, "category_id": 2, "segmentation": {"counts": "RLE", "size": [1, 1]}, "bbox": [1, 2, 29, 18]},
        *({"image_id": 7, "category_id": 1, "bbox": [n, 2, 9, 9]} for n in range(18)),
        {"image_id": 99, "category_id": 2},
        "no annotation",
    ],
}


def test_coco_is_read_with_its_shapes(tmp_path):
    path = write(tmp_path, COCO)
    save_photo(tmp_path / "empty.jpg")
    assert dict(parse_dataset(tmp_path)[["image_path", "label"]].values) == {
        "car.jpg": "RearRight",
        "empty.jpg": "Background",
    }
    tailgate, lamp, *_ = read_annotation_file(path).entries[0].parts
    assert (tailgate.names, lamp.names) == (("tailgate",), ("Righttaillamp",))
    assert (tailgate.names, tailgate.outlines) == (("tailgate",), (((1, 2), (30, 2), (30, 20)),))
    assert lamp.outlines == (((1, 2), (30, 2), (30, 20), (1, 20)),)
    # --label-key is for VIA; COCO's categories name the parts whatever it says.
    _, _, report = read_dataset(tmp_path, Reading(label_key="part"))
    assert report.notes == ["via.json has 2 annotations that lead to no image"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_every_usual_encoding_is_read(tmp_path, encoding):
    save_photo(tmp_path / "été.jpg")
    content = {"é": {"filename": "été.jpg", "regions": regions("bonnet", "grille")}}
    write(tmp_path, content, encoding=encoding)
    df, _, report = read_dataset(tmp_path)
    assert df["image_path"].tolist() == ["été.jpg"]
    assert report.notes == (["via.json is not UTF-8; it was read as Latin-1"] if encoding == "latin-1" else [])


def test_keys_that_stand_twice_are_both_read(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        save_photo(tmp_path / name)
    entry = '"k": {{"filename": "{}", "regions": {{"0": {}, "0": {}}}}}'
    parts = [json.dumps(region) for region in regions("tailgate", "rearbumper")]
    (tmp_path / "via.json").write_text("{" + ", ".join(entry.format(name, *parts) for name in ("a.jpg", "b.jpg")) + "}")
    df, _, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["Rear", "Rear"]
    assert report.notes == [
        "via.json has repeated keys: all entries and regions were read, and the last value of any other key"
    ]


def test_of_two_names_of_one_region_the_last_counts_and_many_repeats_are_quick(tmp_path):
    path = tmp_path / "via.json"
    path.write_text('{"a": {"identity": "bonnet", "identity": "grille"}, ' + '"k": 1, ' * 100_000 + '"k": 2}')
    content, _ = read_json(path)
    assert content["a"]["identity"] == "grille"
    assert content["k"] == 2
    assert len(content) == 100_002


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"project": {}, "metadata": {}, "view": {}, "file": {}}', "a VIA 3 project; export"),
        ('{"shape": [], "path": "a.jpg"}', "neither VIA 1, VIA 2, COCO nor LabelMe"),
        ('{"_via_img_metadata": [1, 2]}', "neither VIA 1, VIA 2, COCO nor LabelMe"),
        ("[[[1, 2], 3]]", "neither VIA 1, VIA 2, COCO nor LabelMe"),
        ('{"a": ', "not readable as JSON"),
        ("", "not readable as JSON"),
        pytest.param("[" * 100_000, "not readable as JSON", id="deep"),
        pytest.param("9" * 5000, "4300", id="long"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, reason):
    write(tmp_path, via({"identity": "bonnet"}, {"identity": "grille"}))
    (tmp_path / "odd.json").write_text(content)
    _, _, report = read_dataset(tmp_path)
    [item] = report.skipped[NOT_USED]
    assert item.startswith("odd.json (")
    assert reason in item


def test_a_file_too_large_for_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "MAX_JSON_MEGABYTES", 1)
    path = write(tmp_path, via({"identity": "bonnet"}))
    with path.open("ab") as file:
        file.truncate(1_000_001)
    with pytest.raises(ValueError, match="larger than 1 MB; split it, or raise MAX_JSON_MEGABYTES"):
        read_annotation_file(path)


def test_two_versions_that_contradict_each_other_are_left_out_unless_people_choose(tmp_path):
    write(tmp_path, via({"identity": "bonnet"}, {"identity": "bonnet"}), "old.json")
    write(tmp_path, via({"identity": "tailgate"}, {"identity": "rearws"}), "older.json")
    df, _, report = read_dataset(tmp_path)
    assert df.empty
    assert report.skipped == {CONFLICT: ["car.jpg"]}
    for merge, label in (("fuller", "Rear"), ("union", "Rear")):  # two distinct parts are more than one
        assert read_dataset(tmp_path, Reading(merge=merge))[0]["label"].tolist() == [label]


# --- Nothing outside the folder ----------------------------------------------------


def test_a_json_file_that_is_a_link_out_of_the_folder_is_not_read(tmp_path):
    outside = write(tmp_path / "outside", via({"identity": "bonnet"}, {"identity": "grille"}))
    inside = write(tmp_path / "data", via({"identity": "tailgate"}, {"identity": "rearws"})).parent
    (inside / "link.json").symlink_to(outside)
    df, _, report = read_dataset(inside)
    assert df["label"].tolist() == ["Rear"]
    assert report.skipped == {LEAVES: ["link.json"]}


def test_links_cannot_lead_out_of_the_folder_by_two_dots(tmp_path):
    outside = save_photo(tmp_path / "outside.jpg")
    data = tmp_path / "data"
    save_photo(data / "a" / "b" / "evil.jpg")
    (data / "sub").symlink_to(data / "a" / "b")  # sub/../evil.jpg is a/evil.jpg to some, evil.jpg to others
    (data / "evil.jpg").symlink_to(outside)
    save_photo(data / "good.jpg")
    names = ["sub/../evil.jpg", "sub/../../../outside.jpg", "good.jpg"]
    write_via(data / "via.json", dict.fromkeys(names, regions("bonnet", "grille")))
    df, _, report = read_dataset(data)
    assert df["image_path"].tolist() == ["good.jpg"]
    assert len(report.skipped["photo outside the data folder"]) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_are_not_waited_for(tmp_path):
    write(tmp_path, via({"identity": "bonnet"}, {"identity": "grille"}))
    for name in ("pipe.json", "pipe.jpg", "pipe"):
        os.mkfifo(tmp_path / name)
    assert read_dataset(tmp_path)[0]["image_path"].tolist() == ["car.jpg"]
    assert [item.name for item in find_inputs(tmp_path)] == ["car.jpg"]


def test_names_with_control_characters_are_printed_escaped(tmp_path):
    write_via(tmp_path / "via.json", {"a\x1b[2J\n.jpg": [], "nul\0.jpg": []})
    save_photo(tmp_path / "a\x1b[2J\n.jpg")
    df, _, report = read_dataset(tmp_path)
    assert df["image_path"].tolist() == ["a\x1b[2J\n.jpg"]
    assert report.skipped == {"photo outside the data folder": ["via.json: nul\\x00.jpg"]}


# --- Properties --------------------------------------------------------------------

PARTS = st.sampled_from(sorted(KNOWN)) | st.text(max_size=5)
ATTRIBUTES = st.fixed_dictionaries({}, optional={"identity": PARTS | ANY, "name": PARTS | ANY, "bonnet": ANY})
REGION = st.fixed_dictionaries({"region_attributes": ATTRIBUTES | ANY, "shape_attributes": ANY}) | ANY
REGIONS = st.lists(REGION, max_size=3) | st.dictionaries(st.text(max_size=2), REGION, max_size=3) | ANY
NAMES = st.sampled_from(["car.jpg", "../car.jpg", "/etc/passwd", "", ".", "car.jpg/x", "a\0b", 300 * "x"]) | st.text()
ENTRY = st.fixed_dictionaries({"filename": NAMES | ANY, "regions": REGIONS}) | ANY
VIA = st.dictionaries(st.text(max_size=5), ENTRY, max_size=3)
COCO_FILES = st.fixed_dictionaries(
    {
        "images": st.lists(st.fixed_dictionaries({"id": ANY, "file_name": NAMES | ANY}) | ANY, max_size=2) | ANY,
        "annotations": st.lists(
            st.fixed_dictionaries({"image_id": ANY, "category_id": ANY, "segmentation": ANY, "bbox": ANY}) | ANY
        )
        | ANY,
        "categories": st.lists(st.fixed_dictionaries({"id": ANY, "name": PARTS | ANY}) | ANY, max_size=2) | ANY,
    }
)
FILES = VIA | st.fixed_dictionaries({"_via_img_metadata": VIA | ANY}) | COCO_FILES | ANY


@given(FILES)
@example({"a": {"filename": "car.jpg", "regions": [{"region_attributes": {"identity": "\udce9"}}]}})
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_gives_labels_or_a_refusal_by_name(tmp_path, content):
    save_photo(tmp_path / "car.jpg")
    (tmp_path / "via.json").write_text(json.dumps(content))
    df, _, report = read_dataset(tmp_path)
    # The photo is labelled, or left out with a reason.
    assert [*df["image_path"], *report.left_out] == ["car.jpg"]
    assert set(df["label"]) <= set(config.CLASSES)
    json.dumps([report.skipped, report.notes, report.unknown_parts], ensure_ascii=False).encode()


@given(st.lists(PARTS, max_size=8), st.randoms(use_true_random=False))
def test_neither_order_nor_duplicates_of_regions_matter(parts, random):
    expected = extract_viewpoint_label(regions(*parts))
    shuffled = parts + random.choices(parts, k=3) if parts else parts
    random.shuffle(shuffled)
    assert extract_viewpoint_label(regions(*shuffled)) == expected
    assert extract_viewpoint_label(dict(enumerate(regions(*shuffled)))) == expected


@given(st.lists(st.sampled_from(sorted(KNOWN)), max_size=8))
def test_a_car_seen_in_a_mirror_has_the_mirrored_label(parts):
    def mirrored(name: str) -> str:
        if name.startswith("left"):
            return "right" + name.removeprefix("left")
        return "left" + name.removeprefix("right") if name.startswith("right") else name

    label = extract_viewpoint_label(regions(*parts))
    assert extract_viewpoint_label(regions(*map(mirrored, parts))) == config.MIRRORED_CLASS[label]
    assert len(set(map(mirrored, parts))) == len(set(parts))
