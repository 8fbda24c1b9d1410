"""Which vehicles are completely photographed, each a folder or a video; and the contact sheet of test_predict.py."""

import contextlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

import config
from viewpoint.common.cli import UserError, counted
from viewpoint.common.images import ImageError
from viewpoint.common.progress import progress
from viewpoint.common.tables import write_csv
from viewpoint.common.writing import write_atomically
from viewpoint.inference.inputs import is_video
from viewpoint.inference.outputs import Prediction
from viewpoint.reports.pictures import Tile, contact_sheet, data_uri, thumbnail

ROWS_SHOWN = 5000  # vehicles in the table of the page


@dataclass
class Vehicle:
    """What the photos of a folder show: for each viewpoint the photo that shows it best, if any may."""

    folder: str
    photos: int = 0
    failed: int = 0
    best: dict[str, Prediction] = field(default_factory=dict)

    def why_missing(self, view: str) -> str:
        """Why a viewpoint is missing; "" when it is there."""
        if view not in self.best:
            return "not there"
        result = self.best[view].result
        if result.quality:  # each photo that may show it is too dark, too bright or blurred
            return f"only unusable: {', '.join(result.quality)}"
        return "" if result.is_good else "only unsure"  # the scores are below the threshold

    def missing(self, views: Sequence[str]) -> dict[str, str]:
        """The viewpoints that are missing, each with the reason."""
        return {view: reason for view in views if (reason := self.why_missing(view))}


class Vehicles:
    """Takes predictions one by one and keeps only the best photo of each folder's viewpoints."""

    def __init__(self, views: Sequence[str]) -> None:
        """`views` are the viewpoints that a vehicle must have to be complete."""
        self.views = tuple(views)
        self.by_folder: dict[str, Vehicle] = {}

    def add(self, photo: Prediction) -> None:
        """Take a prediction, or a photo that failed."""
        # A video is a vehicle of its own, with its best frames as photos in it.
        folder = photo.name if is_video(Path(photo.name)) else str(PurePosixPath(photo.name).parent)
        vehicle = self.by_folder.setdefault(folder, Vehicle(folder))
        if photo.result.error is not None:
            vehicle.failed += 1
            return
        vehicle.photos += 1
        view = photo.result.best_class
        if view in self.views and (view not in vehicle.best or photo.result.rank > vehicle.best[view].result.rank):
            vehicle.best[view] = photo


def csv_row(vehicle: Vehicle, views: Sequence[str]) -> dict[str, str | int]:
    """A vehicle as a row: folder, photos, failed, complete, covered, missing; for each view a photo and why not."""
    missing = vehicle.missing(views)
    row: dict[str, str | int] = {"folder": vehicle.folder, "photos": vehicle.photos, "failed": vehicle.failed}
    row |= {"complete": "no" if missing else "yes", "covered": len(views) - len(missing), "missing": " ".join(missing)}
    for view in views:
        best = None if view in missing else vehicle.best[view]
        row |= {view: best.name if best else "", f"{view}_score": f"{best.result.score:.4f}" if best else ""}
        row[f"{view}_missing"] = missing.get(view, "")
    return row


def json_entry(vehicle: Vehicle, views: Sequence[str]) -> dict[str, object]:
    """A vehicle as a JSON object; a viewpoint that is missing has the photo that came closest, if any."""
    missing = vehicle.missing(views)
    entries = {}
    for view in views:
        best = vehicle.best.get(view)
        about = {"photo": best.name, "score": round(best.result.score, 4)} if best else {"photo": None, "score": None}
        entries[view] = {"missing": missing.get(view), **about, "quality": list(best.result.quality) if best else []}
    counts = {"folder": vehicle.folder, "photos": vehicle.photos, "failed": vehicle.failed}
    return {**counts, "complete": not missing, "views": entries}


def write_vehicles(vehicles: Vehicles, output: Path, threshold: float) -> None:
    """Write PREDICTIONS_per_folder.csv, .json and .html beside the predictions, and print what they say."""
    views, listed = vehicles.views, [vehicle for _, vehicle in sorted(vehicles.by_folder.items())]
    path = output.with_name(f"{output.stem}_per_folder.csv")
    rows = [csv_row(vehicle, views) for vehicle in listed]
    write_csv(path, list(rows[0]), (row.values() for row in rows))
    content = {"views": views, "unknown_below": threshold, "vehicles": [json_entry(one, views) for one in listed]}
    with write_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    complete = sum(row["complete"] == "yes" for row in rows)
    asked = f"all {len(views)} viewpoints" if len(views) > 1 else views[0]
    print(f"Vehicles (folders) that show {asked}: {complete} of {len(rows)}")
    write_vehicles_page(listed, views, threshold, path.with_suffix(".html"))
    print(f"{path}, .json and .html list the best photos, and what is missing and why.")


