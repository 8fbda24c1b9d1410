"""What makes a label doubtful: its votes, where its parts are drawn, similar photos, what models say."""

import functools
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

import config
from viewpoint.annotations.photo import Part, Photo
from viewpoint.annotations.vocabulary import KNOWN
from viewpoint.common.cli import counted, printable
from viewpoint.data.labeling import part_names, votes_of_names

ENDS, SIDES = ("front", "rear"), ("left", "right")

# The weight of each reason to doubt a label. "model" is multiplied by the probability that the
# models of the cross-validation, or else a trained model, give to all other classes together.
SUSPICIONS = {
    "conflict": 6.0,  # nearly the same photo as another one with another label
    "mirrored": 3.0,  # its parts are drawn where those of a mirrored car would be
    "model": 3.0,
    "confident": 1.0,  # confident learning calls it wrong
    "twin": 0.6,  # the photo before or after it in its folder looks alike and has another label
    "nameless": 0.4,  # regions without a name, too few to change the label
    "unknown": 0.4,  # part names that no list knows, too few to change the label
    "no end": 0.3,  # only left or right parts, which make a Front by rule
    "margin": 0.3,  # one vote decides
    "sides": 0.15,  # at least two left and two right parts, but not as many of both
    "tie": 0.15,  # as many front as rear parts, which make a Front by rule
    "single": 0.1,  # a Background only because it has too few parts
}
TWIN_BITS = 24  # photos whose 128-bit perceptual hashes differ in at most this many bits look alike

# What the review page calls each key of SUSPICIONS that gives a reason.
REASONS = {
    "conflict": "nearly equal photos, different labels",
    "mirrored": "parts look mirrored",
    "model": "a model disagrees",
    "twin": "the next photo disagrees",
    "nameless": "regions without a name",
    "unknown": "unknown part names",
    "single": "parts, but a Background",
    "no end": "neither front nor rear",
    "margin": "one part decides",
    "sides": "left and right parts",
    "tie": "as many front as rear parts",
}
# The kinds of doubt, in the order of the review page: a heading and the reasons for each. A photo with
# reasons of several kinds is shown under the first.
KINDS = [
    ("Nearly equal photos with different labels: one of them is wrong", ["conflict"]),
    ("A model, or where the parts are drawn, contradicts the label", ["mirrored", "model", "twin"]),
    ("Annotations that were only half understood", ["nameless", "unknown", "single"]),
    ("Ambiguous views: people could give them either name", ["no end", "margin", "sides", "tie"]),
]


def find_suspicions(
    df: pd.DataFrame,
    photos: dict[str, Photo],
    predictions: dict[str, dict[str, float]],
    out_of_fold: dict[str, dict[str, float]],
    conflicts: Iterable[tuple[str, str]] = (),
) -> list[tuple[float, dict[str, str]]]:
    """How doubtful each label is, and why: (sum of SUSPICIONS, reasons by their key), in the rows' order.

    `df` has parse_dataset's columns and order; `photos` maps image_path to parts and hash;
    `out_of_fold` are the probabilities of models that did not learn the photo, `predictions` those
    of a model that may have, for other photos; either may be {}. `conflicts` are pairs of nearly
    equal photos with different labels.
    """
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    judged = judge_labels(labels, predictions, "the model says")
    judged |= judge_labels(labels, out_of_fold)
    counterparts = counterparts_of(conflicts)
    found = []
    for row, others in zip(df.itertuples(index=False), neighbours(df), strict=True):
        photo, same = photos[row.image_path], counterparts.get(row.image_path, [])
        conflict = twin = ""
        if same:
            conflict = "nearly the same photo as " + "; ".join(f"{it}, which is {labels[it]}" for it in same)
        for other in others:
            if other and other.label != row.label and other.image_path not in same:
                if (photos[other.image_path].hash ^ photo.hash).bit_count() <= TWIN_BITS:
                    twin = f"looks like {PurePosixPath(other.image_path).name}, which is {other.label}"
        doubt, contradiction = judged.get(row.image_path, (0.0, ""))
        votes = (row.front_votes, row.rear_votes, row.left_votes, row.right_votes)
        reasons = reasons_against(row.label, votes, photo.parts, conflict, contradiction, twin)
        score = doubt + sum(SUSPICIONS[reason] for reason in reasons if reason != "model")
        found.append((score, reasons))
    return found


def reasons_against(
    label: str, votes: tuple[int, ...], parts: Iterable[Part], conflict: str, contradiction: str, twin: str = ""
) -> dict[str, str]:
    """What speaks against a label: {a key of SUSPICIONS: why}.

    `votes` are those for front, rear, left and right. `conflict` and `twin` say what of similar photos speaks
    against it, `contradiction` what a model says; "" where nothing does.
    """
    mirrored = "the parts are where a mirrored car has them: left and right swapped?" if looks_mirrored(parts) else ""
    reasons = {"conflict": conflict, "mirrored": mirrored, "model": contradiction, "twin": twin}
    given = {key: reason for key, reason in reasons.items() if reason}
    return given | reasons_in_names(parts) | reasons_in_votes(label, *votes)


