"""The model card's sections on how good the model is: results, threshold, and what it is not for.

They rest on train.py's metrics.json, with the figures of the Keras model on the test split.
"""

from collections.abc import Sequence

import config
from viewpoint.common.cli import counted, printable
from viewpoint.reports.summary import SUGGESTION_GOAL, photos_behind
from viewpoint.training.figures import CLEAR_MARGIN, with_interval

THRESHOLDS_SHOWN = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
# The groups of groups.label_figures.
CLEARNESS = {
    "clear": f"one end and one side of the car lead by {CLEAR_MARGIN} parts or more",
    "straight": "one end leads, and both sides show equally many parts, as from the very front",
    "ambiguous": "a lead of one part or none, as in most photos from the very side",
    config.BACKGROUND: "no vehicle, or a close-up",
}
NOT_MEASURED = "not measured"
CONTINUED = "The training continued from an earlier model, which may have learned other photos as well."


def results_sections(metrics: dict, labels: Sequence[str], threshold: float | None, mirror: bool) -> list[str]:
    """The sections as paragraphs of Markdown.

    `metrics` is the content of metrics.json, `threshold` the one that the model itself carries. A
    model with `mirror` averages a photo and its mirror image, which train.py does not measure.
    """
    test, settings = metrics["test"], metrics.get("settings", {})
    without_labels, continued = settings.get("learned_without_labels"), settings.get("start_from")
    return [
        *([CONTINUED] if continued else []),
        *([f"It also learned from photos that nobody labelled. {without_labels}."] if without_labels else []),
        *describe_results(test, labels, mirror),
        *describe_folders(test.get("by_folder", [])),
        *describe_confusion(test),
        *describe_robustness(test, settings.get("robustness_images")),
        *describe_threshold(test, settings.get("suggestion"), threshold, mirror),
        *describe_limits(test, labels),
    ]


def sections_without_figures(labels: Sequence[str], threshold: float | None, mirror: bool) -> list[str]:
    """The same without a metrics.json of the model's training: threshold and limits, saying that nothing is known."""
    return [*describe_threshold({}, None, threshold, mirror), *describe_limits({}, labels)]


def describe_results(test: dict, labels: Sequence[str], mirror: bool) -> list[str]:
    """Accuracy, and precision and recall of each class."""
    rows = []
    for name in labels:
        if scores := test["per_class"].get(name):
            cells = [with_interval(scores[kind], scores.get(f"{kind}_interval_95")) for kind in ("precision", "recall")]
            if not scores["support"]:
                cells = [NOT_MEASURED, NOT_MEASURED]
            rows.append([name, *cells, with_interval(scores["f1-score"], None), int(scores["support"])])
    without = ", without the averaging with the mirror image" if mirror else ""
    accuracy = with_interval(test["accuracy"], test.get("accuracy_interval_95"))
    return [
        "## Results",
        f"On {counted(test['images'], 'photo')} of the test split, before conversion{without}: accuracy {accuracy}, "
        f"macro F1 {test['macro_f1']:.3f} over the classes with test photos, and scores that are off by "
        f"{test['calibration_error']:.3f} on average (expected calibration error).",
        table(["class", "precision", "recall", "F1", "photos"], rows),
        "Precision: how often an answer of this class is right. Recall: how many photos of this class get it. "
        "In brackets: the 95 % interval for many more photos of the same kind.",
    ]


def describe_folders(folders: Sequence[dict]) -> list[str]:
    """The accuracy of each folder of test photos, the lowest first; nothing when there is only one."""
    if len(folders) < 2:
        return []
    shown, others = folders[: config.FOLDERS_SHOWN], folders[config.FOLDERS_SHOWN :]
    rows = [
        [
            "`" + printable(row["name"]).replace("|", "\\|") + "`",
            row["photos"],
            row["right"],
            with_interval(row["accuracy"], row["accuracy_interval_95"]),
        ]
        for row in shown
    ]
    if others:
        photos, right = (sum(row[kind] for row in others) for kind in ("photos", "right"))
        rows.append([counted(len(others), "other folder"), photos, right, with_interval(right / photos, None)])
    return [
        "### By source",
        "The folders of the test photos, the lowest accuracy first. A folder with few photos says little; see the "
        "interval.",
        table(["folder", "photos", "right", "accuracy"], rows),
    ]


