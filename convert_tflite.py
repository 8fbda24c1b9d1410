"""Convert the trained model to TFLite, prove that it decides the same, and pack the hand-off.

    python convert_tflite.py
    python convert_tflite.py --quantize int8            # or float32, dynamic
    python convert_tflite.py --quantize all             # a table of all four

Reads models/saved_model/ and models/report/metrics.json, photos of dataset/val.csv and, for
int8, models/model.keras and photos of dataset/train.csv. Writes models/model.tflite (built-in
operators only, its description and labels inside), models/labels.txt beside it, and
models/handoff/ for the mobile team; with --quantize all also models/model_float32.tflite and
so on beside the default float16.

Each file is written only if it gives the Keras model's class on at least --min-agreement of
the validation photos, runs on built-in operators, and its metadata reads back and changes no
answer. Otherwise the script exits with 2 and leaves the earlier hand-off as it was; with
--quantize all, it leaves out another precision that fails, and exits with 1.
"""

import argparse
import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keeps TensorFlow's start-up notes off the screen

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils
from tqdm import tqdm

import config
from common import COUNT, SEED, UserError, number, run, write_atomically
from data_preparation import read_split
from handoff.equalization import equalize
from handoff.folder import write_handoff
from handoff.metadata import add_metadata, read_metadata
from images import load_image, scale
from test_predict import LABELS_NAME, Runner, load_runner, read_labels

# --- Conversion --------------------------------------------------------------------


def convert(
    saved_model: Path, precision: str = "float16", calibration: np.ndarray | None = None, io: str = "float32"
) -> bytes:
    """Convert a SavedModel to TFLite in one of config.PRECISIONS.

    float16 and dynamic (8-bit weights) compute in float32 where the phone does; int8 computes
    in 8 bits throughout, for which it needs `calibration`, model inputs (n, size, size, 3).
    `io` "uint8" lets an int8 model take pixels and give 256ths. Only built-in operators:
    phones do not carry TensorFlow's own.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in calibration)
        if io == "uint8":
            converter.inference_input_type = converter.inference_output_type = tf.uint8
    return converter.convert()


def draw_calibration(dataset: Path, data_dir: Path | None, count: int, size: int, seed: int) -> np.ndarray:
    """Up to `count` photos of the training split as model input (n, size, size, 3), drawn with `seed`."""
    files = draw_files(read_split(dataset / "train.csv", data_dir), count, seed)["file"]
    pixels = np.stack([load_image(file, size) for file in tqdm(files, desc="Calibration photos", unit="image")])
    # Whatever the photos: black and white must be the ends of the input's range, so that
    # an 8-bit input is the pixel itself.
    pixels[0, 0, :2] = [[0], [255]]
    return scale(pixels)


@contextlib.contextmanager
def equalized(models: Path, calibration: np.ndarray) -> Iterator[Path]:
    """A SavedModel that computes what models/model.keras does, with channels that share 8 bits fairly.

    Without it, 8 bits change two to five times as many decisions (docs/experiments.md).
    Raises UserError without model.keras.
    """
    try:
        model = keras.models.load_model(models / "model.keras")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {models / 'model.keras'}, which int8 needs: {error}; run train.py") from error
    equalize(model, calibration)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        yield Path(folder)


# --- Checks ------------------------------------------------------------------------


def load_model(model: bytes) -> Runner:
    """A runner of the model in these bytes, as test_predict.py would run its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        return load_runner(path)[0]


def predict(runner: Runner, photos: Sequence[np.ndarray], name: str) -> np.ndarray:
    """The probabilities (n, classes) of uint8 photos."""
    return np.concatenate([runner(scale(photo)[np.newaxis]) for photo in tqdm(photos, name, unit="image")])


