"""Grad-CAM: which areas of a photo speak for a class."""

import keras
import numpy as np
import tensorflow as tf


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
