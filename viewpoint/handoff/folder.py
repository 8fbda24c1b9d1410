"""The hand-off folder: the model, its labels, its model card, and a golden set to check it with."""

import datetime
import hashlib
import importlib.metadata
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

import config
from viewpoint.common.files import write_atomically
from viewpoint.common.images import load_image, scale
from viewpoint.data.provenance import ModelData
from viewpoint.handoff.card import model_card
from viewpoint.handoff.changes import changes_section
from viewpoint.handoff.guide import write_guide
from viewpoint.handoff.quantization import Converted
from viewpoint.inference.model import LABELS_NAME, Runner

HERE = Path(__file__).parent
TEMPLATES = HERE / "templates"
EXAMPLE_SIZE = 160  # width and height of the model card's examples, in pixels


def write_handoff(
    folder: Path,
    converted: Converted,
    runner: Runner,
    size: int,
    labels: list[str],
    rows: Sequence[dict[str, str]],
    metrics_path: Path,
    summary_path: Path,
    data: ModelData | None = None,
    others: Sequence[tuple[Converted, Runner]] = (),
) -> None:
    """Write the whole folder, or leave the earlier one when that fails.

    `runner` runs the converted model, which takes images of `size`; `rows` are photos of the
    validation split with the keys file and, if known, label; the two files are train.py's
    metrics.json and data_preparation.py's summary.json, which may be missing; `data` is what the
    model knows of its training; each of the `others`, in other precisions, gets a golden set
    of its own, golden/PRECISION/.
    """
    with write_atomically(folder) as path:
        path.mkdir()
        (path / "model.tflite").write_bytes(converted.model)
        (path / LABELS_NAME).write_text("\n".join(labels) + "\n", encoding="utf-8")
        golden = choose_by_class(rows, config.GOLDEN_IMAGES)
        write_golden(path / "golden", runner, size, labels, golden, converted)
        for other, other_runner in others:
            write_golden(path / "golden" / other.precision, other_runner, size, labels, golden, other)
        examples = write_examples(path / "examples", choose_by_class(rows, len(labels)))
        write_snippets(path, converted, size, labels, data.threshold if data else None, [other for other, _ in others])
        shutil.copyfile(HERE / "verify.py", path / "verify.py")
        write_guide(path / "web", converted.model, labels, data.threshold if data else None)
        changes = changes_section(folder, path, folder.parent)
        card = model_card(converted, size, labels, examples, metrics_path, summary_path, data, changes)
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
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    values = {
        "size": size,
        "labels": labels,
        "threshold": threshold,
        "guide_min_score": config.GUIDE_MIN_SCORE,
        "precision": converted.precision,
        "io": converted.io,
        "mirror": converted.mirror,
        "file_size": converted.size,
        "tolerance": config.GOLDEN_TOLERANCE[converted.precision],
        "others": [
            {"precision": other.precision, "io": other.io, "file_size": other.size}
            | {"tolerance": config.GOLDEN_TOLERANCE[other.precision]}
            for other in others
        ],
        "versions": {name: importlib.metadata.version(name) for name in ("ai-edge-litert", "numpy", "pillow")},
    }
    for template in sorted(TEMPLATES.rglob("*.jinja")):
        path = folder / template.relative_to(TEMPLATES).with_suffix("")
        path.parent.mkdir(exist_ok=True)
        text = environment.from_string(template.read_text(encoding="utf-8")).render(values)
        path.write_text(text, encoding="utf-8")


def choose_by_class(rows: Sequence[dict[str, str]], count: int) -> list[dict[str, str]]:
    """Up to `count` rows: the first of every class, then the second of every class, and so on."""
    seen: Counter[str] = Counter()
    rounds = []
    for row in rows:
        label = row.get("label", "")
        rounds.append(seen[label])
        seen[label] += 1
    return [rows[index] for index in sorted(range(len(rows)), key=rounds.__getitem__)[:count]]


def write_golden(
    folder: Path, runner: Runner, size: int, labels: list[str], rows: Sequence[dict[str, str]], converted: Converted
) -> None:
    """Write photos at the model's size (PNG), their input tensors (raw, little-endian) and golden.json."""
    folder.mkdir()
    dtype = "uint8" if converted.io == "uint8" else "<f4"
    entries = []
    for number, row in enumerate(rows, 1):
        name = f"{number:02}"
        pixels = load_image(row["file"], size)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (pixels if dtype == "uint8" else scale(pixels).astype(dtype)).tofile(folder / f"{name}.raw")
        probabilities = runner(scale(pixels)[np.newaxis])[0]
        entries.append(
            {
                "photo": f"{name}.png",
                "input": f"{name}.raw",
                "true_class": row.get("label"),
                "prediction": labels[int(probabilities.argmax())],
                "probabilities": [round(float(value), 6) for value in probabilities],
            }
        )
    content = {
        "labels": labels,
        "shape": [1, size, size, 3],
        "dtype": dtype,
        "tolerance": config.GOLDEN_TOLERANCE[converted.precision],
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
            examples[label] = f"{folder.name}/{label}.jpg"
    return examples
