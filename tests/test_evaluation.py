"""The calibration of a trained network."""

import numpy as np
import pytest

from viewpoint.evaluation import fit_temperature, fold_temperature
from viewpoint.network import build_model, head_of


def test_the_temperature_of_a_hand_worked_case():
    """Right in 3 of 4 cases at a score of 0.9: only 0.75 is honest, so the logits, ln 9,
    must shrink to ln 3, which is a temperature of 2."""
    probabilities = np.tile([[0.9, 0.1]], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(2, abs=1e-3)
    # Without a mistake no score is too high; the search stays in its bounds.
    assert fit_temperature(probabilities, np.zeros(4, int)) == pytest.approx(0.25, rel=0.01)


def test_folding_a_temperature_divides_the_logits_and_changes_no_decision():
    model, _ = build_model(image_size=32)
    head = head_of(model)
    features = np.random.default_rng(0).normal(size=(200, 1280)).astype(np.float32)
    before = head.predict(features, verbose=0)
    assert len(set(before.argmax(axis=1))) > 3
    fold_temperature(model, 0.5)
    after = head.predict(features, verbose=0)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))
    # Half the temperature squares the ratios of the probabilities.
    squared = before**2 / (before**2).sum(axis=1, keepdims=True)
    assert after == pytest.approx(squared, abs=1e-5)
