"""Convert the trained model to TFLite, check that it gives the same classes, and pack the hand-off.

    python convert_tflite.py
    python convert_tflite.py --quantize int8            # or float32, dynamic
    python convert_tflite.py --quantize all             # a table of all four
    python convert_tflite.py --mirror                   # averages a photo and its mirror image

Reads models/saved_model/, models/report/metrics.json and photos of dataset/val.csv; for int8 also
models/model.keras and photos of dataset/train.csv. Writes

    models/model.tflite   the model, with only built-in operators, its metadata and labels inside
    models/labels.txt     its class names
    models/handoff/       everything for the mobile team; start with its README.md

and with --quantize all also models/model_float32.tflite and so on, beside the default float16.

A model is written only if it gives the Keras model's class for at least --min-agreement of the
validation photos, runs on built-in operators, and has metadata that can be read back and changes
no answer. Otherwise the script exits with 2 and leaves the earlier hand-off as it was. With
--quantize all, it leaves out any other precision that fails, and exits with 1.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

import config
from viewpoint.common.cli import COUNT, SEED, UserError, command, counted, number, run
from viewpoint.common.files import lock, write_atomically
from viewpoint.common.images import load_image, scale
from viewpoint.common.tensorflow import without_harmless_lines
from viewpoint.data.dataset import SUMMARY_NAME, read_rows
from viewpoint.data.provenance import ModelData, SplitData, count_known, find_data, fingerprint, hash_photos
from viewpoint.handoff.folder import write_handoff
from viewpoint.handoff.metadata import add_metadata, read_metadata
from viewpoint.handoff.quantization import Converted, convert, convert_to_int8, custom_operators, load_calibration
from viewpoint.inference.model import LABELS_NAME, Runner, in_mirror, load_runner, mirrored_indices, read_labels


@dataclass(frozen=True)
class Validation:
    """The photos that every converted model is compared on, with the Keras model's answers."""

    rows: list[dict[str, str]]  # of val.csv, see dataset.read_rows
    photos: list[np.ndarray]  # uint8 (size, size, 3)
    labels: list[str]  # the model's classes
    expected: np.ndarray  # the Keras model's probabilities (n, classes), with --mirror the means with the mirror images
    plain: np.ndarray  # the same without --mirror

    def accuracy(self, probabilities: np.ndarray) -> float | None:
        """The fraction of photos whose best class in `probabilities` (n, classes) is the true one, if known."""
        if not all("label" in row for row in self.rows):
            return None
        predicted = [self.labels[index] for index in probabilities.argmax(axis=1)]
        right = [row["label"] == name for row, name in zip(self.rows, predicted, strict=True)]
        return sum(right) / len(right)


# --- Photos ------------------------------------------------------------------------


def draw_rows(rows: list[dict[str, str]], count: int, seed: int) -> list[dict[str, str]]:
    """Up to `count` rows of a split, drawn at random and kept in their order; all, if there are fewer."""
    if len(rows) <= count:
        return rows
    drawn = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[index] for index in sorted(drawn)]


def read_validation(
    saved_model: Path, val_csv: Path, data: Path | None, count: int, seed: int, mirror: bool = False
) -> Validation:
    """Load up to `count` validation photos, and run the Keras model on them, with `mirror` also on their mirror images.

    Raises UserError when the model or the photos cannot be read, or when there are no photos.
    """
    if not saved_model.is_dir():
        raise UserError(f"{saved_model} not found; run train.py first, or give its folder with --models")
    runner, size, class_count = load_runner(saved_model)
    labels = read_labels(saved_model / LABELS_NAME, class_count)
    rows = draw_rows(read_rows(val_csv, data), count, seed)
    if not rows:
        raise UserError(f"{val_csv} has no photos to compare the models on; prepare more data")
    photos = [load_image(row["file"], size) for row in tqdm(rows, "Validation photos", unit="photo")]
    plain = expected = predict(runner, photos, "Keras model")
    if mirror:
        expected = (plain + predict(in_mirror(runner, labels), photos, "Mirror images")) / 2
    return Validation(rows, photos, labels, expected, plain)


def read_calibration(train_csv: Path, data: Path | None, count: int, seed: int, size: int) -> np.ndarray:
    """Up to `count` training photos as model inputs (n, size, size, 3). Raises UserError when there are none."""
    rows = draw_rows(read_rows(train_csv, data), count, seed)
    if not rows:
        raise UserError(f"{train_csv} has no photos, which int8 needs for its value ranges; prepare more data")
    return load_calibration([row["file"] for row in rows], size)


