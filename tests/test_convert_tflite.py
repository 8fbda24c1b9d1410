"""The TFLite file: same decisions, same class order, and never a worse one in place."""

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import save_photo

import config
import convert_tflite
import report
import test_predict
import train
from common import run
from training_data import Photos

SIZE = 32
EPOCH = {"phase": 1, "epoch": 1, "accuracy": 1, "loss": 1, "val_accuracy": 1, "val_loss": 1, "kept": True}


def constant_model(class_index: int) -> keras.Model:
    """A model that gives class `class_index` the probability 0.9, whatever it sees."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(7, activation="softmax", kernel_initializer="zeros")(x)
    model = keras.Model(inputs, outputs)
    bias = np.full(7, np.log(0.1 / 6), np.float32)
    bias[class_index] = np.log(0.9)
    model.layers[-1].set_weights([np.zeros((3, 7), np.float32), bias])
    return model


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Run the script as from a shell: (exit code, what it printed, its error message)."""

    def run_with(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["convert_tflite.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run(convert_tflite.main)
        return exit_info.value.code, *capsys.readouterr()

    return run_with


@pytest.mark.parametrize("class_index", range(7))
def test_class_order_from_training_to_predictions(tmp_path, class_index):
    """A model that always answers class k comes out as name k everywhere."""
    name = config.CLASSES[class_index]
    photo = save_photo(tmp_path / "photo.png")
    model = constant_model(class_index)

    train.save_model(model, tmp_path)
    split = pd.DataFrame({"image_path": ["photo.png"], "file": [str(photo)], "label": [name]})
    probabilities = train.predict(model, Photos(split["file"], SIZE), 1)
    metrics = report.write_report(split, probabilities, [EPOCH], {}, tmp_path / "report")
    (tmp_path / "model.tflite").write_bytes(convert_tflite.convert(tmp_path / "saved_model"))

    assert metrics["confusion_matrix"][class_index][class_index] == 1
    labels = tmp_path / "saved_model" / "labels.txt"
    assert labels.read_text().splitlines() == config.CLASSES
    for model_path in (tmp_path / "model.tflite", tmp_path / "saved_model"):
        test_predict.predict_images(model_path, labels, photo, tmp_path / "predictions.csv")
        [row] = pd.read_csv(tmp_path / "predictions.csv").to_dict("records")
        assert row == {"image_name": "photo.png", "prediction": name, "score": pytest.approx(0.9, abs=1e-3)}


def test_agreement_and_difference_of_a_hand_worked_case(tmp_path):
    files = [str(save_photo(tmp_path / f"{index}.png", seed=index)) for index in range(4)]
    first = iter(np.array([[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]], [[0.5, 0.5]]], np.float32))
    second = iter(np.array([[[0.8, 0.2]], [[0.2, 0.8]], [[0.3, 0.7]], [[0.5, 0.5]]], np.float32))
    agreement, difference = convert_tflite.compare_models(lambda _: next(first), lambda _: next(second), files, SIZE)
    assert agreement == 0.75
    assert difference == pytest.approx(0.3)


@pytest.fixture
def trained(tmp_path):
    """A models/ folder with a SavedModel, and a dataset/ with three validation photos."""
    train.save_model(constant_model(2), tmp_path / "models")
    names = [save_photo(tmp_path / "dataset" / f"{index}.png", seed=index).name for index in range(3)]
    (tmp_path / "dataset" / "val.csv").write_text("image_path,label\n" + "".join(f"{n},Rear\n" for n in names))
    return tmp_path


def test_a_faithful_model_is_written_with_its_labels(trained, run_script):
    exit_code, printed, error = run_script("--models", trained / "models", "--dataset", trained / "dataset")
    assert exit_code == 0, error
    assert "Compared on 3 validation images" in printed
    assert "100.00%" in printed
    assert (trained / "models" / "model.tflite").read_bytes()[4:8] == b"TFL3"
    assert (trained / "models" / "labels.txt").read_text().splitlines() == config.CLASSES
    assert not list((trained / "models").glob(".*tmp*"))


def test_too_little_agreement_leaves_the_earlier_model(trained, run_script):
    (trained / "models" / "model.tflite").write_bytes(b"earlier")
    # No conversion agrees on more than all images, so this one must be refused.
    road = ["--models", trained / "models", "--dataset", trained / "dataset"]
    exit_code, _, error = run_script(*road, "--min-agreement", "1.01")
    assert exit_code == 2
    assert "agrees on only 100.00%" in error
    assert (trained / "models" / "model.tflite").read_bytes() == b"earlier"
    assert not list((trained / "models").glob(".*tmp*"))


def test_converting_before_training_is_one_sentence(tmp_path, run_script):
    exit_code, _, error = run_script("--models", tmp_path, "--dataset", tmp_path)
    assert exit_code == 2
    assert error.strip().startswith("convert_tflite.py: error: ")
    assert "run train.py first" in error


def test_validation_images_are_all_or_a_reproducible_draw(tmp_path):
    (tmp_path / "val.csv").write_text("image_path,label\n" + "".join(f"{i}.jpg,Rear\n" for i in range(300)))
    everything = convert_tflite.draw_validation_files(tmp_path, None, 500, seed=1)
    assert len(everything) == 300
    drawn = convert_tflite.draw_validation_files(tmp_path, None, 100, seed=1)
    assert len(set(drawn)) == 100
    assert set(drawn) < set(everything)
    assert drawn == convert_tflite.draw_validation_files(tmp_path, None, 100, seed=1)
