"""What train.py reports on the test split: metrics, calibration, their pictures, and one page of it all."""

import csv
import json
from base64 import b64encode
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy.special import logsumexp
from scipy.stats import binomtest
from sklearn.metrics import classification_report, confusion_matrix, f1_score, log_loss

import config
from common import write_atomically
from data_preparation import draw_class_distribution
from images import ImageError
from reports.pages import render
from reports.pictures import data_uri, thumbnail
from test_predict import PREDICTION_COLUMNS, accuracy_and_macro_f1

# Colours that stay apart for colour-blind readers (Okabe and Ito).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


def compute_metrics(true: list[str], predicted: list[str]) -> dict:
    """Accuracy, macro and weighted F1, the per-class report and the confusion matrix.

    Averages are over the classes that occur; the matrix holds all, true classes as rows.
    """
    accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
    occurring = [name for name in config.CLASSES if name in true or name in predicted]
    return {
        "images": len(true),
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "weighted_f1": f1_score(true, predicted, average="weighted", zero_division=0),
        "classes": config.CLASSES,
        "confusion_matrix": confusion_matrix(true, predicted, labels=config.CLASSES).tolist(),
        "per_class": classification_report(true, predicted, labels=occurring, zero_division=0, output_dict=True),
        "text": classification_report(true, predicted, labels=occurring, zero_division=0, digits=3),
    }


def reliability(scores: np.ndarray, right: np.ndarray, bins: int = config.CALIBRATION_BINS) -> pd.DataFrame:
    """How often a model is right in each of `bins` equal bins of its score, the filled ones only.

    Takes the best scores (n,), 0 to 1, and whether each decision was right (n,). Gives the
    columns score and accuracy (means, 0 to 1) and images.
    """
    frame = pd.DataFrame({"score": np.asarray(scores, float), "accuracy": np.asarray(right, float), "images": 1})
    # Bins are open on the left: with ten bins, a score of 0.2 lies in (0.1, 0.2].
    groups = frame.groupby(np.ceil(frame["score"] * bins).clip(1, bins))
    return groups.agg({"score": "mean", "accuracy": "mean", "images": "sum"}).reset_index(drop=True)


def expected_calibration_error(scores: np.ndarray, right: np.ndarray, bins: int = config.CALIBRATION_BINS) -> float:
    """The mean distance of score and accuracy over the bins of reliability(), weighted by images.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), https://arxiv.org/abs/1706.04599.
    """
    table = reliability(scores, right, bins)
    return float(np.average((table["score"] - table["accuracy"]).abs(), weights=table["images"]))


def scale_logits(probabilities: np.ndarray, factor: float) -> np.ndarray:
    """The probabilities (n, classes) that logits `factor` times as large would give."""
    logits = factor * np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    return np.exp(logits - logsumexp(logits, axis=1, keepdims=True))


def staged_scores(probabilities: np.ndarray, temperature: float | None) -> dict[str, np.ndarray]:
    """The best scores (n,) of a model's probabilities (n, classes), by name: the last as they are.

    Where a temperature was folded in, those before it come first.
    """
    scores = probabilities.max(axis=1)
    if not temperature:
        return {"scores": scores}
    before = scale_logits(probabilities, temperature).max(axis=1)
    return {"before temperature scaling": before, "after temperature scaling": scores}


