"""The report of train.py on the test split: metrics.json, charts, and one page with all of it."""

import csv
import dataclasses
import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix, f1_score, log_loss

import config
from viewpoint.files import write_atomically
from viewpoint.history import Previous
from viewpoint.images import ImageError
from viewpoint.inference import PREDICTION_COLUMNS
from viewpoint.metrics import (
    accuracy_and_macro_f1,
    coverage_by_threshold,
    expected_calibration_error,
    is_right,
    predicted_classes,
    scores_by_stage,
    threshold_effect,
    wilson_interval,
)
from viewpoint.reports.charts import (
    draw_class_distribution,
    draw_confusion_matrix,
    draw_coverage,
    draw_learning_curves,
    draw_reliability,
    draw_robustness,
)
from viewpoint.reports.groups import class_figures, class_table, folder_figures, label_figures, with_interval
from viewpoint.reports.pages import render
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.reports.summary import describe_effect, describe_suggestion


def compute_metrics(true: list[str], predicted: list[str]) -> dict:
    """Accuracy, macro and weighted F1, figures of each class, and the confusion matrix.

    Macro F1 is over `macro_f1_classes`, those with photos; the matrix has all classes, with true
    classes as rows.
    """
    accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
    per_class = class_figures(true, predicted)
    return {
        "images": len(true),
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "macro_f1_classes": [name for name in config.CLASSES if per_class[name]["support"]],
        "weighted_f1": f1_score(true, predicted, average="weighted", zero_division=0),
        "classes": config.CLASSES,
        "confusion_matrix": confusion_matrix(true, predicted, labels=config.CLASSES).tolist(),
        "per_class": per_class,
        "text": class_table(per_class),
    }


def measure(test: pd.DataFrame, probabilities: np.ndarray, settings: dict, robustness: dict[str, float] | None) -> dict:
    """All figures on the test split, as metrics.json has them."""
    metrics = compute_metrics(test["label"].tolist(), predicted_classes(probabilities))
    right, bins = is_right(test["label"], probabilities), settings["calibration_bins"]
    *before, scores = scores_by_stage(probabilities, settings["temperature"]).values()
    metrics["accuracy_interval_95"] = wilson_interval(int(right.sum()), len(right))
    metrics["by_folder"] = folder_figures(test["image_path"], right.tolist())
    metrics["by_label"] = label_figures(test, right.tolist())
    metrics["log_loss"] = log_loss(
        test["label"].map(config.CLASSES.index), probabilities, labels=range(len(config.CLASSES))
    )
    metrics["calibration_error"] = expected_calibration_error(scores, right, bins)
    if before:
        metrics["calibration_error_before"] = expected_calibration_error(before[0], right, bins)
    if robustness:
        metrics["robustness"] = robustness
    if threshold := (settings["suggestion"] or {}).get("threshold"):
        metrics["threshold_effect"] = threshold_effect(scores, right, threshold)
    # For people who want another threshold than the suggested one.
    metrics["answered"] = coverage_by_threshold(scores, right)[::5]
    return metrics


def write_report(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    folder: Path,
    robustness: dict[str, float] | None = None,
    training: str | None = None,
    previous: Previous | None = None,
) -> dict:
    """Write the report on the test split into `folder` and return its metrics.

    `probabilities` (n, classes) are the model's for splits["test"]; `settings` holds train.py's
    options, the temperature that was folded in, and the threshold that suggest_threshold found on
    validation; `robustness` has the accuracy under each corruption; `training` is the id of the
    training, by which convert_tflite.py knows which model the figures belong to; `previous` is
    the comparison with the previous training.
    """
    test = splits["test"]
    metrics = measure(test, probabilities, settings, robustness)
    text = metrics.pop("text")
    with write_atomically(folder / "metrics.json") as path:
        content = {"training": training, "test": metrics, "settings": settings, "history": history}
        if previous:
            content["previous"] = dataclasses.asdict(previous)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_test_predictions(test, probabilities, folder / "test_predictions.csv")
    figures = draw_figures(splits, probabilities, history, settings, metrics, folder)
    values = {
        "metrics": metrics,
        "settings": settings,
        "suggestion": describe_suggestion(settings["suggestion"]) if settings["suggestion"] else None,
        "effect": describe_effect(metrics["threshold_effect"]) if "threshold_effect" in metrics else None,
        "kept": next(log for log in history if log["kept"]),
        "sizes": {name: len(split) for name, split in splits.items()},
        "with_interval": with_interval,
        "folders_shown": config.FOLDERS_SHOWN,
        "figures": {name: "data:image/png;base64," + b64encode(path.read_bytes()).decode() for name, path in figures},
        "mistakes": list_mistakes(test, probabilities),
        "previous": previous.describe() if previous else None,
        "changes": list_changes(test, probabilities, previous),
    }
    with write_atomically(folder / "index.html") as path:
        path.write_text(render("training.html", **values), encoding="utf-8")
    return metrics | {"text": text}


