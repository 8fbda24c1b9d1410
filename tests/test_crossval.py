"""Cross-validation: honest folds, resumed without training twice, summed up by hand."""

import sys

import crossval
import pandas as pd
import pytest

import config
from common import UserError


def labelled_images(per_class: int) -> pd.DataFrame:
    rows = [(f"{name}_{index}.jpg", name) for name in config.CLASSES for index in range(per_class)]
    return pd.DataFrame(rows, columns=["image_path", "label"])


def test_each_image_is_tested_once_and_never_trained_on_in_that_fold():
    df = labelled_images(20)
    folds = crossval.make_folds(df, 5)
    tested = [path for fold in folds for path in fold["test"]["image_path"]]
    assert sorted(tested) == sorted(df["image_path"])
    for fold in folds:
        parts = [set(split["image_path"]) for split in fold.values()]
        assert [len(part) for part in parts] == [98, 14, 28]
        assert len(set.union(*parts)) == len(df)
        assert set(fold["test"]["label"].value_counts()) == {4}


def test_grouped_folds_hold_whole_folders():
    rows = [(f"vehicle {v}/{i}.jpg", config.CLASSES[v % 2]) for v in range(30) for i in range(4)]
    for fold in crossval.make_folds(pd.DataFrame(rows, columns=["image_path", "label"]), 5, grouped=True):
        folders = [set(split["image_path"].str.partition("/")[0]) for split in fold.values()]
        assert len(set.union(*folders)) == sum(map(len, folders)) == 30


def test_too_small_a_class_is_a_sentence():
    with pytest.raises(UserError, match="21 images, 3 of the smallest class, are too few for 5 folds"):
        crossval.make_folds(labelled_images(3), 5)


def test_finished_folds_are_not_trained_again(tmp_path, monkeypatch, capsys):
    trained = []

    def fake_training(fold, data_dir, seed, options):
        if len(trained) == 7:
            raise KeyboardInterrupt
        trained.append((seed, options))
        # All right but for the first test image of each fold.
        labels = fold["test"]["label"].tolist()
        wrong = "Front" if labels[0] != "Front" else "Rear"
        rows = zip(fold["test"]["image_path"], [wrong, *labels[1:]], [0.9] * len(labels), labels, strict=True)
        figures = dict.fromkeys([*crossval.NUMBERS, "seconds"], 0.5)
        return {**figures, "robustness": {"clean": 0.5}, "predictions": list(rows)}

    for name, split in zip(("train", "val", "test"), (slice(0, 40), slice(40, 60), slice(60, 140)), strict=True):
        labelled_images(20)[split].to_csv(tmp_path / f"{name}.csv", index=False)
    output = tmp_path / "cv.jsonl"
    command = ["crossval.py", "--dataset", str(tmp_path), "--output", str(output), "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--", "--recipe", "reference"])
    monkeypatch.setattr(crossval, "train_fold", fake_training)
    with pytest.raises(KeyboardInterrupt):
        crossval.main()
    with output.open("a") as file:
        file.write('{"key": {"cut off')  # a power failure in the middle of a line
    output.write_text(output.read_text() + "\n")
    assert len(output.read_text().splitlines()) == 8
    trained.clear()
    crossval.main()
    assert trained == [(2, ["--recipe", "reference"])] * 3
    assert [row["key"]["fold"] for row in crossval.read_rows(output).values()] == [0, 1, 2, 3, 4] * 2
    # 5 of 140 wrong, at a score of 0.9 throughout: 135/140 - 0.9 = 0.064.
    assert "Seed 2, all folds together: 5 of 140 wrong, accuracy 0.964" in capsys.readouterr().out


def test_train_py_itself_runs_on_a_fold(demo_photos):
    from data_preparation import parse_dataset

    fold = crossval.make_folds(parse_dataset(demo_photos), 5)[0]
    options = ["--weights", "none", "--image-size", "32", "--phase2-epochs", "1", "--mixup", "0.2", "--loss", "focal"]
    row = crossval.train_fold(fold, demo_photos, 1, options)
    assert len(row["predictions"]) == len(fold["test"])
    right = sum(predicted == true for _, predicted, _, true in row["predictions"])
    assert row["accuracy"] == pytest.approx(right / len(fold["test"]))
    assert row["robustness"]["clean"] == row["accuracy"]
