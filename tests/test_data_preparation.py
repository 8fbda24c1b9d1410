"""Labels from parts, worked out by hand; what a folder of annotations gives; the splits."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import regions, save_photo, write_via
from PIL import Image

import config
import data_preparation
from annotations import Report
from common import UserError
from data_preparation import (
    create_grouped_splits,
    create_stratified_splits,
    extract_viewpoint_label,
    parse_dataset,
    read_dataset,
    read_split,
)

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
    (tmp_path / "half.json").write_text(r'{"\udce9": {"filename": "\udce9.jpg", "regions": []}}')
    (tmp_path / "via_attributes.json").write_text('{"region": {"identity": {}}, "file": {}}')

    df, report = read_dataset(tmp_path)

    assert df["image_path"].tolist() == ["good.jpg"]
    assert report.skipped["annotated but missing"] == ["gone.jpg"]
    assert [item.split()[0] for item in report.skipped["unreadable"]] == ["cut.jpg", "empty.jpg"]
    assert report.skipped["never annotated"] == ["forgotten.JPG"]
    assert [item.split()[0] for item in report.skipped["JSON file not used"]] == ["broken.json", "other.json"]
    assert report.skipped["malformed entry"] == [r"half.json: \udce9", "odd.json: x", "odd.json: y"]
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
    assert len(report.skipped["annotated twice with different labels, the fuller entry counts"]) == 1


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


def images_in_folders(folders: int, per_folder: int) -> pd.DataFrame:
    """Folders of `per_folder` images of one class each, the classes in turn."""
    rows = [
        (f"vehicle {folder:02}/{index}.jpg", config.CLASSES[folder % 2])
        for folder in range(folders)
        for index in range(per_folder)
    ]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_grouped_splits_keep_folders_whole_and_classes_balanced():
    df = images_in_folders(folders=40, per_folder=5)
    splits = create_grouped_splits(df)
    assert sorted(path for split in splits for path in split["image_path"]) == sorted(df["image_path"])
    folders = [set(split["image_path"].str.rpartition("/")[0]) for split in splits]
    assert not folders[0] & folders[1] and not folders[0] & folders[2] and not folders[1] & folders[2]
    # 20 folders a class: 2 of each for val, 2 of each for test.
    for split, images in zip(splits, (80, 10, 10), strict=True):
        assert split["label"].value_counts().to_dict() == {"Front": images, "FrontLeft": images}
    for split, again in zip(splits, create_grouped_splits(df), strict=True):
        pd.testing.assert_frame_equal(split, again)


def test_too_few_folders_to_group_is_a_sentence():
    with pytest.raises(UserError, match="at least three folders"):
        create_grouped_splits(images_in_folders(folders=2, per_folder=20))
    df = images_in_folders(folders=3, per_folder=10)
    df["label"] = df["image_path"].str[:10].map({"vehicle 00": "Front", "vehicle 01": "Rear", "vehicle 02": "RearLeft"})
    with pytest.raises(UserError, match="lie in folders of the val or test split"):
        create_grouped_splits(df)


def test_near_duplicates_are_reported_only_across_splits():
    def split(*names: str) -> pd.DataFrame:
        return pd.DataFrame({"image_path": names})

    splits = {"train": split("a", "b", "c"), "val": split("d"), "test": split("e", "f")}
    base, far = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    hashes = {
        "a": base,
        "b": base,  # equal to a, but in the same split
        "c": far,
        "d": base ^ 0b1111,  # 4 bits from a and b
        "e": far ^ (1 << 63 | 1 << 31 | 1),  # 3 bits, far apart, from c
        "f": base ^ 0b11111 << 20,  # 5 bits from a and b: too far
    }
    assert data_preparation.straddling_duplicates(splits, hashes) == [
        ("a", "train", "d", "val"),
        ("b", "train", "d", "val"),
        ("c", "train", "e", "test"),
    ]


def test_many_equal_photos_are_each_reported_without_all_their_pairs():
    train, val = [f"t{i}" for i in range(400)], [f"v{i}" for i in range(300)]
    splits = {"train": pd.DataFrame({"image_path": train}), "val": pd.DataFrame({"image_path": val})}
    pairs = data_preparation.straddling_duplicates(splits, dict.fromkeys(train + val, 7))
    assert {photo for pair in pairs for photo in (pair[0], pair[2])} == {*train, *val}
    assert len(pairs) < 800


def test_near_pairs_equal_a_search_through_all_pairs():
    random = np.random.default_rng(0)
    values = random.integers(0, 2**63, 60, dtype=np.uint64)
    flips = np.uint64(1) << random.integers(0, 64, (60, 6), dtype=np.uint64)
    values = np.unique(np.concatenate([values, *(values ^ flips[:, :n].sum(axis=1) for n in (1, 3, 6))]))
    expected = {
        (int(a), int(b))
        for i, a in enumerate(values)
        for b in values[i + 1 :]
        if int(a ^ b).bit_count() <= config.DUPLICATE_BITS
    }
    found = data_preparation.near_pairs(values, config.DUPLICATE_BITS)
    assert {tuple(sorted(pair)) for pair in found} == expected
    assert len(expected) > 100


def test_a_recompressed_photo_in_another_split_is_found(demo_photos, tmp_path):
    df, report = read_dataset(demo_photos)
    original, copy = df["image_path"][0], "copy.jpg"
    Image.open(demo_photos / original).resize((300, 225)).save(tmp_path / copy, quality=40)
    write_via(tmp_path / "via.json", {copy: []})
    hashes = report.hashes | read_dataset(tmp_path)[1].hashes
    splits = {"train": df[:1], "test": pd.DataFrame({"image_path": [copy]})}
    assert data_preparation.straddling_duplicates(splits, hashes) == [(copy, "test", original, "train")]


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


def test_strict_makes_an_exit_code_of_what_was_skipped(demo_photos, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(demo_photos, photos)
    assert run_script("--data", photos, "--output", tmp_path / "dataset", "--strict").returncode == 0
    save_photo(photos / "forgotten.jpg")
    assert run_script("--data", photos, "--output", tmp_path / "dataset").returncode == 0
    assert run_script("--data", photos, "--output", tmp_path / "dataset", "--strict").returncode == 1


def test_splits_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    """A new train.csv beside an old test.csv would share photos with it."""
    splits = dict.fromkeys(data_preparation.SPLITS, pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    for name in data_preparation.SPLITS:
        (tmp_path / f"{name}.csv").write_text("earlier")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_preparation, "draw_class_distribution", fail)
    with pytest.raises(UserError, match="No space left on device"):
        data_preparation.write_dataset(splits, Report(), [], tmp_path, tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"earlier"}
