"""Compare two models on the same photos, as a gate before a release: is the new one really worse?

    python tools/compare.py models_old models --images dataset/test.csv

Each model is a folder of models, a .tflite file or a SavedModel folder. Prints the accuracy of both, the photos
that are newly right and newly wrong, and McNemar's exact test. Photos that one of the models was trained on
are left out, because its answers on them are too good.

Exits with 1 when the new model is significantly worse (p < 0.05), with 2 when nothing could be
compared, and with 0 otherwise. No real difference does not mean equally good: with few photos, only
large differences are significant.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.common.cli import UserError, counted, make_parser, printable, run
from viewpoint.common.metrics import compare, describe_comparison
from viewpoint.common.progress import progress
from viewpoint.data.provenance import count_known, describe_outdated, find_data, hash_photos
from viewpoint.inference.inputs import Input, find_inputs
from viewpoint.inference.model import model_path
from viewpoint.inference.predictor import Predictor

LISTED = 20  # at most so many photos are named


def leave_out_known(inputs: list[Input], models: list[Path]) -> list[Input]:
    """The photos that none of the models was trained on. Raises UserError when there are none."""
    known = [data for data in map(find_data, models) if data and data.photos]
    if not known:
        return inputs
    hashes = hash_photos(item.file for item in inputs)
    fair = [
        item
        for item, photo in zip(inputs, hashes, strict=True)
        if not any(count_known(data, [photo]) for data in known)
    ]
    if not fair:
        raise UserError("one of the models was trained on every one of these photos; give others with --images")
    if len(fair) < len(inputs):
        print(f"Left out {len(inputs) - len(fair)} of {counted(len(inputs), 'photo')}: a model was trained on them")
    return fair


def predict(model: Path, inputs: list[Input]) -> list[str | None]:
    """The class that a model gives each photo; None for a photo that could not be read."""
    results = Predictor(model).batch(item.file for item in inputs)
    return [result.best_class or None for result in progress(results, "Predicting", len(inputs))]


def print_photos(title: str, inputs: list[Input], old: list[str], new: list[str], rows: list[int]) -> None:
    """List photos on which the models differ."""
    for row in rows[:LISTED]:
        item = inputs[row]
        print(f"  {title}: {printable(item.name)}, {item.label}: {old[row]} before, {new[row]} now")
    if len(rows) > LISTED:
        print(f"  {title}: {len(rows) - LISTED} more")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Compare two models on the same photos.")
    add = parser.add_argument
    add("old", type=model_path, metavar="OLD", help="model in use: its folder, .tflite file or SavedModel folder")
    add("new", type=model_path, metavar="NEW", help="model to release, in the same way")
    parser.add_main("--images", type=Path, metavar="CSV", help="photos that neither was trained on, with labels")
    add("--data", type=Path, help="folder that the CSV's paths start from; without it, the one recorded beside it")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    for outdated in filter(None, map(describe_outdated, (args.old, args.new))):
        print(outdated)
    inputs = list(find_inputs(args.images, args.data))
    if any(item.label is None for item in inputs):
        raise UserError(f"{args.images} has no labels to compare by; give a CSV with the columns image_path and label")
    inputs = leave_out_known(inputs, [args.old, args.new])
    answers = list(zip(inputs, predict(args.old, inputs), predict(args.new, inputs), strict=True))
    readable = [(item, old, new) for item, old, new in answers if old is not None and new is not None]
    if not readable:
        raise UserError(f"none of {counted(len(inputs), 'photo')} could be read")
    if len(readable) < len(inputs):
        print(f"{counted(len(inputs) - len(readable), 'photo')} could not be read")
    kept = [item for item, _, _ in readable]
    old, new = [before for _, before, _ in readable], [now for _, _, now in readable]
    found = compare([str(item.label) for item in kept], old, new)
    print(f"\n{args.old}: accuracy {found.old_right / found.photos:.3f}")
    print(f"{args.new}: accuracy {found.new_right / found.photos:.3f}")
    print_photos("newly wrong", kept, old, new, found.newly_wrong)
    print_photos("newly right", kept, old, new, found.newly_right)
    print(f"{describe_comparison(found)}.")
    return int(found.worse)


if __name__ == "__main__":
    run(main)
