"""Convert the trained model to TFLite and prove that it decides the same.

    python convert_tflite.py

Reads models/saved_model/ and photos of dataset/val.csv. Writes models/model.tflite
(float16 weights, built-in operators only) and models/labels.txt beside it, but only if
both models give the same class on at least --min-agreement of the photos. Otherwise it
exits with 2 and leaves any earlier model.tflite as it was.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keeps TensorFlow's start-up notes off the screen

import numpy as np
import tensorflow as tf
from tqdm import tqdm

import config
from common import UserError, run, write_atomically
from data_preparation import read_split
from images import load_batch
from test_predict import LABELS_NAME, Runner, load_runner, read_labels


def convert(saved_model: Path) -> bytes:
    """Convert a SavedModel to TFLite with float16 weights.

    Only built-in operators: phones do not carry TensorFlow's own.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def compare_models(first: Runner, second: Runner, files: list[str], size: int) -> tuple[float, float]:
    """Run two models on the same photos: (share of equal classes, largest probability difference).

    Both see the very same arrays, so a difference is the conversion's. Raises ImageError
    when a photo cannot be read.
    """
    agreements, largest_difference = 0, 0.0
    for file in tqdm(files, desc="Comparing", unit="image"):
        batch = load_batch([file], size)
        one, other = first(batch), second(batch)
        agreements += int(one.argmax() == other.argmax())
        largest_difference = max(largest_difference, float(np.abs(one - other).max()))
    return agreements / len(files), largest_difference


def draw_validation_files(dataset: Path, data_dir: Path | None, count: int, seed: int) -> list[str]:
    """Up to `count` photos of the validation split, drawn with `seed`; all, if it has fewer.

    Raises UserError when the split is missing or empty.
    """
    files = read_split(dataset / "val.csv", data_dir)["file"].tolist()
    if not files or count < 1:
        raise UserError(f"{dataset / 'val.csv'} gives no images to compare the models on; prepare more data")
    if len(files) <= count:
        return files
    chosen = np.random.default_rng(seed).choice(len(files), size=count, replace=False)
    return [files[index] for index in sorted(chosen)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Convert the trained model to TFLite and compare the two.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of saved_model/, and of model.tflite to write")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of val.csv")
    add("--data", type=Path, help="folder the CSV's paths start from; None: the one recorded beside it")
    add("--min-agreement", type=float, default=config.MIN_AGREEMENT, help="least share of equal decisions, 0 to 1")
    add("--agreement-images", type=int, default=config.AGREEMENT_IMAGES, help="most validation images to compare on")
    add("--seed", type=int, default=config.SEED, help="seed of the draw of those images")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    saved_model, output = args.models / "saved_model", args.models / "model.tflite"
    if not saved_model.is_dir():
        raise UserError(f"{saved_model} not found; run train.py first, or give its folder with --models")
    original, size, class_count = load_runner(saved_model)
    labels = read_labels(saved_model / LABELS_NAME, class_count)
    files = draw_validation_files(args.dataset, args.data, args.agreement_images, args.seed)

    with write_atomically(output) as path:
        path.write_bytes(convert(saved_model))
        converted, _, _ = load_runner(path)
        agreement, difference = compare_models(original, converted, files, size)
        megabytes = path.stat().st_size / 2**20
        print(f"\nCompared on {len(files)} validation images:")
        print(f"  same class            {agreement:.2%} (at least {args.min_agreement:.2%} asked)")
        print(f"  largest difference    {difference:.4f} in probability")
        print(f"  size                  {megabytes:.2f} MiB, float16")
        if agreement < args.min_agreement:
            raise UserError(
                f"the TFLite model agrees on only {agreement:.2%} of the images, so {output} was not written; "
                "train longer, for a model that is unsure flips easily, or lower --min-agreement"
            )
    with write_atomically(args.models / LABELS_NAME) as path:
        path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    print(f"Wrote {output} and {args.models / LABELS_NAME}; hand over both.")
    option = "" if args.models == Path(config.MODELS_DIR) else f" --model {output}"
    print(f"Next: python test_predict.py --images {args.dataset / 'test.csv'}{option}")


if __name__ == "__main__":
    run(main)
