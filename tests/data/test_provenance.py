"""What a model knows of its training: hashes, fingerprints, ids, and what people are told of them.

A model that knows its data: conversion, prediction and explanation say when figures are not to be believed.
"""

import hashlib
import io
import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import save_photo

import config
import convert_tflite
import test_predict
from viewpoint.common.cli import UserError, run
from viewpoint.data.provenance import (
    DATA_NAME,
    PACKED_NAME,
    also_seen,
    as_text,
    describe_known,
    describe_outdated,
    describe_training,
    find_data,
    fingerprint,
    from_text,
    hash_photos,
    packed_data,
    photo_hash,
    read_data,
    read_earlier,
    write_data,
)
from viewpoint.handoff.metadata import read_metadata
from viewpoint.training.network import save_model

HASHES = {"train": ["aa", "bb", "cc"], "val": ["dd"], "test": ["ee"]}
LABELS = {"train": ["Front", "Rear", "Front"], "val": ["Rear"], "test": ["Rear"]}


def make_data(weight: bytes = b"weights"):
    return describe_training([weight], HASHES, LABELS)


def write_tflite(path, text: str | None) -> None:
    """A file with a zip archive behind it, as a .tflite file with metadata."""
    content = io.BytesIO(b"a model")
    with zipfile.ZipFile(content, "a") as packed:
        packed.writestr("labels.txt", "Front\n")
        if text is not None:
            packed.writestr(PACKED_NAME, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def test_a_photo_s_hash_is_of_its_content(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"pixels")
    assert photo_hash(tmp_path / "a.jpg") == hashlib.sha256(b"pixels").hexdigest()[:16]
    hashes = hash_photos([tmp_path / "a.jpg", tmp_path / "gone.jpg", tmp_path / "b.jpg"])
    assert hashes == [photo_hash(tmp_path / "a.jpg"), "", photo_hash(tmp_path / "a.jpg")]


def test_a_fingerprint_changes_with_photos_and_labels_but_not_with_their_order():
    split = fingerprint(["aa", "bb"], ["Front", "Rear"])
    assert (split.photos, split.classes) == (2, {"Front": 1, "Rear": 1})
    assert split.hash == hashlib.sha256(b"aa Front\nbb Rear\n").hexdigest()[:16]
    assert fingerprint(["bb", "aa"], ["Rear", "Front"]) == split
    for others in ((["aa", "bb"], ["Rear", "Front"]), (["aa", "cc"], ["Front", "Rear"]), (["aa"], ["Front"])):
        assert fingerprint(*others).hash != split.hash


def test_equal_trainings_have_equal_ids():
    assert make_data() == make_data()
    assert make_data().training != make_data(b"others").training
    assert make_data().training != describe_training([b"weights"], HASHES, LABELS | {"val": ["Front"]}).training


def test_data_json_keeps_everything_and_training_json_all_but_the_photos(tmp_path):
    data = replace(make_data(), threshold=0.625)
    write_data(data, tmp_path)
    assert read_data(tmp_path) == data
    assert data.photos == {"train": ["aa", "bb", "cc"], "val": ["dd"]}
    assert from_text(as_text(data, with_photos=False)) == replace(data, photos={})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"training": "a", "splits": {"train": 1}}', "[" * 99_999])
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / DATA_NAME).write_text(text)
    write_tflite(tmp_path / "model.tflite", text)
    assert read_data(tmp_path) is None
    assert packed_data(tmp_path / "model.tflite") is None


def test_the_photos_come_from_the_data_of_the_same_training(tmp_path):
    data = make_data()
    write_data(data, tmp_path)
    for model in (tmp_path / "model.tflite", tmp_path / "handoff" / "model.tflite"):
        write_tflite(model, as_text(data, with_photos=False))
        assert find_data(model) == data
    saved_model = tmp_path / "saved_model"
    saved_model.mkdir()
    assert find_data(saved_model) is None
    (saved_model / PACKED_NAME).write_text(as_text(data, with_photos=False))
    assert find_data(saved_model) == data
    write_data(make_data(b"others"), tmp_path)
    assert find_data(saved_model) == replace(data, photos={})
    write_tflite(tmp_path / "old.tflite", None)
    assert find_data(tmp_path / "old.tflite") is None


def test_photos_that_were_trained_on_are_said():
    data = make_data()
    assert describe_known(data, ["aa", "bb", "ee", "ff"]) == (
        "2 of these 4 photos were trained on: these figures are too good"
    )
    assert describe_known(data, ["aa", "dd"]) == (
        "1 of these 2 photos was trained on, and 1 used for validation: these figures are too good"
    )
    assert describe_known(data, ["dd"], "its score is") == (
        "1 of this 1 photo was used for validation in the training: its score is somewhat too good"
    )
    assert describe_known(data, ["ee", ""]) is None
    assert describe_known(None, ["aa"]) is None


