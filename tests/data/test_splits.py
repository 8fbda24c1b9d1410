"""The splits: by groups of photos, stratified, reproducible, and kept by later runs.

The CSV files: read back with their photos, and never written over a file of the user's.
Near-duplicates: which photos are nearly equal, and the groups that they make.
"""

import itertools
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance

import config
from viewpoint.annotations.photo import Photo
from viewpoint.common.cli import UserError
from viewpoint.data.dataset import SPLITS, read_rows, read_split, refuse_to_overwrite
from viewpoint.data.duplicates import (
    find_conflicts,
    group_keys,
    group_photos,
    near_duplicates,
    near_pairs,
    perceptual_hash,
)
from viewpoint.data.splits import (
    SplitHistory,
    SplitOptions,
    assign,
    create_grouped_splits,
    create_stratified_splits,
    history_table,
    make_splits,
    read_history,
    remember_learned,
)

SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}


def labelled_photos(per_class: int) -> pd.DataFrame:
    rows = [(f"{name}_{index:03}.jpg", name) for name in config.CLASSES for index in range(per_class)]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def photos_in_folders(folders: int, per_folder: int) -> pd.DataFrame:
    """Folders of `per_folder` photos of one class each, two classes in turn."""
    rows = [
        (f"vehicle {folder:02}/{index}.jpg", config.CLASSES[folder % 2])
        for folder in range(folders)
        for index in range(per_folder)
    ]
    return pd.DataFrame(rows, columns=["image_path", "label"])


# --- From groups to splits ---------------------------------------------------------


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
    other_seed = create_stratified_splits(df, seed=1)
    assert other_seed[2]["image_path"].tolist() != splits[2]["image_path"].tolist()


@pytest.mark.parametrize("burst", [1, 2, 4, 8])
@pytest.mark.parametrize("cars", [140, 470])
def test_bursts_fill_val_and_test_and_no_car_is_in_two_splits(burst, cars):
    draw = np.random.default_rng(burst)
    class_of_car = draw.choice(config.CLASSES, cars, p=[0.05, 0.2, 0.25, 0.1, 0.12, 0.13, 0.15])
    groups = np.repeat(np.arange(cars), burst)
    splits = np.array(assign(class_of_car[groups].tolist(), groups.tolist(), SHARES, seed=42))
    for name in ("val", "test"):
        assert 0.08 <= np.mean(splits == name) <= 0.12
    assert all(len(set(splits[groups == car])) == 1 for car in range(cars))
    for name in SPLITS:
        assert {label for label, count in Counter(class_of_car).items() if count >= 3} <= set(
            class_of_car[groups[splits == name]]
        )


@pytest.mark.parametrize("seed", range(20))
def test_groups_of_any_size_below_two_percent_and_of_several_classes_fit(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 9, 120)  # at most 8 of about 540 photos: 1.5 %
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = draw.choice(config.CLASSES[: draw.integers(2, 8)], len(groups)).tolist()
    splits = np.array(assign(labels, groups.tolist(), SHARES, seed))
    for name in ("val", "test"):
        assert 0.08 <= np.mean(splits == name) <= 0.12
        assert set(np.array(labels)[splits == name]) == set(labels)


def test_a_class_of_three_groups_is_in_every_split_and_one_of_two_is_in_train():
    labels = ["Front"] * 60 + ["Rear"] * 3 + ["RearLeft"] * 2 + ["Background"] * 6
    groups = [*range(65), 65, 65, 66, 66, 67, 67]  # the six Backgrounds are three bursts
    splits = assign(labels, groups, SHARES, seed=1)
    seen = Counter(zip(labels, splits, strict=True))
    for name in SPLITS:
        assert seen["Rear", name] == 1 and seen["Background", name] == 2
    assert seen["RearLeft", "train"] >= 1


