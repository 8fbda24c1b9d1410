"""The model card's sections on how good the model is; their text is results.md.jinja."""

from collections.abc import Sequence
from pathlib import Path

import config
from viewpoint.common.cli import counted, printable
from viewpoint.reports.pages import render
from viewpoint.reports.summary import SUGGESTION_GOAL, photos_behind
from viewpoint.training.figures import CLEAR_MARGIN, with_interval

TEMPLATE = Path(__file__).parent / "results.md.jinja"
THRESHOLDS_SHOWN = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# The groups of groups.label_figures.
CLEARNESS = {
    "clear": f"one end and one side of the car lead by {CLEAR_MARGIN} parts or more",
    "straight": "one end leads, and both sides show equally many parts, as from the very front",
    "ambiguous": "a lead of one part or none, as in most photos from the very side",
    config.BACKGROUND: "no vehicle, or a close-up",
}


def results_sections(test: dict, settings: dict, labels: Sequence[str], threshold: float | None, mirror: bool) -> str:
    """The sections as Markdown: results, threshold, and what the model is not for.

    `test` and `settings` are those of train.py's metrics.json, {} where nothing is known; `threshold` is the one
    that the model itself carries. A model with `mirror` averages a photo and its mirror image, which train.py
    does not measure. Raises many types when the figures are damaged.
    """
    if suggestion := settings.get("suggestion"):
        threshold = suggestion["threshold"]
    return render(
        TEMPLATE,
        test=test,
        settings=settings,
        labels=labels,
        threshold=threshold,
        mirror=mirror,
        suggestion=suggestion,
        confused=confused_pairs(test["classes"], test["confusion_matrix"]) if "confusion_matrix" in test else [],
        thresholds=threshold_rows(test, threshold),
        clearness=CLEARNESS,
        folders_shown=config.FOLDERS_SHOWN,
        goal=SUGGESTION_GOAL,
        photos_behind=photos_behind,
        counted=counted,
        printable=printable,
        with_interval=with_interval,
    )


def confused_pairs(classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> list[list[object]]:
    """Rows for every two classes that were taken for each other, the most frequent first."""
    rows: list[tuple[int, list[object]]] = []
    for first, name in enumerate(classes):
        for second in range(first + 1, len(classes)):
            other = classes[second]
            there, back = matrix[first][second], matrix[second][first]
            if there or back:
                detail = [(there, name, other), (back, other, name)]
                text = ", ".join(f"{count} {true} answered as {guess}" for count, true, guess in detail if count)
                photos = sum(matrix[first]) + sum(matrix[second])
                rows.append((there + back, [f"{name} and {other}", there + back, photos, text]))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]


def threshold_rows(test: dict, suggested: float | None) -> list[list[object]]:
    """What some thresholds do to the test photos; the suggested one is in bold."""
    photos = test.get("images")
    if not photos:
        return []
    found = {row["threshold"]: (round(row["answered"] * photos), row["accuracy"]) for row in test.get("answered", [])}
    counts = {
        threshold: (answered, round(accuracy * answered))
        for threshold, (answered, accuracy) in found.items()
        if round(threshold, 2) in THRESHOLDS_SHOWN
    }
    if effect := test.get("threshold_effect"):
        counts[effect["threshold"]] = (effect["answered"], effect["right"])
    return [
        [
            f"**{threshold:.2f}**" if threshold == suggested else f"{threshold:.2f}",
            f"{answered} of {photos} ({answered / photos:.1%})",
            f"{right} ({right / answered:.1%})" if answered else "-",
        ]
        for threshold, (answered, right) in sorted(counts.items())
    ]
