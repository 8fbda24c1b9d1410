"""The splits: stratified, grouped, reproducible; near-duplicates across them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import write_via
from PIL import Image

import config
from viewpoint.common.cli import UserError
from viewpoint.data.dataset import SPLITS
from viewpoint.data.scan import read_dataset
from viewpoint.data.splits import (
    Memory,
    create_grouped_splits,
    create_stratified_splits,
    find_conflicts,
    group_keys,
    make_splits,
    memory_table,
    near_duplicates,
    near_pairs,
    read_memory,
)


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
    with pytest.raises(UserError, match="at least three groups"):
        create_grouped_splits(photos_in_folders(folders=2, per_folder=20))
    df = photos_in_folders(folders=3, per_folder=10)
    df["label"] = df["image_path"].str[:10].map({"vehicle 00": "Front", "vehicle 01": "Rear", "vehicle 02": "RearLeft"})
    with pytest.raises(UserError, match="are in groups of the val or test split"):
        create_grouped_splits(df)


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


def test_a_recompressed_photo_is_a_near_duplicate(demo_photos, tmp_path):
    df, photos, _ = read_dataset(demo_photos)
    original, copy = df["image_path"][0], "copy.jpg"
    Image.open(demo_photos / original).resize((300, 225)).save(tmp_path / copy, quality=40)
    write_via(tmp_path / "via.json", {copy: []})
    photos |= read_dataset(tmp_path)[1]
    hashes = {name: photos[name].hash for name in (original, copy, *df["image_path"][1:9])}
    assert near_duplicates(hashes) == [(copy, original)]


def test_near_duplicates_are_all_connected_by_the_pairs():
    base, far = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    hashes = {
        "a": base,
        "b": base,
        "c": far,
        "d": base ^ 0b1111,  # 4 bits from a and b
        "e": far ^ (1 << 63 | 1 << 31 | 1),  # 3 bits, far apart, from c
        "f": base ^ 0b11111 << 20,  # 5 bits from a and b: too far
    }
    assert near_duplicates(hashes) == [("a", "b"), ("a", "d"), ("c", "e")]
    assert len(near_duplicates({str(number): 7 for number in range(700)})) == 699


def test_nearly_equal_photos_with_different_labels_conflict():
    df = pd.DataFrame({"image_path": list("abcd"), "label": ["Front", "Rear", "Rear", "Rear"]})
    assert find_conflicts(df, {"a": 7, "b": 7, "c": 2**40 - 1, "d": 2**40 - 1}) == [("a", "b")]


# --- Splits that stay --------------------------------------------------------------


def photos_of(df: pd.DataFrame, seed: int = 0) -> dict[str, tuple[int, str]]:
    """For each photo a perceptual hash that is far from all others, and the hash of its content."""
    random = np.random.default_rng(seed)
    return {path: (int(random.integers(2**63)), f"content of {path}") for path in df["image_path"]}


def splits_of(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {path: name for name, table in tables.items() for path in table["image_path"]}


def remember(tables: dict[str, pd.DataFrame], photos: dict[str, tuple[int, str]], folder: Path) -> Memory:
    """What a next run reads after these tables were written."""
    memory_table(tables, photos, folder).to_csv(folder / "splits.csv", index=False)
    return read_memory(folder)


def test_the_first_run_splits_as_scikit_learn_does():
    df = labelled_photos(20)
    tables, changes = make_splits(df, photos_of(df), Memory())
    for table, expected in zip(tables.values(), create_stratified_splits(df), strict=True):
        pd.testing.assert_frame_equal(table, expected)
    assert (changes.new, changes.kept, changes.moved) == (140, 0, [])


def test_corrected_renamed_and_changed_photos_stay_and_new_ones_are_dealt_by_class(tmp_path):
    df = labelled_photos(20)
    photos = photos_of(df)
    tables, _ = make_splits(df, photos, Memory())
    before, memory = splits_of(tables), remember(tables, photos, tmp_path)

    later = df.copy()
    later.loc[3, "label"] = "Rear"  # corrected
    renamed, changed, gone = (df["image_path"][row] for row in (30, 40, 50))
    later.loc[30, "image_path"] = "new name.jpg"
    photos["new name.jpg"] = photos[renamed]
    photos[changed] = (photos[changed][0], "edited")
    new = pd.DataFrame({"image_path": [f"new {n}.jpg" for n in range(10)], "label": "RearLeft"})
    later = pd.concat([later.drop(50), new], ignore_index=True)
    photos |= photos_of(new, seed=1)

    tables, changes = make_splits(later, photos, memory)
    after = splits_of(tables)
    for path in df["image_path"].drop([30, 50]):
        assert after[path] == before[path]
    assert after["new name.jpg"] == before[renamed]
    assert (changes.kept, changes.new, changes.gone, changes.moved) == (139, 10, 1, [])
    # RearLeft had 16, 2 and 2 photos; with 30 there should be 24, 3 and 3.
    assert [list(after.values()).count(name) for name in SPLITS] == [
        list(before.values()).count(name) + more - (before[gone] == name)
        for name, more in zip(SPLITS, (8, 1, 1), strict=True)
    ]
    # A photo that comes back finds its old place.
    memory = remember(tables, photos, tmp_path)
    back = splits_of(make_splits(df, photos_of(df), memory)[0])
    assert back[gone] == before[gone]


def test_near_duplicates_share_a_split_also_when_one_is_new(tmp_path):
    df = labelled_photos(20)
    photos = photos_of(df)
    tables, _ = make_splits(df, photos, Memory())
    memory, before = remember(tables, photos, tmp_path), splits_of(tables)
    by_split = {name: next(path for path in before if before[path] == name) for name in SPLITS}
    # New photos look like one of each split.
    new = pd.DataFrame({"image_path": [f"like {name}.jpg" for name in SPLITS], "label": "Front"})
    photos |= {f"like {name}.jpg": (photos[path][0] ^ 1, name) for name, path in by_split.items()}
    tables, changes = make_splits(pd.concat([df, new]), photos, memory)
    assert {path: split for path, split in splits_of(tables).items() if path.startswith("like")} == {
        f"like {name}.jpg": name for name in SPLITS
    }
    assert changes.moved == []
    # Two photos that look alike after all: the one in test joins the one in train, and that is told.
    photos[by_split["test"]] = (photos[by_split["train"]][0], "edited")
    _, changes = make_splits(df, photos, memory)
    assert changes.moved == [(by_split["test"], "test", "train")]


def test_groups_found_in_names_share_a_split():
    names = [f"lot/CLAIM{claim:03}_{photo:02}.jpg" for claim in range(30) for photo in range(4)]
    df = pd.DataFrame({"image_path": names, "label": [config.CLASSES[n // 4 % 2] for n in range(120)]})
    tables, _ = make_splits(df, photos_of(df), Memory(), "grouped", r"(CLAIM\d+)")
    claims = [set(table["image_path"].str.extract(r"(CLAIM\d+)")[0]) for table in tables.values()]
    assert [len(one) for one in claims] == [24, 3, 3]
    assert len(set().union(*claims)) == 30
    assert group_keys(["a_jpg.rf.0123.jpg", "a_jpg.rf.9.jpg", "b.jpg"], r"(.*)_jpg\.rf\.") == ["a", "a", "/b.jpg"]


def test_a_damaged_memory_is_one_sentence(tmp_path):
    (tmp_path / "splits.csv").write_text("image_path,split,content\na.jpg,validation,x\n")
    with pytest.raises(UserError, match=r"splits\.csv does not say the split of each photo; .* --resplit"):
        read_memory(tmp_path)


def test_the_splits_of_an_earlier_version_are_kept(tmp_path):
    for name in SPLITS:
        (tmp_path / f"{name}.csv").write_text(f"image_path,label\n{name}.jpg,Rear\n")
    assert read_memory(tmp_path).by_path == {f"{name}.jpg": name for name in SPLITS}
