"""Predict with a trained network, calibrate its scores, suggest a threshold, measure its robustness.

Needs TensorFlow.
"""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

import config
from viewpoint.common.images import ImageError, open_image
from viewpoint.common.metrics import is_right, suggest_threshold
from viewpoint.common.parallel import map_in_order
from viewpoint.common.progress import progress
from viewpoint.data.out_of_fold import read_out_of_fold
from viewpoint.training.augmentation import CORRUPTIONS
from viewpoint.training.batches import MIRRORED_INDEX, ImageBatches, Images, MirroredImages, one_hot

ROBUSTNESS_IMAGES = 500  # test photos for the robustness figures

# --- Calibration -------------------------------------------------------------------


def calibrate(model: keras.Model, images: Images, targets: np.ndarray, flip: bool, batch_size: int) -> float:
    """Fit a temperature on the validation images, fold it into `model`, and return it.

    With `flip` the mirrored images are used as well, because a validation split is small.
    """
    probabilities = predict(model, images, batch_size)
    if flip:
        mirrored = predict(model, MirroredImages(images), batch_size)
        probabilities = np.concatenate([probabilities, mirrored])
        targets = np.concatenate([targets, targets[:, MIRRORED_INDEX]])
    temperature = fit_temperature(probabilities, targets.argmax(axis=1))
    fold_temperature(model, temperature)
    return temperature


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature that maximizes the likelihood of the true classes when the logits are divided by it.

    Takes probabilities (n, classes) and class indices (n,). A temperature above 1 means that the
    model was overconfident, below 1 that it was underconfident.
    Source: Guo et al., On Calibration of Modern Neural Networks (2017), https://arxiv.org/abs/1706.04599.
    """
    # The logits up to a constant in each row, which the softmax ignores.
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]))

    # Bounded, because a validation split without mistakes would drive the temperature to 0.
    bounds = np.log([0.25, 4.0])
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of `model` by `temperature` inside its last layer: no decision changes."""
    last = model.get_layer("probabilities")
    last.set_weights([weight / np.float32(temperature) for weight in last.get_weights()])


def suggest(probabilities: np.ndarray, splits: dict[str, pd.DataFrame], train_hashes: list[str], path: Path) -> dict:
    """The result of metrics.suggest_threshold, and the number of training photos behind it, `out_of_fold`.

    It rests on the validation split, whose `probabilities` (n, classes) are given, and on those
    training photos that models of tools/crossval.py have judged without learning them, from the
    out_of_fold.csv at `path`.
    """
    train, val = splits["train"], splits["val"]
    contents = dict(zip(train["image_path"], train_hashes, strict=True))
    found = read_out_of_fold(path, contents)
    judged = train[train["image_path"].isin(found)]
    others = [[found[path][name] for name in config.CLASSES] for path in judged["image_path"]]
    pooled = np.concatenate([probabilities, np.array(others).reshape(-1, len(config.CLASSES))])
    right = is_right(pd.concat([val["label"], judged["label"]]), pooled)
    return suggest_threshold(pooled.max(axis=1), right) | {"out_of_fold": len(judged)}


# --- Evaluation --------------------------------------------------------------------


def predict(model: keras.Model, images: Images, batch_size: int) -> np.ndarray:
    """The model's probabilities for uint8 images: float32 (n, classes), in the images' order."""
    targets = np.zeros((len(images), model.output_shape[1]), np.float32)
    return model.predict(ImageBatches(images, targets, batch_size), verbose=0)


def compute_features(extractor: keras.Model, batches: ImageBatches, views: int, quiet: bool) -> tuple[np.ndarray, ...]:
    """The pooled features of every image in `views` passes over the batches, and their targets (and weights).

    The features are float32 (views * n, channels).
    """
    features = np.empty((views * len(batches.images), extractor.output_shape[1]), np.float32)
    rests, done = [], 0

    def all_batches() -> Iterator[tuple[np.ndarray, ...]]:
        for _ in range(views):
            yield from map_in_order(batches.__getitem__, range(len(batches)), batches.workers)
            batches.on_epoch_end()

    steps = progress(all_batches(), "Computing features", views * len(batches), "step", quiet)
    for images, *rest in steps:
        # With --devices all, every device answers the whole batch.
        features[done : done + len(images)] = extractor.predict_on_batch(images)[: len(images)]
        done += len(images)
        rests.append(rest)
    return features, *(np.concatenate(arrays) for arrays in zip(*rests, strict=True))


def measure_robustness(
    model: keras.Model,
    split: pd.DataFrame,
    probabilities: np.ndarray,
    seed: int,
    batch_size: int,
    quiet: bool = False,
) -> dict[str, float] | None:
    """Accuracy on the unchanged photos of a split ("clean") and under each of augmentation.CORRUPTIONS.

    Uses ROBUSTNESS_IMAGES photos drawn with `seed`, or all if there are fewer. `probabilities` (n, classes)
    are the model's for the unchanged split. None, with a message, when a photo cannot be read any more.
    """
    rows = np.random.default_rng(seed).permutation(len(split))[:ROBUSTNESS_IMAGES]
    size = model.input_shape[1]
    variants = {name: np.empty((len(rows), size, size, 3), np.uint8) for name in CORRUPTIONS}
    for index, file in enumerate(progress(split["file"].iloc[rows], "Robustness", quiet=quiet)):
        try:
            # Decode at full size: reduced-scale JPEG decoding would already have smoothed the image.
            image = open_image(file)
        except ImageError as error:  # it could be read before the training
            print(f"No robustness figures: {error}")
            return None
        for name, corrupt in CORRUPTIONS.items():
            variants[name][index] = np.asarray(corrupt(image, size))
    predicted = {"clean": probabilities[rows]}
    predicted |= {name: predict(model, images, batch_size) for name, images in variants.items()}
    targets = one_hot(split["label"].iloc[rows]).argmax(axis=1)
    return {name: float((scores.argmax(axis=1) == targets).mean()) for name, scores in predicted.items()}
