"""Figures that say how good predictions are: accuracy, calibration, coverage, and whether one model is better.

Importing it needs NumPy only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import config
from viewpoint.common.cli import counted

CALIBRATION_BINS = 15


def accuracy_and_macro_f1(true: Sequence[str], predicted: Sequence[str]) -> tuple[float, float]:
    """Accuracy and macro F1, 0 to 1; macro F1 is the mean over the classes that occur in `true`.

    A class without photos has no F1: a mistake towards it counts in the class that was missed.
    Written out because scikit-learn takes longer to import than a photo takes to predict.
    Source: sklearn.metrics.f1_score, average="macro", labels=set(true), zero_division=0.
    """
    right = Counter(name for name, guess in zip(true, predicted, strict=True) if name == guess)
    occurrences = Counter(true) + Counter(predicted)
    # F1 = 2 * true positives / (true photos + predicted photos).
    f1_scores = [2 * right[name] / occurrences[name] for name in dict.fromkeys(true)]
    return right.total() / len(true), sum(f1_scores) / len(f1_scores)


def predicted_classes(probabilities: np.ndarray) -> list[str]:
    """The class with the best score in each row of probabilities (n, classes)."""
    return [config.CLASSES[index] for index in probabilities.argmax(axis=1)]


def is_right(labels: Sequence[str], probabilities: np.ndarray) -> np.ndarray:
    """Whether the best score of each row names the label: bool (n,)."""
    return np.array(predicted_classes(probabilities)) == np.asarray(labels)


def wilson_interval(right: int, count: int) -> list[float] | None:
    """Wilson's 95 % interval of a fraction, [low, high]; None when nothing was counted."""
    if not count:
        return None
    z = 1.959963984540054  # the normal distribution's 97.5th percentile
    fraction, spread = right / count, z * z / count
    centre = (fraction + spread / 2) / (1 + spread)
    half = (z / (1 + spread)) * (fraction * (1 - fraction) / count + spread / (4 * count)) ** 0.5
    return [max(0.0, centre - half), min(1.0, centre + half)]


# --- Calibration -------------------------------------------------------------------


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = CALIBRATION_BINS) -> dict[str, np.ndarray]:
    """How often a model is right in each of `bins` equal bins of its score; empty bins are left out.

    Takes the best scores (n,), 0 to 1, and whether each decision was right (n,). Returns the mean
    `score` and `accuracy` of each bin, 0 to 1, and its number of `images`.
    """
    scores, right = np.asarray(scores, float), np.asarray(right, float)
    # Bins are open on the left: with ten bins, a score of 0.2 belongs to (0.1, 0.2].
    index = np.ceil(scores * bins).clip(1, bins).astype(int)
    images = np.bincount(index)
    filled = np.flatnonzero(images)
    images = images[filled]
    return {
        "score": np.bincount(index, scores)[filled] / images,
        "accuracy": np.bincount(index, right)[filled] / images,
        "images": images,
    }


def expected_calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """The mean distance between score and accuracy over the bins of reliability(), weighted by images.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), https://arxiv.org/abs/1706.04599.
    """
    table = reliability(scores, right, bins)
    return float(np.average(np.abs(table["score"] - table["accuracy"]), weights=table["images"]))


def scale_logits(probabilities: np.ndarray, factor: float) -> np.ndarray:
    """The probabilities (n, classes) that logits `factor` times as large would give."""
    logits = factor * np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    unnormalized = np.exp(logits - logits.max(axis=1, keepdims=True))
    return unnormalized / unnormalized.sum(axis=1, keepdims=True)


def scores_by_stage(probabilities: np.ndarray, temperature: float | None) -> dict[str, np.ndarray]:
    """The best scores (n,) by name; when a temperature was folded in, those before it come first."""
    scores = probabilities.max(axis=1)
    if not temperature:
        return {"scores": scores}
    before = scale_logits(probabilities, temperature).max(axis=1)
    return {"before temperature scaling": before, "after temperature scaling": scores}


# --- Coverage ----------------------------------------------------------------------


def coverage_by_threshold(scores: np.ndarray, right: np.ndarray) -> list[dict[str, float]]:
    """What test_predict.py --unknown-below trades: a row for each threshold from 0 in steps of 0.01.

    Takes the best scores (n,), 0 to 1, and whether each decision was right (n,). Each row has the
    threshold, answered (the fraction with at least that score) and accuracy (of those);
    thresholds that leave nothing answered are left out.
    """
    scores, right = np.asarray(scores), np.asarray(right)
    rows = []
    for threshold in np.arange(100) / 100:
        answered = scores >= threshold
        if answered.any():
            accuracy = float(right[answered].mean())
            rows.append({"threshold": float(threshold), "answered": float(answered.mean()), "accuracy": accuracy})
    return rows


