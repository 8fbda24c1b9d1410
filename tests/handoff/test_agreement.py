"""The gate before the hand-off: chance does not decide, and a model that reads its input wrongly does not pass."""

import numpy as np
import pytest

from viewpoint.handoff.agreement import Agreement, compare


def scores(*first_two: tuple[float, float]) -> np.ndarray:
    """Probabilities of four classes: these for the first two, and the rest for the other two."""
    return np.array([[one, two, (1 - one - two) / 2, (1 - one - two) / 2] for one, two in first_two])


def agreement(expected: np.ndarray, found: np.ndarray) -> Agreement:
    return compare(expected, found, "photos")


def test_agreement_of_a_hand_worked_case():
    expected = scores((0.9, 0.1), (0.2, 0.8), (0.6, 0.4), (0.5, 0.46))
    found = scores((0.85, 0.1), (0.2, 0.8), (0.6, 0.4), (0.47, 0.49))
    result = agreement(expected, found)
    assert result.change == pytest.approx([0.05, 0, 0, 0.03])
    assert result.tie == pytest.approx(0.05)
    assert result.is_tie.tolist() == [False, False, False, True]
    assert (result.ties, result.changed_ties, result.clear, result.fraction) == (1, 1, 3, 1)


def test_a_near_tie_alone_refuses_nothing_however_few_the_images_are():
    """What a float16 model once did to 1 of 48 validation photos."""
    expected = scores(*[(0.9, 0.05)] * 47, (0.466, 0.462))
    found = scores(*[(0.9, 0.05)] * 47, (0.438, 0.491))
    assert agreement(expected, found).problem(least=0.99) is None
    assert agreement(expected[-1:], found[-1:]).problem(least=0.99) is None


def test_clear_images_that_change_class_refuse_the_model():
    expected = scores(*[(0.9, 0.05)] * 97, *[(0.6, 0.3)] * 3)
    found = scores(*[(0.9, 0.05)] * 97, *[(0.4, 0.5)] * 3)
    assert "gives 3 of 100 clear images another class, so 97.00% agree" in str(agreement(expected, found).problem(0.99))
    assert agreement(expected, found).problem(0.97) is None


def test_a_bad_precision_does_not_make_near_ties_of_clear_images():
    """However far the scores move, scores more than 0.1 apart are clear."""
    expected, found = scores((0.5, 0.39), (0.5, 0.41)), scores((0.1, 0.8), (0.1, 0.8))
    assert agreement(expected, found).is_tie.tolist() == [False, True]


def test_scores_that_move_on_all_images_refuse_a_model_that_keeps_every_class():
    expected, found = scores(*[(0.9, 0.05)] * 100), scores(*[(0.7, 0.2)] * 100)
    assert "moves the scores by 0.20 on average" in str(agreement(expected, found).problem(0.99))