def test_one_group_of_a_third_of_all_photos_is_in_train_and_the_others_fill_val_and_test():
    labels = [config.CLASSES[n % 7] for n in range(300)]
    groups = [0] * 100 + list(range(1, 201))
    splits = assign(labels, groups, SHARES, seed=0)
    assert splits[:100] == ["train"] * 100
    assert all(28 <= splits.count(name) <= 32 for name in ("val", "test"))


def test_five_walks_around_a_car_each_chained_to_one_group_give_three_splits():
    labels = [config.CLASSES[n * 6 // 300] for _ in range(5) for n in range(300)]
    groups = np.repeat(range(5), 300).tolist()
    assert Counter(assign(labels, groups, SHARES, seed=0)) == {"train": 900, "val": 300, "test": 300}


def test_groups_that_are_assigned_already_stay_and_new_ones_make_up_for_them():
    labels, groups = ["Front"] * 100, list(range(100))
    splits = assign(labels, groups, SHARES, 0, fixed=dict.fromkeys(range(70), "train"))
    assert splits[:70] == ["train"] * 70
    assert Counter(splits[70:]) == {"train": 10, "val": 10, "test": 10}


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_photos_of_a_class_is_a_sentence_that_names_it(count):
    df = labelled_photos(50)
    df = df[(df["label"] != "Rear") | df.groupby("label").cumcount().lt(count)]
    with pytest.raises(UserError, match=f"Rear has {count} of {300 + count}, which leaves none for .*annotate more"):
        create_stratified_splits(df)


def test_three_photos_of_each_class_are_one_in_each_split():
    assert [len(split) for split in create_stratified_splits(labelled_photos(3))] == [7, 7, 7]


def test_nothing_to_split_is_a_sentence():
    with pytest.raises(UserError, match="no labelled photos to split"):
        create_stratified_splits(labelled_photos(0))


def test_fractions_that_leave_nothing_are_a_sentence():
    with pytest.raises(UserError, match="add up to less than 1"):
        create_stratified_splits(labelled_photos(10), val_share=0.5, test_share=0.5)


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
    with pytest.raises(UserError, match=r"40 photos in 2 groups leave nothing for val and test, .* has 20 of"):
        create_grouped_splits(photos_in_folders(folders=2, per_folder=20))
    df = photos_in_folders(folders=3, per_folder=10)
    df["label"] = df["image_path"].str[:10].map({"vehicle 00": "Front", "vehicle 01": "Rear", "vehicle 02": "RearLeft"})
    with pytest.raises(UserError, match=r"30 photos in 3 groups leave nothing for val and test"):
        create_grouped_splits(df)


# --- Splits that stay --------------------------------------------------------------


def contents_of(df: pd.DataFrame) -> dict[str, str]:
    """For each photo the hash of its content."""
    return {path: f"content of {path}" for path in df["image_path"]}


def splits_of(tables: dict[str, pd.DataFrame]) -> dict[str, str]:
    return {path: name for name, table in tables.items() for path in table["image_path"]}


def run_once(
    df: pd.DataFrame, contents: dict[str, str], pairs: list[tuple[str, str]], folder: Path, **options
) -> tuple[dict[str, str], object]:
    """A run of data_preparation.py without its photos: the split of each photo, and what changed."""
    history = read_history(folder)
    tables, changes = make_splits(df, contents, pairs, history, SplitOptions(**options))
    photos = {path: Photo((), 0, content) for path, content in contents.items()}
    history_table(tables, photos, history).to_csv(folder / "splits.csv", index=False)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return splits_of(tables), changes


def test_the_first_run_splits_like_the_function_that_people_import():
    df = labelled_photos(20)
    tables, changes = make_splits(df, contents_of(df), [], SplitHistory(), SplitOptions())
    for table, expected in zip(tables.values(), create_stratified_splits(df), strict=True):
        pd.testing.assert_frame_equal(table, expected)
    assert (changes.new, changes.kept, changes.moved) == (140, 0, [])


def test_corrected_renamed_and_changed_photos_stay_and_new_ones_are_assigned_by_class(tmp_path):
    df = labelled_photos(20)
    contents = contents_of(df)
    before, _ = run_once(df, contents, [], tmp_path)

    later = df.copy()
    later.loc[3, "label"] = "Rear"  # corrected
    renamed, changed, gone = (df["image_path"][row] for row in (30, 40, 50))
    later.loc[30, "image_path"] = "new name.jpg"
    contents["new name.jpg"] = contents[renamed]
    contents[changed] = "edited"
    new = pd.DataFrame({"image_path": [f"new {n}.jpg" for n in range(10)], "label": "RearLeft"})
    later = pd.concat([later.drop(50), new], ignore_index=True)
    contents |= contents_of(new)

    after, changes = run_once(later, contents, [], tmp_path)
    for path in df["image_path"].drop([30, 50]):
        assert after[path] == before[path]
    assert after["new name.jpg"] == before[renamed]
    assert (changes.kept, changes.new, changes.gone, changes.moved) == (139, 10, 1, [])
    # RearLeft had 16, 2 and 2 photos; with 30 there should be 24, 3 and 3.
    assert [after[path] for path in new["image_path"]].count("train") == 8
    # Only what went away since the last run is gone, and a photo that comes back finds its old place.
    _, changes = run_once(later, contents, [], tmp_path)
    assert (changes.new, changes.gone) == (0, 0)
    back, _ = run_once(df, contents, [], tmp_path)
    assert back[gone] == before[gone]


def test_photos_that_swap_their_names_stay_in_their_splits(tmp_path):
    """A photo that a model has learned must not come into test under the name of another one."""
    df = labelled_photos(20)
    contents = contents_of(df)
    before, _ = run_once(df, contents, [], tmp_path)
    learned, tested = (next(path for path in before if before[path] == name) for name in ("train", "test"))
    contents[learned], contents[tested] = contents[tested], contents[learned]
    after, changes = run_once(df, contents, [], tmp_path)
    assert (after[learned], after[tested]) == ("test", "train")
    assert changes.moved == []
    # The name in train is given to a new photo; the one that had it comes back under a third name.
    old = contents[tested]
    contents[tested] = "new"
    run_once(df, contents, [], tmp_path)
    returned = pd.concat([df, pd.DataFrame({"image_path": ["back.jpg"], "label": ["Front"]})])
    assert run_once(returned, contents | {"back.jpg": old}, [], tmp_path)[0]["back.jpg"] == "train"


def test_near_duplicates_share_a_split_also_when_one_is_new(tmp_path):
    df = labelled_photos(20)
    before, _ = run_once(df, contents_of(df), [], tmp_path)
    by_split = {name: next(path for path in before if before[path] == name) for name in SPLITS}
    new = pd.DataFrame({"image_path": [f"like {name}.jpg" for name in SPLITS], "label": "Front"})
    pairs = [(f"like {name}.jpg", path) for name, path in by_split.items()]
    more = pd.concat([df, new])
    after, changes = run_once(more, contents_of(more), pairs, tmp_path)
    assert {path: split for path, split in after.items() if path.startswith("like")} == {
        f"like {name}.jpg": name for name in SPLITS
    }
    assert changes.moved == []
    # Two photos that look alike after all: the one in test joins the one in train, and that is told.
    pairs.append((by_split["train"], by_split["test"]))
    _, changes = run_once(more, contents_of(more), pairs, tmp_path)
    assert sorted(changes.moved) == sorted([(by_split["test"], "test", "train"), ("like test.jpg", "test", "train")])


def test_what_looks_like_a_photo_learned_without_labels_or_gone_is_where_that_is(tmp_path):
    df = labelled_photos(20)
    remember_learned(tmp_path, {"nowhere": 1})
    assert not list(tmp_path.iterdir())  # no splits yet
    before, _ = run_once(df, contents_of(df), [], tmp_path)
    remember_learned(tmp_path, {f"learned {number}": number for number in range(20)})
    assert read_history(tmp_path).hashes_besides(contents_of(df).values()) == {f"learned {n}": n for n in range(20)}

    gone = next(path for path in before if before[path] == "test")
    new = pd.DataFrame({"image_path": [f"new {n}.jpg" for n in range(21)], "label": "Front"})
    pairs = [(f"learned {n}", f"new {n}.jpg") for n in range(20)] + [(f"content of {gone}", "new 20.jpg")]
    more = pd.concat([df[df["image_path"] != gone], new])
    after, changes = run_once(more, contents_of(more), pairs, tmp_path)
    assert [after[path] for path in new["image_path"]] == ["train"] * 20 + ["test"]
    assert (changes.new, changes.gone, changes.moved) == (21, 1, [])
    # The photo itself, annotated later, and after many runs.
    more = pd.concat([more, pd.DataFrame({"image_path": ["itself.jpg"], "label": ["Front"]})])
    assert run_once(more, contents_of(more) | {"itself.jpg": "learned 7"}, [], tmp_path)[0]["itself.jpg"] == "train"


def test_new_cars_in_bursts_leave_every_photo_where_it_was(tmp_path):
    names = [f"lot/CAR{car:03}_{shot}.jpg" for car in range(200) for shot in range(4)]
    df = pd.DataFrame({"image_path": names, "label": [config.CLASSES[n // 4 % 7] for n in range(800)]})
    options = {"by": "grouped", "group_by": r"(CAR\d+)"}
    before, _ = run_once(df[:560], contents_of(df), [], tmp_path, **options)
    after, changes = run_once(df, contents_of(df), [], tmp_path, **options)
    assert {path: after[path] for path in before} == before
    assert (changes.kept, changes.new, changes.gone, changes.moved) == (560, 240, 0, [])
    for splits in (before, after):
        counts = Counter(splits.values())
        assert all(0.08 * len(splits) <= counts[name] <= 0.12 * len(splits) for name in ("val", "test"))
    assert all(len({after[f"lot/CAR{car:03}_{shot}.jpg"] for shot in range(4)}) == 1 for car in range(200))


def test_photos_that_are_all_one_burst_are_refused_with_the_group_in_the_way(tmp_path):
    df = labelled_photos(10)
    pairs = [(df["image_path"][0], path) for path in df["image_path"][1:]]
    with pytest.raises(
        UserError,
        match=r"in 1 group leave nothing for val and test.* of Front_000.jpg, has 70 of",
    ):
        run_once(df, contents_of(df), pairs, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_split_that_lost_all_its_photos_is_refused(tmp_path):
    df = labelled_photos(10)
    before, _ = run_once(df, contents_of(df), [], tmp_path)
    learned = df[df["image_path"].map(before) == "train"]
    with pytest.raises(UserError, match="too few"):
        run_once(learned, contents_of(df), [], tmp_path)


def test_a_damaged_splits_csv_is_one_sentence(tmp_path):
    for content in (
        "image_path,split,content\na.jpg,validation,x\n",
        "image_path,split\n",
        "image_path,split,content,perceptual_hash\na.jpg,val,x,z\n",
    ):
        (tmp_path / "splits.csv").write_text(content)
        with pytest.raises(UserError, match=r"splits\.csv does not say the split of each photo; .* --resplit"):
            read_history(tmp_path)


def test_the_splits_of_an_earlier_version_are_kept(tmp_path):
    for name in SPLITS:
        (tmp_path / f"{name}.csv").write_text(f"image_path,label\n{name}.jpg,Rear\n")
    assert read_history(tmp_path).by_path == {f"{name}.jpg": name for name in SPLITS}


# --- The CSV files -----------------------------------------------------------------


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


def test_a_row_with_a_cell_too_few_is_a_sentence_with_its_line(tmp_path):
    (tmp_path / "val.csv").write_text("image_path,label\na.jpg,Rear\nb.jpg\n")
    with pytest.raises(UserError, match=r"line 3 of .*val\.csv does not have one cell for each of the columns"):
        read_rows(tmp_path / "val.csv")


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("train.csv", "image_path,label,front_votes\n", "name,price\n"),
        ("summary.json", '{"data_dir": ".", "annotation_files": 1}', '{"car.jpg1": {"filename": "car.jpg"}}'),
        ("review.html", "<!DOCTYPE html>\n", "my notes"),
    ],
)
def test_a_file_of_the_users_is_never_overwritten(tmp_path, name, own, other):
    (tmp_path / name).write_text(own)
    refuse_to_overwrite(tmp_path)
    (tmp_path / name).write_text(other)
    with pytest.raises(UserError, match="was not written by this project"):
        refuse_to_overwrite(tmp_path)


# --- Near-duplicates ---------------------------------------------------------------


def test_near_pairs_equal_a_search_through_all_pairs():
    draw = random.Random(0)
    values = [draw.getrandbits(128) for _ in range(60)]
    for value in values[:]:
        for flips in (3, config.DUPLICATE_BITS, config.DUPLICATE_BITS + 1):
            values.append(value ^ sum(1 << bit for bit in draw.sample(range(128), flips)))
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)
        if (a ^ b).bit_count() <= config.DUPLICATE_BITS
    }
    assert near_pairs(values, config.DUPLICATE_BITS) == expected
    assert 120 <= len(expected) < 360
    assert near_pairs([], 14) == near_pairs([7], 14) == near_pairs([7, 6], 0) == set()
    assert near_pairs([7, 1 << 127], 127) == {(0, 1)}


def test_a_burst_of_one_car_is_chained_and_another_car_is_not(demo_photos, tmp_path):
    """Exposure and compression differ from photo to photo of a burst, as phones save them."""
    files = sorted(demo_photos.rglob("*.jpg"))[:12]
    hashes = {}
    for number, file in enumerate(files):
        for shot, (brightness, quality) in enumerate([(0.8, 90), (0.9, 40), (1.1, 60), (1.2, 75)]):
            saved = tmp_path / f"{number}_{shot}.jpg"
            ImageEnhance.Brightness(Image.open(file)).enhance(brightness).save(saved, quality=quality)
            hashes[saved.name] = perceptual_hash(saved)
    groups = group_photos(list(hashes), near_duplicates(hashes))
    assert groups == [number for number in range(12) for _ in range(4)]


def test_near_duplicates_are_all_connected_by_the_pairs():
    base, far = 0x0123456789ABCDEF << 64, 0xFEDCBA9876543210
    hashes = {
        "a": base,
        "b": base,
        "c": far,
        "d": base ^ (1 << 14) - 1,  # 14 bits from a and b
        "e": far ^ (1 << 127 | 1 << 63 | 1),  # 3 bits, far apart, from c
        "f": base ^ ((1 << 15) - 1) << 20,  # 15 bits from a and b: too far
    }
    assert near_duplicates(hashes) == [("a", "b"), ("a", "d"), ("c", "e")]
    assert len(near_duplicates({str(number): 7 for number in range(700)})) == 699


def test_groups_are_chained_by_pairs_and_keys():
    assert group_photos(list("abcdef"), [("a", "c"), ("c", "d")]) == [0, 1, 0, 0, 2, 3]
    assert group_photos(list("abcdef"), [("a", "c")], ["x", "x", "y", "z", "z", "w"]) == [0, 0, 0, 1, 1, 2]


def test_groups_are_folders_or_what_a_pattern_finds_in_names():
    assert group_keys(["lot 1/a.jpg", "lot 1/b/c.jpg", "d.jpg"], None) == ["lot 1", "lot 1/b", "."]
    assert group_keys(["a_jpg.rf.0123.jpg", "a_jpg.rf.9.jpg", "b.jpg"], r"(.*)_jpg\.rf\.") == ["a", "a", "/b.jpg"]


def test_nearly_equal_photos_with_different_labels_conflict():
    df = pd.DataFrame({"image_path": list("abcd"), "label": ["Front", "Rear", "Rear", "Rear"]})
    assert find_conflicts(df, [("a", "b"), ("c", "d")]) == [("a", "b")]
