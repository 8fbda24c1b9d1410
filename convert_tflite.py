"""Convert the trained model to TFLite, check that it gives the same classes, and pack the hand-off.

    python convert_tflite.py
    python convert_tflite.py --quantize int8            # or float32, dynamic
    python convert_tflite.py --quantize all             # a table of all four
    python convert_tflite.py --mirror                   # averages a photo and its mirror image

Reads models/saved_model/, models/report/metrics.json and photos of dataset/val.csv, test.csv and
train.csv; for int8 also models/model.keras. Writes

    models/model.tflite   the model, with only built-in operators, its metadata and labels inside
    models/labels.txt     its class names
    models/handoff/       everything for the mobile team; start with its README.md

and with --quantize all also models/model_float32.tflite and so on, beside the default float16.

A model is written only if it gives the Keras model's class for at least --min-agreement of the
images that are no near ties (viewpoint/handoff/agreement.py), moves no scores beyond what rounding
does, runs on built-in operators, and has metadata that can be read back and changes no answer.
With --quantize all, precisions that fail are left out, the first that passes becomes
models/model.tflite, and the script exits with 1. When none passes, it exits with 2 and leaves the
earlier hand-off as it was.
"""

import argparse
import contextlib
import tempfile
import timeit
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

import config
from viewpoint.common.cli import UserError, command, counted, make_parser, number, print_next, run
from viewpoint.common.images import ImageError, load_image, scale
from viewpoint.common.progress import progress
from viewpoint.common.writing import lock, write_together
from viewpoint.data.dataset import read_rows
from viewpoint.data.provenance import ModelData, SplitData, count_known, find_data, fingerprint, hash_photos
from viewpoint.handoff.agreement import Converted, Images, choose_golden, compare
from viewpoint.handoff.folder import write_handoff
from viewpoint.handoff.guide import RUNTIME_NAME
from viewpoint.handoff.metadata import NOT_STATED, Origin, add_metadata, read_metadata
from viewpoint.handoff.quantization import convert, convert_to_int8, custom_operators
from viewpoint.inference.model import LABELS_NAME, Runner, in_mirror, load_runner, mirrored_indices, read_labels

TIMED_ANSWERS = 50

# --- Photos ------------------------------------------------------------------------


def draw_rows(rows: list[dict[str, str]], count: int, seed: int) -> list[dict[str, str]]:
    """Up to `count` rows of a split, drawn at random and kept in their order; all, if there are fewer."""
    if len(rows) <= count:
        return rows
    drawn = np.random.default_rng(seed).choice(len(rows), size=count, replace=False)
    return [rows[index] for index in sorted(drawn)]


def read_images(
    saved_model: Path, dataset: Path, data: Path | None, count: int, seed: int, mirror: bool = False
) -> Images:
    """Load `count` images, and run the Keras model on them, with `mirror` also on their mirror images.

    These are validation photos, filled up with test photos, then training photos, then mirror images:
    whether two models agree can be seen on any photo. Raises UserError when the model or a validation
    photo cannot be read, or when there are no validation photos.
    """
    if not saved_model.is_dir():
        raise UserError(f"{saved_model} not found; run train.py first, or give its folder with --models")
    runner, size, class_count = load_runner(saved_model)
    labels = read_labels(saved_model / LABELS_NAME, class_count)
    rows = draw_rows(read_rows(dataset / "val.csv", data), count, seed)
    if not rows:
        raise UserError(f"{dataset / 'val.csv'} has no photos to compare the models on; prepare more data")
    pixels = [load_image(row["file"], size) for row in progress(rows, "Validation photos")]
    described = [counted(len(rows), "validation photo")]
    for split, name in (("test", "test photo"), ("train", "training photo")):
        found = load_others(dataset / f"{split}.csv", data, count - len(pixels), seed, size)
        pixels += found
        described += [counted(len(found), name)] if found else []
    # A model with `mirror` gives a mirror image the same scores as the photo, so there it shows nothing new.
    mirrored = [] if mirror else [image[:, ::-1] for image in pixels[: count - len(pixels)]]
    described += [counted(len(mirrored), "mirror image")] if mirrored else []
    plain = expected = predict(runner, [*pixels, *mirrored], "Keras model")
    if mirror:
        expected = (plain + predict(in_mirror(runner, labels), pixels, "Mirror images")) / 2
    return Images(rows, [*pixels, *mirrored], ", ".join(described), labels, mirror, expected, plain)


def load_others(csv_path: Path, data: Path | None, count: int, seed: int, size: int) -> list[np.ndarray]:
    """Up to `count` photos of another split, uint8 (size, size, 3), drawn at random; without those that are missing."""
    images = []
    for row in draw_rows(read_rows(csv_path, data), count, seed) if csv_path.is_file() and count else []:
        with contextlib.suppress(ImageError):
            images.append(load_image(row["file"], size))
    return images


