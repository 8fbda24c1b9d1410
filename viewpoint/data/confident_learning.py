"""Confident learning: which labels a model contradicts that did not learn them.

Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels
(2021), https://arxiv.org/abs/1911.00068. The package cleanlab does the same and more. Needs
NumPy only.
"""

import numpy as np


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which labels are likely wrong: bool (n,).

    Takes class indices (n,) and probabilities (n, classes) from models that did not learn these
    labels. A class is a candidate for a photo when the photo's probability of it reaches the mean
    that the photos labelled so have, so a class that the models are often unsure about needs less.
    A label is likely wrong when the most probable candidate, and the most probable class, are others.
    """
    given = self_confidence(labels, probabilities)
    thresholds = np.full(probabilities.shape[1], np.inf)  # a class without photos is never a candidate
    for label in np.unique(labels):
        thresholds[label] = given[labels == label].mean()
    # The tolerance keeps photos whose probabilities all equal the mean.
    candidates = np.where(probabilities >= thresholds - 1e-6, probabilities, 0)
    confident = candidates.any(axis=1) & (candidates.argmax(axis=1) != labels)
    return confident & (probabilities.argmax(axis=1) != labels)


def self_confidence(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability of each photo's own label (n,), the lowest of which are most likely wrong."""
    return probabilities[np.arange(len(labels)), labels]