# --- Conversion and checks ---------------------------------------------------------


def convert_and_check(
    models: Path,
    precision: str,
    calibration: np.ndarray | None,
    io: str,
    val: Validation,
    min_agreement: float,
    data: ModelData | None = None,
    mirror: bool = False,
) -> Converted:
    """Convert the model of the folder `models`, add its metadata, and compare it with the Keras model."""
    mirrored = mirrored_indices(val.labels) if mirror else None
    print(f"\nConverting to {precision}", flush=True)
    if precision == "int8":
        assert calibration is not None
        plain = convert_to_int8(models / "model.keras", calibration, io, mirrored)
    else:
        plain, io = convert(models / "saved_model", precision, mirrored=mirrored), "float32"
    model = add_metadata(plain, val.labels, data, mirror)
    probabilities = predict(load_model(model), val.photos, "Comparing")
    agreement, difference = compare(val.expected, probabilities)
    problem = problem_of(plain, model, val.labels, val.photos[: config.GOLDEN_IMAGES])
    if agreement < min_agreement:
        problem = (
            f"it agrees on only {agreement:.2%} of the photos; train longer, because an unsure model changes "
            "its answers easily, or lower --min-agreement"
        )
    accuracy = val.accuracy(probabilities)
    plain_accuracy = val.accuracy(val.plain) if mirror else None
    numbers = (len(val.photos), agreement, difference, accuracy)
    return Converted(model, precision, io, mirror, *numbers, problem, plain_accuracy)


def load_model(model: bytes) -> Runner:
    """A runner for the .tflite file with this content."""
    with tempfile.TemporaryDirectory() as folder, without_harmless_lines():
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        return load_runner(path)[0]


def predict(runner: Runner, photos: Sequence[np.ndarray], title: str) -> np.ndarray:
    """The probabilities (n, classes) of uint8 photos, with a progress bar of this title."""
    return np.concatenate([runner(scale(photo)[np.newaxis]) for photo in tqdm(photos, title, unit="photo")])


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """(fraction of rows with equal classes, largest difference) of two arrays of probabilities (n, classes)."""
    agreement = np.mean(expected.argmax(axis=1) == found.argmax(axis=1))
    return float(agreement), float(np.abs(expected - found).max())


def problem_of(plain: bytes, model: bytes, labels: list[str], photos: Sequence[np.ndarray]) -> str | None:
    """What is wrong with `model`, which is `plain` with metadata: "it ..."; None if nothing is."""
    if custom := custom_operators(model):
        return f"it needs the operator {custom[0]}, which phones do not have; use built-in Keras layers"
    try:
        _, packed = read_metadata(model)
    except ValueError as error:
        return f"its metadata cannot be read back: {error}"
    if packed != labels:
        return f"its metadata names the classes {', '.join(packed)}"
    before, after = (predict(load_model(one), photos, "Checking metadata") for one in (plain, model))
    if not np.array_equal(before, after):
        return "its metadata changes its answers"
    return None


# --- Output ------------------------------------------------------------------------


def print_table(converted: Sequence[Converted], val: Validation) -> None:
    """Print size, agreement, largest difference and, where labels are known, accuracy of each precision."""
    averaged = " (each averaged with its mirror image)" if converted[0].mirror else ""
    print(f"\nCompared with the Keras model on {counted(len(val.rows), 'validation photo')}{averaged}:")
    columns = [
        ["precision", *(row.precision for row in converted)],
        ["size", *(row.size for row in converted)],
        ["same class", *(f"{row.agreement:.2%}" for row in converted)],
        ["largest difference", *(f"{row.difference:.4f}" for row in converted)],
    ]
    if (accuracy := val.accuracy(val.expected)) is not None:
        without = f", without the mirror images {val.accuracy(val.plain):.3f}" if converted[0].mirror else ""
        print(f"(accuracy of the Keras model: {accuracy:.3f}{without})")
        columns.append(["accuracy", *(f"{row.accuracy:.3f}" for row in converted)])
    widths = [max(map(len, column)) for column in columns]
    for line in zip(*columns, strict=True):
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def print_data(data: ModelData, dataset: Path, others: Sequence[str], val: Validation) -> None:
    """Say when the photos or labels in `dataset` are others, in the splits `others`, than the model was trained on."""
    if known := count_known(data, hash_photos(row["file"] for row in val.rows)):
        print(
            f"{known} of these {counted(len(val.rows), 'photo')} were trained on: the accuracy above is too good "
            "(the agreement is not affected)"
        )
    if others:
        print(
            f"The model was trained on other photos or labels than {dataset}/ has now (in {', '.join(others)}). "
            "The model card has the figures of its own training; run train.py for a model of the new data."
        )


