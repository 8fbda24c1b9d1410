"""The model card: what the model is for, what goes in and out, how good it is; its text is model_card.md.jinja.

Source: Mitchell et al., Model Cards for Model Reporting (2018), https://arxiv.org/abs/1810.03993.
"""

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import config
from viewpoint.common.cli import counted
from viewpoint.data.provenance import ModelData
from viewpoint.handoff.agreement import Converted
from viewpoint.handoff.metadata import MIRROR_TEXT
from viewpoint.handoff.results import results_sections, sections_without_figures
from viewpoint.inference.model import LABELS_NAME
from viewpoint.reports.pages import render

TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
Used = TypeVar("Used")


@dataclass(frozen=True)
class Origin:
    """What is known of a model's training: `data`, in the model itself, and the files of train.py and of its data."""

    metrics: Path
    summary: Path
    data: ModelData | None = None


def model_card(
    converted: Converted,
    size: int,
    labels: list[str],
    examples: dict[str, str],
    origin: Origin,
    changes: Sequence[str] = (),
) -> str:
    """The card as Markdown; `examples` is a picture of each class: {class: path in the hand-off folder}.

    The card has the figures of that training
    only: photos by class from `data` itself, results from metrics.json if it is of the same training.
    `changes` are the paragraphs of changes.changes_section.
    """
    data, metrics_path, summary_path = origin.data, origin.metrics, origin.summary
    threshold, mirror = data.threshold if data else None, converted.mirror

    def results(metrics: dict) -> list[str]:
        is_own = is_its_own(metrics, data, metrics_path)
        return results_sections(metrics, labels, threshold, mirror) if is_own else []

    images: Mapping[str, Mapping[str, int]] | None
    if data:
        images = {name: split.classes for name, split in data.splits.items()}
    else:  # an older model does not know its photos
        images = read(
            summary_path, "data_preparation.py", lambda summary: recorded_images(summary, summary_path, metrics_path)
        )
    return render(
        TEMPLATE,
        config=config,
        converted=converted,
        size=size,
        labels=labels,
        labels_name=LABELS_NAME,
        examples=examples,
        data=data,
        changes=changes,
        images=images,
        results=read(metrics_path, "train.py", results) or sections_without_figures(labels, threshold, mirror),
        mirror_text=MIRROR_TEXT,
        date=f"{datetime.date.today():%Y-%m-%d}",
        versions=", ".join(
            f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert")
        ),
        checksum=hashlib.sha256(converted.model).hexdigest(),
        agreement=describe_agreement(converted),
    )


def read(path: Path, script: str, use: Callable[[dict], Used]) -> Used | None:
    """What `use` makes of a script's JSON file; None without the file, or, with a note, when it is damaged."""
    if not path.is_file():
        return None
    try:
        return use(json.loads(path.read_text(encoding="utf-8")))
    # Not JSON, or JSON without the expected figures.
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError, ArithmeticError):
        print(f"{path} is damaged, so its figures are not in the model card; run {script} again to get them.")
        return None


def recorded_images(summary: dict, summary_path: Path, metrics_path: Path) -> dict[str, dict[str, int]] | None:
    """The photos of each class in the splits by a summary.json; None when metrics.json is of other splits."""
    images = summary["images"]
    tested, measured = images.get("test"), measured_photos(metrics_path)
    if tested and measured and any(tested.get(name, 0) != count for name, count in measured.items()):
        print(
            f"{summary_path} describes other splits than {metrics_path} was measured on, so the model card "
            "does not say how many photos there were; run train.py again to get both."
        )
        return None
    # A damaged file is found here, and not in the middle of the card.
    return {split: {name: int(count) for name, count in counts.items()} for split, counts in images.items()}


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


def measured_photos(metrics_path: Path) -> dict[str, int] | None:
    """The test photos of each class in a metrics.json; None when it is missing or damaged."""
    try:
        matrix = json.loads(metrics_path.read_text(encoding="utf-8"))["test"]
        return {name: sum(row) for name, row in zip(matrix["classes"], matrix["confusion_matrix"], strict=True)}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def is_its_own(metrics: dict, data: ModelData | None, path: Path) -> bool:
    """Whether a metrics.json is of the model's own training; says so when it is not."""
    if data and metrics.get("training") != data.training:
        print(
            f"{path} is of another training than the model, so its figures are not in the model card; "
            "run train.py again to get them."
        )
        return False
    return True
