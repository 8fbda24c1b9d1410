"""Predict the viewpoint of photos with the TFLite model.

    python test_predict.py --images photos
    python test_predict.py --images dataset/test.csv      # with accuracy and macro F1
    python test_predict.py --images car.jpg --model models/saved_model
    python test_predict.py --images vehicles --per-folder --unknown-below 0.6

Reads an image, a folder (with its subfolders) or a CSV of data_preparation.py. Writes
predictions.csv: image_name (relative to the folder given), prediction, score; below
--unknown-below the prediction is Unknown. Until the end, the rows lie in a hidden file beside
it, from which --resume goes on. --per-folder adds predictions_per_folder.csv: which viewpoints
each folder shows, its best photo of each, and which are missing; --contact-sheet FILE a
picture of the least certain predictions. Exits with 1 when a photo that a CSV names (with
--strict, any photo) was skipped, with 2 when nothing could be predicted.

Images and folders need only ai-edge-litert, NumPy, Pillow and tqdm; a CSV needs what
data_preparation.py needs, and a SavedModel as --model needs TensorFlow.
"""

import argparse
import csv
import hashlib
import io
import os
import queue
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

import config
from common import (
    SHARE,
    UserError,
    list_files,
    map_in_order,
    printable,
    relative_name,
    remove,
    rename_when_done,
    run,
    write_atomically,
)
from images import ImageError, is_photo, load_batch, unscale

PREDICTION_COLUMNS = ["image_name", "prediction", "score"]
LABELS_NAME = "labels.txt"

# Takes float32 images (n, size, size, 3), -1 to 1; gives float32 probabilities (n, classes).
Runner = Callable[[np.ndarray], np.ndarray]


@dataclass
class Input:
    """One image to predict: its name in the output, its file, its true class if known."""

    name: str
    file: Path
    label: str | None = None


class Prediction(NamedTuple):
    """A row of the CSV: the input's name and file, the class or config.UNKNOWN, the best score (0 to 1)."""

    name: str
    file: Path
    prediction: str
    score: float


@dataclass
class Outcome:
    """What predict_images did. `labelled` holds (true, predicted) for answered inputs with a label."""

    predictions: list[Prediction] = field(default_factory=list)
    resumed: int = 0  # so many of them, the first, come from an interrupted run
    skipped: list[tuple[str, str]] = field(default_factory=list)  # (image name, reason)
    labelled: list[tuple[str, str]] = field(default_factory=list)

    def add(self, item: Input, row: list[str]) -> None:
        """Take in a row of the CSV."""
        prediction = Prediction(item.name, item.file, row[1], float(row[2]))
        self.predictions.append(prediction)
        if item.label is not None and prediction.prediction != config.UNKNOWN:
            self.labelled.append((item.label, prediction.prediction))


# --- Running a model ---------------------------------------------------------------


def load_runner(model_path: Path | str) -> tuple[Runner, int, int]:
    """Load a .tflite file, or a SavedModel folder, as (runner, image size, class count).

    Raises UserError when there is no such model or it is none of this project's shape.
    """
    model_path = Path(model_path)
    if not model_path.exists():
        raise UserError(f"{model_path} not found; run train.py and convert_tflite.py, or give --model")
    load = load_saved_model if model_path.is_dir() else load_tflite
    try:
        runner, input_shape, output_shape = load(model_path)
    # LiteRT and TensorFlow raise a dozen unrelated types on damaged files.
    except Exception as error:
        raise UserError(f"{model_path} is not a TFLite file or SavedModel folder: {error}") from error
    if len(input_shape) != 4 or input_shape[1] != input_shape[2] or input_shape[3] != 3 or len(output_shape) != 2:
        raise UserError(
            f"{model_path} maps {input_shape} to {output_shape}, not a square RGB image to classes; "
            "give a model made by this project"
        )
    return runner, int(input_shape[1]), int(output_shape[1])


def load_runners(
    model_path: Path | str, labels_path: Path | str | None, most: int
) -> tuple[list[Runner], int, list[str]]:
    """Load a model and its classes for predict_inputs: (runners, image size, class names).

    A runner for each core, but not more than `most`; only TensorFlow, which runs a
    SavedModel, uses all cores by itself. Without `labels_path`, labels.txt is taken from
    inside or beside the model. Raises UserError as load_runner and read_labels do.
    """
    runner, size, class_count = load_runner(model_path)
    labels_path = labels_path or default_labels_path(Path(model_path))
    labels = read_labels(labels_path, class_count)
    packed = packed_labels(Path(model_path))
    if packed and packed != labels:
        raise UserError(
            f"{labels_path} does not name the classes inside {model_path}, {', '.join(packed)}; "
            "use the labels.txt that was written with this model"
        )
    cores = 1 if Path(model_path).is_dir() else os.cpu_count() or 1
    return [runner, *(load_runner(model_path)[0] for _ in range(min(cores, most) - 1))], size, labels


