"""The report of train.py on the test split: metrics.json, charts, and one page with all of it."""

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, f1_score, log_loss

import config
from viewpoint.common.cli import counted
from viewpoint.common.metrics import (
    accuracy_and_macro_f1,
    coverage_by_threshold,
    expected_calibration_error,
    is_right,
    predicted_classes,
    scores_by_stage,
    threshold_effect,
    wilson_interval,
)
from viewpoint.common.tables import write_csv
from viewpoint.common.writing import remove, write_atomically
from viewpoint.data.dataset import SUMMARY_NAME, read_summary
from viewpoint.inference.model import PREDICTION_COLUMNS
from viewpoint.reports import charts
from viewpoint.reports.mistakes import (
    VERDICTS,
    Source,
    Tested,
    judge_mistakes,
    list_cells,
    list_changes,
    show_photos,
)
from viewpoint.reports.pages import write_page
from viewpoint.reports.summary import describe_effect, describe_suggestion
from viewpoint.training import figures
from viewpoint.training.history import Previous

# Below this number of test photos there is no reliability diagram, because it would show chance.
PHOTOS_FOR_PLOTS = 200
NAMES_SHOWN = 30  # photos of a cell of the confusion matrix that have no picture on the page
# What the template of the page uses besides the figures of a training.
FUNCTIONS = (counted, describe_suggestion, describe_effect, figures.with_interval)
HELPERS: dict[str, object] = {function.__name__: function for function in FUNCTIONS}
HELPERS |= {"meanings": VERDICTS, "folders_shown": config.FOLDERS_SHOWN}
HELPERS |= {"photos_for_plots": PHOTOS_FOR_PLOTS, "names_shown": NAMES_SHOWN}


def compute_metrics(true: list[str], predicted: list[str]) -> dict:
    """Accuracy, macro and weighted F1, figures of each class, and the confusion matrix.

    Macro F1 is over `macro_f1_classes`, those with photos; the matrix has all classes, with true
    classes as rows.
    """
    accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
    per_class = figures.class_figures(true, predicted)
    return {
        "images": len(true),
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "macro_f1_classes": [name for name in config.CLASSES if per_class[name]["support"]],
        "weighted_f1": f1_score(true, predicted, average="weighted", zero_division=0),
        "classes": config.CLASSES,
        "confusion_matrix": confusion_matrix(true, predicted, labels=config.CLASSES).tolist(),
        "per_class": per_class,
        "text": figures.class_table(per_class),
    }


def measure(
    test: pd.DataFrame,
    probabilities: np.ndarray,
    settings: dict,
    robustness: dict[str, float] | None,
    tested_before: Sequence[int] = (),
) -> dict:
    """All figures on the test split, as metrics.json has them; `tested_before` are rows of earlier test photos."""
    metrics = compute_metrics(test["label"].tolist(), predicted_classes(probabilities))
    right = is_right(test["label"], probabilities)
    *before, scores = scores_by_stage(probabilities, settings["temperature"]).values()
    metrics["accuracy_interval_95"] = wilson_interval(int(right.sum()), len(right))
    metrics["by_folder"] = figures.folder_figures(test["image_path"], right.tolist())
    metrics["by_label"] = figures.label_figures(test, right.tolist())
    metrics["by_age"] = figures.age_figures(tested_before, right.tolist())
    metrics["log_loss"] = log_loss(
        test["label"].map(config.CLASSES.index), probabilities, labels=range(len(config.CLASSES))
    )
    metrics["calibration_error"] = expected_calibration_error(scores, right)
    if before:
        metrics["calibration_error_before"] = expected_calibration_error(before[0], right)
    if robustness:
        metrics["robustness"] = robustness
    if threshold := (settings["suggestion"] or {}).get("threshold"):
        metrics["threshold_effect"] = threshold_effect(scores, right, threshold)
    # For people who want another threshold than the suggested one.
    metrics["answered"] = coverage_by_threshold(scores, right)[::5]
    return metrics


@dataclasses.dataclass(frozen=True)
class Background:
    """What the report needs to know besides the model's answers.

    `robustness` has the accuracy under each corruption; `training` is the id of the training, by
    which convert_tflite.py knows which model the figures belong to; `previous` is the comparison
    with the previous training; `source` says where the labels came from.
    """

    robustness: dict[str, float] | None = None
    training: str | None = None
    previous: Previous | None = None
    source: Source = dataclasses.field(default_factory=Source)


def write_report(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    folder: Path,
    background: Background,
) -> dict:
    """Write the report on the test split into `folder` and return its metrics.

    `probabilities` (n, classes) are the model's for splits["test"]; `settings` holds train.py's
    options, the temperature that was folded in, and the threshold that suggest_threshold found on
    validation.
    """
    test, previous = splits["test"], background.previous
    metrics = measure(test, probabilities, settings, background.robustness, previous.rows if previous else ())
    text = metrics.pop("text")
    with write_atomically(folder / "metrics.json") as path:
        content = {"training": background.training, "test": metrics, "settings": settings, "history": history}
        if previous:
            content["previous"] = dataclasses.asdict(previous)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    scores = [f"{score:.4f}" for score in probabilities.max(axis=1)]
    rows = zip(test["image_path"], predicted_classes(probabilities), scores, test["label"], strict=True)
    write_csv(folder / "test_predictions.csv", [*PREDICTION_COLUMNS, "label"], rows)
    values: dict[str, object] = {"metrics": metrics, "settings": settings}
    values["charts"] = draw_charts(splits, probabilities, history, settings, metrics, folder)
    values["kept"] = next(log for log in history if log["kept"])
    values["seconds"] = sum(log.get("mean_seconds", 0) for log in history)
    values["earlier"] = EARLIER_NAME if (folder / EARLIER_NAME).is_file() else None
    values |= describe_test(splits, metrics)
    values["thresholds"] = threshold_rows(probabilities, is_right(test["label"], probabilities), settings)
    values |= describe_mistakes(Tested(test, probabilities, background.source), previous, folder)
    write_page(folder / PAGE_NAME, "training.html", **HELPERS, **values)
    return metrics | {"text": text}


