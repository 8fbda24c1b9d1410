"""Labels from parts, worked out by hand; what a folder of annotations gives; the splits."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import regions, save_photo, write_via

import config
import data_preparation
from common import UserError
from data_preparation import create_stratified_splits, extract_viewpoint_label, parse_dataset, read_dataset, read_split

# --- The labeler -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identities", "label"),
    [
        # Both ends and both sides.
        (["bonnet", "frontbumper"], "Front"),
        (["tailgate", "rearbumper"], "Rear"),
        (["bonnet", "leftheadlamp", "leftorvm"], "FrontLeft"),
        (["bonnet", "rightheadlamp"], "FrontRight"),
        (["rearws", "lefttaillamp", "leftreardoor"], "RearLeft"),
        (["rearws", "righttaillamp"], "RearRight"),
        # Votes against each other: the majority decides.
        (["bonnet", "rearws", "tailgate"], "Rear"),
        (["bonnet", "frontws", "rearws"], "Front"),
        (["leftheadlamp", "rightheadlamp", "leftfender"], "FrontLeft"),
        # Ties.
        (["bonnet", "tailgate"], "Front"),
        (["leftheadlamp", "rightheadlamp"], "Front"),
        (["lefttaillamp", "righttaillamp"], "Rear"),
        (["leftheadlamp", "lefttaillamp"], "FrontLeft"),
        # Side votes alone mean Front.
        (["leftfrontdoor", "leftreardoor"], "FrontLeft"),
        (["rightorvm", "rightrearwa"], "FrontRight"),
        (["leftorvm", "rightorvm"], "Front"),
        # Parts that say nothing count as parts but do not vote.
        (["tyre", "leftfrontdoor"], "FrontLeft"),
        (["trunk", "rearbumper"], "Rear"),
        (["tyre", "roof", "logo", "doorhandle", "trunk"], "Background"),
        # Fewer than two parts.
        (["bonnet"], "Background"),
        (["tyre"], "Background"),
        (["bonnet", "bonnet", "bonnet"], "Background"),
        # Damage is no part.
        (["scratch", "dent"], "Background"),
        (["bonnet", "scratch", "dirt", "crack"], "Background"),
        (["bonnet", "grille", "dent"], "Front"),
        # A part that no list knows is a part without a vote.
        (["flux capacitor", "leftorvm"], "FrontLeft"),
        (["flux capacitor", "warp coil"], "Background"),
        # Spelling: case, spaces and "partial_" do not matter, and make no second part.
        (["Partial_Bonnet", " LEFTHEADLAMP\n"], "FrontLeft"),
        (["bonnet", "partial_bonnet", "Bonnet "], "Background"),
        (["partial_tailgate", "partial_rearws"], "Rear"),
        # A part seen twice votes once: one left part against two distinct right ones.
        (["leftorvm", "partial_leftorvm", "Leftorvm", "rightorvm", "rightfender"], "FrontRight"),
        ([], "Background"),
    ],
)
def test_label_of_parts_in_both_via_forms(identities, label):
    as_list = regions(*identities)
    as_dict = {str(index): region for index, region in enumerate(as_list)}
    assert extract_viewpoint_label(as_list) == label
    assert extract_viewpoint_label(as_dict) == label


def test_regions_without_a_usable_name_are_passed_over():
    nameless = [{"region_attributes": {}}, {"region_attributes": {"identity": " "}}, {"shape_attributes": {}}, None]
    assert extract_viewpoint_label(nameless) == "Background"
    assert extract_viewpoint_label(nameless + regions("tailgate", "rearws")) == "Rear"


# --- Reading a folder --------------------------------------------------------------


def test_all_via_flavours_at_any_depth_give_the_same_rows(tmp_path):
    entry = {"filename": "car.jpg", "size": 0, "regions": regions("bonnet", "leftheadlamp"), "file_attributes": {}}
    via1 = entry | {"fileref": "", "base64_img_data": "", "regions": dict(enumerate(entry["regions"]))}
    flavours = {
        "via2": {"car.jpg0": entry},
        "a/deep folder (été)/via1": {"car.jpg0": via1},
        "project": {"_via_settings": {}, "_via_img_metadata": {"car.jpg0": entry}, "_via_attributes": {}},
        "bare key": {"car.jpg": entry},
    }
    for folder, content in flavours.items():
        save_photo(tmp_path / folder / "car.jpg")
        (tmp_path / folder / "any name.json").write_text(json.dumps(content), encoding="utf-8-sig")
    df = parse_dataset(tmp_path)
    assert df["image_path"].tolist() == sorted(f"{folder}/car.jpg" for folder in flavours)
    assert set(df["label"]) == {"FrontLeft"}
    assert df.loc[0, "front_votes":"right_votes"].tolist() == [2, 0, 1, 0]


def test_everything_left_out_is_reported_with_its_reason(tmp_path):
    good = save_photo(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    save_photo(tmp_path / "forgotten.JPG")
    car = regions("bonnet", "grille", "warp coil")
    write_via(tmp_path / "via.json", dict.fromkeys(["good.jpg", "cut.jpg", "empty.jpg", "gone.jpg"], car))
    (tmp_path / "broken.json").write_text('{"a": ')
    (tmp_path / "other.json").write_text('{"name": "not VIA"}')
    (tmp_path / "odd.json").write_text('{"x": {"filename": "good.jpg", "regions": null}, "y": {"filename": 5}}')
    (tmp_path / "via_attributes.json").write_text('{"region": {"identity": {}}, "file": {}}')

    df, report = read_dataset(tmp_path)

    assert df["image_path"].tolist() == ["good.jpg"]
    assert report.skipped["annotated but missing"] == ["gone.jpg"]
    assert [item.split()[0] for item in report.skipped["unreadable"]] == ["cut.jpg", "empty.jpg"]
    assert report.skipped["never annotated"] == ["forgotten.JPG"]
    assert [item.split()[0] for item in report.skipped["JSON file not used"]] == ["broken.json", "other.json"]
    assert report.skipped["malformed entry"] == ["odd.json: x", "odd.json: y"]
    assert report.unknown_parts == {"warp coil": 1}


def test_photos_outside_the_folder_are_never_read(tmp_path):
    outside = save_photo(tmp_path / "outside.jpg")
    data = tmp_path / "data"
    save_photo(data / "inside.jpg")
    (data / "link.jpg").symlink_to(outside)
    names = ["../outside.jpg", str(outside), "link.jpg", "nul\0.jpg", "inside.jpg"]
    write_via(data / "via.json", dict.fromkeys(names, regions("bonnet", "grille")))
    df, report = read_dataset(data)
    assert df["image_path"].tolist() == ["inside.jpg"]
    assert len(report.skipped["photo outside the data folder"]) == 4


def test_a_photo_annotated_twice_takes_the_fuller_entry_and_reports_the_conflict(tmp_path):
    save_photo(tmp_path / "car.jpg")
    write_via(tmp_path / "1 first try.json", {"car.jpg": []})
    write_via(tmp_path / "2 final.json", {"car.jpg": regions("tailgate", "rearws")})
    df, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["Rear"]
    assert len(report.skipped["annotated twice with different labels"]) == 1


# --- Splits ------------------------------------------------------------------------


def labelled_images(per_class: int) -> pd.DataFrame:
    rows = [(f"{name}_{index:03}.jpg", name) for name in config.CLASSES for index in range(per_class)]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_splits_are_stratified_disjoint_complete_and_reproducible():
    df = labelled_images(50)
    splits = create_stratified_splits(df)
    assert [len(split) for split in splits] == [280, 35, 35]
    for split, expected in zip(splits, (40, 5, 5), strict=True):
        assert split["label"].value_counts().to_dict() == dict.fromkeys(config.CLASSES, expected)
    paths = [path for split in splits for path in split["image_path"]]
    assert sorted(paths) == sorted(df["image_path"])
    for split, again in zip(splits, create_stratified_splits(df), strict=True):
        pd.testing.assert_frame_equal(split, again)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_images_of_a_class_is_a_sentence_that_names_it(count):
    df = labelled_images(50)
    df = df[(df["label"] != "Rear") | df.groupby("label").cumcount().lt(count)]
    with pytest.raises(UserError, match=f"Rear has {count} of {300 + count}"):
        create_stratified_splits(df)


def test_nothing_to_split_is_a_sentence():
    with pytest.raises(UserError, match="no labelled images to split"):
        create_stratified_splits(labelled_images(0))


def test_read_split_finds_the_photos_again_and_checks_labels(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "summary.json").write_text('{"data_dir": "../photos"}')
    csv_path = tmp_path / "dataset" / "val.csv"
    csv_path.write_text("image_path,label\na/b.jpg,Rear\n")
    assert Path(read_split(csv_path)["file"][0]).resolve() == tmp_path / "photos" / "a" / "b.jpg"
    assert read_split(csv_path, "/elsewhere")["file"].tolist() == ["/elsewhere/a/b.jpg"]
    csv_path.write_text("image_path,label\na/b.jpg,Reer\n")
    with pytest.raises(UserError, match="unknown class 'Reer'"):
        read_split(csv_path)
    with pytest.raises(UserError, match=r"run data_preparation\.py first"):
        read_split(tmp_path / "dataset" / "nothing.csv")


# --- The script --------------------------------------------------------------------


def run_script(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, data_preparation.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_summarises_and_repeats_itself_to_the_byte(demo_photos, tmp_path):
    first = run_script("--data", demo_photos, "--output", tmp_path / "first")
    second = run_script("--data", demo_photos, "--output", tmp_path / "second")
    assert first.returncode == second.returncode == 0
    assert "3 annotation files read, 140 images labelled" in first.stdout
    assert "Skipped: nothing" in first.stdout
    for name in ("train.csv", "val.csv", "test.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / "class_distribution.png").stat().st_size > 1000


def test_a_users_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    nothing_there = run_script("--data", tmp_path / "nowhere")
    assert nothing_there.returncode == 2
    assert "nowhere is not a folder" in nothing_there.stderr
    assert "Traceback" not in nothing_there.stderr
    assert run_script("--datta", tmp_path).returncode == 2