def judge_labels(
    labels: dict[str, str],
    predictions: dict[str, dict[str, float]],
    who: str = "models that did not learn this photo say",
) -> dict[str, tuple[float, str]]:
    """What predictions say of the labels: {image_path: (share of the score, reason)}.

    The reason begins with `who`; it is "" when the label is the most probable class.
    """
    paths = [path for path in labels if path in predictions]
    if not paths:
        return {}
    given = np.array([config.CLASSES.index(labels[path]) for path in paths])
    probabilities = np.array([[predictions[path].get(name, 0.0) for name in config.CLASSES] for path in paths])
    others = 1 - self_confidence(given, probabilities)
    scores = SUSPICIONS["model"] * others
    scores += SUSPICIONS["confident"] * find_label_errors(given, probabilities)
    best = probabilities.argmax(axis=1)
    reasons = [
        f"{who} {config.CLASSES[best[i]]} ({probabilities[i, best[i]]:.2f})" if best[i] != given[i] else ""
        for i in range(len(paths))
    ]
    return dict(zip(paths, zip(scores.tolist(), reasons, strict=True), strict=True))


def counterparts_of(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The other photos of the pairs that each photo is in."""
    others: dict[str, list[str]] = {}
    for first, second in pairs:
        others.setdefault(first, []).append(second)
        others.setdefault(second, []).append(first)
    return others


def looks_mirrored(parts: Iterable[Part]) -> bool:
    """Whether most parts that can be compared are drawn where a mirrored car has them."""
    right, wrong = compare_places(parts)
    return wrong > right


def compare_places(parts: Iterable[Part]) -> tuple[int, int]:
    """How many pairs of parts are drawn where a car has them, and how many where a mirrored car has them.

    Seen from outside, a car's left side reaches from its front, at the left, to its rear, at the
    right; its right side the other way round. That holds for views of a corner and of the whole
    side: so left parts are to the right of front parts, and to the left of rear parts. Within a
    side, parts whose names say front and rear are compared.
    """
    places = [place for part in parts if (place := place_of(part))]
    right = wrong = 0
    for x, end, side, word in places:
        for other_x, other_end, other_side, other_word in places:
            corner = end and not side and other_side and not other_end
            along = side and side == other_side and (word, other_word) == ("front", "rear")
            if corner or along:
                direction = 1 if (word == "front") == (other_side == "left") else -1
                right += (other_x - x) * direction > 0
                wrong += (other_x - x) * direction < 0
    return right, wrong


def place_of(part: Part) -> tuple[float, str, str, str] | None:
    """Where a part is drawn and what it is: (middle x, its end's vote, its side's vote, front or rear by name).

    The texts are "" where it is neither, and None stands for a part that is not drawn.
    """
    xs = [x for outline in part.outlines for x, _ in outline]
    if not xs:
        return None
    return (min(xs) + max(xs)) / 2, *what_it_is(part.names)


@functools.cache
def what_it_is(names: tuple[str, ...]) -> tuple[str, str, str]:
    """Its end's vote, its side's vote, front or rear by name: of a part with these names, as in place_of."""
    votes = votes_of_names(names).split()
    end, side = (next((vote for vote in pair if vote in votes), "") for pair in (ENDS, SIDES))
    word = end or next((end for end in ENDS if any(end in name for name in names)), "")
    return end, side, word


def neighbours(df: pd.DataFrame) -> list[tuple[Any, Any]]:
    """The rows before and after each row among those of the same folder, None where there is none."""
    rows: list[Any] = [*df.itertuples(index=False), None]
    numbers = pd.Series(range(len(df)), df.index).groupby(df["image_path"].map(lambda path: PurePosixPath(path).parent))
    before, after = (numbers.shift(step, fill_value=-1) for step in (1, -1))
    return [(rows[first], rows[second]) for first, second in zip(before, after, strict=True)]


def reasons_in_names(parts: Iterable[Part]) -> dict[str, str]:
    """What in the part names was not understood, although it could not change the label: as reasons_in_votes."""
    parts, reasons = list(parts), {}
    if nameless := sum(not part.names for part in parts):
        reasons["nameless"] = f"{counted(nameless, 'region')} without a name"
    if unknown := sorted(part_names(parts) - KNOWN):
        reasons["unknown"] = "no list knows " + ", ".join(printable(name) for name in unknown)
    return reasons


def reasons_in_votes(label: str, front: int, rear: int, left: int, right: int) -> dict[str, str]:
    """What in the votes of a photo speaks against its label: {a key of SUSPICIONS: why}.

    As many left as right parts are what a straight view has, so they are no reason.
    """
    if label == config.BACKGROUND:
        return {"single": "parts, but too few for a car"} if front + rear + left + right else {}
    reasons = {}
    is_pure_side = label in ("Left", "Right")  # a class of its own, if config.CLASSES has it
    if not (front or rear or is_pure_side):
        reasons["no end"] = "no part says front or rear"
    if left != right and min(left, right) > 1:
        reasons["sides"] = "several left and right parts"
    if front == rear > 0 and not is_pure_side:
        reasons["tie"] = "as many front as rear parts"
    elif 1 in (abs(front - rear), abs(left - right)):
        reasons["margin"] = "one part decides"
    return reasons


def kind_of_doubt(reasons: Iterable[str]) -> int:
    """The first of KINDS that one of the reasons belongs to, as its index; len(KINDS) without any reason."""
    keys = set(reasons)
    return next((number for number, (_, kind) in enumerate(KINDS) if keys & set(kind)), len(KINDS))


# --- Confident learning ------------------------------------------------------------


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Which labels are likely wrong: bool (n,).

    Takes class indices (n,) and probabilities (n, classes) from models that did not learn these
    labels. A class is a candidate for a photo when the photo's probability of it reaches the mean
    that the photos labelled so have, so a class that the models are often unsure about needs less.
    A label is likely wrong when the most probable candidate, and the most probable class, are others.
    The package cleanlab does the same and more. Source: Northcutt, Jiang and Chuang, Confident Learning:
    Estimating Uncertainty in Dataset Labels (2021), https://arxiv.org/abs/1911.00068.
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