def describe_test(splits: dict[str, pd.DataFrame], metrics: dict) -> dict[str, object]:
    """What the page says of the test split as a whole, as values of its template."""
    test, train = (
        [str(PurePosixPath(path).parent) for path in splits[name]["image_path"]] for name in ("test", "train")
    )
    matrix = np.array(metrics["confusion_matrix"])
    np.fill_diagonal(matrix, 0)
    measured = {name: row for name, row in metrics["per_class"].items() if row["support"]}
    worst = sorted(measured, key=lambda name: (measured[name]["recall"], -measured[name]["support"]))
    return {
        "sizes": {name: len(split) for name, split in splits.items()},
        "folders": len(set(test)),
        "shared": sum(folder in set(train) for folder in test),  # test photos in a folder with training photos
        "confused": [config.CLASSES[index] for index in np.unravel_index(matrix.argmax(), matrix.shape)],
        "most_confused": int(matrix.max()),
        "classes": {name: metrics["per_class"][name] for name in dict.fromkeys([*worst, *config.CLASSES])},
    }


def describe_mistakes(tested: Tested, previous: Previous | None, folder: Path) -> dict[str, object]:
    """What the page says of single photos and their labels, as values of its template."""
    source, judged = tested.source, judge_mistakes(tested)
    shown = show_photos(tested, tested.wrong, judged, folder)
    return {
        "verdicts": Counter(one.verdict for one in judged.values() if one.verdict),
        "source": source,
        "corrections": read_summary(source.dataset / SUMMARY_NAME).get("corrections") if source.dataset else None,
        "mistakes": shown,
        "cells": list_cells(tested, shown),
        "wrong": len(tested.wrong),
        "previous": previous.describe() if previous else None,
        "changes": list_changes(tested, previous, judged, folder),
    }


def threshold_rows(probabilities: np.ndarray, right: np.ndarray, settings: dict) -> list[dict]:
    """What some thresholds, and the suggested one, do to the test split: metrics.threshold_effect of each."""
    suggested = (settings["suggestion"] or {}).get("threshold")
    rows = []
    for threshold in sorted({0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, suggested or 0.0}):
        row: dict[str, object] = {"suggested": threshold == suggested}
        effect = threshold_effect(probabilities.max(axis=1), right, threshold)
        row["accuracy"] = effect["right"] / effect["answered"] if effect["answered"] else None
        row["interval"] = wilson_interval(int(effect["right"]), int(effect["answered"]))
        rows.append(row | effect)
    return rows


# --- Charts ------------------------------------------------------------------------


def draw_charts(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    metrics: dict,
    folder: Path,
) -> dict[str, str]:
    """Draw every chart of the report to a PNG file in `folder`: {title: the same as SVG} in the page's order."""
    right = is_right(splits["test"]["label"], probabilities)
    coverage = coverage_by_threshold(probabilities.max(axis=1), right)
    threshold = (settings["suggestion"] or {}).get("threshold")
    drawings: dict[str, tuple[str, Callable[[Path], str]]] = {
        "confusion_matrix": ("Confusion matrix", partial(charts.draw_confusion_matrix, metrics)),
        "learning_curves": ("Learning curves", partial(charts.draw_learning_curves, history)),
        "answered": ("Fewer answers, more of them right", partial(charts.draw_coverage, coverage, threshold)),
        "class_distribution": ("Photos per class", partial(charts.draw_class_distribution, splits)),
    }
    if "robustness" in metrics:
        drawings["robustness"] = ("Changed photos", partial(charts.draw_robustness, metrics["robustness"]))
    if len(right) >= PHOTOS_FOR_PLOTS:
        scores = scores_by_stage(probabilities, settings["temperature"])
        drawings["reliability"] = ("Can the scores be trusted?", partial(charts.draw_reliability, scores, right))
    else:
        remove(folder / "reliability.png")  # of an earlier training with more photos
    drawn = {}
    for name, (title, draw) in drawings.items():
        with write_atomically(folder / f"{name}.png") as path:
            drawn[title] = draw(path)
    return drawn


# --- While it trains ---------------------------------------------------------------

PAGE_NAME, EARLIER_NAME = "index.html", "previous.html"
IN_PROGRESS = 'id="in-progress"'  # tells the page of write_progress() from a finished report


def write_progress(epochs: list[dict], count: int, folder: Path) -> None:
    """Write the page of a training after an epoch: how far it is, and its curves so far.

    `epochs` are those of all phases, `count` is the number of epochs of the last one's phase. The report
    of an earlier training becomes previous.html. Raises UserError when the page cannot be written.
    """
    page, earlier = folder / PAGE_NAME, folder / EARLIER_NAME
    if page.is_file() and IN_PROGRESS not in page.read_text(encoding="utf-8", errors="replace"):
        page.replace(earlier)
    write_page(
        page,
        "progress.html",
        last=epochs[-1],
        count=count,
        curves=charts.draw_learning_curves(epochs, None),
        time=f"{datetime.datetime.now():%H:%M:%S}",
        earlier=EARLIER_NAME if earlier.is_file() else None,
    )
