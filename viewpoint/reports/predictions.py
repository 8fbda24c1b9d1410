"""What test_predict.py adds to its predictions on demand: a summary of folders, a picture.

Needs Pillow and tqdm only.
"""

import contextlib
import csv
from pathlib import Path, PurePosixPath

from tqdm import tqdm

import config
from common import UserError, write_atomically
from images import ImageError
from reports.pictures import contact_sheet, thumbnail
from test_predict import Prediction

VIEWPOINTS = [name for name in config.CLASSES if name != "Background"]


def summarise_folders(predictions: list[Prediction]) -> list[dict[str, str | int | float]]:
    """For each folder, sorted, the viewpoints it shows: the columns that --per-folder writes.

    folder, photos (predicted), covered (0 to 6 viewpoints), missing (their names, with
    spaces between), and for each viewpoint its photo with the best score, and that score.
    """
    folders = {}
    for prediction in sorted(predictions, key=lambda prediction: -prediction.score):
        folders.setdefault(str(PurePosixPath(prediction.name).parent), []).append(prediction)
    summaries = []
    for folder, photos in sorted(folders.items()):
        best = {}
        for prediction in photos:
            best.setdefault(prediction.prediction, prediction)
        missing = [name for name in VIEWPOINTS if name not in best]
        summary = {"folder": folder, "photos": len(photos), "covered": len(VIEWPOINTS) - len(missing)}
        summary["missing"] = " ".join(missing)
        for name in VIEWPOINTS:
            summary[name] = best[name].name if name in best else ""
            summary[f"{name}_score"] = best[name].score if name in best else ""
        summaries.append(summary)
    return summaries


def write_folder_summary(predictions: list[Prediction], path: Path) -> None:
    """Write summarise_folders() to a CSV, and print how many folders show all viewpoints."""
    summaries = summarise_folders(predictions)
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, summaries[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(summaries)
    complete = sum(not summary["missing"] for summary in summaries)
    print(f"{complete} of {len(summaries)} folders show all six viewpoints; {path} says what the others miss.")


def draw_predictions(predictions: list[Prediction], path: Path) -> None:
    """Draw a contact sheet of the config.CONTACT_SHEET_IMAGES least certain predictions, lowest score first.

    The picture's format follows from the suffix of `path`. Raises UserError when the photos have gone.
    """
    lowest = sorted(predictions, key=lambda prediction: prediction.score)[: config.CONTACT_SHEET_IMAGES]
    tiles = []
    for prediction in tqdm(lowest, "Contact sheet", unit="image"):
        lines = [f"{prediction.prediction} {prediction.score:.2f}", prediction.name]
        with contextlib.suppress(ImageError):  # gone since it was predicted
            tiles.append((thumbnail(prediction.file, config.THUMBNAIL_SIZE), lines))
    if not tiles:
        raise UserError(f"{path} was not drawn: the predicted photos are not there any more")
    with write_atomically(path) as temporary:
        contact_sheet(tiles, config.CONTACT_SHEET_COLUMNS).save(temporary)
    print(f"{len(tiles)} predictions, the least certain first, are pictured in {path}.")
