"""Charts: photos per class, confusion matrix, learning curves, calibration, coverage, robustness.

Each draw_...() writes a PNG file and returns the same chart as SVG for a page, whose colours follow the page's scheme.
Also heat maps laid over photos.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

import config
from viewpoint.common.metrics import expected_calibration_error, reliability
from viewpoint.data.dataset import class_counts

# Colours that colour-blind readers can tell apart (Okabe and Ito).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"
SPLIT_COLOURS = (BLUE, "#E69F00", "#009E73")
INK = "#010203"  # nearly black; in an SVG, the page's own colour of text takes its place

matplotlib.rcParams |= {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "figure.figsize": (6.4, 5.6),  # the same for all, so that they fill the rows of a page
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "the same file for the same chart",
}


def draw_class_distribution(splits: dict[str, pd.DataFrame], path: Path) -> str:
    """Draw the photos of each class, stacked by split."""
    figure, axes = plt.subplots()
    bottom = [0] * len(config.CLASSES)
    for (name, split), colour in zip(splits.items(), SPLIT_COLOURS, strict=False):
        counts = list(class_counts(split["label"]).values())
        bars = axes.bar(config.CLASSES, counts, bottom=bottom, label=name, color=colour)
        bottom = [below + count for below, count in zip(bottom, counts, strict=True)]
    axes.bar_label(bars, labels=[str(total) for total in bottom], padding=2)
    axes.set(ylabel=f"photos ({sum(bottom)} in all)")
    axes.margins(y=0.1)
    axes.tick_params(axis="x", rotation=30)
    figure.legend(loc="outside upper center", ncols=len(splits))
    return save(figure, path)


def draw_confusion_matrix(metrics: dict, path: Path) -> str:
    """Draw the confusion matrix, with true classes as rows: counts and fractions of the row.

    In the SVG, the cells of mistakes are links to #cell-ROW-COLUMN.
    """
    matrix = np.array(metrics["confusion_matrix"])
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots()
    for (row, column), count in np.ndenumerate(matrix):
        fraction = fractions[row, column]
        cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=(BLUE, fraction), edgecolor=(GREY, 0.3))
        axes.add_patch(cell)
        if count:
            cell.set_url(f"#cell-{row}-{column}" if row != column else None)
            colour = "white" if fraction > 0.9 else INK
            axes.text(column, row, f"{count}\n{fraction:.0%}", ha="center", va="center", color=colour, fontsize=11)
    axes.set_xticks(range(len(config.CLASSES)), config.CLASSES, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(config.CLASSES)), config.CLASSES)
    axes.set(xlabel="predicted", ylabel="true", title=f"{np.trace(matrix)} of {matrix.sum()} test photos right")
    axes.set(xlim=(-0.5, len(matrix) - 0.5), ylim=(len(matrix) - 0.5, -0.5))
    svg = save(figure, path)
    for row, column in np.ndindex(matrix.shape):
        name = f"{config.CLASSES[row]} predicted as {config.CLASSES[column]}: its photos"
        svg = svg.replace(f'xlink:href="#cell-{row}-{column}"', f'href="#cell-{row}-{column}" aria-label="{name}"')
    return svg


def draw_learning_curves(history: list[dict], path: Path | None) -> str:
    """Draw accuracy and loss over the epochs of all phases, with the kept epoch marked when there is one."""
    epochs = range(1, len(history) + 1)
    kept = [epoch for epoch, log in zip(epochs, history, strict=True) if log.get("kept")]
    figure, panels = plt.subplots(2, 1, sharex=True)
    style = {"marker": "o" if len(history) == 1 else None}
    for axes, name in zip(panels, ("accuracy", "loss"), strict=True):
        axes.plot(epochs, [log[name] for log in history], label="train", color=BLUE, **style)
        validation = [log[f"val_{name}"] for log in history]
        axes.plot(epochs, validation, label="validation", color=ORANGE, linestyle="--", **style)
        if kept:
            axes.axvline(kept[0], color=GREY, linestyle=":", label="kept epoch")
        axes.set(ylabel=name)
    for phase in sorted({log["phase"] for log in history}):
        own = [epoch for epoch, log in zip(epochs, history, strict=True) if log["phase"] == phase]
        middle = (own[0] + own[-1]) / 2
        panels[0].text(middle, 1.02, f"phase {phase}", ha="center", transform=panels[0].get_xaxis_transform())
        for axes in panels if own[0] > 1 else ():
            axes.axvline(own[0] - 0.5, color=INK, linewidth=1)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    panels[1].set(xlabel="epoch")
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return save(figure, path)


def draw_reliability(scores: dict[str, np.ndarray], right: np.ndarray, path: Path) -> str:
    """Draw accuracy over score, with one colour for each named set of scores (n,)."""
    figure, axes = plt.subplots()
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
    axes.legend(loc="lower right")
    return save(figure, path)


def draw_coverage(coverage: Sequence[dict[str, float]], suggested: float | None, path: Path) -> str:
    """Draw metrics.coverage_by_threshold() where it changes, with the threshold that validation suggests.

    From the highest threshold that answers every photo to the highest that answers half of them.
    """
    figure, axes = plt.subplots()
    thresholds = [row["threshold"] for row in coverage]
    axes.plot(thresholds, [row["accuracy"] for row in coverage], color=BLUE, label="accuracy of the answers")
    answered = [row["answered"] for row in coverage]
    axes.plot(thresholds, answered, color=ORANGE, linestyle="--", label="fraction answered (coverage)")
    shown = [row for row in coverage if row["answered"] >= 0.5]
    first = max(row["threshold"] for row in coverage if row["answered"] == 1)
    last = max(shown[-1]["threshold"], first + 0.01)
    if suggested is not None:
        axes.axvline(suggested, color=GREY, linestyle=":", label=f"suggested: {suggested:.2f}")
        first, last = min(first, suggested), max(last, suggested)
    lowest = min(0.5, *(row["accuracy"] for row in shown))
    axes.set(xlim=(first, last), ylim=(lowest - 0.02, 1.02), xlabel="threshold (--unknown-below)")
    axes.set_ylabel("on the test split")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    return save(figure, path)


def draw_robustness(robustness: dict[str, float], path: Path) -> str:
    """Draw the accuracy under each corruption as bars, with the unchanged photos first."""
    figure, axes = plt.subplots()
    colours = [BLUE if name == "clean" else ORANGE for name in robustness]
    bars = axes.barh(list(robustness), list(robustness.values()), color=colours)
    axes.bar_label(bars, fmt="{:.3f}", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.18), xlabel="accuracy on the test split")
    return save(figure, path)


def save(figure: Figure, path: Path | None) -> str:
    """Write a figure to a PNG file, if one is named, free its memory, and return it as SVG for a page."""
    if path:
        figure.savefig(path)
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True)
    plt.close(figure)
    svg = content.getvalue().replace(INK, "currentColor")
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r' id="[a-z0-9]+_\d+"', "", svg)  # another chart on the page has the same


# --- Heat maps ----------------------------------------------------------------------


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An image with a heat map (height, width), 0 to 1, laid over it."""
    enlarged = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(enlarged), 0, 1)[..., np.newaxis]
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3] * 255
    # Cold areas are dimmed rather than coloured, so that the photo can be recognized.
    blended = np.asarray(image) * (0.55 - 0.15 * heat) + colours * (0.15 + 0.45 * heat)
    return Image.fromarray(np.clip(blended, 0, 255).astype(np.uint8))


def heat_scale() -> Image.Image:
    """The colours that overlay() gives a grey photo, from 0 at the left to 1 at the right."""
    return overlay(Image.new("RGB", (240, 16), "#808080"), np.linspace(0, 1, 240)[np.newaxis])
