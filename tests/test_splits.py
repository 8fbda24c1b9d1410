"""The splits: stratified, grouped, reproducible; near-duplicates across them."""

import numpy as np
import pandas as pd
import pytest
from conftest import write_via
from PIL import Image

import config
from viewpoint.cli import UserError
from viewpoint.scan import read_dataset
from viewpoint.splits import create_grouped_splits, create_stratified_splits, near_pairs, straddling_duplicates


def labelled_photos(per_class: int) -> pd.DataFrame:
    rows = [(f"{name}_{index:03}.jpg", name) for name in config.CLASSES for index in range(per_class)]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_splits_are_stratified_disjoint_complete_and_reproducible():
    df = labelled_photos(50)
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
    df = labelled_photos(50)
    df = df[(df["label"] != "Rear") | df.groupby("label").cumcount().lt(count)]
    with pytest.raises(UserError, match=f"Rear has {count} of {300 + count}"):
        create_stratified_splits(df)


def test_nothing_to_split_is_a_sentence():
    with pytest.raises(UserError, match="no labelled photos to split"):
        create_stratified_splits(labelled_photos(0))


def photos_in_folders(folders: int, per_folder: int) -> pd.DataFrame:
    """Folders of `per_folder` images of one class each, the classes in turn."""
    rows = [
        (f"vehicle {folder:02}/{index}.jpg", config.CLASSES[folder % 2])
        for folder in range(folders)
        for index in range(per_folder)
    ]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_grouped_splits_keep_folders_whole_and_classes_balanced():
    df = photos_in_folders(folders=40, per_folder=5)
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
        create_grouped_splits(photos_in_folders(folders=2, per_folder=20))
    df = photos_in_folders(folders=3, per_folder=10)
    df["label"] = df["image_path"].str[:10].map({"vehicle 00": "Front", "vehicle 01": "Rear", "vehicle 02": "RearLeft"})
    with pytest.raises(UserError, match="are in folders of the val or test split"):
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
    assert straddling_duplicates(splits, hashes) == [
        ("a", "train", "d", "val"),
        ("b", "train", "d", "val"),
        ("c", "train", "e", "test"),
    ]


def test_many_equal_photos_are_each_reported_without_all_their_pairs():
    train, val = [f"t{i}" for i in range(400)], [f"v{i}" for i in range(300)]
    splits = {"train": pd.DataFrame({"image_path": train}), "val": pd.DataFrame({"image_path": val})}
    pairs = straddling_duplicates(splits, dict.fromkeys(train + val, 7))
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
    found = near_pairs(values, config.DUPLICATE_BITS)
    assert {tuple(sorted(pair)) for pair in found} == expected
    assert len(expected) > 100


def test_a_recompressed_photo_in_another_split_is_found(demo_photos, tmp_path):
    df, photos, _ = read_dataset(demo_photos)
    original, copy = df["image_path"][0], "copy.jpg"
    Image.open(demo_photos / original).resize((300, 225)).save(tmp_path / copy, quality=40)
    write_via(tmp_path / "via.json", {copy: []})
    photos |= read_dataset(tmp_path)[1]
    hashes = {name: photo.hash for name, photo in photos.items()}
    splits = {"train": df[:1], "test": pd.DataFrame({"image_path": [copy]})}
    assert straddling_duplicates(splits, hashes) == [(copy, "test", original, "train")]
