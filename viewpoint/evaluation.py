"""What train.py makes of a trained network: honest scores, and figures on photos as they are and changed."""

import argparse
from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from tqdm import tqdm

from augmentation import CORRUPTIONS
from images import open_image
from training_data import MIRRORED_INDEX, ImageBatches, MirroredPhotos, one_hot

# --- Calibration -------------------------------------------------------------------


def calibrate(model: keras.Model, photos: Sequence[np.ndarray], targets: np.ndarray, args: argparse.Namespace) -> float:
    """Fit a temperature on validation photos, fold it into `model`, and return it.

    With the flip, the mirrored photos count too, for a validation split is small.
    """
    probabilities = predict(model, photos, args.batch_size)
    if args.flip:
        mirrored = predict(model, MirroredPhotos(photos), args.batch_size)
        probabilities = np.concatenate([probabilities, mirrored])
        targets = np.concatenate([targets, targets[:, MIRRORED_INDEX]])
    temperature = fit_temperature(probabilities, targets.argmax(axis=1))
    fold_temperature(model, temperature)
    return temperature


def fit_temperature(probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature by which to divide the logits so that the likelihood of the classes is greatest.

    Takes probabilities (n, classes) and class indices (n,). Above 1 the model was too sure
    of itself, below 1 not sure enough.
    Source: Guo et al., On Calibration of Modern Neural Networks (2017), https://arxiv.org/abs/1706.04599.
    """
    # Logits but for a constant in each row, which the softmax forgets.
    logits = np.log(np.maximum(probabilities.astype(np.float64), 1e-12))

    def negative_log_likelihood(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(targets)), targets]))

    # Bounded, since a validation split without a mistake would ask for boundless trust.
    bounds = np.log([0.25, 4.0])
    return float(np.exp(minimize_scalar(negative_log_likelihood, bounds=bounds, method="bounded").x))


def fold_temperature(model: keras.Model, temperature: float) -> None:
    """Divide the logits of `model` by `temperature` inside its last layer: no decision changes."""
    last = model.get_layer("probabilities")
    last.set_weights([weight / np.float32(temperature) for weight in last.get_weights()])


# --- Evaluation --------------------------------------------------------------------


def predict(model: keras.Model, photos: Sequence[np.ndarray], batch_size: int) -> np.ndarray:
    """The model's probabilities for uint8 photos: float32 (n, classes), in their order."""
    targets = np.zeros((len(photos), model.output_shape[1]), np.float32)
    return model.predict(ImageBatches(photos, targets, batch_size), verbose=0)


def measure_robustness(
    model: keras.Model, split: pd.DataFrame, probabilities: np.ndarray, args: argparse.Namespace
) -> dict[str, float]:
    """Accuracy on a split as it is ("clean") and under each of augmentation.CORRUPTIONS.

    On --robustness-images of its photos, drawn with --seed; on all, if it has fewer.
    `probabilities` (n, classes) are the model's for the split as it is.
    """
    rows = np.random.default_rng(args.seed).permutation(len(split))[: args.robustness_images]
    size = model.input_shape[1]
    variants = {name: np.empty((len(rows), size, size, 3), np.uint8) for name in CORRUPTIONS}
    for index, file in enumerate(tqdm(split["file"].iloc[rows], desc="Robustness", unit="image", disable=args.quiet)):
        # In full, for a decode at reduced scale has averaged already what "aliased resize" must not.
        image = open_image(file)
        for name, corrupt in CORRUPTIONS.items():
            variants[name][index] = np.asarray(corrupt(image, size))
    predicted = {"clean": probabilities[rows]}
    predicted |= {name: predict(model, photos, args.batch_size) for name, photos in variants.items()}
    targets = one_hot(split["label"].iloc[rows]).argmax(axis=1)
    return {name: float((scores.argmax(axis=1) == targets).mean()) for name, scores in predicted.items()}
