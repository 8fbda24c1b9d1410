"""Make a network easy to compute in 8 bits without changing what it computes.

Eight bits share 256 steps over the range of a whole tensor. MobileNetV2 has channels whose
activations stay near zero beside others that reach 6; they get few steps, and the weights
that read them grow large and coarsen the steps of all the others. So each channel between a
BatchNorm and a ReLU is scaled up until it fills the range, and the weights that read it are
scaled down alike. Source: Nagel et al., Data-Free Quantization Through Weight Equalization and
Bias Correction (2019), https://arxiv.org/abs/1906.04721, here with measured ranges, not assumed.
"""

from collections import defaultdict

import keras
import numpy as np

# A ReLU of at most 6 cuts off what exceeds it, so photos unlike the calibration's need room.
GREATEST = 6 / 1.1
MAX_FACTOR = 100.0  # of a channel that hardly ever rises above zero
BATCH_SIZE = 16


def equalize(model: keras.Model, calibration: np.ndarray) -> None:
    """Scale the channels of `model` in place, by their greatest values on `calibration`.

    Takes a model of network.build_model and model inputs (n, size, size, 3). Does nothing to
    activations other than ReLU, or to those that more than one layer reads.
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

    relus = [layer for layer in backbone.layers if isinstance(layer, keras.layers.ReLU) and id(layer.input) in norms]
    readable = (keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    relus = [relu for relu in relus if isinstance(only_reader(relu), readable)]
    if not relus:
        return
    for relu, greatest in zip(relus, channel_maxima(model, backbone, relus, calibration), strict=True):
        # A channel that stays at zero may be left alone.
        factor = np.where(greatest > 1e-4, np.clip(GREATEST / np.maximum(greatest, 1e-4), 1, MAX_FACTOR), 1)
        scale_channels(norms[id(relu.input)], only_reader(relu), factor)


def channel_maxima(
    model: keras.Model, backbone: keras.Model, layers: list[keras.layers.Layer], calibration: np.ndarray
) -> list[np.ndarray]:
    """The greatest output of each channel of each layer over model inputs (n, size, size, 3)."""
    # What stands before the backbone, if anything, scales its input.
    before = keras.Model(model.input, model.layers[model.layers.index(backbone) - 1].output)
    probe = keras.Model(backbone.input, [keras.ops.max(layer.output, axis=(0, 1, 2)) for layer in layers])
    parts = [calibration[start : start + BATCH_SIZE] for start in range(0, len(calibration), BATCH_SIZE)]
    maxima = [[np.asarray(value) for value in probe(before(part))] for part in parts]
    return [np.max(layer_maxima, axis=0) for layer_maxima in zip(*maxima, strict=True)]


def scale_channels(norm: keras.layers.BatchNormalization, reader: keras.layers.Layer, factor: np.ndarray) -> None:
    """Multiply the channels of a BatchNorm's output by `factor` (channels,), and undo it in the layer that reads it."""
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([gamma * factor, beta * factor, mean, variance])
    kernel, *bias = reader.get_weights()
    # Dense: (channels, units); a convolution: (height, width, channels, filters).
    reader.set_weights([kernel / factor[:, np.newaxis], *bias])
