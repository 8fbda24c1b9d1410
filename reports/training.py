"""What train.py reports on the test split: metrics, calibration, and their pictures."""

import csv
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.special import logsumexp
from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix, f1_score, log_loss

import config
from common import write_atomically
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


def write_report(
    test: pd.DataFrame,
    probabilities: np.ndarray,
    history: list[dict],
    settings: dict,
    folder: Path,
    robustness: dict[str, float] | None = None,
) -> dict:
    """Write the report on the test split into `folder` and return its metrics.

    `probabilities` (n, classes) are the model's for `test`; `settings` holds train.py's
    options and the temperature that was folded in; `robustness` accuracies by corruption.
    """
    predicted = [config.CLASSES[index] for index in probabilities.argmax(axis=1)]
    right = np.array(predicted) == test["label"].to_numpy()
    metrics = compute_metrics(test["label"].tolist(), predicted)
    text = metrics.pop("text")
    bins = settings.get("calibration_bins", config.CALIBRATION_BINS)
    scores = {"scores": probabilities.max(axis=1)}
    if settings.get("temperature"):
        before = scale_logits(probabilities, settings["temperature"]).max(axis=1)
        scores = {"before temperature scaling": before, "after temperature scaling": scores["scores"]}
        metrics["calibration_error_before"] = expected_calibration_error(before, right, bins)
    metrics["log_loss"] = log_loss(
        test["label"].map(config.CLASSES.index), probabilities, labels=range(len(config.CLASSES))
    )
    metrics["calibration_error"] = expected_calibration_error(probabilities.max(axis=1), right, bins)
    if robustness:
        metrics["robustness"] = robustness
    with write_atomically(folder / "metrics.json") as path:
        content = {"test": metrics, "settings": settings, "history": history}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (
        write_atomically(folder / "test_predictions.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PREDICTION_COLUMNS, "label"])
        rounded = [f"{score:.4f}" for score in probabilities.max(axis=1)]
        writer.writerows(zip(test["image_path"], predicted, rounded, test["label"], strict=True))
    with write_atomically(folder / "confusion_matrix.png") as path:
        draw_confusion_matrix(np.array(metrics["confusion_matrix"]), path)
    with write_atomically(folder / "learning_curves.png") as path:
        draw_learning_curves(history, path)
    with write_atomically(folder / "reliability.png") as path:
        draw_reliability(scores, right, bins, path)
    if robustness:
        with write_atomically(folder / "robustness.png") as path:
            draw_robustness(robustness, path)
    return metrics | {"text": text}


def draw_confusion_matrix(matrix: np.ndarray, path: Path) -> None:
    """Draw a confusion matrix of counts (classes, classes), true classes as rows, to PNG."""
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    display = ConfusionMatrixDisplay(matrix, display_labels=config.CLASSES)
    display.plot(ax=axes, cmap="Blues", xticks_rotation=45, values_format="d")
    axes.set(title=f"Test split: {np.trace(matrix)} of {matrix.sum()} images right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_learning_curves(history: list[dict], path: Path) -> None:
    """Draw loss and accuracy over the epochs of both phases to PNG, the kept epoch marked."""
    epochs = range(1, len(history) + 1)
    kept = [epoch for epoch, log in zip(epochs, history, strict=True) if log["kept"]]
    phase1_epochs = sum(log["phase"] == 1 for log in history)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, name in zip(panels, ("accuracy", "loss"), strict=True):
        axes.plot(epochs, [log[name] for log in history], label="train", color=BLUE)
        axes.plot(epochs, [log[f"val_{name}"] for log in history], label="validation", color=ORANGE)
        axes.axvline(kept[0], color=GREY, linestyle=":", label="kept epoch")
        if 0 < phase1_epochs < len(history):
            axes.axvline(phase1_epochs + 0.5, color="black", linewidth=1, label="phase 2 begins")
        axes.set(xlabel="epoch", title=name)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_reliability(scores: dict[str, np.ndarray], right: np.ndarray, bins: int, path: Path) -> None:
    """Draw accuracy over score to PNG, a panel for each named set of scores (n,)."""
    figure, panels = plt.subplots(1, len(scores), figsize=(5 * len(scores), 4.6), layout="constrained", squeeze=False)
    for axes, (name, values) in zip(panels[0], scores.items(), strict=True):
        table = reliability(values, right, bins)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
        # A dot's area is its share of the images.
        axes.scatter(table["score"], table["accuracy"], s=600 * table["images"] / len(right) + 10, color=BLUE)
        axes.set(xlim=(0, 1.03), ylim=(-0.03, 1.03), xlabel="score (dot area: share of the images)", ylabel="accuracy")
        axes.set_title(f"{name}: calibration error {expected_calibration_error(values, right, bins):.3f}", fontsize=11)
        axes.legend(loc="upper left")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_robustness(robustness: dict[str, float], path: Path) -> None:
    """Draw the accuracy under each corruption as bars to PNG, the clean one first."""
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    colours = [BLUE if name == "clean" else ORANGE for name in robustness]
    bars = axes.barh(list(robustness), list(robustness.values()), color=colours)
    axes.bar_label(bars, fmt="{:.3f}", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.12), xlabel="accuracy on the test split")
    figure.savefig(path, dpi=120)
    plt.close(figure)
