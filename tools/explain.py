"""Show where the model looks: Grad-CAM heat maps over photos, as a picture for each and a contact sheet.

    python tools/explain.py photos/IMG_0001.jpg more_photos/
    python tools/explain.py --mistakes                 # of the test split

Reads models/model.keras and the photos, folders or CSVs given; with --mistakes also
dataset/test.csv and models/report/test_predictions.csv. Writes a picture for each photo to
explanations/: the photo, the heat map of the predicted class and, if the label is another class,
the heat map of the label. Also writes contact_sheet.png with the lowest scores first, at most
120 photos. The brighter an area, the more it speaks for the class.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.quiet_tensorflow import import_tensorflow

import_tensorflow()

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

import config
from viewpoint.cli import UserError, counted, printable, run
from viewpoint.files import write_atomically
from viewpoint.fingerprints import describe_known, hash_photos, read_data
from viewpoint.images import ImageError, load_image, scale, unscale
from viewpoint.inputs import Input, find_inputs
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.reports.pictures import contact_sheet

BATCH_SIZE = 16
PANEL = config.IMAGE_SIZE  # width and height of a panel of a picture, whatever the model's input
GAP = 4  # pixels between panels


def load_model(path: Path) -> keras.Model:
    """Read a model.keras. Raises UserError when it is not a model of this project with the classes of config.py."""
    try:
        model = keras.models.load_model(path)
        model.get_layer("features")
        if model.get_layer("probabilities").units != len(config.CLASSES):
            raise ValueError(f"it does not have the {len(config.CLASSES)} classes of config.py")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a model of train.py ({reason}); run train.py, or give --models") from error
    return model


def compute_heat(model: keras.Model, batch: np.ndarray, classes: list[int]) -> np.ndarray:
    """Where each image speaks for a class: float32 (n, height, width) of the last feature map, 0 to 1.

    `batch` is model input (n, size, size, 3), -1 to 1; `classes` has an index for each image.
    Source: Selvaraju et al., Grad-CAM (2017), https://arxiv.org/abs/1610.02391.
    """
    last = model.get_layer("probabilities")
    last_maps = model.get_layer("features").input
    maps = keras.Model(model.input, last_maps)(batch, training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        # The logits, because a probability near 1 hardly changes with anything.
        logits = tf.matmul(keras.Model(last_maps, last.input)(maps, training=False), last.kernel) + last.bias
        chosen = tf.reduce_sum(tf.gather(logits, classes, axis=1, batch_dims=1))
    weights = tf.reduce_mean(tape.gradient(chosen, maps), axis=(1, 2), keepdims=True)
    heat = np.maximum(tf.reduce_sum(weights * maps, axis=-1).numpy(), 0)
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An image with a heat map (height, width), 0 to 1, laid over it."""
    enlarged = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    heat = np.clip(np.asarray(enlarged), 0, 1)[..., np.newaxis]
    colours = matplotlib.colormaps["inferno"](heat[..., 0])[..., :3] * 255
    # Cold areas are dimmed rather than coloured, so that the photo can be recognised.
    blended = np.asarray(image) * (0.55 - 0.15 * heat) + colours * (0.15 + 0.45 * heat)
    return Image.fromarray(np.clip(blended, 0, 255).astype(np.uint8))


def side_by_side(panels: list[Image.Image]) -> Image.Image:
    """One picture of panels (PANEL, PANEL) next to each other."""
    picture = Image.new("RGB", (len(panels) * (PANEL + GAP) - GAP, PANEL), "white")
    for number, panel in enumerate(panels):
        picture.paste(panel, (number * (PANEL + GAP), 0))
    return picture


def explain(
    model: keras.Model, batch: np.ndarray, labels: list[str | None]
) -> list[tuple[Image.Image, list[str], float]]:
    """For each image of model input (n, size, size, 3): (its picture, the lines below it, the best score)."""
    probabilities = model.predict_on_batch(batch)
    predicted = probabilities.argmax(axis=1).tolist()
    # Where no label is known, the predicted class takes its place.
    true = [config.CLASSES.index(label) if label else best for label, best in zip(labels, predicted, strict=True)]
    heats, true_heats = compute_heat(model, batch, predicted), compute_heat(model, batch, true)
    explained = []
    for row, pixels in enumerate(unscale(batch)):
        image = Image.fromarray(pixels).resize((PANEL, PANEL), Image.Resampling.BILINEAR)
        panels = [image, overlay(image, heats[row])]
        lines = [f"{config.CLASSES[predicted[row]]} {probabilities[row, predicted[row]]:.2f}"]
        if true[row] != predicted[row]:
            panels.append(overlay(image, true_heats[row]))
            lines.append(f"label (on the right): {labels[row]} {probabilities[row, true[row]]:.2f}")
        explained.append((side_by_side(panels), lines, float(probabilities[row].max())))
    return explained