def read_calibration(train_csv: Path, data: Path | None, count: int, seed: int, size: int) -> np.ndarray:
    """Up to `count` training photos as model inputs (n, size, size, 3). Raises UserError when there are none."""
    rows = draw_rows(read_rows(train_csv, data), count, seed)
    if not rows:
        raise UserError(f"{train_csv} has no photos, which int8 needs for its value ranges; prepare more data")
    pixels = np.stack([load_image(row["file"], size) for row in progress(rows, "Calibration photos")])
    # Black and white must be the ends of the input's range whatever the photos: then the 8-bit
    # input is the pixel itself.
    pixels[0, 0, :2] = [[0], [255]]
    return scale(pixels)


# --- Conversion and checks ---------------------------------------------------------


def convert_and_check(
    models: Path,
    precision: str,
    calibration: np.ndarray | None,
    io: str,
    images: Images,
    min_agreement: float,
    origin: Origin,
) -> Converted:
    """Convert the model of the folder `models`, add its metadata, and compare it with the Keras model."""
    mirrored = mirrored_indices(images.labels) if images.mirror else None
    print(f"\nConverting to {precision}", flush=True)
    if precision == "int8":
        assert calibration is not None
        plain = convert_to_int8(models / "model.keras", calibration, io, mirrored)
    else:
        plain, io = convert(models / "saved_model", precision, mirrored=mirrored), "float32"
    model = add_metadata(plain, images.labels, origin, images.mirror)
    runner = load_model(model)
    probabilities = predict(runner, images.pixels, "Comparing")
    agreement = compare(images.expected, probabilities, images.described)
    problem = agreement.problem(min_agreement) or problem_of(
        plain, model, images.labels, images.pixels[: config.GOLDEN_IMAGES]
    )
    golden, tolerance = choose_golden(runner, images, probabilities, agreement)
    return Converted(
        model=model,
        precision=precision,
        io=io,
        mirror=images.mirror,
        probabilities=probabilities,
        agreement=agreement,
        golden=golden,
        tolerance=tolerance,
        milliseconds=median_milliseconds(runner, images.pixels[0]),
        problem=problem,
        effect=images.effect_of_mirror(probabilities),
    )


def median_milliseconds(runner: Runner, image: np.ndarray) -> float:
    """The median time of TIMED_ANSWERS answers to a uint8 image, without scaling it."""
    batch = scale(image)[np.newaxis]
    return 1000 * float(np.median(timeit.repeat(lambda: runner(batch), number=1, repeat=TIMED_ANSWERS)))


