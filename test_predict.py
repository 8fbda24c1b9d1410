"""Predict the viewpoint of photos and videos with a TFLite model.

    python test_predict.py car.jpg               # the answer as a sentence; --images car.jpg is the same
    python test_predict.py photos "lot 2/*.jpg"  # files, folders and globs
    python test_predict.py dataset/test.csv      # with accuracy and macro F1
    python test_predict.py vehicles --per-folder --views Front,Rear
    python test_predict.py walk_around.mp4 --best-frames frames
    find . -name "*.jpg" | python test_predict.py - --format jsonl --output - | jq .prediction

Reads photos, videos, folders with their subfolders, globs, CSV files with the column image_path or
image_name, and with - the names on standard input, one a line. docs/predicting.md says how photos
are named in the output, and what the options give.

Writes predictions.csv with the columns image_name, prediction, score, best_class and quality, for a
video a row for each stretch that shows one class, from start to end in seconds. What could not be read
is in predictions_failed.csv with the reason. Until the run is complete, its rows are in a hidden file
beside predictions.csv, from which --resume continues (videos are predicted again). A device, a pipe,
or - for standard output is written to row by row.

Exits with 0 when all went well, with 1 when a photo that was asked for by name could not be read,
and with 2 when nothing was predicted. With --strict it also exits with 1 when anything in a folder
was left out, and when the model was trained on photos of the CSV, so that its figures are too good.

Needs only ai-edge-litert, NumPy, Pillow and tqdm (requirements-predict.txt). A SavedModel as
--model also needs TensorFlow, a video PyAV, the page of --per-folder Jinja2.
"""

import argparse
import contextlib
import glob
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import config
from viewpoint.common.cli import COUNT, FRACTION, UserError, counted, make_parser, print_first, printable, run
from viewpoint.common.metrics import accuracy_and_macro_f1
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.common.writing import link_target, lock
from viewpoint.data.labeling import VIEWPOINTS
from viewpoint.data.provenance import KnownPhotos, describe_outdated, describe_seen, packed_data
from viewpoint.inference.inputs import STANDARD_INPUT, Input, is_csv, is_video, list_inputs
from viewpoint.inference.model import model_path
from viewpoint.inference.outputs import (
    FORMATS,
    STANDARD_OUTPUT,
    Answer,
    Outcome,
    Prediction,
    RowFormat,
    csv_line,
    describe_run,
    failed_path,
    is_stream,
    open_output,
)
from viewpoint.inference.predictor import Predictor

# Of everything left out for one reason, the summary shows this many names.
NAMES_SHOWN = 5

# --- Predictions -------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """How to predict and what to write, as the options of the command line say."""

    data_dir: Path | str | None = None  # the folder that names in a CSV or on standard input start from
    unknown_below: float = 0.0  # a best score (0 to 1) lower than this gives config.UNKNOWN
    tta: bool = False  # average each image with its mirror image
    all_probabilities: bool = False  # add those of each class
    resume: bool = False  # keep the rows of an interrupted run with the same model and options
    follow_links: bool = False  # also read what links that leave a folder lead to
    file_format: str = "csv"  # or "jsonl"
    best_frames: Path | None = None  # a folder for the best frame of each viewpoint of a video
    threads: int | None = None  # photos that are read at the same time; None: one for each core


def predict_images(
    model_path: Path | str,
    labels_path: Path | str | None,
    images_path: Path | str | Sequence[Path | str],
    output_path: Path | str,
    options: Options | None = None,
    on_prediction: Callable[[Prediction], None] = lambda prediction: None,
) -> Outcome:
    """Predict every photo and video of `images_path`, one path or several, and write `output_path`.

    Without `labels_path`, the class names come from the model's labels.txt or from inside the
    model. `on_prediction` is called with each photo's prediction, also when it failed, and with the best
    frames of videos. Memory does not grow with the number of names that a CSV or standard input
    gives. Raises UserError when the model, its labels or the photos cannot be found, or when no photo
    at all could be read.
    """
    options = options or Options()
    images = [images_path] if isinstance(images_path, (Path, str)) else list(images_path)
    inputs = list_inputs(images, options.data_dir, options.follow_links)
    predictor = Predictor(model_path, labels_path, options.unknown_below, options.tta)
    classes = predictor.labels if options.all_probabilities else ()
    rows = RowFormat(options.file_format, classes, bool(inputs.videos))
    outcome, known = Outcome(inputs, on_prediction), KnownPhotos(Path(model_path))
    settings = {
        "labels": ", ".join(predictor.labels),
        "unknown-below": options.unknown_below,
        "tta": options.tta,
        "images": [str(Path(path).resolve()) for path in images],
        "data": options.data_dir,
    }
    run_settings = describe_run(Path(model_path), rows, settings)
    with open_output(Path(output_path), rows, outcome, run_settings, options.resume, known) as (to_do, file, failed):
        answers = predict_all(predictor, to_do, options, known)
        for answer in progress(answers, "Predicting", len(inputs) - outcome.resumed):
            if answer.error is None:
                file.write("".join(rows.line(answer.item.name, result) for result in answer.results))
                file.flush()  # after each photo, so that a killed run loses none
            else:
                failed.write(csv_line([answer.item.name, answer.error]))
            outcome.add(answer)
        if not outcome.predicted:
            raise UserError(f"none of {inputs} could be read: {outcome.failures[0][1]}")
    return outcome


