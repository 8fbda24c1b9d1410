"""The hand-off folder: the model, its labels, its card, and a golden set to check it with."""

import datetime
import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import config
from common import write_atomically
from images import load_image, scale
from test_predict import LABELS_NAME, Runner

HERE = Path(__file__).parent
EXAMPLE_SIZE = 160  # pixels, width and height of the model card's examples


def write_handoff(
    folder: Path,
    model: bytes,
    runner: Runner,
    size: int,
    labels: list[str],
    val: pd.DataFrame,
    conversion: dict,
    metrics: dict | None,
    summary: dict | None,
) -> None:
    """Write the folder as a whole, or leave the earlier one.

    `runner` runs `model`, whose images are of `size`; `val` has the columns file and, if
    known, label; `conversion` is a row of convert_tflite.py's table; `metrics` is train.py's
    metrics.json and `summary` data_preparation.py's summary.json, None when there is none.
    """
    with write_atomically(folder) as path:
        path.mkdir()
        (path / "model.tflite").write_bytes(model)
        (path / LABELS_NAME).write_text("\n".join(labels) + "\n", encoding="utf-8")
        write_golden(path / "golden", runner, size, labels, choose_by_class(val, config.GOLDEN_IMAGES), conversion)
        examples = write_examples(path / "examples", choose_by_class(val, len(labels)))
        readme = (HERE / "README.md").read_text(encoding="utf-8").replace("SIZE", str(size))
        (path / "README.md").write_text(readme, encoding="utf-8")
        shutil.copyfile(HERE / "verify.py", path / "verify.py")
        card = model_card(model, size, labels, examples, conversion, metrics, summary)
        (path / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def choose_by_class(split: pd.DataFrame, count: int) -> pd.DataFrame:
    """Up to `count` rows, the first of every class, then the second, and so on."""
    if "label" not in split:
        return split.head(count)
    turn = split.groupby("label").cumcount()
    return split.loc[turn.sort_values(kind="stable").index].head(count)


def write_golden(
    folder: Path, runner: Runner, size: int, labels: list[str], photos: pd.DataFrame, conversion: dict
) -> None:
    """Photos at the model's size (PNG), their input tensors (raw, little-endian) and golden.json."""
    folder.mkdir()
    dtype = "uint8" if conversion["io"] == "uint8" else "<f4"
    entries = []
    for number, (_, photo) in enumerate(photos.iterrows(), 1):
        name = f"{number:02}"
        pixels = load_image(photo["file"], size)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (pixels if dtype == "uint8" else scale(pixels).astype(dtype)).tofile(folder / f"{name}.raw")
        probabilities = runner(scale(pixels)[np.newaxis])[0]
        entries.append(
            {
                "photo": f"{name}.png",
                "input": f"{name}.raw",
                "true_class": photo.get("label"),
                "prediction": labels[int(probabilities.argmax())],
                "probabilities": [round(float(value), 6) for value in probabilities],
            }
        )
    content = {
        "labels": labels,
        "shape": [1, size, size, 3],
        "dtype": dtype,
        "tolerance": config.GOLDEN_TOLERANCE[conversion["precision"]],
        "photos": entries,
    }
    (folder / "golden.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_examples(folder: Path, photos: pd.DataFrame) -> dict[str, str]:
    """A thumbnail of a photo of each class that is known: {class: path in the hand-off folder}."""
    folder.mkdir()
    examples = {}
    for _, photo in photos.iterrows():
        if photo.get("label"):
            Image.fromarray(load_image(photo["file"], EXAMPLE_SIZE)).save(folder / f"{photo['label']}.jpg", quality=85)
            examples[photo["label"]] = f"{folder.name}/{photo['label']}.jpg"
    return examples


# --- The model card ----------------------------------------------------------------


def model_card(
    model: bytes,
    size: int,
    labels: list[str],
    examples: dict[str, str],
    conversion: dict,
    metrics: dict | None,
    summary: dict | None,
) -> str:
    """The card as Markdown (Mitchell et al., Model Cards for Model Reporting, 2018, https://arxiv.org/abs/1810.03993)."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras", "ai-edge-litert")]
    parts = [
        f"# {config.MODEL_NAME} {config.MODEL_VERSION}",
        f"{config.MODEL_DESCRIPTION} Author: {config.MODEL_AUTHOR}. Licence: {config.MODEL_LICENSE}. "
        f"Made on {datetime.date.today():%Y-%m-%d} with {', '.join(versions)}.",
        "## What it is for",
        "Sorting photos of cars by viewpoint, and guiding a person who photographs one. **Not for** trucks, buses and "
        "motorcycles, several vehicles in one photo, judging damage, or telling vehicles or people apart.",
        "## Classes",
        table(
            ["", "class"],
            [[f"![{name}]({examples[name]})" if name in examples else "no example", name] for name in labels],
        ),
        "Left and right are the car's own. Background is no vehicle, or a close-up of one.",
        "## Input and output",
        input_contract(size, len(labels), conversion["io"]),
        "## The file",
        table(
            ["precision", "size", "SHA-256"],
            [[conversion["precision"], f"{len(model) / 2**20:.2f} MiB", f"`{hashlib.sha256(model).hexdigest()}`"]],
        ),
        f"On {conversion['images']} validation photos it gives the class of the Keras model on "
        f"{conversion['agreement']:.2%}, and no probability is further from it than {conversion['difference']:.4f}.",
    ]
    if summary:
        splits = summary["images"]
        rows = [
            [split, sum(counts.values()), *(counts.get(name, 0) for name in labels)] for split, counts in splits.items()
        ]
        parts += ["## Data", table(["split", "all", *labels], rows)]
    if metrics:
        parts += measured(metrics["test"], labels)
    return "\n\n".join(parts) + "\n"


def input_contract(size: int, classes: int, io: str) -> str:
    values = "uint8, the pixels as they are" if io == "uint8" else "float32, `pixel / 127.5 - 1`"
    output = "uint8; divide by 256 for probabilities" if io == "uint8" else "float32 probabilities that add up to 1"
    return (
        f"Input: (1, {size}, {size}, 3), RGB, {values}; the photo upright by its EXIF orientation and resized as a "
        f"whole, not cropped.\nOutput: (1, {classes}), {output}, in the order of `{LABELS_NAME}`."
    )


def measured(test: dict, labels: list[str]) -> list[str]:
    """What train.py measured on the test split with the Keras model."""
    classes = [[name, *(test["per_class"].get(name) or {}).values()] for name in labels if name in test["per_class"]]
    rows = [[name, *(f"{value:.3f}" for value in values[:3]), int(values[3])] for name, *values in classes]
    parts = [
        "## How good it is",
        f"On {test['images']} photos of the test split, before conversion: accuracy {test['accuracy']:.3f}, macro F1 "
        f"{test['macro_f1']:.3f}, expected calibration error {test['calibration_error']:.3f}.",
        table(["class", "precision", "recall", "F1", "photos"], rows),
    ]
    if "robustness" in test:
        changes = [[name, f"{value:.3f}"] for name, value in test["robustness"].items()]
        parts += ["Accuracy on changed photos:", table(["change", "accuracy"], changes)]
    return parts


def table(header: list, rows: list[list]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