def load_model(model: bytes) -> Runner:
    """A runner for the .tflite file with this content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(model)
        return load_runner(path)[0]


def predict(runner: Runner, images: Sequence[np.ndarray], title: str) -> np.ndarray:
    """The probabilities (n, classes) of uint8 images, with their progress under this title."""
    return np.concatenate([runner(scale(image)[np.newaxis]) for image in progress(images, title)])


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


def print_table(converted: Sequence[Converted], images: Images) -> None:
    """Print size, agreement, near ties, changes of scores and, where labels are known, accuracy of each precision."""
    averaged = " (each averaged with its mirror image)" if images.mirror else ""
    print(f"\nCompared with the Keras model on {images.described}{averaged}:")
    table = pd.DataFrame(
        {
            "precision": row.precision,
            "size": row.size,
            "same class": f"{row.agreement.fraction:.2%}",
            "near ties": f"{row.agreement.changed_ties} of {row.agreement.ties} changed",
            "largest difference": f"{row.agreement.change.max():.4f}",
            "ms an answer": f"{row.milliseconds:.1f}",
        }
        for row in converted
    )
    if (right := images.right(images.expected)) is not None:
        without = f", without the mirror images {images.right(images.plain)}" if images.mirror else ""
        print(f"(right on the {counted(len(images.rows), 'validation photo')}: Keras model {right}{without})")
        table["right"] = [images.right(row.probabilities) for row in converted]
    print(table.to_string(index=False))
    print("Near ties do not count: their first two scores are closer than the precision moves scores.")


def print_data(data: ModelData, dataset: Path, others: Sequence[str], images: Images) -> None:
    """Say when the photos or labels in `dataset` are others, in the splits `others`, than the model was trained on."""
    if known := count_known(data, hash_photos(row["file"] for row in images.rows)):
        print(
            f"{known} of these {counted(len(images.rows), 'validation photo')} were trained on: more of them are right "
            "than of new photos (the agreement is not affected)"
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


def write_models(models: Path, handed: Sequence[Converted], images: Images, origin: Origin) -> None:
    """Replace the hand-off folder and the model files together, so that none is left from an earlier conversion."""
    files = [models / "model.tflite", *(models / f"model_{other.precision}.tflite" for other in handed[1:])]
    labels, handoff = models / LABELS_NAME, models / "handoff"
    with write_together([handoff, labels, *files], []) as temporaries:
        write_handoff(temporaries[handoff], models, handed, images, origin)
        temporaries[labels].write_text("\n".join(images.labels) + "\n", encoding="utf-8")
        for path, converted in zip(files, handed, strict=True):
            temporaries[path].write_bytes(converted.model)
    print(f"\nWrote {files[0]} ({handed[0].precision}), and {handoff}/ to hand over: start with its README.md.")
    for path in files[1:]:
        print(f"Wrote {path}.")
    if not (handoff / "web" / RUNTIME_NAME).is_dir():
        serve = command("tools/serve_demo.py", [("--models", models, config.MODELS_DIR)])
        print(f"The capture guide has no browser runtime yet; {serve} adds it, and serves the guide.")
    for precision in config.PRECISIONS:
        path = models / f"model_{precision}.tflite"
        if path not in files and path.is_file():
            path.unlink()
            print(f"Removed {path}: it belonged to the earlier hand-off.")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Convert the trained model to TFLite, compare the two, and pack the hand-off.")
    add = parser.add_argument
    precisions = [*config.PRECISIONS, "all"]
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of saved_model/, and of the output")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of val.csv and train.csv")
    add("--data", type=Path, help="folder that the CSVs' paths start from; without it, the one recorded beside them")
    add("--quantize", choices=precisions, default=config.PRECISIONS[0], help="how numbers are stored")
    add("--io", choices=["float32", "uint8"], default="float32", help="input and output of an int8 model")
    add("--mirror", action="store_true", help="average the probabilities of a photo and its mirror image in the model")
    limits = number(float, 0)
    add("--author", default=config.MODEL_AUTHOR, help="who answers for the model, in its metadata and its card")
    add("--license", default=config.MODEL_LICENSE, help="under which it may be used, in the same places")
    add("--min-agreement", type=limits, default=config.MIN_AGREEMENT, help="lowest fraction of equal classes")
    args = parser.parse_args()
    parser.refuse_unused(args, ["io"], args.quantize in ("int8", "all"), "--quantize int8 or all")
    return args


def main() -> int:
    args = parse_arguments()
    with lock(args.models, "--models"):
        return convert_and_hand_over(args)


def convert_and_hand_over(args: argparse.Namespace) -> int:
    """Convert the model, check it, and write what passes; the exit code."""
    precisions = config.PRECISIONS if args.quantize == "all" else [args.quantize]
    images = read_images(
        args.models / "saved_model", args.dataset, args.data, config.AGREEMENT_IMAGES, config.SEED, args.mirror
    )
    origin = Origin(args.author or NOT_STATED, args.license or NOT_STATED, find_data(args.models / "saved_model"))
    calibration = None
    if "int8" in precisions:
        size = images.pixels[0].shape[0]
        calibration = read_calibration(
            args.dataset / "train.csv", args.data, config.CALIBRATION_IMAGES, config.SEED, size
        )
    converted = [
        convert_and_check(args.models, precision, calibration, args.io, images, args.min_agreement, origin)
        for precision in precisions
    ]
    print_table(converted, images)
    if data := origin.data:
        changed = [
            name for name, split in data.splits.items() if is_other(args.dataset / f"{name}.csv", args.data, split)
        ]
        print_data(data, args.dataset, changed, images)
        if "val" in changed:  # the model card has figures of the training's own photos only
            converted = [replace(one, effect="") for one in converted]
    failed = [f"the {one.precision} model: {one.problem}" for one in converted if one.problem]
    handed = [one for one in converted if not one.problem]
    if not handed:
        raise UserError(f"nothing was written, because of {'; '.join(failed)}")
    write_models(args.models, handed, images, origin)
    for reason in failed:
        print(f"Not handed over: {reason}.")
    if missing := [name for name in ("author", "license") if getattr(origin, name) == NOT_STATED]:
        wanted = " and ".join(f"--{name}" for name in missing)
        print(f"The model card does not state the {' and the '.join(missing)} of the model: give {wanted}.")
    default_model = Path(config.MODELS_DIR) / "model.tflite"
    options = [("--images", args.dataset / "test.csv", None), ("--model", args.models / "model.tflite", default_model)]
    print_next(command("test_predict.py", options))
    return int(bool(failed))


if __name__ == "__main__":
    run(main)
