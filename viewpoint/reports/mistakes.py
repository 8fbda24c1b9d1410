"""The mistakes of a model on the test split: what speaks against their labels, and how the report shows them."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

import config
from viewpoint.annotations.photo import Part
from viewpoint.common.cli import UserError
from viewpoint.common.files import relative_path
from viewpoint.common.images import ImageError, upright_size
from viewpoint.common.metrics import is_right, predicted_classes
from viewpoint.data.corrections import read_corrections
from viewpoint.data.dataset import CORRECTIONS_NAME, PARTS_NAME, REVIEW_NAME, SUMMARY_NAME, read_parts, read_summary
from viewpoint.data.doubts import counterparts_of, judge_labels, reasons_against
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold
from viewpoint.data.provenance import hash_photos
from viewpoint.reports.charts import overlay
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.reports.review import CANVAS, drawn_parts
from viewpoint.training.figures import VOTE_COLUMNS, clearness
from viewpoint.training.history import Previous

# When this model and those of a cross-validation are this sure of the same class, the label looks wrong.
CERTAIN = 0.9
# What a mistake on the test split is, and how a sentence counts it.
VERDICTS = {
    "label looks wrong": "where the label looks wrong",
    "ambiguous view": "of ambiguous views",
    "model's error": "that are the model's",
}


@dataclass(frozen=True)
class Source:
    """Where the labels and the figures came from.

    `dataset` is the folder that data_preparation.py wrote, `data` that of the photos, `date` when
    the training ended, `fingerprints` the hash of each split's photos and labels, `changes` what
    differs from the previous training. `heat` takes rows of the test split and class indices,
    and returns Grad-CAM maps (n, height, width), 0 to 1.
    """

    dataset: Path | None = None
    data: Path | None = None
    date: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    changes: str = ""
    heat: Callable[[Sequence[int], list[int]], np.ndarray] | None = None


@dataclass(frozen=True)
class Judged:
    """What is known of a test photo and its label: its parts, votes, the reasons to doubt it, and a verdict.

    The verdict on a mistake is one of VERDICTS; "" when the split has no votes, so that nobody knows.
    """

    parts: tuple[Part, ...] = ()
    votes: tuple[int, ...] = ()
    reasons: tuple[str, ...] = ()
    verdict: str = ""


@dataclass(frozen=True)
class Tested:
    """The test split, the model's probabilities (n, classes) of its photos, and where its labels came from."""

    test: pd.DataFrame
    probabilities: np.ndarray
    source: Source

    @cached_property
    def predicted(self) -> list[str]:
        """The class that the model gives each photo."""
        return predicted_classes(self.probabilities)

    @cached_property
    def wrong(self) -> list[int]:
        """The rows that the model gets wrong."""
        return np.flatnonzero(~is_right(self.test["label"], self.probabilities)).tolist()


def judge_mistakes(tested: Tested) -> dict[int, Judged]:
    """What speaks against the label of each test photo that the model gets wrong, by its row."""
    source, mistakes = tested.source, tested.test.iloc[tested.wrong]
    labels = dict(zip(mistakes["image_path"], mistakes["label"], strict=True))
    parts: dict[str, tuple[Part, ...]] = {}
    others: dict[str, dict[str, float]] = {}
    counterparts: dict[str, list[str]] = {}
    marked: dict[str, str] = {}
    if source.dataset and source.data:
        parts = read_parts(source.dataset / PARTS_NAME, set(labels))
        contents = dict(zip(labels, hash_photos(source.data / path for path in labels), strict=True))
        others = read_out_of_fold(source.dataset / OUT_OF_FOLD_NAME, contents)
        counterparts = counterparts_of(read_conflicts(source.dataset))
        with contextlib.suppress(UserError):  # damaged since data_preparation.py read it
            marked = read_corrections(source.dataset / CORRECTIONS_NAME)
    contradictions = judge_labels(labels, others)
    judged = {}
    for row, path in zip(tested.wrong, mistakes["image_path"], strict=True):
        label, drawn, votes = labels[path], parts.get(path, ()), votes_of_row(tested.test.iloc[row])
        if not votes:
            judged[row] = Judged(drawn)
        elif marked.get(path) == label:
            judged[row] = Judged(drawn, votes, ("a person gave or confirmed this label",), "model's error")
        else:
            same = counterparts.get(path)
            conflict = f"nearly the same photo as {same[0]}, which has another label" if same else ""
            reasons = reasons_against(label, votes, drawn, conflict, contradictions.get(path, (0.0, ""))[1])
            is_ambiguous = clearness(label, *votes) == "ambiguous"
            scores = others.get(path, {}).get(tested.predicted[row], 0), tested.probabilities[row].max()
            looks_wrong = {"conflict", "mirrored"} & reasons.keys() or (min(scores) >= CERTAIN and not is_ambiguous)
            verdict = "label looks wrong" if looks_wrong else "ambiguous view" if is_ambiguous else "model's error"
            judged[row] = Judged(drawn, votes, tuple(reasons.values()), verdict)
    return judged


