"""Prediction from Python: every kind of photo gives the same answer, order and memory hold, threads share a model.

Models and class names from elsewhere: 8-bit values of any scale, and label files as other programs write them.
"""

import codecs
import io
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import config
from viewpoint import Predictor
from viewpoint.common.cli import UserError
from viewpoint.common.images import scale
from viewpoint.common.tensorflow import import_tensorflow, without_harmless_lines
from viewpoint.inference import model as inference
from viewpoint.inference.model import load_runner, read_labels


def board(level: int, size: int = 240) -> np.ndarray:
    """A sharp chessboard of this level and a medium grey: uint8 (size, size, 3)."""
    rows, columns = np.indices((size, size)) // 12
    return np.repeat(np.where((rows + columns) % 2, level, 127).astype(np.uint8)[..., np.newaxis], 3, axis=2)


@pytest.fixture
def predictor(monkeypatch, tmp_path) -> Predictor:
    """A model to which dark photos are Front with 0.7 and bright ones Background with 0.9."""

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(batch), 7), np.float32)
        for row, image in zip(probabilities, batch, strict=True):
            row[:] = [0.7, 0.3, 0, 0, 0, 0, 0] if image.mean() < 0 else [0, 0, 0, 0, 0, 0.1, 0.9]
        return probabilities

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 32, 7))
    (tmp_path / "labels.txt").write_text("\n".join(config.CLASSES))
    return Predictor("any.tflite", tmp_path / "labels.txt", unknown_below=0.8)


def test_a_path_bytes_an_image_and_an_array_give_the_same_answer(predictor, tmp_path):
    pixels = board(20)
    path = tmp_path / "car.png"
    Image.fromarray(pixels).save(path)
    results = [predictor(photo) for photo in (path, str(path), path.read_bytes(), Image.open(path), pixels)]
    assert all(result == results[0] for result in results)
    assert (results[0].prediction, results[0].best_class, results[0].error) == ("Unknown", "Front", None)
    assert results[0].score == pytest.approx(0.7)
    assert list(results[0].probabilities) == config.CLASSES
    assert results[0].probabilities["FrontLeft"] == pytest.approx(0.3)


def test_a_photo_with_an_orientation_is_turned_from_every_source(predictor, tmp_path):
    seen = []
    predictor.runner = lambda batch: seen.append(batch[0]) or np.full((1, 7), 1 / 7, np.float32)
    pixels = board(20)
    pixels[:120] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(pixels).save(tmp_path / "car.png", exif=exif)
    for photo in (tmp_path / "car.png", (tmp_path / "car.png").read_bytes(), Image.open(tmp_path / "car.png")):
        predictor(photo)
    assert all(image[-1].mean() == 1 > image[0].mean() for image in seen)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        ("gone.jpg", "cannot read gone.jpg: no such file"),
        (b"", "cannot read the image: an empty file"),
        (b"no image", "cannot read the image: not an image, or damaged at its beginning"),
        (np.zeros((8, 8), np.uint8), r"an array of uint8 (8, 8); give uint8 (height, width, 3), RGB, 0 to 255"),
        (np.zeros((8, 8, 3), np.float32), "an array of float32 (8, 8, 3); give uint8"),
        (np.zeros((0, 8, 3), np.uint8), "an array of uint8 (0, 8, 3); give uint8"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_class(predictor, photo, reason):
    result = predictor(photo)
    assert reason in result.error
    assert (result.prediction, result.best_class, result.score, result.probabilities) == ("", "", 0, {})


def test_a_batch_is_lazy_and_keeps_its_order(predictor):
    taken = []

    def photos():
        for index in itertools.count():
            taken.append(index)
            yield b"broken" if index == 3 else board(20 if index % 2 else 250)

    results = list(itertools.islice(predictor.batch(photos()), 8))
    classes = [result.best_class for result in results]
    assert classes == ["Background", "Front", "Background", "", "Background", "Front", "Background", "Front"]
    assert len(taken) < 8 + 4 * (inference.cpu_count() + 1)


@pytest.mark.parametrize("threshold", [60, -0.1, float("nan")])
def test_a_threshold_that_is_no_score_is_refused(predictor, tmp_path, threshold):
    with pytest.raises(UserError, match=f"unknown_below is {threshold}; give a score from 0 to 1"):
        Predictor("any.tflite", tmp_path / "labels.txt", unknown_below=threshold)


def test_threads_share_one_predictor(predictor):
    content = io.BytesIO()
    Image.fromarray(board(20)).save(content, "PNG")
    photos = [content.getvalue(), board(250)] * 20
    found = {}

    def work(number: int) -> None:
        found[number] = [predictor(photo).best_class for photo in photos]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [["Front", "Background"] * 20] * 4


@pytest.mark.parametrize(("level", "reason"), [(0, "too dark"), (255, "too bright")])
def test_an_image_that_shows_nothing_is_no_background(predictor, level, reason):
    predictor.runner = lambda batch: np.eye(7, dtype=np.float32)[[6]]
    result = predictor(np.full((50, 60, 3), level, np.uint8))
    assert (result.prediction, result.best_class, result.score) == ("Unknown", "Background", 1)
    assert result.quality == (reason,)
    assert predictor(board(20)).prediction == "Background"


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'jinja2', 'av'}"
    code = f"import sys; from viewpoint import Predictor; print(sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(config.__file__).parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- Models and class names from elsewhere -----------------------------------------


