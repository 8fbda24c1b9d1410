"""Predict the viewpoint of photos with a TFLite model.

    python test_predict.py --images photos
    python test_predict.py --images dataset/test.csv      # with accuracy and macro F1
    python test_predict.py --images car.jpg --model models/saved_model
    python test_predict.py --images vehicles --per-folder --unknown-below 0.6

Reads a photo, a folder with its subfolders, or a CSV such as those of data_preparation.py. In a
folder, links that leave it are followed only with --follow-links, and what systems and other
programs leave there (._*, @eaDir and the like) is passed over; the summary lists what was.
Writes predictions.csv with the columns image_name (relative to the folder), prediction and
score; a score lower than --unknown-below makes the prediction Unknown. Until the run is
complete, its rows are in a hidden file beside predictions.csv, from which --resume continues.

--per-folder also writes predictions_per_folder.csv: the viewpoints that each folder shows, the
best photo of each, and the viewpoints that are missing. --contact-sheet FILE draws a picture of
the least certain predictions.

Exits with 0 when all went well, with 1 when a photo that a CSV names could not be read, and with
2 when nothing was predicted. With --strict it also exits with 1 when anything in a folder was left
out, and when the model was trained on photos of the CSV, so that its figures are too good.

Needs only ai-edge-litert, NumPy, Pillow and tqdm (requirements-predict.txt). A SavedModel as
--model also needs TensorFlow.
"""

import argparse
import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import config
from viewpoint.cli import FRACTION, UserError, counted, printable, run
from viewpoint.files import remove, rename_when_done, write_atomically
from viewpoint.fingerprints import count_known, describe_known, describe_outdated, find_data, hash_photos, packed_data
from viewpoint.inference import (
    PREDICTION_COLUMNS,
    Input,
    Outcome,
    list_inputs,
    load_runners,
    predict_inputs,
    with_mirror,
)
from viewpoint.metrics import accuracy_and_macro_f1

# Of everything left out for one reason, the summary shows this many names.
NAMES_SHOWN = 5

# --- Predictions -------------------------------------------------------------------


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
    follow_links: bool = False,
) -> Outcome:
    """Predict every photo of `images_path` and write `output_path`, a CSV.

    Without `labels_path`, the class names come from the model's labels.txt or from inside the
    model. A best score (0 to 1) lower than `unknown_below` gives config.UNKNOWN; `tta` averages
    each image with its mirror image; `all_probabilities` adds a column for each class; `resume`
    keeps the rows of an interrupted run with the same model and options; `follow_links` also reads
    what links that leave a folder lead to. Unreadable photos get no row; they are returned with the
    reason, as is what was not read in a folder. Raises UserError when the model, its labels or the
    photos cannot be found, or when no photo at all could be read.
    """
    inputs, left_out = list_inputs(images_path, data_dir, follow_links)
    runners, size, labels = load_runners(model_path, labels_path, len(inputs))
    if tta:
        runners = [with_mirror(runner, labels) for runner in runners]
    columns = [*PREDICTION_COLUMNS, *(labels if all_probabilities else [])]
    options = [columns, labels, unknown_below, tta, Path(images_path).resolve(), data_dir]
    partial = partial_path(Path(output_path), Path(model_path), str(options))
    outcome = Outcome(left_out=left_out)
    todo = start_partial(partial, columns, inputs, resume, outcome)
    with rename_when_done(partial, Path(output_path)), partial.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for item, probabilities in predict_inputs(runners, size, todo, outcome):
            row = make_row(item.name, probabilities, labels, unknown_below, all_probabilities)
            writer.writerow(row)
            file.flush()  # after each row, so that a killed run loses none
            outcome.add(item, row)
        if not outcome.predictions:
            file.close()
            remove(partial)
            reason = outcome.skipped[0][1]
            raise UserError(f"none of {counted(len(inputs), 'photo')} could be read: {reason}")
    return outcome


def make_row(
    name: str, probabilities: np.ndarray, labels: Sequence[str], unknown_below: float, all_probabilities: bool
) -> list[str]:
    """The row of the CSV for a photo with these probabilities (classes,)."""
    best = int(probabilities.argmax())
    written = [f"{value:.4f}" for value in probabilities]
    prediction = labels[best] if probabilities[best] >= unknown_below else config.UNKNOWN
    return [name, prediction, written[best], *(written if all_probabilities else [])]


# --- Interrupted runs --------------------------------------------------------------


def partial_path(output_path: Path, model_path: Path, options: str) -> Path:
    """The file for the rows of an unfinished run: beside the output, with a name for this model and these options.

    Raises UserError when `output_path` is a folder or does not name a file.
    """
    if not output_path.name or output_path.is_dir():
        raise UserError(f"{output_path} names no file to write; give a file name")
    content = hashlib.sha256(options.encode(errors="backslashreplace"))
    for file in sorted(model_path.rglob("*")) if model_path.is_dir() else [model_path]:
        content.update(file.read_bytes() if file.is_file() else b"")
    return output_path.with_name(f".{output_path.stem}.{content.hexdigest()[:12]}.partial{output_path.suffix}")


def start_partial(
    partial: Path, columns: list[str], inputs: list[Input], resume: bool, outcome: Outcome
) -> list[Input]:
    """Write the header and, with `resume`, the rows of the interrupted run; return the inputs without a row.

    The inputs that have a row are added to `outcome`.
    """
    if partial.is_file() and not resume:
        print(f"Dropping the rows of an interrupted run, which --resume would have continued ({partial})")
    done = read_partial(partial, columns) if resume else {}
    todo = []
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
    return todo