def votes_of_row(row: pd.Series) -> tuple[int, ...]:
    """The votes of a row of a split; () when the split has none, because it is a CSV of someone else."""
    try:
        return tuple(int(row[column]) for column in VOTE_COLUMNS)
    except (KeyError, ValueError):
        return ()


def read_conflicts(dataset: Path) -> list[tuple[str, str]]:
    """The pairs of nearly equal photos with different labels that data_preparation.py found."""
    pairs = read_summary(dataset / SUMMARY_NAME).get("conflicts", [])
    return [(str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def list_changes(
    tested: Tested, previous: Previous | None, judged: dict[int, Judged], folder: Path
) -> dict[str, list[dict]]:
    """The photos on which the model and the previous one differ, by title, for the page."""
    if previous is None or previous.comparison is None:
        return {}
    found = {"Newly wrong": previous.comparison.newly_wrong, "Newly right": previous.comparison.newly_right}
    return {
        title: show_photos(tested, [previous.rows[index] for index in positions], judged, folder)
        for title, positions in found.items()
        if positions
    }


def cell_of(label: str, predicted: str) -> str:
    """The id of a cell of the confusion matrix, as the links of draw_confusion_matrix() have it."""
    return f"cell-{config.CLASSES.index(label)}-{config.CLASSES.index(predicted)}"


def list_cells(tested: Tested, shown: Sequence[dict]) -> dict[str, dict]:
    """The cells of the confusion matrix that have mistakes, by id: their names, and the photos that are not shown."""
    pictured = {photo["path"] for photo in shown}
    cells: dict[str, dict] = {}
    for row in tested.wrong:
        label, path = (tested.test[column].iloc[row] for column in ("label", "image_path"))
        predicted = tested.predicted[row]
        title = f"{label} predicted as {predicted}"
        cell = cells.setdefault(cell_of(label, predicted), {"title": title, "count": 0, "others": []})
        cell["count"] += 1
        cell["others"] += [path] if path not in pictured else []
    return cells


def show_photos(tested: Tested, rows: Sequence[int], judged: dict[int, Judged], folder: Path) -> list[dict]:
    """The config.MISTAKES_SHOWN most confident predictions among these rows, for the page in `folder`."""
    test, probabilities, source = tested.test, tested.probabilities, tested.source
    order = sorted(rows, key=lambda row: -probabilities[row].max())[: config.MISTAKES_SHOWN]
    heats: np.ndarray | list[np.ndarray] = []
    if source.heat and order:
        with contextlib.suppress(ImageError):  # a photo vanished after it was predicted
            heats = source.heat(order, [config.CLASSES.index(tested.predicted[row]) for row in order])
    review = quote(relative_path(source.dataset / REVIEW_NAME, folder)) if source.dataset else None
    photos = []
    for number, row in enumerate(order):
        label, path, file = (test[column].iloc[row] for column in ("label", "image_path", "file"))
        about = judged.get(row, Judged())
        shown: dict[str, object] = {"picture": None, "heat": None, "size": (CANVAS, CANVAS), "parts": []}
        with contextlib.suppress(ImageError):  # the file vanished after it was decoded
            image = thumbnail(file, config.THUMBNAIL_SIZE)
            shown["size"] = [CANVAS * side / max(image.size) for side in image.size]
            shown["parts"] = drawn_parts(about.parts, CANVAS / max(upright_size(file)))
            shown["picture"] = data_uri(image)
            shown["heat"] = data_uri(overlay(image, heats[number])) if len(heats) else None
        shown |= {"path": path, "review": f"{review}#photo={quote(path, safe='')}" if review else None}
        shown |= {"label": label, "label_score": float(probabilities[row, config.CLASSES.index(label)])}
        shown |= {"predicted": tested.predicted[row], "score": float(probabilities[row].max())}
        photos.append(shown | {"cell": cell_of(label, tested.predicted[row]), "about": about})
    return photos
