"""Cross-validation: no photo is trained and tested on, no fold is trained twice, figures are computed by hand."""

import sys
from pathlib import Path

import crossval
import pandas as pd
import pytest
import tiny_train
from conftest import save_photo

import config
from viewpoint.common.cli import UserError
from viewpoint.data.dataset import SPLITS
from viewpoint.data.duplicates import group_keys, group_photos
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold
from viewpoint.data.provenance import describe_training, hash_photos, photo_hash, write_data
from viewpoint.data.scan import parse_dataset


def labelled_photos(per_class: int) -> pd.DataFrame:
    rows = [(f"{name}_{index}.jpg", name) for name in config.CLASSES for index in range(per_class)]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_each_photo_is_tested_once_and_never_trained_on_in_that_fold():
    df = labelled_photos(20)
    folds = crossval.make_folds(df, 5, range(len(df)))
    tested = [path for fold in folds for path in fold["test"]["image_path"]]
    assert sorted(tested) == sorted(df["image_path"])
    for fold in folds:
        parts = [set(split["image_path"]) for split in fold.values()]
        assert [len(part) for part in parts] == [98, 14, 28]
        assert len(set.union(*parts)) == len(df)
        assert set(fold["test"]["label"].value_counts()) == {4}


def test_grouped_folds_hold_whole_folders():
    rows = [(f"vehicle {v}/{i}.jpg", config.CLASSES[v % 2]) for v in range(30) for i in range(4)]
    df = pd.DataFrame(rows, columns=["image_path", "label"])
    pairs = [("vehicle 0/0.jpg", "vehicle 7/1.jpg")]
    paths = df["image_path"].tolist()
    for fold in crossval.make_folds(df, 5, group_photos(paths, pairs, group_keys(paths, None))):
        folders = [set(split["image_path"].str.partition("/")[0]) for split in fold.values()]
        assert len(set.union(*folders)) == sum(map(len, folders)) == 30
        # The two vehicles of nearly equal photos stay together.
        assert any({"vehicle 0", "vehicle 7"} <= folder for folder in folders)


@pytest.mark.parametrize("folds", [3, 5])
def test_near_duplicates_share_a_fold_and_never_sit_in_train_and_test(folds):
    df = labelled_photos(20)
    groups = [["Front_0.jpg", "Front_7.jpg", "Rear_3.jpg"], ["Rear_5.jpg", "Rear_6.jpg"]]
    pairs = [(group[0], other) for group in groups for other in group[1:]]
    tested = []
    for fold in crossval.make_folds(df, folds, group_photos(df["image_path"].tolist(), pairs)):
        parts = [set(split["image_path"]) for split in fold.values()]
        assert all(any(set(group) <= part for part in parts) for group in groups)
        assert len(set.union(*parts)) == sum(map(len, parts)) == len(df)
        tested += fold["test"]["image_path"].tolist()
    assert sorted(tested) == sorted(df["image_path"])


def test_near_duplicates_are_found_in_the_photos(tmp_path):
    files = [save_photo(tmp_path / f"{seed}.png", seed) for seed in range(6)]
    files.append(save_photo(tmp_path / "larger 2.jpg", 2, (90, 60)))
    df = pd.DataFrame({"image_path": [file.name for file in files], "file": list(map(str, files))})
    assert crossval.find_near_duplicates(df) == [("2.png", "larger 2.jpg")]


def test_a_class_with_too_few_photos_is_reported_in_a_sentence():
    with pytest.raises(UserError, match="21 photos, 3 groups of Background, are too few for 5 folds"):
        crossval.make_folds(labelled_photos(3), 5, range(21))


def test_finished_folds_are_not_trained_again(tmp_path, monkeypatch, capsys):
    trained = []

    def fake_training(fold, data_dir, seed, options, others):
        if len(trained) == 7:
            raise KeyboardInterrupt
        trained.append((seed, options))
        # Only the first test photo of each fold is wrong.
        labels = fold["test"]["label"].tolist()
        wrong = "Front" if labels[0] != "Front" else "Rear"
        rows = zip(fold["test"]["image_path"], [wrong, *labels[1:]], [0.9] * len(labels), labels, strict=True)
        figures = dict.fromkeys([*crossval.NUMBERS, "seconds"], 0.5)
        paths = fold["test"]["image_path"]
        values = [seed / 10] * len(config.CLASSES)
        result = {**figures, "robustness": {"clean": 0.5}, "predictions": list(rows), "other": {}}
        return result | {"probabilities": {path: values for path in paths}}

    for seed, path in enumerate(labelled_photos(20)["image_path"]):
        save_photo(tmp_path / path, seed)
    for name, split in zip(("train", "val", "test"), (slice(0, 40), slice(40, 60), slice(60, 140)), strict=True):
        labelled_photos(20)[split].to_csv(tmp_path / f"{name}.csv", index=False)
    output = tmp_path / "cv.jsonl"
    command = ["crossval.py", "--dataset", str(tmp_path), "--output", str(output), "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--", "--recipe", "reference"])
    monkeypatch.setattr(crossval, "train_fold", fake_training)
    with pytest.raises(KeyboardInterrupt):
        crossval.main()
    with output.open("a") as file:
        file.write('{"key": {"from": "an earlier version"}}\n')
        file.write('{"key": {"cut off')  # a power failure in the middle of a line
    output.write_text(output.read_text() + "\n")
    assert len(output.read_text().splitlines()) == 9
    assert not (tmp_path / OUT_OF_FOLD_NAME).exists()  # some photos have no probabilities yet
    trained.clear()
    crossval.main()
    assert trained == [(2, ["--recipe", "reference"])] * 3
    assert [row["key"]["fold"] for row in crossval.read_finished(output).values()] == [0, 1, 2, 3, 4] * 2
    # The mean over the seeds 1 and 2, for all photos.
    paths = labelled_photos(20)["image_path"]
    found = read_out_of_fold(tmp_path / OUT_OF_FOLD_NAME, {path: photo_hash(tmp_path / path) for path in paths})
    assert len(found) == 140
    assert {value for values in found.values() for value in values.values()} == {0.15}
    # 5 of 140 wrong, at a score of 0.9 throughout: 135/140 - 0.9 = 0.064.
    assert "Seed 2, all folds together: 5 of 140 wrong, accuracy 0.964" in capsys.readouterr().out