def predict_all(
    predictor: Predictor, inputs: Iterable[Input], options: Options, known: KnownPhotos
) -> Iterator[Answer]:
    """The answer for each photo and video, in order."""

    def answer(photo: Input) -> Answer:
        # What the model knows of a photo is looked up at once, while the system still has the file in memory.
        return Answer.of_photo(photo, predictor(photo.file), known)

    for are_videos, group in itertools.groupby(inputs, lambda item: is_video(item.file)):
        if are_videos:
            from viewpoint.inference.video import predict_video  # imported here so that photos alone start fast

            yield from (predict_video(predictor, item, options.best_frames) for item in group)
        else:
            yield from map_in_order(answer, group, options.threads or cpu_count())


# --- The script --------------------------------------------------------------------


def describe(photo: Prediction, unknown_below: float) -> str:
    """The answer for one photo in a sentence, with its runner-up."""
    result = photo.result
    best = f"{result.best_class} with a score of {result.score:.2f}"
    if result.prediction != config.UNKNOWN:
        answer = f"is {best}"
    elif result.score < unknown_below:
        answer = f"is {config.UNKNOWN}, because the best class, {best}, is below {unknown_below:.2f}"
    else:
        answer = f"is {config.UNKNOWN}, because nothing can be seen in it; otherwise it would be {best}"
    others = sorted((score, name) for name, score in result.probabilities.items() if name != result.best_class)
    runner_up = "; next comes {1} with {0:.2f}".format(*others[-1]) if others else ""
    quality = f" The photo is {' and '.join(result.quality)}." if result.quality else ""
    return f"{printable(photo.name)} {answer}{runner_up}.{quality}"


def print_summary(outcome: Outcome, output: Path, unknown_below: float) -> None:
    """Print how many photos were predicted, what failed and why, and how many predictions are right."""
    print(f"\n{outcome.inputs} found: {outcome.predicted} predicted, {outcome.failed} failed")
    if outcome.stretches:
        print(f"The videos show {counted(outcome.stretches, 'stretch', 'stretches')} of one class each")
    if outcome.resumed:
        print(f"{outcome.resumed} of them had been predicted before the interruption")
    for name, reason in outcome.failures + outcome.damaged:
        print(f"  {printable(name)}: {printable(reason)}")
    if outcome.failed and not is_stream(output):
        print(f"What failed is in {failed_path(output)}, each with its reason.")
    if outcome.inputs.left_out:
        print("Not read:")
    for reason, names in outcome.inputs.left_out.items():
        print(f"  {reason}: {len(names)}")
        print_first(names, NAMES_SHOWN, indent="    ")
    if outcome.unusable:
        reasons = ", ".join(f"{count} {reason}" for reason, count in outcome.unusable.most_common())
        print(f"Hardly usable photos, by the reason in the column quality: {reasons}")
    if outcome.labelled:
        true, predicted = zip(*outcome.labelled.elements(), strict=True)
        accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
        besides = f" that are not {config.UNKNOWN}" if outcome.classes[config.UNKNOWN] else ""
        print(f"On the {counted(len(true), 'labelled photo')}{besides}: ", end="")
        print(f"accuracy {accuracy:.3f}, macro F1 {macro_f1:.3f}")
    if len(outcome.inputs) == 1 and outcome.last and not outcome.stretches:
        print(describe(outcome.last, unknown_below))
    elif outcome.classes:
        print("Photos of each class:")
        for name, count in sorted(outcome.classes.items()):
            besides = "; best_class says what they would have been" if name == config.UNKNOWN else ""
            print(f"{count:>8}  {name}{besides}")
    if not is_stream(output):
        print(f"Predictions are in {output}.")


def print_known(outcome: Outcome) -> int:
    """Say when the model was trained on photos whose labels it is measured by; returns how many."""
    trained, validated = (outcome.seen[split] if outcome.labelled else 0 for split in ("train", "val"))
    if message := describe_seen(len(outcome.inputs), trained, validated):
        print(message)
    return trained


def choose_threshold(given: float | None, model: Path, wants_sure: bool) -> float:
    """The threshold to use: the one given, or where only sure photos count the model's own; says which it is."""
    if given is not None or not wants_sure:
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


