"""Charts as PNG files: photos per class, confusion matrix, learning curves, calibration, coverage, robustness.

Also heat maps laid over photos.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen
matplotlib.rcParams["font.size"] = 12

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

import config
from viewpoint.common.metrics import expected_calibration_error, reliability
from viewpoint.data.dataset import class_counts

# Colours that colour-blind readers can tell apart (Okabe and Ito).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
SPLIT_COLOURS = (BLUE, "#E69F00", "#009E73")


def draw_class_distribution(splits: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw the photos of each class, stacked by split, to a PNG file."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    bottom = [0] * len(config.CLASSES)
    for (name, split), colour in zip(splits.items(), SPLIT_COLOURS, strict=False):
        counts = list(class_counts(split["label"]).values())
        bars = axes.bar(config.CLASSES, counts, bottom=bottom, label=name, color=colour)
        bottom = [below + count for below, count in zip(bottom, counts, strict=True)]
    axes.bar_label(bars, labels=[str(total) for total in bottom], padding=2)
    axes.set(ylabel="photos", title=f"Class distribution ({sum(bottom)} photos)")
    axes.margins(y=0.1)
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    save(figure, path)


def draw_confusion_matrix(metrics: dict, path: Path) -> None:
    """Draw the confusion matrix, with true classes as rows, to PNG: counts and fractions of the row."""
    matrix = np.array(metrics["confusion_matrix"])
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(6.4, 6.2), layout="constrained")
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if fractions[row, column] > 0.5 else "black"
            text = f"{count}\n{fractions[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(config.CLASSES)), config.CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(config.CLASSES)), config.CLASSES)
    axes.set(xlabel="predicted", ylabel="true", title=f"{np.trace(matrix)} of {matrix.sum()} test photos right")
    save(figure, path)


def draw_learning_curves(history: list[dict], path: Path) -> None:
    """Draw accuracy and loss over the epochs of both phases to PNG, with the kept epoch marked."""
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


def draw_reliability(scores: dict[str, np.ndarray], right: np.ndarray, path: Path) -> None:
    """Draw accuracy over score to PNG, with one colour for each named set of scores (n,)."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect")
    colours = [BLUE] if len(scores) == 1 else [ORANGE, BLUE]
    for (name, values), colour, marker in zip(scores.items(), colours, "os", strict=False):
        table = reliability(values, right)
        error = expected_calibration_error(values, right)
        # The area of a dot shows its fraction of the photos.
        sizes = 600 * table["images"] / len(right) + 12
        axes.scatter(table["score"], table["accuracy"], s=sizes, color=colour, alpha=0.75, marker=marker)
        axes.plot([], [], marker, color=colour, label=f"{name}:\ncalibration error {error:.3f}")
    axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="score (area: fraction of the photos)", ylabel="accuracy")
    axes.legend(loc="lower right", fontsize=10)
    save(figure, path)


def draw_coverage(coverage: Sequence[dict[str, float]], suggested: float | None, path: Path) -> None:
    """Draw metrics.coverage_by_threshold() to PNG, with the threshold that validation suggests."""
    figure, axes = plt.subplots(figsize=(6.4, 5.6), layout="constrained")
    thresholds = [row["threshold"] for row in coverage]
    axes.plot(thresholds, [row["accuracy"] for row in coverage], color=BLUE, label="accuracy of the answers")
    answered = [row["answered"] for row in coverage]
    axes.plot(thresholds, answered, color=ORANGE, linestyle="--", label="fraction answered (coverage)")
    if suggested is not None:
        axes.axvline(suggested, color=GREY, linestyle=":", label=f"suggested: {suggested:.2f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="threshold (--unknown-below)", ylabel="on the test split")
    axes.legend(loc="lower left", fontsize=10)
    save(figure, path)


def draw_robustness(robustness: dict[str, float], path: Path) -> None:
    """Draw the accuracy under each corruption as bars to PNG, with the unchanged photos first."""
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    colours = [BLUE if name == "clean" else ORANGE for name in robustness]
    bars = axes.barh(list(robustness), list(robustness.values()), color=colours)
    axes.bar_label(bars, fmt="{:.3f}", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.18), xlabel="accuracy on the test split")
    save(figure, path)


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An image with a heat map (height, width), 0 to 1, laid over it."""
    enlarged = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(enlarged), 0, 1)[..., np.newaxis]
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3] * 255
    # Cold areas are dimmed rather than coloured, so that the photo can be recognized.
    blended = np.asarray(image) * (0.55 - 0.15 * heat) + colours * (0.15 + 0.45 * heat)
    return Image.fromarray(np.clip(blended, 0, 255).astype(np.uint8))


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a PNG file and free its memory."""
    figure.savefig(path, dpi=150)
    plt.close(figure)