def test_folds_and_a_model_of_other_photos_are_said(tmp_path, capsys):
    photos = [save_photo(tmp_path / f"{seed}.png", seed) for seed in range(6)]
    labels = ["Front"] * 6
    hashes = hash_photos(photos)
    data = describe_training([], {name: hashes for name in SPLITS}, {name: labels for name in SPLITS})
    write_data(data, tmp_path / "models")
    splits = {name: pd.DataFrame({"content": hashes, "label": labels}) for name in SPLITS}
    done = {"old": {"key": {"fingerprint": "a"}}, "new": {"key": {"fingerprint": "b"}}}

    def said(key: str) -> str:
        paths = (tmp_path / "cv.jsonl", splits, tmp_path / "dataset", tmp_path / "models")
        crossval.print_other_data(done, {"fingerprint": key}, *paths)
        return capsys.readouterr().out

    done.pop("old")
    assert said("b") == ""
    assert "Not counted: 1 fold in" in said("c")
    splits["val"] = splits["val"].assign(label="Rear")
    found = said("b")
    assert "was trained on other photos or labels than" in found
    assert "(in val): these figures are not of that model" in found


def test_a_fold_of_a_photo_that_has_changed_since_is_trained_again(tmp_path):
    df = labelled_photos(1).assign(content=[*"abcdefg"])
    assert crossval.describe_inputs(df) == crossval.describe_inputs(df.copy())
    assert crossval.describe_inputs(df) != crossval.describe_inputs(df.assign(content=[*"abcdefx"]))


def test_a_mistake_in_the_options_of_train_py_is_reported_at_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["crossval.py", "--", "--mixup", "-1"])
    with pytest.raises(SystemExit):
        crossval.main()
    assert "argument --mixup: -1 is not a number of at least 0" in capsys.readouterr().err


def test_the_fingerprint_covers_the_code_that_trains_and_none_that_only_labels_or_converts():
    names = {path.relative_to(crossval.PROJECT).as_posix() for path in crossval.code_of_training()}
    assert {"config.py", "train.py", "viewpoint/training/augmentation.py", "viewpoint/reports/training.py"} <= names
    assert (
        not {"data_preparation.py", "convert_tflite.py", "viewpoint/data/scan.py", "viewpoint/handoff/quantization.py"}
        & names
    )


@pytest.mark.stress
def test_train_py_itself_runs_on_a_fold(demo_photos, tmp_path, monkeypatch):
    """With a tiny backbone in the place of MobileNetV2."""
    (tmp_path / "train.py").write_text(
        Path(tiny_train.__file__).read_text().replace("__file__", repr(tiny_train.__file__))
    )
    monkeypatch.setattr(crossval, "PROJECT", tmp_path)
    table = parse_dataset(demo_photos)
    fold = crossval.make_folds(table, 5, range(len(table)))[0]
    for name in ("Front", "RearLeft"):
        (tmp_path / "others" / name).mkdir(parents=True)
        save_photo(tmp_path / "others" / name / "1.png")
    others = {"others": crossval.read_other(tmp_path / "others")}
    options = ["--weights", "none", "--image-size", "32", "--phase2-epochs", "1", "--mixup", "0.2", "--loss", "focal"]
    row = crossval.train_fold(fold, demo_photos, 1, options, others)
    assert len(row["predictions"]) == len(fold["test"])
    right = sum(predicted == true for _, predicted, _, true in row["predictions"])
    assert row["accuracy"] == pytest.approx(right / len(fold["test"]))
    assert row["robustness"]["clean"] == row["accuracy"]
    assert [true for _, _, true in row["other"]["others"]] == ["Front", "RearLeft"]
    assert row["photos"] == len(fold["train"])
    # The probabilities are those of the predictions.
    for path, predicted, score, _ in row["predictions"]:
        values = row["probabilities"][path]
        assert max(values) == pytest.approx(score, abs=1e-3)
        assert config.CLASSES[values.index(max(values))] == predicted


