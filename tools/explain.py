"""Show where the model looks: Grad-CAM heat maps over photos, on one page.

    python tools/explain.py photos/IMG_0001.jpg more_photos/
    python tools/explain.py --mistakes                 # of the test split

Reads models/model.keras and the photos, folders or CSVs given; with --mistakes also
dataset/test.csv and models/report/test_predictions.csv. Writes explanations.html: for each photo
the heat map of the predicted class and, if the label is another class, that of the label, the
lowest scores first, at most 120 photos. The brighter an area, the more it speaks for the class.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.common.tensorflow import import_tensorflow

import_tensorflow()

import keras
import numpy as np

import config
from viewpoint.common.cli import UserError, counted, make_parser, printable, run
from viewpoint.common.tables import read_table
from viewpoint.data.provenance import describe_known, hash_photos, read_data
from viewpoint.inference.inputs import Input, find_inputs
from viewpoint.reports.charts import heat_scale, overlay
from viewpoint.reports.pages import write_page
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.training.features import compute_heat, read_batches
from viewpoint.training.network import load_model

PICTURE_SIZE = 360  # largest width and height of a picture, in pixels


def explain(model: keras.Model, batch: np.ndarray, inputs: list[Input]) -> list[dict]:
    """What the page shows of each photo, given as model input (n, size, size, 3) too: name, file, score and panels.

    The panels are the photo, the heat map of the predicted class, and that of the label if it is another class.
    """
    probabilities = model.predict_on_batch(batch)
    predicted = probabilities.argmax(axis=1).tolist()
    # Where no label is known, the predicted class takes its place.
    true = [config.CLASSES.index(one.label) if one.label else best for one, best in zip(inputs, predicted, strict=True)]
    heats, true_heats = compute_heat(model, batch, predicted), compute_heat(model, batch, true)
    explained = []
    for row, (photo, best) in enumerate(zip(inputs, predicted, strict=True)):
        picture, score = thumbnail(photo.file, PICTURE_SIZE), float(probabilities[row, best])
        verdict = "" if not photo.label else ", right" if true[row] == best else ", wrong"
        panels = {f"true class: {photo.label}" if photo.label else "photo": picture}
        panels[f"predicted {config.CLASSES[best]} {score:.2f}{verdict}"] = overlay(picture, heats[row])
        if true[row] != best:
            panels[f"true class {photo.label} {probabilities[row, true[row]]:.2f}"] = overlay(picture, true_heats[row])
        shown = {title: data_uri(image) for title, image in panels.items()}
        explained.append({"name": photo.name, "file": str(photo.file), "score": score, "panels": shown})
    return explained


def read_mistakes(models: Path, dataset: Path, data: Path | None) -> list[Input]:
    """The photos of the test split that train.py's report lists with a wrong prediction.

    Raises UserError when there is no report, or no mistake in it.
    """
    path, test = models / "report" / "test_predictions.csv", dataset / "test.csv"
    if not path.is_file():
        raise UserError(f"{path} not found; run train.py first")
    wrong = {row["image_name"] for row in read_table(path)[1] if row["prediction"] != row["label"]}
    mistakes = [item for item in find_inputs(test, data) if item.name in wrong]
    if not mistakes:
        raise UserError(f"{path} has no mistake on the photos of {test}; name photos to explain instead")
    if len(mistakes) < len(wrong):
        gone = counted(len(wrong) - len(mistakes), "mistake")
        print(f"Left out {gone} of {path} on photos that {test} no longer has; run train.py again")
    return mistakes


def explain_inputs(model: keras.Model, inputs: list[Input], output: Path) -> tuple[int, list[str]]:
    """Write the page of the config.CONTACT_SHEET_IMAGES lowest scores: (photos, why each of the others was skipped).

    Raises UserError when none of the photos could be read.
    """
    shown: list[dict] = []
    skipped: list[str] = []
    files = [item.file for item in inputs]
    for rows, batch in read_batches(files, model.input_shape[1], skipped, "Explaining"):
        shown += explain(model, batch, [inputs[row] for row in rows])
        shown = sorted(shown, key=lambda photo: photo["score"])[: config.CONTACT_SHEET_IMAGES]
    if not shown:
        raise UserError(f"none of {counted(len(inputs), 'photo')} could be read: {skipped[0]}")
    done = len(inputs) - len(skipped)
    write_page(output, "explanations.html", photos=shown, count=done, scale=data_uri(heat_scale()))
    return done, skipped


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Show where the model looks.")
    add = parser.add_argument
    parser.add_main(
        "--images",
        type=Path,
        nargs="+",
        required=False,
        help="photos, folders, globs, or CSV files with the column image_path",
    )
    add("--mistakes", action="store_true", help="explain the mistakes on the test split")
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of model.keras and report/")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of test.csv, for --mistakes")
    add("--data", type=Path, help="folder that a CSV's paths start from; without it, the one recorded beside it")
    add("--output", type=Path, default="explanations.html", help="page to write")
    args = parser.parse_args()
    parser.refuse_unused(args, ["dataset"], args.mistakes, "--mistakes")
    if not args.images and not args.mistakes:
        parser.error("name photos to explain, or give --mistakes")
    return args


def main() -> int:
    args = parse_arguments()
    inputs = find_inputs(args.images or [], args.data)
    if args.mistakes:
        inputs += read_mistakes(args.models, args.dataset, args.data)
    data, labelled = read_data(args.models), [item.file for item in inputs if item.label]
    if data and labelled and (known := describe_known(data, hash_photos(labelled), "their scores are")):
        print(known)
    count, skipped = explain_inputs(load_model(args.models / "model.keras"), inputs, args.output)
    print(f"\n{counted(count, 'photo')} explained, {len(skipped)} skipped")
    for reason in skipped:
        print(f"  {printable(reason)}")
    print(f"Open {args.output} in a browser.")
    return int(bool(skipped))


if __name__ == "__main__":
    run(main)