def load_tflite(model_path: Path) -> tuple[Runner, list[int], list[int]]:
    """Load a .tflite file as (runner, input shape, output shape), batch dimension included.

    A model for 8-bit pixels gets them, and its 8-bit answers become probabilities.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model_path))
    interpreter.allocate_tensors()
    model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = []
        for image in unscale(batch) if model_input["dtype"] == np.uint8 else batch:
            interpreter.set_tensor(model_input["index"], image[np.newaxis])
            interpreter.invoke()
            probabilities.append(interpreter.get_tensor(model_output["index"])[0])
        if model_output["dtype"] == np.uint8:
            step, zero_point = model_output["quantization"]
            return (np.stack(probabilities).astype(np.float32) - zero_point) * np.float32(step)
        return np.stack(probabilities)

    return runner, list(model_input["shape"]), list(model_output["shape"])


def load_saved_model(folder: Path) -> tuple[Runner, list[int | None], list[int | None]]:
    """Load a SavedModel folder as (runner, input shape, output shape)."""
    import tensorflow as tf  # slow to import, and phones and servers have only LiteRT

    # The runner below keeps `loaded` alive, without which its variables would be freed.
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    [model_input] = serve.structured_input_signature[1].values()
    [(output_name, model_output)] = serve.structured_outputs.items()

    def runner(batch: np.ndarray) -> np.ndarray:
        return loaded.signatures["serving_default"](**{model_input.name: tf.constant(batch)})[output_name].numpy()

    return runner, model_input.shape.as_list(), model_output.shape.as_list()


def read_labels(labels_path: Path | str, class_count: int) -> list[str]:
    """Read class names, one a line, in the order of the model's outputs.

    Raises UserError when the file is missing or does not name `class_count` classes.
    """
    labels_path = Path(labels_path)
    try:
        labels = labels_path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the class names in {labels_path}: {error}; give --labels") from error
    if len(labels) != class_count:
        raise UserError(
            f"{labels_path} names {len(labels)} classes, but the model has {class_count}; "
            "use the labels.txt that was written with this model"
        )
    return labels


def packed_labels(model_path: Path) -> list[str] | None:
    """The classes in the metadata of a .tflite file, which is a zip file behind the model; None without any."""
    if not model_path.is_file() or not zipfile.is_zipfile(model_path):
        return None
    with zipfile.ZipFile(model_path) as packed:
        return packed.read(LABELS_NAME).decode().split() if LABELS_NAME in packed.namelist() else None


def default_labels_path(model_path: Path) -> Path:
    """labels.txt inside a SavedModel folder or beside a .tflite file."""
    return (model_path if model_path.is_dir() else model_path.parent) / LABELS_NAME


def with_mirror(runner: Runner, labels: list[str]) -> Runner:
    """A runner that averages the probabilities of an image and of its mirror image.

    The mirror's classes are mirrored back (config.MIRRORED_CLASS). Raises UserError for
    `labels` that have no mirror.
    """
    try:
        mirrored = [labels.index(config.MIRRORED_CLASS[name]) for name in labels]
    except (KeyError, ValueError) as error:
        raise UserError(f"cannot mirror the classes {', '.join(labels)}: {error}; predict without --tta") from error
    return lambda batch: (runner(batch) + runner(batch[:, :, ::-1])[:, mirrored]) / 2


# --- Inputs ------------------------------------------------------------------------


def find_inputs(images_path: Path | str, data_dir: Path | str | None = None) -> list[Input]:
    """List the images to predict: one file, all below a folder (sorted), or a CSV's rows.

    `data_dir` is the folder that a CSV's paths start from, as in data_preparation.read_split.
    Raises UserError when there is nothing to predict.
    """
    images_path = Path(images_path)
    if images_path.is_dir():
        inputs = [Input(relative_name(path, images_path), path) for path in list_files(images_path) if is_photo(path)]
        inputs.sort(key=lambda item: item.name)
    elif images_path.suffix.lower() == ".csv":
        from data_preparation import read_split  # pandas is slow to import; only a CSV needs it

        rows = read_split(images_path, data_dir)
        labels = rows["label"] if "label" in rows else [None] * len(rows)
        inputs = [
            Input(name, Path(file), label)
            for name, file, label in zip(rows["image_path"], rows["file"], labels, strict=True)
        ]
    elif images_path.exists():
        inputs = [Input(relative_name(images_path, images_path.parent), images_path)]
    else:
        raise UserError(f"{images_path} not found; give an image, a folder or a CSV with --images")
    if not inputs:
        raise UserError(f"no images in {images_path} (looked for {', '.join(config.IMAGE_EXTENSIONS)})")
    return inputs


# --- Predicting --------------------------------------------------------------------


def predict_images(
    model_path: Path | str,
    labels_path: Path | str | None,
    images_path: Path | str,
    output_path: Path | str,
    data_dir: Path | str | None = None,
    unknown_below: float = 0.0,
    tta: bool = False,
    all_probabilities: bool = False,
    resume: bool = False,
) -> Outcome:
    """Predict every image below `images_path` and write `output_path`, a CSV.

    Without `labels_path`, labels.txt is taken from inside or beside the model. A best score
    (0 to 1) less than `unknown_below` gives config.UNKNOWN; `tta` averages each image with its
    mirror; `all_probabilities` adds a column for each class; `resume` keeps the rows of an
    interrupted run with the same model and options. Unreadable images get no row; they are
    returned with the reason. Raises UserError when the model, its labels or the images cannot
    be found, or no image at all could be read.
    """
    inputs = find_inputs(images_path, data_dir)
    runners, size, labels = load_runners(model_path, labels_path, len(inputs))
    if tta:
        runners = [with_mirror(runner, labels) for runner in runners]
    columns = [*PREDICTION_COLUMNS, *(labels if all_probabilities else [])]
    options = [columns, labels, unknown_below, tta, Path(images_path).resolve(), data_dir]
    partial = partial_path(Path(output_path), Path(model_path), str(options))
    if partial.is_file() and not resume:
        print(f"The rows of an interrupted run, from which --resume would go on, are dropped ({partial})")
    done = read_partial(partial, columns) if resume else {}
    outcome, todo = Outcome(), []
    with write_atomically(partial) as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for item in inputs:
            if done.get(item.name):
                row = done[item.name].pop(0)
                writer.writerow(row)
                outcome.add(item, row)
            else:
                todo.append(item)
    outcome.resumed = len(outcome.predictions)
    with rename_when_done(partial, Path(output_path)), partial.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for item, probabilities in predict_inputs(runners, size, todo, outcome):
            best = int(probabilities.argmax())
            written = [f"{value:.4f}" for value in probabilities]
            prediction = labels[best] if probabilities[best] >= unknown_below else config.UNKNOWN
            row = [item.name, prediction, written[best], *(written if all_probabilities else [])]
            writer.writerow(row)
            file.flush()  # row by row, so that a killed run has lost none
            outcome.add(item, row)
        if not outcome.predictions:
            file.close()
            remove(partial)
            raise UserError(f"none of the {len(inputs)} images could be read: {outcome.skipped[0][1]}")
    return outcome


def partial_path(output_path: Path, model_path: Path, options: str) -> Path:
    """Where the rows of an unfinished run lie: beside the output, under a name for this model and these options.

    Raises UserError when `output_path` names no file, or a folder.
    """
    if not output_path.name or output_path.is_dir():
        raise UserError(f"{output_path} names no file to write; give a file name")
    content = hashlib.sha256(options.encode(errors="backslashreplace"))
    for file in sorted(model_path.rglob("*")) if model_path.is_dir() else [model_path]:
        content.update(file.read_bytes() if file.is_file() else b"")
    return output_path.with_name(f".{output_path.stem}.{content.hexdigest()[:12]}.partial{output_path.suffix}")


def read_partial(path: Path, columns: list[str]) -> dict[str, list[list[str]]]:
    """The rows of an interrupted run by image name, but for one that was cut off; {} if there is no such file."""
    if not path.is_file():
        return {}
    whole_lines = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
    done = {}
    for row in csv.reader(io.StringIO(whole_lines, newline="")):
        # A name with a line break can be cut off behind it.
        if len(row) == len(columns) and row != columns:
            done.setdefault(row[0], []).append(row)
    return done


def predict_inputs(
    runners: list[Runner], size: int, inputs: list[Input], outcome: Outcome
) -> Iterator[tuple[Input, np.ndarray]]:
    """Yield (input, probabilities) in order, with a progress bar; note unreadable ones.

    Uses a thread for each runner: Pillow and LiteRT let go of the interpreter lock while they work.
    """
    idle = queue.SimpleQueue()
    for runner in runners:
        idle.put(runner)

    def predict_one(item: Input) -> np.ndarray | ImageError:
        try:
            batch = load_batch([item.file], size)
        except ImageError as error:
            return error
        runner = idle.get()
        try:
            return runner(batch)[0]
        finally:
            idle.put(runner)

    results = tqdm(map_in_order(predict_one, inputs, len(runners)), "Predicting", len(inputs), unit="image")
    for item, result in zip(inputs, results, strict=True):
        if isinstance(result, ImageError):
            outcome.skipped.append((item.name, str(result)))
        else:
            yield item, result


def accuracy_and_macro_f1(true: list[str], predicted: list[str]) -> tuple[float, float]:
    """Accuracy and macro F1, 0 to 1, over the classes that occur in either list."""
    from sklearn.metrics import accuracy_score, f1_score  # slow to import; only labels need it

    return accuracy_score(true, predicted), f1_score(true, predicted, average="macro", zero_division=0)


# --- After the predictions ---------------------------------------------------------


def print_summary(outcome: Outcome, output_path: Path) -> None:
    """Print how many images were predicted, which were not and why, and how well."""
    print(f"\n{len(outcome.predictions)} images predicted, {len(outcome.skipped)} skipped")
    if outcome.resumed:
        print(f"{outcome.resumed} of them had been predicted before the interruption")
    for name, reason in outcome.skipped:
        print(f"  {printable(name)}: {printable(reason)}")
    unknown = sum(prediction.prediction == config.UNKNOWN for prediction in outcome.predictions)
    if unknown:
        print(f"{unknown} of them are {config.UNKNOWN}: their best score is below --unknown-below")
    if outcome.labelled:
        true, predicted = zip(*outcome.labelled, strict=True)
        accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
        print(f"Against the labels of {len(true)} answered images: ", end="")
        print(f"accuracy {accuracy:.3f}, macro F1 {macro_f1:.3f}")
    print(f"Predictions are in {output_path}.")


def picture(text: str) -> Path:
    """A picture file to write, for argparse: asked before the long work, not after."""
    if Path(text).suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise argparse.ArgumentTypeError(f"{text} must end in .jpg, .png or .webp")
    return Path(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict the viewpoint of photos.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file or SavedModel folder")
    add("--labels", type=Path, help="class names, one a line; None: labels.txt with the model")
    add("--images", type=Path, required=True, help="an image, a folder, or a CSV with the column image_path")
    add("--output", type=Path, default=config.PREDICTIONS_PATH, help="CSV file to write")
    add("--data", type=Path, help="folder a CSV's paths start from; None: the one recorded beside it")
    add("--unknown-below", type=SHARE, default=0.0, help="best score, 0 to 1, below which a photo is Unknown")
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    add("--probabilities", action="store_true", help="add a column for each class")
    add("--per-folder", action="store_true", help="also write which viewpoints each folder shows and misses")
    add("--resume", action="store_true", help="go on after an interrupted run with the same model and options")
    add("--strict", action="store_true", help="exit with 1 when an image was skipped, in a folder too")
    add("--contact-sheet", type=picture, metavar="FILE", help="also draw the least certain predictions to FILE")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    options = (args.unknown_below, args.tta, args.probabilities, args.resume)
    outcome = predict_images(args.model, args.labels, args.images, args.output, args.data, *options)
    print_summary(outcome, args.output)
    if args.per_folder or args.contact_sheet:
        # Here, so that predictions alone need four files only.
        from reports.predictions import draw_predictions, write_folder_summary
    if args.per_folder:
        write_folder_summary(outcome.predictions, args.output.with_name(f"{args.output.stem}_per_folder.csv"))
    if args.contact_sheet:
        draw_predictions(outcome.predictions, args.contact_sheet)
    # The rows of a CSV are asked for by name, what lies in a folder is not.
    return int(bool(outcome.skipped) and (args.strict or not args.images.is_dir()))


if __name__ == "__main__":
    run(main)
