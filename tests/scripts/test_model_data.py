"""A model that knows its data: conversion, prediction and explanation say when figures are not to be believed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import save_photo

import config
import convert_tflite
import test_predict
from viewpoint.common.cli import run
from viewpoint.data.provenance import describe_training, hash_photos, packed_data, read_data
from viewpoint.handoff.metadata import read_metadata
from viewpoint.training.network import save_model


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
