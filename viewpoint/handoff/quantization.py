"""From a SavedModel to TFLite, in four precisions.

int8 needs care. Eight bits give 256 steps to the value range of a whole tensor. MobileNetV2 has
channels whose activations stay near zero beside others that reach 6: the small channels get few
steps, and the large weights that read them make the steps of all other weights coarse. So each
channel between a BatchNorm and a ReLU is scaled up until it fills the range, and the weights
that read it are scaled down by the same factor, which changes no result.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019),
https://arxiv.org/abs/1906.04721, here with measured instead of assumed ranges.

Needs TensorFlow.
"""

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from viewpoint.common.cli import UserError
from viewpoint.common.tensorflow import import_tensorflow, without_harmless_lines

import_tensorflow()

import keras
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

# ReLU6 cuts off what exceeds 6; the margin is for photos unlike those of the calibration.
TARGET_MAXIMUM = 6 / 1.1
MAX_FACTOR = 100.0  # for channels that hardly ever rise above zero
BATCH_SIZE = 16


# --- Conversion --------------------------------------------------------------------


def convert(
    saved_model: Path,
    precision: str = "float16",
    calibration: np.ndarray | None = None,
    io: str = "float32",
    mirrored: list[int] | None = None,
) -> bytes:
    """Convert a SavedModel to TFLite in one of config.PRECISIONS.

    float16 and dynamic (8-bit weights) compute in float32 on a phone's processor. int8 computes
    in 8 bits throughout and needs `calibration`, model inputs (n, size, size, 3); with `io`
    "uint8" it takes pixels and gives probabilities in steps of 1/256. With `mirrored`, see
    add_mirror, the model averages the probabilities of the image and of its mirror image. Only
    built-in operators are used, because phones do not have TensorFlow's.
    """
    if mirrored:
        with tempfile.TemporaryDirectory() as folder:
            add_mirror(saved_model, Path(folder), mirrored)
            # Each photo gives two images, so that half of the photos measure the ranges as well.
            half = None if calibration is None else calibration[::2]
            return convert(Path(folder), precision, half, io)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    # Alone, DEFAULT gives 8-bit weights and float32 activations ("dynamic"); what follows changes that.
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        if calibration is None:
            raise ValueError("int8 needs calibration images")
        # Only 8-bit operators: what has none fails here, instead of running in float32 on the phone.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        if io == "uint8":
            converter.inference_input_type = converter.inference_output_type = tf.uint8
    with without_harmless_lines():
        return converter.convert()


def add_mirror(saved_model: Path, output: Path, mirrored: list[int]) -> None:
    """Write a SavedModel that averages the probabilities of an image and of its mirror image.

    `mirrored[i]` is the class index of class i after a horizontal flip. The image and its mirror
    image go through the network as one batch of two, so that every weight is stored once.
    """
    module = tf.Module()
    # Kept in the module, because its variables would be freed otherwise.
    module.inner = tf.saved_model.load(str(saved_model))
    infer = module.inner.signatures["serving_default"]
    [(name, image)] = infer.structured_input_signature[1].items()

    @tf.function(input_signature=[tf.TensorSpec([1, *image.shape[1:]], image.dtype, name)])
    def serve(image):
        pair = tf.concat([image, tf.reverse(image, axis=[2])], axis=0)
        [probabilities] = infer(**{name: pair}).values()
        return {"probabilities": (probabilities[:1] + tf.gather(probabilities[1:], mirrored, axis=1)) / 2}

    with without_harmless_lines():
        tf.saved_model.save(module, str(output), signatures=serve)