def test_a_tflite_file_of_another_training_is_said_by_id_and_else_by_time(tmp_path):
    model, original = tmp_path / "model.tflite", tmp_path / "model.keras"
    write_tflite(model, as_text(make_data(), with_photos=False))
    assert describe_outdated(model) is None  # nothing beside it
    original.write_bytes(b"")
    write_data(make_data(), tmp_path)
    os.utime(model, (0, 0))
    assert describe_outdated(model) is None  # the ids are equal, whatever the times
    write_data(make_data(b"others"), tmp_path)
    assert "comes from another training" in describe_outdated(model)
    write_tflite(model, None)
    assert describe_outdated(model) is None
    os.utime(model, (0, 0))
    assert describe_outdated(model) == (
        f"{model} is older than {original}; run convert_tflite.py to convert the new model"
    )
    assert describe_outdated(tmp_path) is None


def test_what_was_learned_without_labels_cannot_become_a_test_photo_and_the_message_says_why(tmp_path):
    write_data(also_seen(make_data(), None, ["ee"]), tmp_path)
    with pytest.raises(UserError, match=r"2 of the 3 photos of test\.csv, .* learned them without labels"):
        read_earlier(tmp_path / "model.keras", {"val": ["dd"], "test": ["aa", "ee", "ff"]})
    with pytest.raises(UserError, match=r"1 of the 1 photo of val\.csv, .* prepare into the dataset folder"):
        read_earlier(tmp_path / "model.keras", {"val": ["aa"], "test": []})
    assert read_earlier(tmp_path / "model.keras", {"val": ["dd"], "test": ["ff"]}).photos["unlabelled"] == ["ee"]


# --- Conversion, prediction and explanation ----------------------------------------


