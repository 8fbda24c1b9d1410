"""Make the predictions of a video steady: who walks around a car passes its views in a circle. NumPy only.

The frames are observations of a hidden Markov model whose states are the classes. Between two
frames the view mostly stays; it changes to a neighbour on config.VIEW_CIRCLE much more often than
to any other, and the camera may turn away from the car, to config.BACKGROUND, and back at any time.
The Viterbi algorithm finds the most probable sequence of classes. Source: Rabiner, "A tutorial on
hidden Markov models and selected applications in speech recognition", 1989, section III.B.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import config

# No frame may rule a class out altogether.
LOWEST = 1e-3

TICK = 0.01  # seconds; times are rounded to it

VIEW_SECONDS = 3.0  # for how long a view is seen on average
AWAY_SHARE = 0.1  # fraction of the changes of view that turn away from the car, to Background
JUMP_SHARE = 0.01  # fraction of the changes to a view that is no neighbour on VIEW_CIRCLE
FRAME_WEIGHT = 0.5  # what a frame counts, because frames in a row repeat each other's mistakes


class Stretch(NamedTuple):
    """Frames in a row that show one class: index of the first, index after the last, the class."""

    start: int
    end: int
    name: str


@functools.lru_cache(maxsize=1000)
def transitions(labels: tuple[str, ...], ticks: int) -> np.ndarray:
    """The probability (from, to) that a class follows another one after some ticks of TICK seconds; rows sum to 1."""
    count = len(labels)
    circle = [name for name in config.VIEW_CIRCLE if name in labels]
    weights = np.full((count, count), JUMP_SHARE / count)
    for position, name in enumerate(circle):
        for neighbour in (circle[position - 1], circle[(position + 1) % len(circle)]):
            weights[labels.index(name), labels.index(neighbour)] += (1 - JUMP_SHARE - AWAY_SHARE) / 2
    if config.BACKGROUND in labels:
        background = labels.index(config.BACKGROUND)
        weights[:, background] += AWAY_SHARE
        weights[background] = 1.0  # the camera may turn back to any view
    np.fill_diagonal(weights, 0)
    leave = 1 - np.exp(-TICK / VIEW_SECONDS)
    one_tick = leave * weights / weights.sum(axis=1, keepdims=True)
    np.fill_diagonal(one_tick, 1 - leave)
    # In a long time the view may change more than once.
    return np.linalg.matrix_power(one_tick, ticks)


def most_probable_path(
    probabilities: np.ndarray, usable: Sequence[bool], labels: Sequence[str], seconds: Sequence[float]
) -> list[str]:
    """The class of each frame on the most probable path (Viterbi).

    `probabilities` (frames, classes) are a classifier's, `seconds` the times of the frames. Frames that
    are not `usable` say nothing, unless none is.
    """
    # A classifier gives P(class | frame); with all classes equally likely before, P(frame | class) is proportional.
    # Frames in a row repeat each other's mistakes, so each counts for less than an independent one.
    scores = FRAME_WEIGHT * np.log(np.maximum(probabilities, LOWEST))
    if any(usable):
        scores[~np.asarray(usable, dtype=bool)] = 0
    best = scores[0]
    origins = []
    for frame, step in zip(scores[1:], np.diff(seconds), strict=True):
        ways = best[:, np.newaxis] + np.log(transitions(tuple(labels), max(1, round(step / TICK))))
        origins.append(ways.argmax(axis=0))
        best = ways.max(axis=0) + frame
    path = [int(best.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return [labels[index] for index in reversed(path)]


def find_stretches(path: Sequence[str]) -> list[Stretch]:
    """The stretches of a path, in order."""
    starts = [index for index, name in enumerate(path) if index == 0 or name != path[index - 1]]
    return [Stretch(start, end, path[start]) for start, end in zip(starts, [*starts[1:], len(path)], strict=True)]
