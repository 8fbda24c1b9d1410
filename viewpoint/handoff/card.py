"""The model card: what the model is for, what goes in and out, how good it is; its text is model_card.md.jinja.

Source: Mitchell et al., Model Cards for Model Reporting (2018), https://arxiv.org/abs/1810.03993.
"""

import datetime
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from pathlib import Path

from jinja2 import UndefinedError

import config
from viewpoint.data.provenance import ModelData
from viewpoint.handoff.agreement import MAX_TIE, Converted
from viewpoint.handoff.metadata import MIRROR_TEXT, Origin
from viewpoint.handoff.results import results_sections
from viewpoint.inference.model import LABELS_NAME
from viewpoint.reports.pages import render

TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
PACKAGES = ("tensorflow", "keras", "ai-edge-litert")


def model_card(
    handed: Sequence[Converted],
    size: int,
    labels: list[str],
    examples: dict[str, str],
    metrics_path: Path,
    origin: Origin,
    changes: Sequence[str] = (),
) -> str:
    """The card of the models that passed as Markdown; the first is model.tflite, which the text is about.

    `examples` is a picture of each class: {class: path in the hand-off folder}; `metrics_path` is train.py's
    metrics.json, which may be missing; `changes` are the paragraphs of changes.changes_section.
    """
    return render(
        TEMPLATE,
        config=config,
        converted=handed[0],
        handed=handed,
        sha256=lambda model: hashlib.sha256(model).hexdigest(),
        size=size,
        labels=labels,
        labels_name=LABELS_NAME,
        examples=examples,
        origin=origin,
        data=origin.data,
        max_tie=MAX_TIE,
        changes=changes,
        results=read_results(metrics_path, labels, origin.data, handed[0].mirror),
        mirror_text=MIRROR_TEXT,
        date=f"{datetime.date.today():%Y-%m-%d}",
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
        machine=f"{platform.machine()} {platform.system()}",
    )


def read_results(path: Path, labels: list[str], data: ModelData | None, mirror: bool) -> str:
    """The sections of results.py, without figures when train.py's metrics.json at `path` has none of this model.

    That it is of another training or damaged is printed.
    """
    threshold = data.threshold if data else None
    without_figures = results_sections({}, {}, labels, threshold, mirror)
    if not path.is_file():
        return without_figures
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        if not data or metrics.get("training") == data.training:
            return results_sections(metrics["test"], metrics.get("settings", {}), labels, threshold, mirror)
        reason = "of another training than the model"
    # Not JSON, or JSON without the expected figures.
    except (
        OSError,
        ValueError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        UndefinedError,
    ):
        reason = "damaged"
    print(f"{path} is {reason}, so its figures are not in the model card; run train.py again to get them.")
    return without_figures