def suggest_threshold(
    scores: np.ndarray,
    right: np.ndarray,
    accuracy: float = config.SUGGESTED_ACCURACY,
    confidence: float = config.SUGGESTED_CONFIDENCE,
) -> dict[str, float | None]:
    """The lowest threshold, in steps of 0.01, whose answers show at least this accuracy with this confidence.

    Takes the best scores (n,) of photos that were not trained on, and whether each decision was
    right (n,). Returns the number of photos, the threshold, the fraction answered, the accuracy
    of the answers and its lower_bound; all but the first are None when the photos are too few.
    `missing` then says how many more answers, all of them right, some threshold would need, else 0.
    Needs SciPy.
    """
    scores, right = np.asarray(scores), np.asarray(right, bool)
    missing = []
    for threshold in np.arange(100) / 100:
        answered = scores >= threshold
        count, hits = int(answered.sum()), int(right[answered].sum())
        bound = accuracy_lower_bound(hits, count, confidence)
        if count and bound >= accuracy:
            return {
                "photos": len(scores),
                "threshold": float(threshold),
                "answered": count / len(scores),
                "accuracy": hits / count,
                "lower_bound": bound,
                "missing": 0,
            }
        missing.append(answers_needed(count - hits, accuracy, confidence) - count)
    unknown = dict.fromkeys(("threshold", "answered", "accuracy", "lower_bound"))
    return {"photos": len(scores), **unknown, "missing": min(missing)}


def accuracy_lower_bound(right: int, count: int, confidence: float) -> float:
    """The accuracy that `right` of `count` answers show with this confidence: Clopper and Pearson's one-sided bound.

    It is exact, where Wilson's is too optimistic for accuracies near 1. Needs SciPy.
    """
    from scipy.stats import beta  # here, because test_predict.py starts without SciPy

    return float(beta.ppf(1 - confidence, right, count - right + 1)) if right else 0.0


def answers_needed(wrong: int, accuracy: float, confidence: float) -> int:
    """The fewest answers, `wrong` of them wrong, that show this accuracy with this confidence."""
    counts = range(wrong + 1, 10**9)
    return counts[bisect_left(counts, accuracy, key=lambda n: accuracy_lower_bound(n - wrong, n, confidence))]


def threshold_effect(scores: np.ndarray, right: np.ndarray, threshold: float) -> dict[str, float]:
    """What a threshold does to photos: their number, how many get an answer, right ones with and without it."""
    answered = np.asarray(scores) >= threshold
    return {
        "threshold": threshold,
        "photos": len(answered),
        "answered": int(answered.sum()),
        "right": int(np.asarray(right)[answered].sum()),
        "right_without": int(np.sum(right)),
    }


# --- Comparison of two models -------------------------------------------------------


SIGNIFICANT = 0.05  # a difference that chance makes less often than this is called real


@dataclass(frozen=True)
class Comparison:
    """Two models on the same photos; newly_right and newly_wrong are the photos' positions."""

    photos: int
    old_right: int
    new_right: int
    newly_right: list[int]
    newly_wrong: list[int]
    p: float

    @property
    def worse(self) -> bool:
        """Whether the new model is significantly worse."""
        return self.p < SIGNIFICANT and len(self.newly_wrong) > len(self.newly_right)


def compare(true: Sequence[str], old: Sequence[str], new: Sequence[str]) -> Comparison:
    """Compare two models' predictions of the same photos with their labels. Needs SciPy.

    p is the probability that two equally good models differ at least as much, from the photos on
    which only one of them is right: each of the two is that one with probability 1/2.
    Source: McNemar, Note on the sampling error of the difference between correlated proportions (1947).
    """
    from scipy.stats import binomtest

    pairs = [(a == label, b == label) for label, a, b in zip(true, old, new, strict=True)]
    newly_right = [index for index, pair in enumerate(pairs) if pair == (False, True)]
    newly_wrong = [index for index, pair in enumerate(pairs) if pair == (True, False)]
    changed = len(newly_right) + len(newly_wrong)
    p = float(binomtest(len(newly_right), changed).pvalue) if changed else 1.0
    old_right, new_right = (sum(pair[model] for pair in pairs) for model in (0, 1))
    return Comparison(len(pairs), old_right, new_right, newly_right, newly_wrong, p)


def describe_comparison(found: Comparison) -> str:
    """A comparison in a sentence, with "no real difference" where that is so."""
    verdict = "no real difference"
    if found.p < SIGNIFICANT:
        verdict = "significantly worse" if found.worse else "significantly better"
    p = f"p = {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
    return (
        f"{counted(found.photos, 'photo')}, {found.old_right} right before and {found.new_right} now; "
        f"{len(found.newly_right)} newly right, {len(found.newly_wrong)} newly wrong: "
        f"{verdict} (McNemar's exact test, {p})"
    )