def answered_shares(scores: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """What test_predict.py --unknown-below trades: a row for each threshold from 0 in steps of 0.01.

    Takes the best scores (n,), 0 to 1, and whether each decision was right (n,). Gives the
    columns threshold, answered (share with at least that score) and accuracy (of those);
    thresholds that leave nothing answered are left out.
    """
    rows = []
    for threshold in np.arange(100) / 100:
        answered = np.asarray(scores) >= threshold
        if answered.any():
            rows.append([threshold, answered.mean(), np.asarray(right)[answered].mean()])
    return pd.DataFrame(rows, columns=["threshold", "answered", "accuracy"])


def suggest_threshold(shares: pd.DataFrame, accuracy: float = config.SUGGESTED_ACCURACY) -> dict | None:
    """The row of answered_shares() with the least threshold that gives this accuracy, None if none does."""
    enough = shares[shares["accuracy"] >= accuracy]
    return None if enough.empty else enough.iloc[0].to_dict()


def measure(test: pd.DataFrame, probabilities: np.ndarray, settings: dict, robustness: dict[str, float] | None) -> dict:
    """All figures on the test split, as they stand in metrics.json."""
    metrics = compute_metrics(test["label"].tolist(), predicted_classes(probabilities))
    right, bins = is_right(test, probabilities), settings["calibration_bins"]
    *before, scores = staged_scores(probabilities, settings["temperature"]).values()
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    metrics["accuracy_interval_95"] = [interval.low, interval.high]
    metrics["log_loss"] = log_loss(
        test["label"].map(config.CLASSES.index), probabilities, labels=range(len(config.CLASSES))
    )
    metrics["calibration_error"] = expected_calibration_error(scores, right, bins)
    if before:
        metrics["calibration_error_before"] = expected_calibration_error(before[0], right, bins)
    if robustness:
        metrics["robustness"] = robustness
    # For whoever chooses another threshold than the suggested one.
    metrics["answered"] = answered_shares(scores, right).iloc[::5].to_dict("records")
    return metrics


def predicted_classes(probabilities: np.ndarray) -> list[str]:
    """The class of the best score in each row."""
    return [config.CLASSES[index] for index in probabilities.argmax(axis=1)]


def is_right(split: pd.DataFrame, probabilities: np.ndarray) -> np.ndarray:
    """Whether the best score of each row names the label: bool (n,)."""
    return np.array(predicted_classes(probabilities)) == split["label"].to_numpy()


def write_report(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    folder: Path,
    robustness: dict[str, float] | None = None,
) -> dict:
    """Write the report on the test split into `folder` and return its metrics.

    `probabilities` (n, classes) are the model's for splits["test"]; `settings` holds train.py's
    options, the temperature that was folded in, and the suggestion of suggest_threshold on
    validation; `robustness` accuracies by corruption.
    """
    test = splits["test"]
    metrics = measure(test, probabilities, settings, robustness)
    text = metrics.pop("text")
    with write_atomically(folder / "metrics.json") as path:
        content = {"test": metrics, "settings": settings, "history": history}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    write_test_predictions(test, probabilities, folder / "test_predictions.csv")
    figures = draw_figures(splits, probabilities, history, settings, metrics, folder)
    values = {
        "metrics": metrics,
        "settings": settings,
        "kept": next(log for log in history if log["kept"]),
        "sizes": {name: len(split) for name, split in splits.items()},
        "classes": [name for name in config.CLASSES if name in metrics["per_class"]],
        "figures": {name: "data:image/png;base64," + b64encode(path.read_bytes()).decode() for name, path in figures},
        "mistakes": list_mistakes(test, probabilities),
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
    """The config.MISTAKES_SHOWN most confident mistakes on the test split, for the page."""
    wrong = np.flatnonzero(~is_right(test, probabilities))
    order = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][: config.MISTAKES_SHOWN]
    predicted = predicted_classes(probabilities)
    mistakes = []
    for row in order:
        label = test["label"].iloc[row]
        try:
            picture = data_uri(thumbnail(test["file"].iloc[row], config.THUMBNAIL_SIZE))
        except ImageError:  # gone since it was decoded
            picture = None
        mistakes.append(
            {
                "path": test["image_path"].iloc[row],
                "picture": picture,
                "label": label,
                "label_score": float(probabilities[row, config.CLASSES.index(label)]),
                "predicted": predicted[row],
                "score": float(probabilities[row].max()),
            }
        )
    return mistakes


# --- Figures -----------------------------------------------------------------------


def draw_figures(
    splits: dict[str, pd.DataFrame],
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    metrics: dict,
    folder: Path,
) -> list[tuple[str, Path]]:
    """Draw every figure of the report to PNG files in `folder`: (what it shows, file), in the page's order."""
    right, bins = is_right(splits["test"], probabilities), settings["calibration_bins"]
    scores = staged_scores(probabilities, settings["temperature"])
    threshold = (settings["suggestion"] or {}).get("threshold")
    drawings = {
        "confusion_matrix": ("Confusion matrix", lambda path: draw_confusion_matrix(metrics, path)),
        "learning_curves": ("Learning curves", lambda path: draw_learning_curves(history, path)),
        "reliability": ("Can the scores be trusted?", lambda path: draw_reliability(scores, right, bins, path)),
        "answered": (
            "Answering less, and more often right",
            lambda path: draw_answered(answered_shares(probabilities.max(axis=1), right), threshold, path),
        ),
        "class_distribution": ("Images per class", lambda path: draw_class_distribution(splits, path)),
    }
    if "robustness" in metrics:
        drawings["robustness"] = ("Changed photos", lambda path: draw_robustness(metrics["robustness"], path))
    figures = []
    for name, (title, draw) in drawings.items():
        with write_atomically(folder / f"{name}.png") as path, plt.rc_context({"font.size": 12}):
            draw(path)
        figures.append((title, folder / f"{name}.png"))
    return figures


def draw_confusion_matrix(metrics: dict, path: Path) -> None:
    """Draw the confusion matrix, true classes as rows, to PNG: counts, and their share of the row."""
    matrix = np.array(metrics["confusion_matrix"])
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(6.4, 6.2), layout="constrained")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{count}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(config.CLASSES)), config.CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(config.CLASSES)), config.CLASSES)
    axes.set(xlabel="predicted", ylabel="true", title=f"{np.trace(matrix)} of {matrix.sum()} test images right")
    save(figure, path)