def read_mistakes(models: Path, dataset: Path, data: Path | None) -> list[Input]:
    """The photos of the test split that train.py's report lists with a wrong prediction.

    Raises UserError when there is no report, or no mistake in it.
    """
    path, test = models / "report" / "test_predictions.csv", dataset / "test.csv"
    if not path.is_file():
        raise UserError(f"{path} not found; run train.py first")
    with path.open(newline="", encoding="utf-8") as file:
        wrong = {row["image_name"] for row in csv.DictReader(file) if row["prediction"] != row["label"]}
    mistakes = [item for item in find_inputs(test, data) if item.name in wrong]
    if not mistakes:
        raise UserError(f"{path} has no mistake on the photos of {test}; name photos to explain instead")
    if len(mistakes) < len(wrong):
        gone = counted(len(wrong) - len(mistakes), "mistake")
        print(f"Left out {gone} of {path} on photos that {test} no longer has; run train.py again")
    return mistakes


def explain_inputs(model: keras.Model, inputs: list[Input], output: Path) -> tuple[int, list[str]]:
    """Write a picture for each photo, and the contact sheet: (how many, why each of the others was skipped).

    Raises UserError when none of the photos could be read.
    """
    size = model.input_shape[1]

    def read(item: Input) -> np.ndarray | ImageError:
        try:
            return load_image(item.file, size)
        except ImageError as error:
            return error

    tiles: list[tuple[float, Image.Image, list[str]]] = []
    waiting: list[tuple[Input, np.ndarray]] = []
    skipped: list[str] = []
    done = 0
    images = tqdm(map_in_order(read, inputs, cpu_count()), "Explaining", len(inputs), unit="photo")
    for number, (item, image) in enumerate(zip(inputs, images, strict=True), 1):
        if isinstance(image, ImageError):
            skipped.append(str(image))
        else:
            waiting.append((item, image))
        if waiting and (len(waiting) == BATCH_SIZE or number == len(inputs)):
            items, batch = zip(*waiting, strict=True)
            explained = explain(model, scale(np.stack(batch)), [item.label for item in items])
            for item, (picture, lines, score) in zip(items, explained, strict=True):
                done += 1
                with write_atomically(output / picture_name(done, item)) as path:
                    picture.save(path)
                picture.thumbnail((picture.width, config.THUMBNAIL_SIZE))
                tiles.append((score, picture, [*lines, str(item.file)]))
            tiles = sorted(tiles, key=lambda tile: tile[0])[: config.CONTACT_SHEET_IMAGES]
            waiting = []
    if not tiles:
        raise UserError(f"none of {counted(len(inputs), 'photo')} could be read: {skipped[0]}")
    with write_atomically(output / "contact_sheet.png") as path:
        contact_sheet([(picture, lines) for _, picture, lines in tiles], columns=2).save(path)
    return done, skipped


def picture_name(number: int, item: Input) -> str:
    """A file name in one flat folder, numbered because photos in different folders can have the same name."""
    name = item.name.replace("/", "__").encode()[-150:].decode(errors="ignore")
    return f"{number:05}_{name}.png"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Show where the model looks.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("images", type=Path, nargs="*", metavar="PHOTOS", help="photos, folders, or CSVs with the column image_path")
    add("--mistakes", action="store_true", help="explain the mistakes on the test split")
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of model.keras and report/")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of test.csv, for --mistakes")
    add("--data", type=Path, help="folder that a CSV's paths start from; None: the one recorded beside it")
    add("--output", type=Path, default="explanations", help="folder to write the pictures to")
    args = parser.parse_args()
    if not args.images and not args.mistakes:
        parser.error("name photos to explain, or give --mistakes")
    return args


def main() -> int:
    args = parse_arguments()
    inputs = [item for images in args.images for item in find_inputs(images, args.data)]
    if args.mistakes:
        inputs += read_mistakes(args.models, args.dataset, args.data)
    data, labelled = read_data(args.models), [item.file for item in inputs if item.label]
    if data and labelled and (known := describe_known(data, hash_photos(labelled), "their scores are")):
        print(known)
    count, skipped = explain_inputs(load_model(args.models / "model.keras"), inputs, args.output)
    print(f"\n{counted(count, 'photo')} explained, {len(skipped)} skipped")
    for reason in skipped:
        print(f"  {printable(reason)}")
    print(f"Open {args.output / 'contact_sheet.png'}; the picture of each photo is beside it.")
    return int(bool(skipped))


if __name__ == "__main__":
    run(main)