def read_partial(path: Path, columns: list[str]) -> dict[str, list[list[str]]]:
    """The complete rows of an interrupted run by photo name; {} if there is no such file."""
    if not path.is_file():
        return {}
    whole_lines = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
    done: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO(whole_lines, newline="")):
        # A row is also cut off when the run was killed after a line break inside a photo's name.
        if len(row) == len(columns) and row != columns:
            done.setdefault(row[0], []).append(row)
    return done


# --- The script --------------------------------------------------------------------


def print_summary(outcome: Outcome, output_path: Path) -> None:
    """Print how many photos were predicted, what was skipped and why, and how many predictions are right."""
    print(f"\n{counted(len(outcome.predictions) + len(outcome.skipped), 'photo')} found:")
    print(f"{counted(len(outcome.predictions), 'photo')} predicted, {len(outcome.skipped)} skipped")
    if outcome.resumed:
        print(f"{outcome.resumed} of them had been predicted before the interruption")
    for name, reason in outcome.skipped:
        print(f"  {printable(name)}: {printable(reason)}")
    if outcome.left_out:
        print("Not read:")
    for reason, names in outcome.left_out.items():
        print(f"  {reason}: {len(names)}")
        for name in names[:NAMES_SHOWN]:
            print(f"    {name}")
        if len(names) > NAMES_SHOWN:
            print(f"    ... and {len(names) - NAMES_SHOWN} more")
    unknown = sum(prediction.prediction == config.UNKNOWN for prediction in outcome.predictions)
    if unknown:
        print(f"{config.UNKNOWN}, because the best score is lower than the threshold: {counted(unknown, 'photo')}")
    if outcome.labelled:
        true, predicted = zip(*outcome.labelled, strict=True)
        accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
        besides = f" that are not {config.UNKNOWN}" if unknown else ""
        print(f"On the {counted(len(true), 'labelled photo')}{besides}: ", end="")
        print(f"accuracy {accuracy:.3f}, macro F1 {macro_f1:.3f}")
    print(f"Predictions are in {output_path}.")


def print_known(model: Path, outcome: Outcome) -> int:
    """Say when the model was trained on photos whose labels it is measured by; returns how many."""
    data = find_data(model) if outcome.labelled else None
    if not data or not data.photos:
        return 0
    hashes = hash_photos(prediction.file for prediction in outcome.predictions)
    if message := describe_known(data, hashes):
        print(message)
    return count_known(data, hashes)


def choose_threshold(given: float | None, model: Path, per_folder: bool) -> float:
    """The threshold to use: the one given, or for a summary of folders the model's own; says which it is."""
    if given is not None or not per_folder:
        return given or 0.0
    data = packed_data(model)
    if data is None or not data.threshold:
        return 0.0
    print(f"Below a score of {data.threshold:.2f}, which the model suggests, photos are {config.UNKNOWN}; ", end="")
    print("--unknown-below sets another threshold, 0 none")
    return data.threshold


def picture(text: str) -> Path:
    """An option type for argparse: a picture file to write, checked before the long work."""
    if Path(text).suffix.lower() not in (".jpg", ".jpeg", ".png", ".webp"):
        raise argparse.ArgumentTypeError(f"{text} must end in .jpg, .png or .webp")
    return Path(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict the viewpoint of photos.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=Path, required=True, help="a photo, a folder, or a CSV with the column image_path")
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file or SavedModel folder")
    add("--labels", type=Path, help="file of class names; None: labels.txt with the model, or inside it")
    add("--output", type=Path, default=config.PREDICTIONS_PATH, help="CSV file to write")
    add("--data", type=Path, help="folder that a CSV's paths start from; None: the one recorded beside it")
    add(
        "--unknown-below",
        type=FRACTION,
        help="best score, 0 to 1, below which a photo is Unknown; None: none, or with "
        "--per-folder the one that the model suggests",
    )
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    add("--probabilities", action="store_true", help="add a column for each class")
    add("--per-folder", action="store_true", help="also write which viewpoints each folder shows and misses")
    add("--contact-sheet", type=picture, metavar="FILE", help="also draw the least certain predictions to FILE")
    add("--resume", action="store_true", help="continue an interrupted run with the same model and options")
    add("--follow-links", action="store_true", help="in a folder, also read what links that leave it lead to")
    add(
        "--strict",
        action="store_true",
        help="exit with 1 also when anything in a folder was left out, or photos of a CSV were trained on",
    )
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    threshold = choose_threshold(args.unknown_below, args.model, args.per_folder)
    options = (threshold, args.tta, args.probabilities, args.resume, args.follow_links)
    outcome = predict_images(args.model, args.labels, args.images, args.output, args.data, *options)
    print_summary(outcome, args.output)
    known = print_known(args.model, outcome)
    if outdated := describe_outdated(args.model):
        print(outdated)
    if args.per_folder or args.contact_sheet:
        # Imported here so that predictions alone start fast.
        from viewpoint.reports.predictions import draw_predictions, write_folder_summary

        if args.per_folder:
            write_folder_summary(outcome.predictions, args.output.with_name(f"{args.output.stem}_per_folder.csv"))
        if args.contact_sheet:
            draw_predictions(outcome.predictions, args.contact_sheet)
    if args.strict:
        return int(bool(outcome.skipped or outcome.left_out or known))
    # A CSV names the photos that it wants; a folder may hold anything.
    return int(bool(outcome.skipped) and not args.images.is_dir())


if __name__ == "__main__":
    run(main)