def write_vehicles_page(listed: Sequence[Vehicle], views: Sequence[str], threshold: float, path: Path) -> None:
    """Write the page for people: a table of at most ROWS_SHOWN vehicles, and photos of config.VEHICLES_SHOWN.

    Incomplete ones come first. Needs Jinja2.
    """
    try:
        from viewpoint.reports.pages import write_page
    except ImportError:
        print(f"{path} was not written; it needs Jinja2 (pip install jinja2)")
        return
    rows = sorted(((one, one.missing(views)) for one in listed), key=lambda row: not row[1])
    cards = []
    for vehicle, missing in progress(rows[: config.VEHICLES_SHOWN], "Page", unit="vehicle"):
        tiles = []
        for view in views:
            photo, picture = vehicle.best.get(view), ""
            with contextlib.suppress(ImageError):  # deleted since it was predicted
                picture = data_uri(thumbnail(photo.file, config.THUMBNAIL_SIZE)) if photo else ""
            name = photo.name.removeprefix(f"{vehicle.folder}/") if photo else ""
            tiles.append({"view": view, "missing": missing.get(view), "photo": photo, "name": name, "picture": picture})
        cards.append({"vehicle": vehicle, "tiles": tiles, "is_complete": not missing})
    write_page(
        path,
        "folders.html",
        cards=cards,
        rows=rows[:ROWS_SHOWN],
        views=len(views),
        vehicles=counted(len(rows), "vehicle"),
        complete=sum(not missing for _, missing in rows),
        left_out=len(rows) - ROWS_SHOWN,
        threshold=threshold,
    )


# --- The contact sheet --------------------------------------------------------------

COLUMNS = 6  # of the contact sheet
COLOURS = 128  # of one in PNG


class LeastCertain:
    """Takes predictions one by one and keeps the config.CONTACT_SHEET_IMAGES with the lowest scores."""

    def __init__(self) -> None:
        self.photos: list[Prediction] = []
        self.count = 0  # of all

    def add(self, photo: Prediction) -> None:
        """Take a prediction; photos that failed are passed over."""
        if photo.result.error is None:
            self.count += 1
            self.photos.append(photo)
        if len(self.photos) >= 2 * config.CONTACT_SHEET_IMAGES:
            self.photos = self.lowest()

    def lowest(self) -> list[Prediction]:
        """The predictions kept, lowest score first."""
        return heapq.nsmallest(config.CONTACT_SHEET_IMAGES, self.photos, key=lambda photo: photo.result.score)


def draw_predictions(photos: LeastCertain, path: Path) -> None:
    """Draw a contact sheet of the least certain predictions, lowest score first, those that are wrong in red.

    The suffix of `path` decides the picture's format. Raises UserError when none of the photos exists any more.
    """
    tiles = []
    for photo in progress(photos.lowest(), "Contact sheet"):
        lines = [f"{photo.result.prediction} {photo.result.score:.2f}", photo.name]
        is_wrong = photo.label is not None and photo.result.prediction not in (photo.label, config.UNKNOWN)
        if photo.label is not None:
            lines.insert(1, f"{'wrong, ' if is_wrong else ''}true: {photo.label}")
        with contextlib.suppress(ImageError):  # deleted since it was predicted
            tiles.append(Tile(thumbnail(photo.file, config.THUMBNAIL_SIZE), lines, is_wrong))
    if not tiles:
        raise UserError(f"{path} was not drawn: the predicted photos no longer exist")
    wrong = sum(tile.is_marked for tile in tiles)
    title = f"The least certain {len(tiles)} of {counted(photos.count, 'prediction')}, the lowest score first"
    sheet = contact_sheet(tiles, COLUMNS, title + (f"; {wrong} of them wrong, in red" if wrong else ""))
    with write_atomically(path) as temporary:
        if path.suffix.lower() == ".png":
            # Photos in PNG are large; with fewer colours they take a third.
            sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(temporary, optimize=True)
        else:
            sheet.save(temporary, quality=60)
    print(f"{path} shows {counted(len(tiles), 'prediction')}, the least certain first.")