def compare(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """(share of rows with equal classes, largest difference) of two arrays of probabilities (n, classes)."""
    agreement = np.mean(expected.argmax(axis=1) == found.argmax(axis=1))
    return float(agreement), float(np.abs(expected - found).max())


def problem_of(plain: bytes, model: bytes, labels: list[str], photos: Sequence[np.ndarray]) -> str | None:
    """What is wrong with a converted `model`, made from `plain` by adding metadata; None if nothing."""
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    custom = [code.customCode.decode() for code in tables.operatorCodes if code.customCode]
    if custom:
        return f"it needs the operator {custom[0]}, which phones do not carry; use built-in Keras layers"
    try:
        _, packed_labels = read_metadata(model)
    except ValueError as error:
        return f"its metadata cannot be read back: {error}"
    if packed_labels != labels:
        return f"its metadata names the classes {', '.join(packed_labels)}"
    if not np.array_equal(*(predict(load_model(one), photos, "Checking metadata") for one in (plain, model))):
        return "its metadata changes its answers"
    return None


def draw_files(split: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Up to `count` rows of a split, drawn with `seed` and in their order; all, if it has fewer."""
    if len(split) <= count:
        return split
    return split.iloc[sorted(np.random.default_rng(seed).choice(len(split), size=count, replace=False))]


def read_validation(args: argparse.Namespace) -> pd.DataFrame:
    """The validation photos to compare on. Raises UserError when there are none."""
    val = draw_files(read_split(args.dataset / "val.csv", args.data), args.agreement_images, args.seed)
    if val.empty:
        raise UserError(f"{args.dataset / 'val.csv'} gives no images to compare the models on; prepare more data")
    return val


# --- The whole ---------------------------------------------------------------------


def convert_and_check(
    precision: str, args: argparse.Namespace, labels: list[str], photos: list[np.ndarray], expected: np.ndarray
) -> tuple[bytes, dict]:
    """A model and its row of the table, whose `problem` says why it must not be handed over, if anything."""
    print(f"\nConverting to {precision}", flush=True)
    io = args.io if precision == "int8" else "float32"
    if precision == "int8":
        size = photos[0].shape[0]
        calibration = draw_calibration(args.dataset, args.data, args.calibration_images, size, args.seed)
        with equalized(args.models, calibration) as saved_model:
            plain = convert(saved_model, precision, calibration, io)
    else:
        plain = convert(args.models / "saved_model", precision)
    model = add_metadata(plain, labels)
    probabilities = predict(load_model(model), photos, "Comparing")
    agreement, difference = compare(expected, probabilities)
    problem = problem_of(plain, model, labels, photos[: config.GOLDEN_IMAGES])
    if agreement < args.min_agreement:
        problem = (
            f"it agrees on only {agreement:.2%} of the images; "
            "train longer, for a model that is unsure flips easily, or lower --min-agreement"
        )
    row = {"precision": precision, "io": io, "megabytes": len(model) / 2**20, "agreement": agreement}
    row |= {"difference": difference, "images": len(photos), "problem": problem, "probabilities": probabilities}
    return model, row


def print_table(rows: list[dict], expected: np.ndarray, val: pd.DataFrame) -> None:
    """Print size, agreement, largest difference and, where labels are known, accuracy of each precision."""
    print(f"\nCompared with the Keras model on {len(val)} validation images:")
    table = pd.DataFrame(
        {
            "precision": [row["precision"] for row in rows],
            "size": [f"{row['megabytes']:.2f} MiB" for row in rows],
            "same class": [f"{row['agreement']:.2%}" for row in rows],
            "largest difference": [f"{row['difference']:.4f}" for row in rows],
        }
    )
    if "label" in val:
        true = val["label"].map(config.CLASSES.index).to_numpy()
        table["accuracy"] = [f"{np.mean(row['probabilities'].argmax(axis=1) == true):.3f}" for row in rows]
        print(f"(accuracy of the Keras model: {np.mean(expected.argmax(axis=1) == true):.3f})")
    print(table.to_string(index=False))


def read_json(path: Path) -> dict | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Convert the trained model to TFLite, compare the two, and pack the hand-off.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of saved_model/, and of what is written")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of val.csv and train.csv")
    add("--data", type=Path, help="folder the CSVs' paths start from; None: the one recorded beside them")
    precisions = [*config.PRECISIONS, "all"]
    add("--quantize", choices=precisions, default=config.PRECISIONS[0], help="what numbers are stored in")
    add("--io", choices=["float32", "uint8"], default="float32", help="input and output of an int8 model")
    add(
        "--min-agreement",
        type=number(float, 0),
        default=config.MIN_AGREEMENT,
        help="least share of equal decisions, 0 to 1",
    )
    add(
        "--agreement-images",
        type=COUNT,
        default=config.AGREEMENT_IMAGES,
        help="most validation images to compare on",
    )
    add(
        "--calibration-images",
        type=COUNT,
        default=config.CALIBRATION_IMAGES,
        help="most training images for int8",
    )
    add("--seed", type=SEED, default=config.SEED, help="seed of the draw of those images")
    args = parser.parse_args()
    if args.io == "uint8" and args.quantize not in ("int8", "all"):
        parser.error(f"--io uint8 is for --quantize int8; {args.quantize} takes float32")
    return args


def main() -> int:
    args = parse_arguments()
    saved_model, output = args.models / "saved_model", args.models / "model.tflite"
    if not saved_model.is_dir():
        raise UserError(f"{saved_model} not found; run train.py first, or give its folder with --models")
    original, size, class_count = load_runner(saved_model)
    labels = read_labels(saved_model / LABELS_NAME, class_count)
    val = read_validation(args)
    photos = [load_image(file, size) for file in tqdm(val["file"], desc="Decoding", unit="image")]
    expected = predict(original, photos, "Keras model")

    precisions = config.PRECISIONS if args.quantize == "all" else [args.quantize]
    converted = [convert_and_check(precision, args, labels, photos, expected) for precision in precisions]
    print_table([row for _, row in converted], expected, val)
    (model, row), *others = converted
    if row["problem"]:
        raise UserError(f"the {row['precision']} model was not written, and nothing else: {row['problem']}")
    metrics, summary = read_json(args.models / "report" / "metrics.json"), read_json(args.dataset / "summary.json")
    write_handoff(args.models / "handoff", model, load_model(model), size, labels, val, row, metrics, summary)
    for path, content in [(output, model), (args.models / LABELS_NAME, ("\n".join(labels) + "\n").encode())]:
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)
    print(f"\nWrote {output} ({row['precision']}), and {args.models / 'handoff'}/ to hand over: read its README.md.")
    for other, other_row in others:
        path = args.models / f"model_{other_row['precision']}.tflite"
        if other_row["problem"]:
            print(f"Not written: {path}, for {other_row['problem']}.")
            continue
        with write_atomically(path) as temporary:
            temporary.write_bytes(other)
        print(f"Wrote {path}.")
    option = "" if args.models == Path(config.MODELS_DIR) else f" --model {output}"
    print(f"Next: python test_predict.py --images {args.dataset / 'test.csv'}{option}")
    return int(any(other_row["problem"] for _, other_row in others))


if __name__ == "__main__":
    run(main)