def draw_learning_curves(history: list[dict], path: Path) -> None:
    """Draw accuracy and loss over the epochs of both phases to PNG, the kept epoch marked."""
    epochs = range(1, len(history) + 1)
    kept = [epoch for epoch, log in zip(epochs, history, strict=True) if log["kept"]]
    phase1_epochs = sum(log["phase"] == 1 for log in history)
    figure, panels = plt.subplots(2, 1, figsize=(6.4, 6.2), layout="constrained", sharex=True)
    for axes, name in zip(panels, ("accuracy", "loss"), strict=True):
        axes.plot(epochs, [log[name] for log in history], label="train", color=BLUE)
        axes.plot(epochs, [log[f"val_{name}"] for log in history], label="validation", color=ORANGE, linestyle="--")
        axes.axvline(kept[0], color=GREY, linestyle=":", label="kept epoch")
        if 0 < phase1_epochs < len(history):
            axes.axvline(phase1_epochs + 0.5, color="black", linewidth=1, label="phase 2 begins")
        axes.set(ylabel=name)
    panels[0].legend(fontsize=10)
    panels[1].set(xlabel="epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure, path)


def draw_reliability(scores: dict[str, np.ndarray], right: np.ndarray, bins: int, path: Path) -> None:
    """Draw accuracy over score to PNG, in another colour for each named set of scores (n,)."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    colours = [BLUE] if len(scores) == 1 else [ORANGE, BLUE]
    for (name, values), colour, marker in zip(scores.items(), colours, "os", strict=False):
        table = reliability(values, right, bins)
        error = expected_calibration_error(values, right, bins)
        # A dot's area is its share of the images.
        sizes = 600 * table["images"] / len(right) + 12
        axes.scatter(table["score"], table["accuracy"], s=sizes, color=colour, alpha=0.75, marker=marker)
        axes.plot([], [], marker, color=colour, label=f"{name}:\ncalibration error {error:.3f}")
    axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="score (area: share of the images)", ylabel="accuracy")
    axes.legend(loc="lower right", fontsize=10)
    save(figure, path)


def draw_answered(shares: pd.DataFrame, suggested: float | None, path: Path) -> None:
    """Draw answered_shares() to PNG, with the threshold that validation suggests."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    axes.plot(shares["threshold"], shares["accuracy"], color=BLUE, label="accuracy of the answered")
    axes.plot(shares["threshold"], shares["answered"], color=ORANGE, linestyle="--", label="share answered")
    if suggested is not None:
        axes.axvline(suggested, color=GREY, linestyle=":", label=f"suggested by validation: {suggested:.2f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="threshold (--unknown-below)", ylabel="on the test split")
    axes.legend(loc="lower left", fontsize=10)
    save(figure, path)


def draw_robustness(robustness: dict[str, float], path: Path) -> None:
    """Draw the accuracy under each corruption as bars to PNG, the clean one first."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    colours = [BLUE if name == "clean" else ORANGE for name in robustness]
    bars = axes.barh(list(robustness), list(robustness.values()), color=colours)
    axes.bar_label(bars, fmt="{:.3f}", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.18), xlabel="accuracy on the test split")
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    """Write a figure to a PNG file and free its memory."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
