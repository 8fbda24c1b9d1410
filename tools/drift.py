"""Have the photos changed since the model was handed over? A page that says what changed, in words.

    python test_predict.py --images new_photos
    python tools/drift.py predictions.csv --data new_photos

Reads the predictions of test_predict.py (CSV or JSON lines), at most 1,000 of their photos, drawn at
random, models/model.keras, and models/reference.npz, in which train.py records what the photos of
validation and test look like: their classes, scores, quality, sizes, formats and features. Compares
both with statistical tests and writes drift.html: what changed, every comparison, and the
photos that are least like the earlier ones. Rows of videos are passed over.

Exits with 1 when anything changed beyond the limits of config.py, with 2 when nothing could be
compared, and with 0 otherwise. No change found does not mean that there is none: with few photos, only
large changes are certain.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.common.tensorflow import import_tensorflow

import_tensorflow()

import keras
import numpy as np

import config
from viewpoint.common.cli import UserError, counted, make_parser, run
from viewpoint.common.metrics import predicted_classes
from viewpoint.common.progress import progress
from viewpoint.common.tables import stream_table
from viewpoint.data.dataset import recorded_data_dir
from viewpoint.data.provenance import describe_known, hash_photos, read_data
from viewpoint.inference.outputs import STRETCH_COLUMNS
from viewpoint.reports.drift import Unusual, describe, write_drift_page
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.training.drift import Change, PhotoStatistics, compare, distances, open_photos, read_reference
from viewpoint.training.network import load_model

# Below this agreement of model.keras with the predictions, they are of another model or of other photos.
MIN_AGREEMENT = 0.7
PHOTOS_SHOWN = 24  # the page shows this many of the photos that are least like the earlier ones


class Row(NamedTuple):
    """A photo in the predictions."""

    name: str
    best_class: str
    score: float
    quality: str


def read_predictions(path: Path) -> Iterator[Row]:
    """The photos in a file of test_predict.py, as they are asked for; stretches of videos are passed over.

    Raises UserError when the file is missing, or not such a file.
    """
    for number, row in enumerate(read_objects(path), 1):
        try:
            if row.get(STRETCH_COLUMNS[0]):
                continue
            quality = row["quality"]
            reasons = quality if isinstance(quality, str) else "; ".join(quality)
            found = Row(str(row["image_name"]), row["best_class"], float(row["score"]), reasons)
            if found.best_class not in config.CLASSES or not 0 <= found.score <= 1:
                raise ValueError(f"{found.best_class} with a score of {found.score}")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"row {number} of {path} is not a prediction ({error}); give a file of test_predict.py"
            ) from error
        yield found


def read_objects(path: Path) -> Iterator[dict]:
    """The rows of a CSV or of JSON lines, told apart by how the file begins. Raises UserError as read_predictions."""
    try:
        with path.open("rb") as file:
            is_json = file.read(1) == b"{"
            file.seek(0)
            for line in file if is_json else ():
                yield json.loads(line)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; run test_predict.py first") from error
    except ValueError as error:
        raise UserError(f"{path} is not a readable file of JSON lines: {error}") from error
    if not is_json:
        yield from stream_table(path)[1]


def count_and_draw(path: Path, seed: int) -> tuple[PhotoStatistics, list[Row]]:
    """Everything in the predictions counted, and at most config.DRIFT_PHOTOS rows drawn at random.

    Memory does not grow with the number of rows, except for a number each. Raises UserError when there are none.
    Source of the drawing: Vitter, Random sampling with a reservoir (1985), algorithm R.
    """
    photos, drawn, rng = PhotoStatistics(), list[Row](), random.Random(seed)
    for number, row in enumerate(progress(read_predictions(path), "Reading", unit="row")):
        photos.add(row.best_class, row.score, row.quality)
        if number < config.DRIFT_PHOTOS:
            drawn.append(row)
        elif (place := rng.randrange(number + 1)) < config.DRIFT_PHOTOS:
            drawn[place] = row
    if not drawn:
        raise UserError(f"{path} has no photos; predict some with test_predict.py")
    return photos, drawn


def look_at(model: keras.Model, photos: PhotoStatistics, drawn: list[Row], folder: Path) -> list[Row]:
    """Add sizes, formats and features of the drawn photos, and return those that could be read.

    Raises UserError when none could, or when the model says something else of them than the predictions.
    """
    files = [folder / row.name for row in drawn]
    if not any(file.is_file() for file in files):
        raise UserError(f"{files[0]} not found; give the folder that the names of the photos start from with --data")
    readable, probabilities = open_photos(photos, model, files)
    if not readable:
        raise UserError(f"none of {counted(len(files), 'photo')} in {folder} could be read")
    rows = [drawn[index] for index in readable]
    says = predicted_classes(probabilities)
    agreement = np.mean([row.best_class == best for row, best in zip(rows, says, strict=True)])
    if agreement < MIN_AGREEMENT:
        raise UserError(
            f"model.keras gives only {agreement:.0%} of the photos the class in the predictions: these are of another "
            "model, or --data leads to other photos; run test_predict.py with this model"
        )
    return rows


def find_unusual(
    before: PhotoStatistics, now: PhotoStatistics, rows: list[Row], folder: Path
) -> tuple[list[Unusual], float]:
    """The photos least like the earlier ones, and the fraction that is less like them than 95 % of these are."""
    away = distances(now.features, before.features)
    far = float(np.mean(away > np.quantile(distances(before.features, before.features), 0.95)))
    most = np.argsort(-away)[:PHOTOS_SHOWN]
    shown = []
    for index in progress(most, "Thumbnails"):
        row, picture = rows[index], data_uri(thumbnail(folder / rows[index].name, config.THUMBNAIL_SIZE))
        shown.append(Unusual(row.name, row.best_class, row.score, float(away[index]), picture))
    return shown, far


def print_summary(changes: list[Change], before: PhotoStatistics, now: PhotoStatistics, output: Path) -> None:
    """Say what changed, and what did not."""
    opened = f"{counted(len(now), 'new photo')}, {len(now.files)} of them opened"
    print(f"\n{opened}, against {len(before)} that the model did not learn from")
    for sentence in describe(changes, before, now):
        print(f"  {sentence}")
    unchanged = [change.what for change in changes if not change.is_drift]
    if unchanged:
        print(f"No change found of: {', '.join(unchanged)}")
    print(f"{output} shows every comparison, and the photos that are least like the earlier ones.")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Have the photos changed since the model was handed over?")
    add = parser.add_argument
    parser.add_main("--predictions", type=Path, help="file that test_predict.py wrote, CSV or JSON lines")
    add("--models", "--against", type=Path, default=config.MODELS_DIR, help="folder of model.keras to compare with")
    add(
        "--data",
        type=Path,
        help="folder that the names in PREDICTIONS start from; without it, the one recorded beside it, or its own",
    )
    add("--output", type=Path, default="drift.html", help="page to write")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    data = read_data(args.models)
    before = read_reference(args.models, data.training if data else None)
    model = load_model(args.models / "model.keras")
    now, drawn = count_and_draw(args.predictions, config.SEED)
    folder = args.data or recorded_data_dir(args.predictions.parent)
    rows = look_at(model, now, drawn, folder)
    if data and (known := describe_known(data, hash_photos(folder / row.name for row in rows), "their scores are")):
        print(known)
    changes = compare(before, now)
    unusual, far = find_unusual(before, now, rows, folder)
    write_drift_page(args.output, changes, before, now, unusual, far)
    print_summary(changes, before, now, args.output)
    return int(any(change.is_drift for change in changes))


if __name__ == "__main__":
    run(main)
