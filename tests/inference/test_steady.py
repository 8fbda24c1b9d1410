"""Steady views: figures against frame by frame, on walks with noise and dropouts."""

import numpy as np
import pytest

import config
from viewpoint.inference.video import (
    AWAY_SHARE,
    JUMP_SHARE,
    TICK,
    VIEW_SECONDS,
    find_stretches,
    most_probable_path,
    transitions,
)

LABELS = config.CLASSES
WALK = ["Front", "FrontLeft", "RearLeft", "Rear", "RearRight", "FrontRight", "Front"]


def watch_walk(walk: list[str], seed: int, wrong: float, frames: int = 12) -> tuple[list[str], np.ndarray]:
    """The true class of each frame of a walk, and probabilities of which a fraction is confidently wrong."""
    random = np.random.default_rng(seed)
    true = [name for name in walk for _ in range(frames)]
    probabilities = np.full((len(true), len(LABELS)), 0.0)
    for row, name in zip(probabilities, true, strict=True):
        seen = random.choice(LABELS) if random.random() < wrong else name
        row[:] = random.dirichlet(np.full(len(LABELS), 0.3)) * 0.3
        row[LABELS.index(seen)] += 0.7
    return true, probabilities


def steady(probabilities: np.ndarray, usable=None, a_second: float = 5) -> list[str]:
    count = len(probabilities)
    seconds = np.arange(count) / a_second
    return most_probable_path(probabilities, [True] * count if usable is None else usable, LABELS, seconds)


def test_steady_views_are_right_more_often_and_change_less():
    plain_right, steady_right, plain_changes, steady_changes, true_changes = 0, 0, 0, 0, 0
    for seed in range(10):
        true, probabilities = watch_walk(WALK, seed, wrong=0.3)
        plain = [LABELS[index] for index in probabilities.argmax(axis=1)]
        path = steady(probabilities)
        plain_right += sum(a == b for a, b in zip(plain, true, strict=True))
        steady_right += sum(a == b for a, b in zip(path, true, strict=True))
        plain_changes += len(find_stretches(plain))
        steady_changes += len(find_stretches(path))
        true_changes += len(WALK)
    print(plain_right / 840, steady_right / 840, plain_changes, steady_changes, true_changes)
    assert plain_right / 840 < 0.8
    assert steady_right / 840 > 0.92
    assert plain_changes > 4 * true_changes
    assert steady_changes <= 1.1 * true_changes


def test_a_walk_in_either_direction_with_a_look_away_is_followed():
    for walk in (WALK, WALK[::-1], ["Front", "FrontLeft", "Background", "FrontLeft", "RearLeft"]):
        true, probabilities = watch_walk(walk, 1, wrong=0.0)
        assert steady(probabilities) == true


def test_frames_on_which_nothing_can_be_seen_take_the_view_around_them():
    true, probabilities = watch_walk(["Front", "FrontLeft"], 2, wrong=0.0)
    usable = [True] * 24
    for index in (4, 5, 6, 15):
        usable[index] = False
        probabilities[index] = np.eye(7)[LABELS.index("Background")]
    assert steady(probabilities, usable) == true
    assert steady(probabilities[:1], [False]) == [LABELS[0]]  # nothing at all to go by


def test_one_frame_of_the_opposite_view_is_an_error_and_a_neighbour_for_long_is_not():
    confident = 0.94 * np.eye(7) + 0.06 / 7
    front, rear, left = (confident[LABELS.index(name)] for name in ("Front", "Rear", "FrontLeft"))
    assert steady(np.array([front] * 5 + [rear] + [front] * 5)) == ["Front"] * 11
    assert steady(np.array([front] * 5 + [left] * 6)) == ["Front"] * 5 + ["FrontLeft"] * 6


def test_the_probabilities_of_a_step_worked_out_by_hand():
    matrix = transitions(tuple(LABELS), 1)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(7))
    stay = np.exp(-TICK / VIEW_SECONDS)
    assert np.diag(matrix) == pytest.approx(np.full(7, stay))
    front = dict(zip(LABELS, matrix[LABELS.index("Front")], strict=True))
    jump = JUMP_SHARE / 7
    weights = {"FrontLeft": (1 - JUMP_SHARE - AWAY_SHARE) / 2 + jump, "Rear": jump}
    # The weight of staying is not a change, so it is left out of the sum.
    total = 1 - jump
    for name, weight in weights.items():
        assert front[name] == pytest.approx((1 - stay) * weight / total)
    assert front["FrontLeft"] == pytest.approx(front["FrontRight"])
    background = matrix[LABELS.index("Background")]
    assert background[:6] == pytest.approx(np.full(6, (1 - stay) / 6))
    assert transitions(tuple(LABELS), 30) == pytest.approx(np.linalg.matrix_power(matrix, 30))


def test_a_long_gap_between_two_frames_makes_any_change_likelier():
    confident = 0.94 * np.eye(7) + 0.06 / 7
    front, rear = (confident[LABELS.index(name)] for name in ("Front", "Rear"))
    frames = np.array([front] * 3 + [rear] * 2)
    close = most_probable_path(frames, [True] * 5, LABELS, [0, 0.02, 0.04, 0.06, 0.08])
    apart = most_probable_path(frames, [True] * 5, LABELS, [0, 0.02, 0.04, 30.0, 30.02])
    assert close == ["Front"] * 5
    assert apart == ["Front"] * 3 + ["Rear"] * 2


def test_classes_that_are_missing_are_passed_over():
    labels = ["Rear", "Front", "Side"]
    matrix = transitions(tuple(labels), 100)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(3))
    assert matrix[1, 0] > matrix[1, 2] > 0


def test_stretches():
    assert find_stretches(["a", "a", "b", "a"]) == [(0, 2, "a"), (2, 3, "b"), (3, 4, "a")]