def views(text: str) -> list[str]:
    """An option type for argparse: viewpoints separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in VIEWPOINTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: no such viewpoint; there are {', '.join(VIEWPOINTS)}")
    return [name for name in VIEWPOINTS if name in names]


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Predict the viewpoint of photos and videos.")
    add = parser.add_argument
    parser.add_main(
        "--images",
        nargs="+",
        help="photos, videos, folders, globs, CSV files with the column image_path or image_name, or - for names on "
        "standard input",
    )
    model = f"{config.MODELS_DIR}/model.tflite"
    add("--model", type=model_path, default=model, help=".tflite file, SavedModel folder, or folder of models")
    add("--labels", type=Path, help="file of class names; without it, labels.txt with the model, or inside it")
    add("--output", type=Path, default=config.PREDICTIONS_PATH, help="file to write; -: standard output")
    add("--format", choices=FORMATS, default=FORMATS[0], help="rows as CSV, or as a JSON object a line")
    add(
        "--data",
        type=Path,
        help="folder that names in a CSV or on standard input start from; without it, the one "
        "recorded beside the CSV, or the CSV's own",
    )
    add(
        "--unknown-below",
        type=FRACTION,
        help="best score, 0 to 1, below which a photo is Unknown; without it, none, or with "
        "--per-folder and --best-frames the one that the model suggests",
    )
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    add("--probabilities", action="store_true", help="add a column for each class")
    add("--per-folder", action="store_true", help="also write which vehicles (folders, videos) are complete")
    add("--views", type=views, default=VIEWPOINTS, help="viewpoints that --per-folder wants of a vehicle, with commas")
    add("--best-frames", type=Path, metavar="FOLDER", help="save the sharpest sure frame of each viewpoint of a video")
    add("--contact-sheet", type=picture, metavar="FILE", help="also draw the least certain predictions to FILE")
    add("--threads", type=COUNT, help="photos to read at the same time; without it, one for each usable core")
    add("--resume", action="store_true", help="continue an interrupted run with the same model and options")
    add("--follow-links", action="store_true", help="in a folder, also read what links that leave it lead to")
    add("--strict", action="store_true", help="exit with 1 also when files were left out, or photos were trained on")
    args = parser.parse_args()
    parser.refuse_unused(args, ["views"], args.per_folder, "--per-folder")
    names_photos = any(is_csv(Path(one)) or one == STANDARD_INPUT or glob.has_magic(one) for one in args.images)
    parser.refuse_unused(args, ["data"], names_photos, "a CSV file, or - for standard input")
    return args


def main() -> int:
    args = parse_arguments()
    if is_stream(args.output):
        if args.per_folder:
            raise UserError(f"--per-folder writes files beside --output, and {args.output} is not a file; give one")
        return predict_and_report(args)
    output = link_target(args.output)
    with lock(output.parent, "--output", output.name):
        return predict_and_report(args)


def predict_and_report(args: argparse.Namespace) -> int:
    """Predict, print the summary and write the reports asked for; the exit code."""
    best_frames = args.best_frames
    if args.per_folder and not best_frames:
        best_frames = args.output.with_name(f"{args.output.stem}_frames")
    reports: list[Any] = []
    if args.per_folder or args.contact_sheet:
        # Imported here so that predictions alone start fast.
        from viewpoint.reports.folders import LeastCertain, Vehicles, draw_predictions, write_vehicles

        vehicles, least_certain = Vehicles(args.views), LeastCertain()
        if args.per_folder:
            reports.append(vehicles)
        if args.contact_sheet:
            reports.append(least_certain)

    def on_prediction(photo: Prediction) -> None:
        for report in reports:
            report.add(photo)

    # When the rows go to standard output, nothing else does.
    messages = sys.stderr if str(args.output) == STANDARD_OUTPUT else sys.stdout
    with contextlib.redirect_stdout(messages):
        threshold = choose_threshold(args.unknown_below, args.model, bool(best_frames))
    options = Options(
        data_dir=args.data,
        unknown_below=threshold,
        tta=args.tta,
        all_probabilities=args.probabilities,
        resume=args.resume,
        follow_links=args.follow_links,
        file_format=args.format,
        best_frames=best_frames,
        threads=args.threads,
    )
    outcome = predict_images(args.model, args.labels, args.images, args.output, options, on_prediction)
    with contextlib.redirect_stdout(messages):
        print_summary(outcome, args.output, threshold)
        known = print_known(outcome)
        if outdated := describe_outdated(args.model):
            print(outdated)
        if args.per_folder:
            write_vehicles(vehicles, args.output, threshold)
        if args.contact_sheet:
            draw_predictions(least_certain, args.contact_sheet)
    if args.strict:
        return int(bool(outcome.failed or outcome.damaged or outcome.inputs.left_out or known))
    # Whoever names a photo wants it; a folder may hold anything.
    return int(bool(outcome.failed_named))


if __name__ == "__main__":
    run(main)
