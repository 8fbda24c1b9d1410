"""Accuracy, macro F1 and thresholds on hand-worked cases, and as scikit-learn computes them."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

import config
from viewpoint.common.metrics import (
    accuracy_and_macro_f1,
    accuracy_lower_bound,
    answers_needed,
    suggest_threshold,
    threshold_effect,
    wilson_interval,
)
from viewpoint.reports.summary import describe_effect, describe_suggestion


def test_a_hand_worked_case():
    true = ["Front", "Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Front", "Rear", "Rear", "RearLeft"]
    # Front: precision 2/2, recall 2/3, F1 4/5. Rear: 1/2, 1/2, 1/2. RearLeft has no photos, so it is not measured.
    assert accuracy_and_macro_f1(true, predicted) == (3 / 5, pytest.approx((4 / 5 + 1 / 2) / 2))


def test_all_right_and_all_wrong():
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Front", "Rear"]) == (1, 1)
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Rear", "Front"]) == (0, 0)
    assert accuracy_and_macro_f1(["Front"], ["Front"]) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_random_labels_as_scikit_learn_counts_them(seed):
    random = np.random.default_rng(seed)
    classes = config.CLASSES[: random.integers(1, len(config.CLASSES), endpoint=True)]
    true, predicted = random.choice(classes, (2, random.integers(1, 40))).tolist()
    macro_f1 = f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
    expected = (accuracy_score(true, predicted), macro_f1)
    assert accuracy_and_macro_f1(true, predicted) == pytest.approx(expected, abs=1e-12)


def test_intervals_are_those_of_scipy():
    for right, count in ((0, 1), (10, 10), (44, 47), (1, 3)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson_interval(right, count) == pytest.approx([expected.low, expected.high])
    assert wilson_interval(0, 0) is None


# --- The suggested threshold -------------------------------------------------------


def test_the_bound_of_hand_worked_cases():
    # Without an error: 0.1 ** (1 / n).
    assert accuracy_lower_bound(10, 10, 0.9) == pytest.approx(0.1**0.1)
    assert accuracy_lower_bound(1, 2, 0.9) == pytest.approx(1 - 0.9**0.5)  # 1 - (1 - p) ** 2 = 0.1
    assert accuracy_lower_bound(0, 5, 0.9) == 0
    # The sample sizes of acceptance tests for 98 % with 90 % confidence.
    assert [answers_needed(wrong, 0.98, 0.9) for wrong in range(3)] == [114, 194, 265]


def test_the_lowest_threshold_with_enough_right_answers_is_suggested():
    scores = np.repeat([0.95, 0.85, 0.75, 0.65], [114, 5, 80, 10])
    right = np.repeat([True, False, True, False], [114, 5, 80, 10])
    suggestion = suggest_threshold(scores, right)
    assert suggestion == {
        "photos": 209,
        "threshold": 0.86,
        "answered": pytest.approx(114 / 209),
        "accuracy": 1,
        "lower_bound": pytest.approx(0.1 ** (1 / 114)),
        "missing": 0,
    }
    right[114:118] = True  # one error among 199 answers is few enough
    assert suggest_threshold(scores, right)["threshold"] == 0.66
    assert suggest_threshold(scores[:114], right[:114])["threshold"] == 0


def test_too_few_photos_suggest_nothing_and_say_how_many_are_missing():
    scores, right = np.repeat([0.9, 0.5], [40, 7]), np.repeat([True, False], [40, 7])
    suggestion = suggest_threshold(scores, right)
    assert suggestion["threshold"] is None
    assert suggestion["missing"] == 114 - 40
    assert describe_suggestion(suggestion) == (
        "No threshold for --unknown-below: 47 validation photos cannot show at least 98% accuracy with 90% "
        "confidence; 74 more answers, all right, would be needed"
    )
    assert suggest_threshold(scores, ~right)["missing"] == 114  # above all scores, nothing is wrong


def test_the_effect_of_a_threshold():
    scores, right = np.array([0.9, 0.8, 0.4, 0.3]), np.array([True, False, True, False])
    effect = threshold_effect(scores, right, 0.5)
    assert effect == {"threshold": 0.5, "photos": 4, "answered": 2, "right": 1, "right_without": 2}
    assert describe_effect(effect | {"right": 2}) == (
        "On the test split, the threshold 0.50 leaves an answer for 2 of 4 photos; 2 of these are right, which is "
        "100.0% instead of 50.0% without it"
    )
