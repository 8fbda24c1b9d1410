"""The hand-off folder: the model, its labels, its model card, and a golden set to check it with."""

import datetime
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

import config
from viewpoint.common.images import load_image, scale
from viewpoint.handoff.agreement import Converted, Images, choose_by_class
from viewpoint.handoff.card import model_card
from viewpoint.handoff.changes import changes_section
from viewpoint.handoff.guide import SECURITY_POLICY, write_guide
from viewpoint.handoff.metadata import Origin
from viewpoint.inference.model import LABELS_NAME
from viewpoint.reports.pages import render

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
EXAMPLE_SIZE = 160  # width and height of the model card's examples, in pixels


def write_handoff(path: Path, models: Path, handed: Sequence[Converted], images: Images, origin: Origin) -> None:
    """Write the whole folder under the name `path`; it is to become models/handoff/, which may have an earlier one.

    `handed` are the models that passed: the first is the one to use, the others get golden sets of
    their own, golden/PRECISION/. `models` has train.py's report/metrics.json, which may be missing.
    """
    converted, *others = handed
    size, labels = images.pixels[0].shape[0], images.labels
    threshold = origin.data.threshold if origin.data else None
    path.mkdir()
    (path / "model.tflite").write_bytes(converted.model)
    (path / LABELS_NAME).write_text("\n".join(labels) + "\n", encoding="utf-8")
    write_golden(path / "golden", converted, images)
    for other in others:
        write_golden(path / "golden" / other.precision, other, images)
    examples = write_examples(path / "examples", [images.rows[i] for i in choose_by_class(images.rows, len(labels))])
    write_snippets(path, converted, size, labels, threshold, others)
    shutil.copyfile(HERE / "verify.py", path / "verify.py")
    write_guide(path / "web", converted.model, labels, threshold)
    changes = changes_section(models / "handoff", path, models)
    card = model_card(handed, size, labels, examples, models / "report" / "metrics.json", origin, changes)
    (path / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def write_snippets(
    folder: Path,
    converted: Converted,
    size: int,
    labels: list[str],
    threshold: float | None,
    others: Sequence[Converted] = (),
) -> None:
    """Write README.md and the code for Android, iOS and Python, for this model, from templates/.

    `threshold` is the best score below which an answer is not to be trusted, if one is known;
    `others` are the same model in other precisions, which README.md tells of.
    """
    values: dict[str, object] = {
        "size": size,
        "labels": labels,
        "threshold": threshold,
        "guide_min_score": config.GUIDE_MIN_SCORE,
        "precision": converted.precision,
        "io": converted.io,
        "mirror": converted.mirror,
        "file_size": converted.size,
        "tolerance": converted.tolerance,
        "others": others,
        "policy": SECURITY_POLICY,
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "numpy", "pillow")},
    }
    for template in sorted(TEMPLATES.rglob("*.jinja")):
        path = folder / template.relative_to(TEMPLATES).with_suffix("")
        path.parent.mkdir(exist_ok=True)
        path.write_text(render(template, **values), encoding="utf-8")


def write_golden(folder: Path, converted: Converted, images: Images) -> None:
    """Write photos at the model's size (PNG), their input tensors (raw, little-endian) and golden.json."""
    folder.mkdir()
    dtype = "uint8" if converted.io == "uint8" else "<f4"
    entries = []
    for number, index in enumerate(converted.golden, 1):
        name = f"{number:02}"
        pixels, probabilities = images.pixels[index], converted.probabilities[index]
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (pixels if dtype == "uint8" else scale(pixels).astype(dtype)).tofile(folder / f"{name}.raw")
        entries.append(
            {
                "photo": f"{name}.png",
                "input": f"{name}.raw",
                "true_class": images.rows[index].get("label"),
                "prediction": images.labels[int(probabilities.argmax())],
                "probabilities": [round(float(value), 6) for value in probabilities],
            }
        )
    content = {
        "labels": images.labels,
        "shape": [1, *images.pixels[0].shape],
        "dtype": dtype,
        "tolerance": converted.tolerance,
        "precision": converted.precision,
        "mirror": converted.mirror,
        "version": config.VERSION,
        "made": f"{datetime.date.today():%Y-%m-%d}",
        "model_sha256": hashlib.sha256(converted.model).hexdigest(),
        "photos": entries,
    }
    (folder / "golden.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_examples(folder: Path, rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """Write a thumbnail for each class among the rows: {class: path in the hand-off folder}."""
    folder.mkdir()
    examples = {}
    for row in rows:
        if label := row.get("label"):
            Image.fromarray(load_image(row["file"], EXAMPLE_SIZE)).save(folder / f"{label}.jpg", quality=85)
            examples[label] = f"{folder.name}/{quote(label)}.jpg"
    return examples