def convert_to_int8(
    keras_model: Path, calibration: np.ndarray, io: str = "float32", mirrored: list[int] | None = None
) -> bytes:
    """Convert a .keras file to int8, with its channels equalized; `mirrored` as in convert.

    Without that, 8 bits change two to five times as many decisions (docs/experiments.md).
    Raises UserError when the file cannot be read.
    """
    if not keras_model.is_file():
        raise UserError(f"{keras_model} not found, which int8 needs; run train.py")
    try:
        model = keras.models.load_model(keras_model)
    # Keras raises a dozen unrelated types on damaged files.
    except Exception as error:
        raise UserError(f"cannot read {keras_model}, which int8 needs: {error}; run train.py") from error
    # Needs single layers, which only the .keras file has: a SavedModel is one graph.
    equalize(model, calibration)
    with tempfile.TemporaryDirectory() as folder:
        with without_harmless_lines():
            model.export(folder, verbose=False)
        return convert(Path(folder), "int8", calibration, io, mirrored)


def custom_operators(model: bytes) -> list[str]:
    """The operators of a TFLite model that are not built in."""
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    return [code.customCode.decode() for code in tables.operatorCodes if code.customCode]


# --- Equalization ------------------------------------------------------------------


def equalize(model: keras.Model, calibration: np.ndarray) -> None:
    """Scale the channels of `model` in place, by their maxima on `calibration`.

    Takes a model of network.build_model and model inputs (n, size, size, 3). Leaves alone
    activations other than ReLU, and those that several layers read.
    """
    [backbone] = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    [dense, *_] = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    norms = {id(layer.output): layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)}
    readers = defaultdict(list)
    for layer in backbone.layers:
        for tensor in keras.tree.flatten(layer.input):
            readers[id(tensor)].append(layer)

    def only_reader(layer: keras.layers.Layer) -> keras.layers.Layer | None:
        if layer is backbone.layers[-1]:
            return dense  # after the mean over the image, which scales with its channel
        found = readers[id(layer.output)]
        reader = found[0] if len(found) == 1 else None
        return only_reader(reader) if isinstance(reader, keras.layers.ZeroPadding2D) else reader

    # Through a ReLU a positive factor passes unchanged, so that the next layer can undo it; not so
    # through a sum or a swish. A ReLU6 cuts at 6, which TARGET_MAXIMUM keeps free.
    relus = [layer for layer in backbone.layers if isinstance(layer, keras.layers.ReLU) and id(layer.input) in norms]
    readable = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    relus = [relu for relu in relus if isinstance(only_reader(relu), readable)]
    if not relus:
        return
    for relu, maximum in zip(relus, channel_maxima(model, backbone, relus, calibration), strict=True):
        # A channel that stays at zero can be left alone.
        factor = np.where(maximum > 1e-4, np.clip(TARGET_MAXIMUM / np.maximum(maximum, 1e-4), 1, MAX_FACTOR), 1)
        scale_channels(norms[id(relu.input)], only_reader(relu), factor)


def channel_maxima(
    model: keras.Model, backbone: keras.Model, layers: list[keras.layers.Layer], calibration: np.ndarray
) -> list[np.ndarray]:
    """The largest output of each channel of each layer over model inputs (n, size, size, 3)."""
    # A layer before the backbone, if there is one, rescales the input.
    before = keras.Model(model.input, model.layers[model.layers.index(backbone) - 1].output)
    probe = keras.Model(backbone.input, [keras.ops.max(layer.output, axis=(0, 1, 2)) for layer in layers])
    parts = [calibration[start : start + BATCH_SIZE] for start in range(0, len(calibration), BATCH_SIZE)]
    maxima = [[np.asarray(value) for value in keras.tree.flatten(probe(before(part)))] for part in parts]
    return [np.max(layer_maxima, axis=0) for layer_maxima in zip(*maxima, strict=True)]


def scale_channels(norm: keras.layers.BatchNormalization, reader: keras.layers.Layer, factor: np.ndarray) -> None:
    """Multiply the channels of a BatchNorm's output by `factor` (channels,), and undo it in the layer that reads it."""
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma * factor, beta * factor, mean, variance])
    kernel, *bias = reader.get_weights()
    # Dense: (channels, units); a convolution: (height, width, channels, filters).
    reader.set_weights([kernel / factor[:, np.newaxis], *bias])