import_tensorflow()

import tensorflow as tf

# --- Models with 8-bit input and output ----------------------------------------------


def colour_model(rescale: float = 1.0, offset: float = 0.0) -> keras.Model:
    """A model that decides by an image's mean colour; its input, times `rescale` plus `offset`, is -1 to 1."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(rescale, offset)(inputs) if rescale != 1 else inputs
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(x))
    kernel = np.random.default_rng(1).normal(0, 2, (3, 7)).astype(np.float32)
    model.layers[-1].set_weights([kernel, np.zeros(7, np.float32)])
    return model


def convert_to_8_bits(model: keras.Model, calibration: np.ndarray, dtype: tf.DType, path: Path) -> Path:
    """Write a fully quantized .tflite file, as other projects make them."""
    model.export(path.parent / "saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(path.parent / "saved_model"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
    converter.inference_input_type = converter.inference_output_type = dtype
    with without_harmless_lines():
        path.write_bytes(converter.convert())
    return path


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Uint8 images (20, 8, 8, 3) of one colour each, with black and white among them."""
    colours = np.random.default_rng(2).integers(0, 256, (20, 1, 1, 3), dtype=np.uint8)
    colours[:2] = [[[[0]]], [[[255]]]]
    return np.broadcast_to(colours, (20, 8, 8, 3))


@pytest.mark.parametrize("dtype", [tf.int8, tf.uint8])
@pytest.mark.parametrize("input_range", ["-1 to 1", "a part of it", "0 to 1"])
def test_a_model_of_8_bits_answers_as_its_original(pixels, tmp_path, dtype, input_range):
    images = scale(pixels)
    if input_range == "0 to 1":
        model, calibration = colour_model(2, -1), pixels / np.float32(255)
    else:
        model, calibration = colour_model(), images
    if input_range == "a part of it":  # the calibration saw no very dark or bright photos
        images = calibration = np.clip(images, -0.6, 0.8)
    runner, size, class_count = load_runner(convert_to_8_bits(model, calibration, dtype, tmp_path / "model.tflite"))
    assert (size, class_count) == (8, 7)
    found = runner(images)
    assert found.dtype == np.float32
    # A step of the output is 1/256; the weights and the mean have 8 bits, too.
    assert found == pytest.approx(model.predict(calibration, verbose=0), abs=0.03)
    assert found.max() > 0.6
    assert found.min() < 0.02


def test_other_types_of_values_are_refused_by_their_name(tmp_path):
    inputs = keras.Input((8, 8, 3), dtype="int32")
    x = keras.ops.cast(inputs, "float32")
    outputs = keras.layers.Dense(7, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(inputs, outputs).export(tmp_path / "saved_model", verbose=False)
    with without_harmless_lines():
        content = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved_model")).convert()
    (tmp_path / "model.tflite").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.tflite takes int32 values; convert it with float32, uint8 or int8"):
        load_runner(tmp_path / "model.tflite")


# --- Label files ---------------------------------------------------------------------

PLAIN = "\n".join(config.CLASSES)
NUMBERED = "\n".join(f"{number} {name}" for number, name in enumerate(config.CLASSES))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        codecs.BOM_UTF8 + PLAIN.encode(),
        PLAIN.encode("utf-16"),
        f"{PLAIN}\n\n \n".replace("\n", "\r\n").encode(),
        NUMBERED.encode(),
        codecs.BOM_UTF8 + f"{NUMBERED}\n".replace("\n", "\r\n").encode(),
        NUMBERED.replace(" ", ":  ").encode(),
    ],
)
def test_class_names_are_read_as_people_and_programs_save_them(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    assert read_labels(tmp_path / "labels.txt", 7) == config.CLASSES


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"1 Front\n2 Rear\n", "numbers its classes 1, 2, not 0, 1, 2"),
        (b"1 Rear\n0 Front\n", "numbers its classes 1, 0, not 0, 1, 2"),
        (b"0 Front\n1 Rear\n2 Left\n", "names 3 classes, but the model has 2"),
        (b"", "names 0 classes, but the model has 2"),
        (b"Front\xff\nRear\n", "it is not text in UTF-8 or UTF-16"),
    ],
)
def test_class_names_that_cannot_be_right_are_refused_by_the_cause(tmp_path, content, cause):
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(UserError, match=rf"labels\.txt.*{cause}.*; use the labels\.txt that was written with"):
        read_labels(tmp_path / "labels.txt", 2)


def test_names_with_spaces_and_digits_are_names(tmp_path):
    (tmp_path / "labels.txt").write_text("3 quarter front\nFront left\n")
    assert read_labels(tmp_path / "labels.txt", 2) == ["3 quarter front", "Front left"]