def write_test_predictions(test: pd.DataFrame, probabilities: np.ndarray, path: Path) -> None:
    """Write image_name, prediction, score and label of the test split to a CSV."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PREDICTION_COLUMNS, "label"])
        scores = [f"{score:.4f}" for score in probabilities.max(axis=1)]
        writer.writerows(zip(test["image_path"], predicted_classes(probabilities), scores, test["label"], strict=True))


def list_mistakes(test: pd.DataFrame, probabilities: np.ndarray) -> list[dict]:
    """The most confident mistakes on the test split, for the page."""
    wrong = np.flatnonzero(~is_right(test["label"], probabilities))
    return show_photos(test, probabilities, wrong)


def list_changes(test: pd.DataFrame, probabilities: np.ndarray, previous: Previous | None) -> dict[str, list[dict]]:
    """The photos on which the model and the previous one differ, by title, for the page."""
    if previous is None or previous.comparison is None:
        return {}
    found = {"Newly wrong": previous.comparison.newly_wrong, "Newly right": previous.comparison.newly_right}
    return {
        title: show_photos(test, probabilities, np.array([previous.rows[index] for index in positions]))
        for title, positions in found.items()
        if positions
    }


def show_photos(test: pd.DataFrame, probabilities: np.ndarray, rows: np.ndarray) -> list[dict]:
    """The config.MISTAKES_SHOWN most confident predictions among these rows of the test split, for the page."""
    order = rows[np.argsort(-probabilities[rows].max(axis=1), kind="stable")][: config.MISTAKES_SHOWN]
    predicted = predicted_classes(probabilities)
    photos = []
    for row in order:
        label = test["label"].iloc[row]
        try:
            picture = data_uri(thumbnail(test["file"].iloc[row], config.THUMBNAIL_SIZE))
        except ImageError:  # the file vanished after it was decoded
            picture = None
        photos.append(
            {
                "path": test["image_path"].iloc[row],
                "picture": picture,
                "label": label,
                "label_score": float(probabilities[row, config.CLASSES.index(label)]),
                "predicted": predicted[row],
                "score": float(probabilities[row].max()),
            }
        )
    return photos


# --- Figures -----------------------------------------------------------------------


def draw_figures(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    metrics: dict,
    folder: Path,
) -> list[tuple[str, Path]]:
    """Draw every chart of the report to a PNG file in `folder`: (title, file) in the page's order."""
    right, bins = is_right(splits["test"]["label"], probabilities), settings["calibration_bins"]
    scores = scores_by_stage(probabilities, settings["temperature"])
    coverage = coverage_by_threshold(probabilities.max(axis=1), right)
    threshold = (settings["suggestion"] or {}).get("threshold")
    drawings: dict[str, tuple[str, Callable[[Path], None]]] = {
        "confusion_matrix": ("Confusion matrix", lambda path: draw_confusion_matrix(metrics, path)),
        "learning_curves": ("Learning curves", lambda path: draw_learning_curves(history, path)),
        "reliability": ("Can the scores be trusted?", lambda path: draw_reliability(scores, right, bins, path)),
        "answered": ("Fewer answers, more of them right", lambda path: draw_coverage(coverage, threshold, path)),
        "class_distribution": ("Photos per class", lambda path: draw_class_distribution(splits, path)),
    }
    if "robustness" in metrics:
        drawings["robustness"] = ("Changed photos", lambda path: draw_robustness(metrics["robustness"], path))
    figures = []
    for name, (title, draw) in drawings.items():
        with write_atomically(folder / f"{name}.png") as path:
            draw(path)
        figures.append((title, folder / f"{name}.png"))
    return figures
