"""Accuracy and macro F1 on hand-worked cases, and as scikit-learn computes them."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import config
from viewpoint.metrics import accuracy_and_macro_f1


def test_a_hand_worked_case():
    true = ["Front", "Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Front", "Rear", "Rear", "RearLeft"]
    # Front: precision 2/2, recall 2/3, F1 4/5. Rear: 1/2, 1/2, 1/2. RearLeft: 0/1, none true, 0.
    assert accuracy_and_macro_f1(true, predicted) == (3 / 5, pytest.approx((4 / 5 + 1 / 2 + 0) / 3))


def test_all_right_and_all_wrong():
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Front", "Rear"]) == (1, 1)
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Rear", "Front"]) == (0, 0)
    assert accuracy_and_macro_f1(["Front"], ["Front"]) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_random_labels_as_scikit_learn_counts_them(seed):
    random = np.random.default_rng(seed)
    classes = config.CLASSES[: random.integers(1, len(config.CLASSES), endpoint=True)]
    true, predicted = random.choice(classes, (2, random.integers(1, 40))).tolist()
    expected = (accuracy_score(true, predicted), f1_score(true, predicted, average="macro", zero_division=0))
    assert accuracy_and_macro_f1(true, predicted) == pytest.approx(expected, abs=1e-12)
