"""Figures of parts of the test split: each class, each folder, clear and ambiguous labels."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pandas as pd

import config
from viewpoint.common.metrics import wilson_interval

VOTE_COLUMNS = ("front_votes", "rear_votes", "left_votes", "right_votes")
CLEAR_MARGIN = 2  # votes by which one end and one side must lead


def class_figures(true: Sequence[str], predicted: Sequence[str]) -> dict[str, dict]:
    """Precision, recall, f1-score and support of every class, with 95 % intervals of the first two.

    Without test photos of a class, its recall and F1 are None: they were not measured. So is the
    precision of a class that was never predicted.
    """
    figures = {}
    for name in config.CLASSES:
        support, guesses = list(true).count(name), list(predicted).count(name)
        hits = sum(label == guess == name for label, guess in zip(true, predicted, strict=True))
        figures[name] = {
            "precision": hits / guesses if guesses else None,
            "precision_interval_95": wilson_interval(hits, guesses),
            "recall": hits / support if support else None,
            "recall_interval_95": wilson_interval(hits, support),
            "f1-score": 2 * hits / (support + guesses) if support else None,
            "support": support,
        }
    return figures


def class_table(figures: dict[str, dict]) -> str:
    """class_figures() as text for a terminal, with the 95 % intervals."""
    lines = [f"{'':<12}{'precision':>22}{'recall':>22}{'F1':>8}{'photos':>8}"]
    for name, row in figures.items():
        if row["support"]:
            cells = [with_interval(row[kind], row[f"{kind}_interval_95"]) for kind in ("precision", "recall")]
            lines.append(f"{name:<12}{cells[0]:>22}{cells[1]:>22}{row['f1-score']:>8.3f}{row['support']:>8}")
        else:
            lines.append(f"{name:<12}{'not measured':>22}{'not measured':>22}{'-':>8}{0:>8}")
    return "\n".join(lines) + "\nIn brackets: 95 % intervals.\n"


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A fraction with its interval, for example "0.917 (0.65 to 0.99)"; a dash when it was not measured."""
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def folder_figures(paths: Iterable[str], right: Sequence[bool]) -> list[dict]:
    """Photos, right ones and accuracy of each folder of photos, the worst first."""
    folders = [str(PurePosixPath(path).parent) for path in paths]
    rows = [{"name": name, **figures} for name, figures in grouped(folders, right).items()]
    return sorted(rows, key=lambda row: (row["accuracy"], -row["photos"], row["name"]))


def label_figures(test: pd.DataFrame, right: Sequence[bool]) -> list[dict]:
    """The same by how clear the label is, see clearness(); [] when the split has no votes."""
    if not set(VOTE_COLUMNS) <= set(test.columns):
        return []
    try:
        votes = test[list(VOTE_COLUMNS)].astype(int).to_numpy()
    except ValueError:  # a CSV of someone else
        return []
    names = [clearness(label, *row) for label, row in zip(test["label"], votes.tolist(), strict=True)]
    figures = grouped(names, right)
    order = ("clear", "straight", "ambiguous", config.BACKGROUND)
    return [{"name": name, **figures[name]} for name in order if name in figures]


def age_figures(tested_before: Iterable[int], right: Sequence[bool]) -> list[dict]:
    """The same of photos that the previous training tested too, given by row, and of new ones; [] without both."""
    before = set(tested_before)
    figures = grouped(["old" if row in before else "new" for row in range(len(right))], right)
    return [{"name": name, **figures[name]} for name in ("old", "new")] if len(figures) == 2 else []


def clearness(label: str, front: int, rear: int, left: int, right: int) -> str:
    """How clear a label is by its votes: clear, straight, ambiguous, or config.BACKGROUND.

    clear: both one end and one side lead by CLEAR_MARGIN votes or more. straight: one end leads
    by that and the sides are equal, as in a photo from the very front. ambiguous: any other
    vehicle, with a lead of one part or none.
    """
    if label == config.BACKGROUND:
        return label
    if abs(front - rear) >= CLEAR_MARGIN:
        if abs(left - right) >= CLEAR_MARGIN:
            return "clear"
        if left == right:
            return "straight"
    return "ambiguous"


def grouped(names: Iterable[str], right: Sequence[bool]) -> dict[str, dict]:
    """Photos, right ones, accuracy and its 95 % interval of each name."""
    counts = pd.Series(list(right), dtype=int).groupby(list(names), sort=False).agg(["sum", "count"])
    return {
        name: {
            "photos": photos,
            "right": hits,
            "accuracy": hits / photos,
            "accuracy_interval_95": wilson_interval(hits, photos),
        }
        for name, hits, photos in zip(counts.index, counts["sum"].tolist(), counts["count"].tolist(), strict=True)
    }
