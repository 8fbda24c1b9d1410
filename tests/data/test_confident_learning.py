"""Confident learning on numbers worked out by hand."""

import numpy as np
import pytest

from viewpoint.data.doubts import find_label_errors, self_confidence

LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.8, 0.2, 0.0],
        [0.1, 0.9, 0.0],  # mean of class 0: 0.6
        [0.0, 1.0, 0.0],
        [0.4, 0.6, 0.0],
        [0.52, 0.48, 0.0],  # mean of class 1: 0.693
    ]
)


def test_a_label_is_wrong_when_another_class_reaches_its_own_mean():
    # The third is as sure of class 1 as its photos are; the last prefers class 0, but with less than 0.6.
    assert find_label_errors(LABELS, PROBABILITIES).tolist() == [False, False, True, False, False, False]
    assert self_confidence(LABELS, PROBABILITIES) == pytest.approx([0.9, 0.8, 0.1, 1.0, 0.6, 0.48])


def test_a_class_that_is_often_unsure_needs_less_and_the_best_class_is_never_an_error():
    labels = np.array([0, 0, 1, 1])
    # Means: 0.75 and 0.3. The second reaches class 1's mean, but its label is still the best class.
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.6, 0.4]])
    assert find_label_errors(labels, probabilities).tolist() == [False, False, True, False]