def describe_confusion(test: dict) -> list[str]:
    """Which classes are taken for each other, and how good the model is on ambiguous photos."""
    parts = []
    if "confusion_matrix" in test:
        rows = confused_pairs(test["classes"], test["confusion_matrix"])
        parts.append(table(["classes", "confused", "photos of both", "in detail"], rows) if rows else "None.")
    if groups := test.get("by_label"):
        rows = [[row["name"], CLEARNESS.get(row["name"], ""), row["photos"], row["right"]] for row in groups]
        parts += [
            "By how clearly the annotated parts show the view:",
            table(["view", "what that means", "photos", "right"], rows),
        ]
    return ["### Views that are confused", *parts] if parts else []


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


def describe_robustness(test: dict, most: int | None) -> list[str]:
    """Accuracy on altered photos, measured on at most `most` photos."""
    if "robustness" not in test:
        return []
    rows = [["none" if name == "clean" else name, f"{value:.3f}"] for name, value in test["robustness"].items()]
    photos = counted(min(most or test["images"], test["images"]), "test photo")
    return [
        "### Altered photos",
        f"On {photos}. An aliased resize is one without averaging, as most phones do it.",
        table(["change", "accuracy"], rows),
    ]


def describe_threshold(test: dict, suggestion: dict | None, threshold: float | None, mirror: bool) -> list[str]:
    """The best score below which an answer is not to be trusted, what it promises, and what others would do."""
    meaning = "How it was chosen is not known." if threshold else "Figures of this training are not known."
    if suggestion and "missing" in suggestion:  # earlier versions suggested one on less evidence
        threshold, meaning = suggestion["threshold"], describe_promise(suggestion)
    advice = "**No threshold is needed.**"
    if threshold is None:
        advice = "**No threshold can be promised to work.**"
    elif threshold:
        advice = f"**Treat an answer with a best score below {threshold:.2f} as unknown.**"
    parts = ["## Threshold", f"{advice} {meaning}"]
    if rows := threshold_rows(test, threshold):
        parts += [
            "What thresholds do to the test photos, which is no promise for other photos:"
            if threshold is None
            else "What thresholds do to the test photos:",
            table(["best score at least", "photos with an answer", "of these right"], rows),
        ]
    if mirror:
        parts.append(
            "All of this is about the scores without the averaging with the mirror image. With it, scores are lower "
            "where the photo and its mirror image get different answers; that was not measured."
        )
    return parts


def describe_promise(suggestion: dict) -> str:
    """What the threshold that metrics.suggest_threshold found keeps and promises, or why it found none."""
    photos = photos_behind(suggestion)
    if suggestion["threshold"] is None:
        return (
            f"One is suggested only if the answers above it show {SUGGESTION_GOAL}. {photos} cannot show that; "
            f"{counted(suggestion['missing'], 'more answer')}, all right, would be needed. Until then, choose one on "
            "photos of your own."
        )
    return (
        f"Of {photos}, {suggestion['answered']:.1%} get an answer then, and {suggestion['accuracy']:.1%} of these "
        f"answers are right. That shows {SUGGESTION_GOAL}, on photos of the same kind."
    )


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


def describe_limits(test: dict, labels: Sequence[str]) -> list[str]:
    """What the model is not for, with figures where there are some."""
    rows = [
        ["trucks, buses and motorcycles", NOT_MEASURED],
        ["several vehicles in one photo: the model gives one answer for the whole photo", NOT_MEASURED],
        ["the inside of a vehicle", NOT_MEASURED],
        ["judging damage, telling vehicles or people apart", "it gives no answer about these"],
    ]
    robustness = test.get("robustness", {})
    hidden = NOT_MEASURED
    if "25 % occluded" in robustness:
        hidden = f"accuracy {robustness['25 % occluded']:.3f} instead of {robustness['clean']:.3f}, see Altered photos"
    rows.insert(3, ["a car of which much is hidden, such as a quarter of the photo", hidden])
    if "Left" not in labels:
        ambiguous = [row for row in test.get("by_label", []) if row["name"] == "ambiguous"]
        found = [f"{row['right']} of {counted(row['photos'], 'ambiguous test photo')} right" for row in ambiguous]
        rows.insert(3, ["a car from the very side, which is no class of its own", *(found or [NOT_MEASURED])])
    return [
        "## What it is not for",
        table(["what", "how good it is there"], rows),
        "To have one of these measured, give annotated photos of it a folder of their own, which By source then shows.",
    ]


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
