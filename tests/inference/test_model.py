"""Models and class names from elsewhere: 8-bit values of any scale, and label files as other programs write them."""

import codecs
from pathlib import Path

import keras
import numpy as np
import pytest

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import scale
from viewpoint.common.tensorflow import import_tensorflow, without_harmless_lines
from viewpoint.inference.model import load_runner, read_labels

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
