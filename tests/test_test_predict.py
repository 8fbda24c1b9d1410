"""Prediction: what goes in, what comes out, what is skipped, and how light it is."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import config
import test_predict
from common import UserError


@pytest.fixture
def brightness_model(monkeypatch) -> None:
    """Stands in for every model: dark photos are Front, bright ones Background."""

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = np.full((len(batch), 7), 0.02, np.float32)
        probabilities[range(len(batch)), [0 if image.mean() < 0 else 6 for image in batch]] = 0.88
        return probabilities

    monkeypatch.setattr(test_predict, "load_runner", lambda _: (runner, 16, 7))


@pytest.fixture
def labels(tmp_path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(config.CLASSES) + "\n")
    return path


def save_grey(path: Path, level: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), (level, level, level)).save(path)
    return path


def predict(images: Path, labels: Path) -> tuple[test_predict.Outcome, list[dict]]:
    output = labels.parent / "predictions.csv"
    outcome = test_predict.predict_images("any.tflite", labels, images, output)
    return outcome, pd.read_csv(output).to_dict("records")


def test_a_folder_keeps_equal_names_apart_and_reports_unreadable_files(brightness_model, labels, tmp_path):
    photos = tmp_path / "photos"
    save_grey(photos / "b" / "car.jpg", 20)
    save_grey(photos / "a é [1]" / "car.JPG", 230)
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "notes.txt").write_text("no photo")
    outcome, rows = predict(photos, labels)
    assert rows == [
        {"image_name": "a é [1]/car.JPG", "prediction": "Background", "score": 0.88},
        {"image_name": "b/car.jpg", "prediction": "Front", "score": 0.88},
    ]
    assert outcome.predicted == 2
    assert [name for name, _ in outcome.skipped] == ["broken.png"]


def test_a_single_image_and_its_exact_csv(brightness_model, labels, tmp_path):
    predict(save_grey(tmp_path / "car.png", 10), labels)
    assert (tmp_path / "predictions.csv").read_bytes() == b"image_name,prediction,score\ncar.png,Front,0.8800\n"


def test_a_csv_with_labels_is_scored(brightness_model, labels, tmp_path):
    for name, level in (("1.png", 10), ("2.png", 20), ("3.png", 240)):
        save_grey(tmp_path / name, level)
    (tmp_path / "some.csv").write_text("image_path,label\n3.png,Background\n1.png,Front\n2.png,Background\n")
    outcome, rows = predict(tmp_path / "some.csv", labels)
    assert [row["image_name"] for row in rows] == ["3.png", "1.png", "2.png"]
    accuracy, macro_f1 = test_predict.accuracy_and_macro_f1(*zip(*outcome.labelled, strict=True))
    # Front: precision 1/2, recall 1; Background: precision 1, recall 1/2. Both F1 2/3.
    assert accuracy == pytest.approx(2 / 3)
    assert macro_f1 == pytest.approx(2 / 3)


def test_many_photos_on_many_cores_keep_their_order(brightness_model, labels, tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    levels = [10 if index % 3 else 240 for index in range(40)]
    for index, level in enumerate(levels):
        # The first ones take longest to decode.
        path = save_grey(tmp_path / "photos" / f"{index:02}.png", level)
        Image.open(path).resize((2000 - 49 * index,) * 2).save(path)
    _, rows = predict(tmp_path / "photos", labels)
    assert [row["image_name"] for row in rows] == [f"{index:02}.png" for index in range(40)]
    assert [row["prediction"] for row in rows] == ["Front" if level == 10 else "Background" for level in levels]


def test_no_readable_image_leaves_earlier_predictions(brightness_model, labels, tmp_path):
    (tmp_path / "predictions.csv").write_text("earlier")
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 images could be read"):
        test_predict.predict_images("any.tflite", labels, tmp_path / "broken.jpg", tmp_path / "predictions.csv")
    assert (tmp_path / "predictions.csv").read_text() == "earlier"


def test_mistakes_are_one_sentence(brightness_model, labels, tmp_path):
    with pytest.raises(UserError, match="names no file to write"):
        test_predict.predict_images("any.tflite", labels, save_grey(tmp_path / "car.png", 10), ".")
    with pytest.raises(UserError, match="nowhere not found"):
        predict(tmp_path / "nowhere", labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images in"):
        predict(tmp_path / "empty", labels)
    labels.write_text("Front\nRear\n")
    with pytest.raises(UserError, match="names 2 classes, but the model has 7"):
        predict(save_grey(tmp_path / "car.png", 10), labels)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model")
    with pytest.raises(UserError, match="is not a TFLite file"):
        test_predict.load_runner(tmp_path / "model.tflite")
    with pytest.raises(UserError, match=r"run train\.py and convert_tflite\.py"):
        test_predict.load_runner(tmp_path / "missing.tflite")


def test_importing_the_script_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'matplotlib', 'pandas'}"
    code = f"import sys, test_predict, ai_edge_litert.interpreter; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(test_predict.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