def colour_model() -> keras.Model:
    """A model that decides by a photo's mean colour."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(x))
    model.layers[-1].set_weights([np.random.default_rng(1).normal(0, 80, (3, 7)).astype(np.float32), np.zeros(7)])
    return model


def write_split(folder: Path, name: str, numbers: range) -> list[str]:
    """Write photos and their CSV; returns the labels."""
    labels = [config.CLASSES[number % 7] for number in numbers]
    names = [save_photo(folder / f"{number}.png", seed=number).name for number in numbers]
    rows = "".join(f"{file},{label}\n" for file, label in zip(names, labels, strict=True))
    (folder / f"{name}.csv").write_text("image_path,label\n" + rows)
    return labels


@pytest.fixture(scope="module")
def converted(tmp_path_factory) -> Path:
    """dataset/ with three splits, and models/ with a model of them, converted, and with its metrics.json."""
    folder = tmp_path_factory.mktemp("converted")
    dataset, models = folder / "dataset", folder / "models"
    numbers = {"train": range(14), "val": range(14, 21), "test": range(21, 28)}
    labels = {name: write_split(dataset, name, part) for name, part in numbers.items()}
    hashes = {name: hash_photos(dataset / f"{number}.png" for number in part) for name, part in numbers.items()}
    model = colour_model()
    data = describe_training((weight.tobytes() for weight in model.get_weights()), hashes, labels)
    save_model(model, models, replace(data, threshold=0.5))
    test = {"images": 7, "accuracy": 0.9, "macro_f1": 0.8, "calibration_error": 0.05, "per_class": {}}
    (models / "report").mkdir()
    (models / "report" / "metrics.json").write_text(json.dumps({"training": data.training, "test": test}))
    convert(folder)
    return folder


@pytest.fixture
def folder(converted, tmp_path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(converted, tmp_path, dirs_exist_ok=True)


def call(script, *arguments) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [f"{script.__name__}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run(script.main)
    return exit_info.value.code


def convert(folder: Path) -> str:
    assert call(convert_tflite, "--models", folder / "models", "--dataset", folder / "dataset") == 0
    return (folder / "models" / "handoff" / "MODEL_CARD.md").read_text()


def predict(folder: Path, split: str, *options, model: str = "model.tflite") -> int:
    images = folder / "dataset" / (f"{split}.csv" if split else "")
    return call(test_predict, "--model", folder / "models" / model, "--images", images, *options)


def test_the_model_carries_its_training_and_mediapipe_still_reads_it(folder, tmp_path):
    from mediapipe import Image
    from mediapipe.tasks.python.vision import ImageClassifier

    data = read_data(folder / "models")
    assert [split.photos for split in data.splits.values()] == [14, 7, 7]
    model = folder / "models" / "model.tflite"
    assert packed_data(model) == packed_data(folder / "models" / "saved_model") == replace(data, photos={})
    with ImageClassifier.create_from_model_path(str(model)) as classifier:
        result = classifier.classify(Image.create_from_file(str(folder / "dataset" / "0.png")))
    assert result.classifications[0].categories[0].category_name in config.CLASSES


@pytest.mark.parametrize("model", ["model.tflite", "saved_model", "handoff/model.tflite"])
def test_a_csv_with_training_photos_is_said_and_strict_exits_with_1(folder, capsys, model):
    assert predict(folder, "test", "--strict", model=model) == 0
    assert "too good" not in capsys.readouterr().out
    assert predict(folder, "train", model=model) == 0
    assert "14 of these 14 photos were trained on: these figures are too good" in capsys.readouterr().out
    assert predict(folder, "train", "--strict", model=model) == 1
    assert predict(folder, "val", "--strict", model=model) == 0
    assert "7 of these 7 photos were used for validation in the training" in capsys.readouterr().out


def test_a_folder_has_no_figures_so_nothing_is_said(folder, capsys):
    assert predict(folder, "", "--strict") == 0
    assert "trained on" not in capsys.readouterr().out


def test_a_card_has_the_figures_of_the_model_s_own_training_only(folder, capsys):
    card = convert(folder)
    assert "| train | 14 | 2 | 2 | 2 | 2 | 2 | 2 | 2 |" in card
    assert "accuracy 0.900" in card
    assert f"`{read_data(folder / 'models').training}`" in card
    assert "other photos or labels" not in capsys.readouterr().out

    # The dataset is prepared again: photos of train are now in val, and there are more in all.
    write_split(folder / "dataset", "train", range(40, 60))
    write_split(folder / "dataset", "val", range(10, 17))
    (folder / "dataset" / "summary.json").write_text(json.dumps({"images": {"train": {"Front": 20}}}))
    assert convert(folder).partition("## Data")[2] == card.partition("## Data")[2]
    printed = capsys.readouterr().out
    assert "4 of these 7 validation photos were trained on: more of them are right than of new photos" in printed
    assert f"other photos or labels than {folder / 'dataset'}/ has now (in train, val)" in printed


def test_the_hand_off_and_folders_use_the_model_s_threshold(folder, capsys):
    models = folder / "models"
    metadata, _ = read_metadata((models / "model.tflite").read_bytes())
    [probability] = metadata.subgraphMetadata[0].outputTensorMetadata
    assert probability.description.decode().endswith("Treat a best score below 0.50 as Unknown.")
    assert "Treat a best score below 0.50 as unknown" in (models / "handoff" / "README.md").read_text()
    for model in ("model.tflite", "saved_model"):
        assert predict(folder, "test", "--per-folder", model=model) == 0
        assert "Below a score of 0.50, which the model suggests, photos are Unknown" in capsys.readouterr().out
    assert predict(folder, "test", "--per-folder", "--unknown-below", 0.2) == 0
    assert "which the model suggests" not in capsys.readouterr().out
    assert predict(folder, "test") == 0
    assert "Unknown" not in capsys.readouterr().out


def test_figures_of_another_training_are_left_out_and_named(folder, capsys):
    path = folder / "models" / "report" / "metrics.json"
    path.write_text(path.read_text().replace(read_data(folder / "models").training, "another"))
    assert "## Results" not in convert(folder)
    assert f"{path} is of another training than the model" in capsys.readouterr().out


def test_a_model_without_data_has_a_card_without_its_photos(folder, capsys):
    models = folder / "models"
    save_model(colour_model(), models)
    assert not (models / "data.json").exists()
    capsys.readouterr()
    card = convert(folder)
    assert "## Data" not in card
    assert "## Results" in card
    assert "trained on other" not in capsys.readouterr().out
    assert predict(folder, "train", "--strict") == 0
    assert "trained on" not in capsys.readouterr().out


def test_a_converted_model_of_an_earlier_training_is_said(folder, capsys):
    model = colour_model()
    hashes, labels = {"train": ["aa"], "val": ["bb"]}, {"train": ["Rear"], "val": ["Rear"]}
    save_model(model, folder / "models", describe_training([b"new"], hashes, labels))
    assert predict(folder, "test") == 0
    assert "model.tflite comes from another training" in capsys.readouterr().out
