"""What a network sees in photos: the values between backbone and head, and which areas speak for a class (Grad-CAM).

Needs TensorFlow.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from viewpoint.common.cli import counted, print_first, printable
from viewpoint.common.images import ImageError, load_image, scale
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress

BATCH_SIZE = 16
REASONS_SHOWN = 5


def read_batches(
    files: Sequence[Path | str], size: int, failed: list[str], title: str, quiet: bool = False
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Photos as model input, BATCH_SIZE at a time: (their positions, float32 (n, size, size, 3), -1 to 1).

    Adds to `failed` why the others cannot be read.
    """

    def read(file: Path | str) -> np.ndarray | ImageError:
        try:
            return load_image(file, size)
        except ImageError as error:
            return error

    waiting: dict[int, np.ndarray] = {}
    images = progress(map_in_order(read, files, cpu_count()), title, len(files), quiet=quiet)
    for row, image in enumerate(images):
        if isinstance(image, ImageError):
            failed.append(str(image))
        else:
            waiting[row] = image
        if waiting and (len(waiting) == BATCH_SIZE or row == len(files) - 1):
            yield list(waiting), scale(np.stack(list(waiting.values())))
            waiting = {}


def backbone_features(model: keras.Model, files: Sequence[Path | str], quiet: bool = False) -> np.ndarray:
    """The pooled features of photos by a model of train.py: float32 (n, channels), in the photos' order.

    A photo that cannot be read has a row of NaN, and the first few of them are printed with the reason.
    `quiet` shows no progress bar.
    """
    extractor = keras.Model(model.input, model.get_layer("features").output)
    features = np.full((len(files), extractor.output_shape[1]), np.nan, np.float32)
    failed: list[str] = []
    for rows, batch in read_batches(files, model.input_shape[1], failed, "Features", quiet):
        # Not predict_on_batch(), which gives every row once for each device with --devices all.
        features[rows] = extractor(batch, training=False)
    if failed:
        print(f"{counted(len(failed), 'photo')} could not be read:")
        print_first(list(map(printable, failed)), REASONS_SHOWN)
    return features


# --- Grad-CAM -----------------------------------------------------------------------


def compute_heat(model: keras.Model, batch: np.ndarray, classes: list[int]) -> np.ndarray:
    """Where each image speaks for a class: float32 (n, height, width) of the last feature map, 0 to 1.

    `batch` is model input (n, size, size, 3), -1 to 1; `classes` has an index for each image.
    Source: Selvaraju et al., Grad-CAM (2017), https://arxiv.org/abs/1610.02391.
    """
    last = model.get_layer("probabilities")
    last_maps = model.get_layer("features").input
    maps = keras.Model(model.input, last_maps)(batch, training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        # The logits, because a probability near 1 hardly changes with anything.
        logits = tf.matmul(keras.Model(last_maps, last.input)(maps, training=False), last.kernel) + last.bias
        chosen = tf.reduce_sum(tf.gather(logits, classes, axis=1, batch_dims=1))
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2), keepdims=True)
    heat = np.maximum(tf.reduce_sum(weights * maps, axis=-1).numpy(), 0)
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)