def test_photos_of_another_source_come_from_a_csv_or_from_folders_of_the_classes(tmp_path):
    for name in ("Front", "Rear"):
        (tmp_path / name).mkdir()
        save_photo(tmp_path / name / "1.png")
    by_folder = crossval.read_other(tmp_path)
    assert by_folder[["image_path", "label"]].to_numpy().tolist() == [["Front/1.png", "Front"], ["Rear/1.png", "Rear"]]
    # A CSV counts more than the names of the folders.
    (tmp_path / "labels.csv").write_text("image_path,label\nFront/1.png,RearLeft\n")
    for path in (tmp_path, tmp_path / "labels.csv"):
        other = crossval.read_other(path)
        assert other["label"].tolist() == ["RearLeft"]
        assert Path(other["file"][0]) == tmp_path / "Front" / "1.png"
    with pytest.raises(UserError, match="no labelled photos"):
        crossval.read_other(tmp_path / "Front")


def test_figures_on_another_source_by_hand(capsys):
    """Four photos: right, the opposite end, the wrong side, a vehicle taken for a Background."""
    answers = [["Rear", 1.0, "Rear"], ["RearRight", 0.6, "FrontLeft"], ["FrontRight", 0.8, "FrontLeft"]]
    answers += [["Background", 0.6, "Front"]]
    figures = crossval.figures_on_other(answers)
    assert figures["accuracy"] == 0.25
    assert figures["opposite end"] == 0.25
    assert figures["vehicles as Background"] == 0.25
    # One bin each: 1.0 is right, 0.6 twice wrong, 0.8 wrong: (0 + 0.6 + 0.6 + 0.8) / 4.
    assert figures["calibration error"] == pytest.approx(0.5)
    # Seed 1 has 0.25 and 1 in its two folds on the other source, and half of its own two photos right.
    right = [["Rear", 1.0, "Rear"]] * 4
    own = {"right": [["1.jpg", "Rear", 0.9, "Rear"]], "wrong": [["2.jpg", "Rear", 0.9, "Front"]]}
    rows = [
        {"key": {"seed": seed}, "other": {"others": other}, "predictions": own[name]}
        for seed, other, name in ((1, answers, "right"), (1, right, "wrong"), (2, right, "right"), (2, right, "right"))
    ]
    crossval.print_other(rows)
    printed = capsys.readouterr().out
    assert "On 4 photos of others, which no model was trained on, by seed:" in printed
    assert "accuracy                0.812  (0.625, 1.000)" in printed
    # Seed 1: (0.5 + 0.625) / 2, seed 2: (1 + 1) / 2; 0.4375 apart.
    assert (
        "Mean accuracy of the 2 sources: 0.781  (0.562, 1.000); half the range over the seeds is 21.9 points" in printed
    )


def test_a_third_of_the_photos_is_part_of_two_thirds_and_cuts_no_group():
    df = labelled_photos(30)
    group_of = {path: index // 2 for index, path in enumerate(df["image_path"])}
    parts = [set(crossval.keep_parts(df, count, group_of).index) for count in (1, 2, 3)]
    assert parts[0] < parts[1] < parts[2] == set(df.index)
    assert [len(part) for part in parts] == [70, 140, 210]
    for part in parts:
        assert all(index ^ 1 in part for index in part)
        assert set(df.loc[sorted(part), "label"]) == set(config.CLASSES)


def learning_rows(right: int) -> list[dict]:
    """One fold that was trained on 10 photos for each right answer, of 100 photos of two classes."""
    names = [config.CLASSES[index % 2] for index in range(100)]
    predictions = [[f"{index}.jpg", name if index < right else "Rear", 0.9, name] for index, name in enumerate(names)]
    return [{"photos": 10 * right, "predictions": predictions}]


def test_the_learning_curve_says_whether_more_photos_would_help(capsys):
    crossval.print_learning_curve({1: learning_rows(30), 2: learning_rows(60), 3: learning_rows(80)})
    printed = capsys.readouterr().out
    assert "800            0.800        0.800        0.800" in printed
    # 20 of 100 photos newly right: 20 points; the standard error is sqrt(0.2 * 0.8 / 99) = 4.0 points.
    assert "From 600 to 800 photos: +20.0 ± 4.0 points of accuracy, so more photos would help" in printed
    assert "Front (+20), FrontLeft (+20)" in printed

    # One photo more right is noise.
    crossval.print_learning_curve({1: learning_rows(30), 2: learning_rows(60), 3: learning_rows(61)})
    printed = capsys.readouterr().out
    assert "+1.0 ± 1.0 points of accuracy, which may be chance; photos of other" in printed
    # 31 of 50 photos of Front are right, and 30 of FrontLeft.
    assert "Right least often: FrontLeft (0.60), Front (0.62)." in printed
