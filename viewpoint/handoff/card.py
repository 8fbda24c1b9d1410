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
from viewpoint.common.cli import counted
from viewpoint.data.provenance import ModelData
from viewpoint.handoff.agreement import Converted
from viewpoint.handoff.metadata import MIRROR_TEXT
from viewpoint.handoff.results import results_sections, sections_without_figures, table
from viewpoint.inference.model import LABELS_NAME


def model_card(
    converted: Converted,
    size: int,
    labels: list[str],
    examples: dict[str, str],
    metrics_path: Path,
    summary_path: Path,
    data: ModelData | None = None,
    changes: Sequence[str] = (),
) -> str:
    """The card as Markdown; `examples` is a picture of each class: {class: path in the hand-off folder}.

    `data` is what the model knows of its training. The card has the figures of that training
    only: photos by class from `data` itself, results from metrics.json if it is of the same training.
    `changes` are the paragraphs of changes.changes_section.
    """
    about = (labels, data.threshold if data else None, converted.mirror)

    def results(metrics: dict) -> list[str]:
        return results_sections(metrics, *about) if is_its_own(metrics, data, metrics_path) else []

    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert")]
    parts = [
        f"# {config.MODEL_NAME} {config.MODEL_VERSION}",
        f"{config.MODEL_DESCRIPTION}{f' {MIRROR_TEXT}' if converted.mirror else ''} "
        f"Author: {config.MODEL_AUTHOR}. License: {config.MODEL_LICENSE}. "
        f"Made on {datetime.date.today():%Y-%m-%d} with {', '.join(versions)}.",
        "## Intended use",
        "Sorting photos of cars by viewpoint, and guiding a person who photographs one. **Not for** trucks, buses and "
        "motorcycles, several vehicles in one photo, the inside of a vehicle, judging damage, or telling vehicles or "
        "people apart; figures are under What it is not for.",
        *changes,
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
        describe_agreement(converted),
        *data_section(data, summary_path, metrics_path, labels),
        *(section(metrics_path, "train.py", results) or sections_without_figures(*about)),
        *describe_quality(),
    ]
    return "\n\n".join(parts) + "\n"


def section(path: Path, script: str, write: Callable[[dict], list[str]]) -> list[str]:
    """The paragraphs that `write` makes of a script's JSON file; none, with a note, when the file is damaged."""
    if not path.is_file():
        return []
    try:
        return write(json.loads(path.read_text(encoding="utf-8")))
    # Not JSON, or JSON without the expected figures.
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, ArithmeticError):
        print(f"{path} is damaged, so its figures are not in the model card; run {script} again to get them.")
        return []


def describe_agreement(converted: Converted) -> str:
    """How the model's answers compare with the Keras model's, and on which images that was measured."""
    found = converted.agreement
    averaged = " (both averaged with the mirror image)" if converted.mirror else ""
    text = (
        f"Compared with the Keras model on {found.described}{averaged}: {found.fraction:.2%} of the "
        f"{counted(found.clear, 'clear image')} get the same class, and {found.ties - found.changed_ties} of the "
        f"{counted(found.ties, 'near tie')}, whose first two scores are at most {found.tie:.3f} apart. No probability "
        f"differs by more than {found.change.max():.4f}; the largest difference in an image is "
        f"{found.change.mean():.4f} on average."
    )
    return f"{text} {converted.effect}".rstrip()


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
        images = {name: split.classes for name, split in data.splits.items()}
        return [
            *describe_data(images, labels, {name: split.hash for name, split in data.splits.items()}),
            f"Id of the training: `{data.training}`. A fingerprint is of a split's photos and labels: where it is the "
            "same, so are they, whatever the names of the files.",
        ]

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


def describe_data(
    images: Mapping[str, Mapping[str, int]], labels: list[str], fingerprints: Mapping[str, str] | None = None
) -> list[str]:
    """How many photos of each class the splits hold, with their fingerprints where they are known."""
    rows: list[list[object]] = [
        [split, sum(counts.values()), *(counts.get(name, 0) for name in labels)] for split, counts in images.items()
    ]
    if fingerprints is None:
        return ["## Data", table(["split", "all", *labels], rows)]
    rows = [[*row, f"`{fingerprints[split]}`"] for row, split in zip(rows, images, strict=True)]
    return ["## Data", table(["split", "all", *labels, "fingerprint"], rows)]


def is_its_own(metrics: dict, data: ModelData | None, path: Path) -> bool:
    """Whether a metrics.json is of the model's own training; says so when it is not."""
    if data and metrics.get("training") != data.training:
        print(
            f"{path} is of another training than the model, so its figures are not in the model card; "
            "run train.py again to get them."
        )
        return False
    return True


def describe_quality() -> list[str]:
    """When a photo is called too dark, too bright or blurred, and what these reasons miss."""
    rows = [
        [
            "too dark",
            f"fewer than {config.BRIGHT_SHARE:.0%} of the pixels reach grey level {config.TOO_DARK_BELOW} of 255",
            "a dark car before a bright sky or a lamp passes",
        ],
        [
            "too bright",
            f"more than {config.TOO_BRIGHT_ABOVE:.0%} of the middle is at grey level {config.CLIPPED_LEVEL} or above",
            "a white car that fills the photo can be called too bright",
        ],
        [
            "blurred",
            f"the blur effect of Crete et al. (2007), from 0 (sharp) to 1, is above {config.BLURRED_ABOVE:.2f}",
            f"a blur that {config.QUALITY_SIZE} pixels do not show, as of a number plate, passes; close-ups and smooth "
            "surfaces can be called blurred",
        ],
    ]
    return [
        "## Quality of a photo",
        f"Measured on a grey copy of {config.QUALITY_SIZE}x{config.QUALITY_SIZE} pixels, not by the model: by the "
        "capture guide in `web/`, and in predictions.csv. The code for Android, iOS and Python does not measure it.",
        table(["reason", "given when", "limits"], rows),
        "Never told: a vehicle that is too small, cut off or tilted; dirt on the lens and reflections; whether damage "
        "can be seen. How often the reasons are right was measured once, on other photos, in the project's "
        "docs/quality.md.",
    ]