def is_other(csv_path: Path, data_dir: Path | None, split: SplitData) -> bool:
    """Whether a split's CSV exists and has other photos or labels than `split`."""
    if not csv_path.is_file():
        return False
    rows = read_rows(csv_path, data_dir)
    hashes = hash_photos(row["file"] for row in rows)
    return fingerprint(hashes, [row.get("label", "") for row in rows]) != split


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file, or leave the earlier one."""
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Convert the trained model to TFLite, compare the two, and pack the hand-off.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    precisions = [*config.PRECISIONS, "all"]
    images = (config.AGREEMENT_IMAGES, config.CALIBRATION_IMAGES)
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of saved_model/, and of the output")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of val.csv and train.csv")
    add("--data", type=Path, help="folder that the CSVs' paths start from; None: the one recorded beside them")
    add("--quantize", choices=precisions, default=config.PRECISIONS[0], help="how numbers are stored")
    add("--io", choices=["float32", "uint8"], default="float32", help="input and output of an int8 model")
    add("--mirror", action="store_true", help="average the probabilities of a photo and its mirror image in the model")
    limits = number(float, 0)
    add("--min-agreement", type=limits, default=config.MIN_AGREEMENT, help="lowest fraction of equal classes")
    add("--agreement-images", type=COUNT, default=images[0], help="most validation photos to compare on")
    add("--calibration-images", type=COUNT, default=images[1], help="most training photos for int8")
    add("--seed", type=SEED, default=config.SEED, help="seed for drawing these photos")
    args = parser.parse_args()
    if args.io == "uint8" and args.quantize not in ("int8", "all"):
        parser.error(f"--io uint8 is for --quantize int8; {args.quantize} takes float32")
    return args


def main() -> int:
    args = parse_arguments()
    with lock(args.models, "--models"):
        return convert_and_hand_over(args)


def convert_and_hand_over(args: argparse.Namespace) -> int:
    """Convert the model, check it, and write what passes; the exit code."""
    precisions = config.PRECISIONS if args.quantize == "all" else [args.quantize]
    draw = (args.data, args.agreement_images, args.seed)
    val = read_validation(args.models / "saved_model", args.dataset / "val.csv", *draw, args.mirror)
    size = val.photos[0].shape[0]
    data = find_data(args.models / "saved_model")
    calibration = None
    if "int8" in precisions:
        calibration = read_calibration(args.dataset / "train.csv", args.data, args.calibration_images, args.seed, size)
    converted = [
        convert_and_check(args.models, precision, calibration, args.io, val, args.min_agreement, data, args.mirror)
        for precision in precisions
    ]
    print_table(converted, val)
    if data:
        changed = [
            name for name, split in data.splits.items() if is_other(args.dataset / f"{name}.csv", args.data, split)
        ]
        print_data(data, args.dataset, changed, val)
        if "val" in changed:  # an accuracy for the model card is of the training's own photos
            converted = [replace(one, accuracy=None) for one in converted]

    model, *others = converted
    if model.problem:
        raise UserError(f"nothing was written, because of the {model.precision} model: {model.problem}")
    output, handoff = args.models / "model.tflite", args.models / "handoff"
    sources = (args.models / "report" / "metrics.json", args.dataset / SUMMARY_NAME)
    also = [(other, load_model(other.model)) for other in others if not other.problem]
    write_handoff(handoff, model, load_model(model.model), size, val.labels, val.rows, *sources, data, also)
    write_file(output, model.model)
    write_file(args.models / LABELS_NAME, ("\n".join(val.labels) + "\n").encode())
    print(f"\nWrote {output} ({model.precision}), and {handoff}/ to hand over: start with its README.md.")
    for other in others:
        path = args.models / f"model_{other.precision}.tflite"
        if other.problem:
            print(f"Not written: {path}, because {other.problem}.")
        else:
            write_file(path, other.model)
            print(f"Wrote {path}.")
    default_model = Path(config.MODELS_DIR) / "model.tflite"
    options = [("--images", args.dataset / "test.csv", None), ("--model", output, default_model)]
    print(f"Next: {command('test_predict.py', options)}")
    return int(any(other.problem for other in others))


if __name__ == "__main__":
    run(main)
