"""What test_predict.py adds to its predictions on request: a summary of each folder, a contact sheet.

Needs Pillow and tqdm only.
"""

import contextlib
import csv
from pathlib import Path, PurePosixPath

from tqdm import tqdm

import config
from viewpoint.cli import UserError, counted
from viewpoint.files import write_atomically
from viewpoint.images import ImageError
from viewpoint.inference import Prediction
from viewpoint.labeling import VIEWPOINTS
from viewpoint.reports.pictures import contact_sheet, thumbnail


def summarize_folders(predictions: list[Prediction]) -> list[dict[str, str | int | float]]:
    """The viewpoints that each folder shows, sorted by folder: the rows that --per-folder writes.

    folder, photos (predicted), covered (how many viewpoints it shows), missing (the names of the
    others, separated by spaces), and for each viewpoint its photo with the best score, and that score.
    """
    folders: dict[str, list[Prediction]] = {}
    for prediction in sorted(predictions, key=lambda prediction: -prediction.score):
        folders.setdefault(str(PurePosixPath(prediction.name).parent), []).append(prediction)
    summaries = []
    for folder, photos in sorted(folders.items()):
        best: dict[str, Prediction] = {}
        for prediction in photos:
            best.setdefault(prediction.prediction, prediction)
        missing = [name for name in VIEWPOINTS if name not in best]
        summary: dict[str, str | int | float] = {
            "folder": folder,
            "photos": len(photos),
            "covered": len(VIEWPOINTS) - len(missing),
            "missing": " ".join(missing),
        }
        for name in VIEWPOINTS:
            summary[name] = best[name].name if name in best else ""
            summary[f"{name}_score"] = best[name].score if name in best else ""
        summaries.append(summary)
    return summaries


def write_folder_summary(predictions: list[Prediction], path: Path) -> None:
    """Write summarize_folders() to a CSV, and print how many folders show all viewpoints."""
    summaries = summarize_folders(predictions)
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(summaries[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(summaries)
    complete = sum(not summary["missing"] for summary in summaries)
    print(
        f"Folders that show all {len(VIEWPOINTS)} viewpoints: {complete} of {len(summaries)}; "
        f"{path} lists what the others miss."
    )


def draw_predictions(predictions: list[Prediction], path: Path) -> None:
    """Draw a contact sheet of the config.CONTACT_SHEET_IMAGES least certain predictions, lowest score first.

    The suffix of `path` decides the picture's format. Raises UserError when none of the photos exists any more.
    """
    lowest = sorted(predictions, key=lambda prediction: prediction.score)[: config.CONTACT_SHEET_IMAGES]
    tiles = []
    for prediction in tqdm(lowest, "Contact sheet", unit="photo"):
        lines = [f"{prediction.prediction} {prediction.score:.2f}", prediction.name]
        with contextlib.suppress(ImageError):  # deleted since it was predicted
            tiles.append((thumbnail(prediction.file, config.THUMBNAIL_SIZE), lines))
    if not tiles:
        raise UserError(f"{path} was not drawn: the predicted photos no longer exist")
    with write_atomically(path) as temporary:
        contact_sheet(tiles, config.CONTACT_SHEET_COLUMNS).save(temporary)
    print(f"{path} shows {counted(len(tiles), 'prediction')}, the least certain first.")
