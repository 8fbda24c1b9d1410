"""Whether a converted model gives the Keras model's answers, and how far it moves the scores."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import config
from viewpoint.common.cli import counted
from viewpoint.common.images import scale
from viewpoint.inference.model import Runner

# However far a precision moves scores, an image is a near tie only up to this difference of its first two.
MAX_TIE = 0.1
# How far the largest score change of an image may be on average. On trained models, float16 moved scores
# by 0.003 to 0.004, dynamic by 0.006 and int8 by 0.03; swapped channels, another range or mean by 0.1 or more.
MAX_MEAN_CHANGE = 0.05
# Other processors compute the same model slightly differently: with other kernels, dynamic moved by 0.047
# where it was at most 0.033 away from the Keras model.
HEAD_ROOM = 2
# What goes wrong on devices, as changes of the model's input, -1 to 1: swapped channels, another range, another mean.
MISREADINGS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda image: image[..., ::-1],
    lambda image: (image + 1) / 2,
    lambda image: np.clip(image - 0.5, -1, 1),
)


@dataclass(frozen=True)
class Images:
    """The images that every converted model is compared on, with the Keras model's answers."""

    rows: list[dict[str, str]]  # of val.csv, see dataset.read_rows; the first images are their photos
    pixels: list[np.ndarray]  # uint8 (size, size, 3)
    described: str  # "48 validation photos, 44 test photos, 208 training photos"
    labels: list[str]  # the model's classes
    mirror: bool  # whether converted models average the probabilities of an image and its mirror image
    expected: np.ndarray  # the Keras model's probabilities (n, classes), with `mirror` the means with the mirror images
    plain: np.ndarray  # the same without `mirror`

    def right(self, probabilities: np.ndarray) -> int | None:
        """How many validation photos have their true class as the best in `probabilities` (n, classes), if known.

        The other photos do not count, because the model has learned most of them.
        """
        if not all("label" in row for row in self.rows):
            return None
        best = probabilities[: len(self.rows)].argmax(axis=1)
        return sum(row["label"] == self.labels[index] for row, index in zip(self.rows, best, strict=True))

    def effect_of_mirror(self, probabilities: np.ndarray) -> str:
        """What averaging with the mirror image gives on the validation photos, for a model with these probabilities."""
        right, without = self.right(probabilities), self.right(self.plain)
        if not self.mirror or right is None:
            return ""
        return (
            f"It gets {right} of the {counted(len(self.rows), 'validation photo')} right, and the Keras model without "
            f"the mirror image {without}: measure on photos of your own which is better."
        )


@dataclass(frozen=True)
class Agreement:
    """How a converted model's probabilities compare with the Keras model's, image by image; made by compare."""

    described: str  # which images, as in Images
    tie: float  # an image is a near tie if the Keras model's first two scores are no further apart than this
    is_tie: np.ndarray  # bool (n,)
    is_same: np.ndarray  # bool (n,), whether the image gets the same class
    change: np.ndarray  # (n,), the largest change of a probability

    @property
    def ties(self) -> int:
        """How many images are near ties."""
        return int(self.is_tie.sum())

    @property
    def changed_ties(self) -> int:
        """How many near ties get another class."""
        return int((self.is_tie & ~self.is_same).sum())

    @property
    def clear(self) -> int:
        """How many images are no near ties."""
        return len(self.is_tie) - self.ties

    @property
    def fraction(self) -> float:
        """The fraction of the clear images that keep their class; 1 if there are none."""
        return float(self.is_same[~self.is_tie].mean()) if self.clear else 1.0

    def problem(self, least: float) -> str | None:
        """Why the model must not be handed over: "it ..."; None if nothing; `least` is a fraction of clear images."""
        mean = self.change.mean()
        if mean > MAX_MEAN_CHANGE:
            return (
                f"it moves the scores by {mean:.2f} on average, more than rounding does (at most {MAX_MEAN_CHANGE}): "
                "it is another model, or its input is read in another way; run train.py again"
            )
        if self.fraction < least:
            changed = int((~self.is_same & ~self.is_tie).sum())
            percent = int(self.fraction * 10_000) / 100  # rounded down: 98.997 must not read as 99.00
            return (
                f"it gives {changed} of {counted(self.clear, 'clear image')} another class, so "
                f"{percent:.2f}% agree instead of {least:.0%}; choose another --quantize, or lower --min-agreement"
            )
        return None


def compare(expected: np.ndarray, found: np.ndarray, described: str) -> Agreement:
    """Compare the Keras model's probabilities (n, classes) with a converted model's, on the images `described`."""
    change = np.abs(expected - found).max(axis=1)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    tie = min(float(change.max()), MAX_TIE)
    return Agreement(described, tie, first - second <= tie, expected.argmax(axis=1) == found.argmax(axis=1), change)


def choose_by_class(rows: Sequence[dict[str, str]], count: int) -> list[int]:
    """Up to `count` indices of rows: the first of every class, then the second of every class, and so on."""
    seen: Counter[str] = Counter()
    rounds = []
    for row in rows:
        label = row.get("label", "")
        rounds.append(seen[label])
        seen[label] += 1
    return sorted(range(len(rows)), key=rounds.__getitem__)[:count]


def choose_golden(
    runner: Runner, images: Images, probabilities: np.ndarray, agreement: Agreement
) -> tuple[list[int], float]:
    """The validation photos of a model's golden set, as indices of images, and its tolerance.

    `runner` runs the model, and gave `probabilities`. No photo is a near tie, and of each class those
    come first that show the MISREADINGS best. The tolerance is HEAD_ROOM times the largest change of a
    score on all images, but at most half of what the least visible misreading changes on these photos.
    """
    clear = np.flatnonzero(~agreement.is_tie[: len(images.rows)]).tolist() or list(range(len(images.rows)))
    pool = [clear[k] for k in choose_by_class([images.rows[i] for i in clear], 5 * config.GOLDEN_IMAGES)]
    inputs = [(scale(images.pixels[i])[np.newaxis], probabilities[i]) for i in pool]
    moved = np.array([[np.abs(runner(read(x)) - known).max() for x, known in inputs] for read in MISREADINGS])
    order = np.argsort(-moved.min(axis=0), kind="stable")
    chosen = order[choose_by_class([images.rows[pool[k]] for k in order], config.GOLDEN_IMAGES)]
    visible = moved[:, chosen].max(axis=1).min()
    tolerance = min(math.ceil(100 * HEAD_ROOM * agreement.change.max()), math.floor(100 * visible / 2))
    return [pool[k] for k in chosen], max(tolerance, 1) / 100


@dataclass(frozen=True)
class Converted:
    """A TFLite model, and how it compares with the Keras model."""

    model: bytes
    precision: str  # one of config.PRECISIONS
    io: str  # "float32" or "uint8"
    mirror: bool  # whether it averages the probabilities of an image and of its mirror image
    probabilities: np.ndarray  # its answers to the images, (n, classes)
    agreement: Agreement
    golden: list[int]  # the images of its golden set
    tolerance: float  # how far a probability on another device may be from the expected one
    milliseconds: float  # the median time of an answer on this machine
    problem: str | None  # why the model must not be handed over: "it ..."
    effect: str = ""  # what averaging with the mirror image gives, see Images.effect_of_mirror

    @property
    def size(self) -> str:
        """The size of the model's file, as text."""
        return f"{len(self.model) / 2**20:.2f} MiB"
