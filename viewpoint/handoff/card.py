"""The model card: what the model is for, what goes in and out, how good it is.

Source: Mitchell et al., Model Cards for Model Reporting (2018), https://arxiv.org/abs/1810.03993.
"""

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import config
from viewpoint.cli import counted
from viewpoint.fingerprints import ModelData
from viewpoint.inference import LABELS_NAME
from viewpoint.quantization import Converted
from viewpoint.reports.groups import with_interval
from viewpoint.reports.summary import describe_effect, describe_suggestion


def model_card(
    converted: Converted,
    size: int,
    labels: list[str],
    examples: dict[str, str],
    metrics_path: Path,
    summary_path: Path,
    data: ModelData | None = None,
) -> str:
    """The card as Markdown; `examples` is a picture of each class: {class: path in the hand-off folder}.

    `data` is what the model knows of its training. The card has the figures of that training
    only: photos by class from `data` itself, results from metrics.json if it is of the same training.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert")]
    parts = [
        f"# {config.MODEL_NAME} {config.MODEL_VERSION}",
        f"{config.MODEL_DESCRIPTION} Author: {config.MODEL_AUTHOR}. License: {config.MODEL_LICENSE}. "
        f"Made on {datetime.date.today():%Y-%m-%d} with {', '.join(versions)}.",
        "## Intended use",
        "Sorting photos of cars by viewpoint, and guiding a person who photographs one. **Not for** trucks, buses and "
        "motorcycles, several vehicles in one photo, judging damage, or telling vehicles or people apart.",
        "## Classes",
        table(
            ["", "class"],
            [[f"![{name}]({examples[name]})" if name in examples else "no example", name] for name in labels],
        ),
        f"Left and right are the car's own. {config.BACKGROUND} means no vehicle, or a close-up of one.",
        "## Input and output",
        describe_tensors(size, len(labels), converted.io),
        "## File",
        table(
            ["precision", "size", "SHA-256"],
            [[converted.precision, converted.size, f"`{hashlib.sha256(converted.model).hexdigest()}`"]],
        ),
        f"On {counted(converted.photos, 'validation photo')}, it gives the Keras model's class for "
        f"{converted.agreement:.2%} of them, and no probability differs by more than {converted.difference:.4f}.",
        *data_section(data, summary_path, metrics_path, labels),
        *section(metrics_path, "train.py", lambda metrics: results_of(data, metrics, metrics_path, labels)),
    ]
    return "\n\n".join(parts) + "\n"


def section(path: Path, script: str, write: Callable[[dict], list[str]]) -> list[str]:
    """The paragraphs that `write` makes of a script's JSON file; none, with a note, when the file is damaged."""
    if not path.is_file():
        return []
    try:
        return write(json.loads(path.read_text(encoding="utf-8")))
    # Not JSON, or JSON without the expected figures.
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        print(f"{path} is damaged, so its figures are not in the model card; run {script} again to get them.")
        return []


def describe_tensors(size: int, class_count: int, io: str) -> str:
    """The model's input and output, in two lines."""
    values = "uint8, the pixels as they are" if io == "uint8" else "float32, `pixel / 127.5 - 1`"
    output = "uint8; divide by 256 for probabilities" if io == "uint8" else "float32 probabilities that add up to 1"
    return (
        f"Input: (1, {size}, {size}, 3), RGB, {values}; the photo upright by its EXIF orientation and resized as a "
        f"whole, not cropped.\nOutput: (1, {class_count}), {output}, in the order of `{LABELS_NAME}`."
    )


def data_section(data: ModelData | None, summary_path: Path, metrics_path: Path, labels: list[str]) -> list[str]:
    """How many photos of each class the splits of the model's training hold.

    An older model does not know them, so they come from summary.json, unless the number of photos
    in metrics.json shows that this is of other splits.
    """
    if data:
        training = f"Id of the training: `{data.training}`."
        return [*describe_data({name: split.classes for name, split in data.splits.items()}, labels), training]

    def write(summary: dict) -> list[str]:
        tested, measured = summary["images"].get("test"), measured_photos(metrics_path)
        if tested and measured and any(tested.get(name, 0) != measured.get(name, 0) for name in labels):
            print(
                f"{summary_path} describes other splits than {metrics_path} was measured on, so the model card "
                "does not say how many photos there were; run train.py again to get both."
            )
            return []
        return describe_data(summary["images"], labels)

    return section(summary_path, "data_preparation.py", write)


def measured_photos(metrics_path: Path) -> dict[str, int] | None:
    """The test photos of each class in a metrics.json; None when it is missing or damaged."""
    try:
        matrix = json.loads(metrics_path.read_text(encoding="utf-8"))["test"]
        return {name: sum(row) for name, row in zip(matrix["classes"], matrix["confusion_matrix"], strict=True)}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def describe_data(images: Mapping[str, Mapping[str, int]], labels: list[str]) -> list[str]:
    """How many photos of each class the splits hold."""
    rows = [
        [split, sum(counts.values()), *(counts.get(name, 0) for name in labels)] for split, counts in images.items()
    ]
    return ["## Data", table(["split", "all", *labels], rows)]


def results_of(data: ModelData | None, metrics: dict, path: Path, labels: list[str]) -> list[str]:
    """The results in a metrics.json, or none when they are of another training than the model's."""
    if data and metrics.get("training") != data.training:
        print(
            f"{path} is of another training than the model, so its figures are not in the model card; "
            "run train.py again to get them."
        )
        return []
    return describe_results(metrics, labels)


def describe_results(metrics: dict, labels: list[str]) -> list[str]:
    """What train.py measured on the test split with the Keras model."""
    test = metrics["test"]
    rows = []
    for name in labels:
        if scores := test["per_class"].get(name):
            cells = [with_interval(scores[kind], scores.get(f"{kind}_interval_95")) for kind in ("precision", "recall")]
            if not scores["support"]:
                cells = ["not measured", "not measured"]
            rows.append([name, *cells, with_interval(scores["f1-score"], None), int(scores["support"])])
    parts = [
        "## Results",
        f"On {counted(test['images'], 'photo')} of the test split, before conversion: accuracy "
        f"{test['accuracy']:.3f}, macro F1 {test['macro_f1']:.3f} over the classes with test photos, "
        f"expected calibration error {test['calibration_error']:.3f}.",
        table(["class", "precision", "recall", "F1", "photos"], rows),
        "In brackets: 95 % intervals.",
    ]
    suggestion = metrics.get("settings", {}).get("suggestion")
    if suggestion and "missing" in suggestion:  # earlier versions suggested one on less evidence
        parts.append(f"{describe_suggestion(suggestion)}.")
    if effect := test.get("threshold_effect"):
        parts.append(f"{describe_effect(effect)}.")
    if "robustness" in test:
        changes = [[name, f"{value:.3f}"] for name, value in test["robustness"].items()]
        parts += ["Accuracy on altered photos:", table(["change", "accuracy"], changes)]
    return parts


def table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
