"""Which vehicles are completely photographed, each a folder or a video; and the contact sheet of test_predict.py."""

import contextlib
import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath


import config
from viewpoint.common.cli import UserError, counted
from viewpoint.common.images import ImageError
from viewpoint.common.progress import progress
from viewpoint.common.tables import write_csv
from viewpoint.common.writing import write_atomically
from viewpoint.inference.inputs import is_video
from viewpoint.inference.outputs import Prediction
from viewpoint.reports.pictures import contact_sheet, data_uri, thumbnail

NOT_THERE = "not there"
ONLY_UNSURE = "only unsure"  # in each photo that may show it, the score is below the threshold
ONLY_UNUSABLE = "only unusable"  # each photo that may show it is too dark, too bright or blurred


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
            return NOT_THERE
        result = self.best[view].result
        if result.quality:
            return f"{ONLY_UNUSABLE}: {', '.join(result.quality)}"
        return "" if result.is_good else ONLY_UNSURE

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

    def sorted(self) -> list[Vehicle]:
        """The vehicles in the order of their folders."""
        return [vehicle for _, vehicle in sorted(self.by_folder.items())]


def csv_row(vehicle: Vehicle, views: Sequence[str]) -> dict[str, str | int]:
    """A vehicle as a row: folder, photos, failed, complete, covered, missing; for each view a photo and why not."""
    missing = vehicle.missing(views)
    row: dict[str, str | int] = {
        "folder": vehicle.folder,
        "photos": vehicle.photos,
        "failed": vehicle.failed,
        "complete": "no" if missing else "yes",
        "covered": len(views) - len(missing),
        "missing": " ".join(missing),
    }
    for view in views:
        best = None if view in missing else vehicle.best[view]
        row[view] = best.name if best else ""
        row[f"{view}_score"] = f"{best.result.score:.4f}" if best else ""
        row[f"{view}_missing"] = missing.get(view, "")
    return row


def json_entry(vehicle: Vehicle, views: Sequence[str]) -> dict[str, object]:
    """A vehicle as a JSON object; a viewpoint that is missing has the photo that came closest, if any."""
    missing = vehicle.missing(views)
    entries = {}
    for view in views:
        best = vehicle.best.get(view)
        entries[view] = {
            "missing": missing.get(view),
            "photo": best.name if best else None,
            "score": round(best.result.score, 4) if best else None,
            "quality": list(best.result.quality) if best else [],
        }
    counts = {"folder": vehicle.folder, "photos": vehicle.photos, "failed": vehicle.failed}
    return {**counts, "complete": not missing, "views": entries}


def write_vehicles(vehicles: Vehicles, output: Path, threshold: float) -> None:
    """Write PREDICTIONS_per_folder.csv, .json and .html beside the predictions, and print what they say."""
    views, listed = vehicles.views, vehicles.sorted()
    path = output.with_name(f"{output.stem}_per_folder.csv")
    rows = [csv_row(vehicle, views) for vehicle in listed]
    write_csv(path, list(rows[0]), (row.values() for row in rows))
    content = {"views": views, "unknown_below": threshold, "vehicles": [json_entry(one, views) for one in listed]}
    with write_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    complete = sum(row["complete"] == "yes" for row in rows)
    asked = f"all {len(views)} viewpoints" if len(views) > 1 else views[0]
    print(f"Vehicles (folders) that show {asked}: {complete} of {len(rows)}")
    write_page(listed, views, threshold, path.with_suffix(".html"))
    print(f"{path}, .json and .html list the best photos, and what is missing and why.")


def write_page(listed: Sequence[Vehicle], views: Sequence[str], threshold: float, path: Path) -> None:
    """Write the page for people: incomplete vehicles first, at most config.VEHICLES_SHOWN. Needs Jinja2."""
    try:
        from viewpoint.reports.pages import render
    except ImportError:
        print(f"{path} was not written; it needs Jinja2 (pip install jinja2)")
        return
    by_need = sorted(listed, key=lambda vehicle: not vehicle.missing(views))[: config.VEHICLES_SHOWN]
    cards = []
    for vehicle in progress(by_need, "Page", unit="vehicle"):
        tiles = []
        for view in views:
            photo, picture = vehicle.best.get(view), ""
            with contextlib.suppress(ImageError):  # deleted since it was predicted
                picture = data_uri(thumbnail(photo.file, config.THUMBNAIL_SIZE)) if photo else ""
            tiles.append({"view": view, "missing": vehicle.why_missing(view), "photo": photo, "picture": picture})
        cards.append({"vehicle": vehicle, "tiles": tiles, "is_complete": not vehicle.missing(views)})
    with write_atomically(path) as temporary:
        page = render(
            "folders.html",
            cards=cards,
            vehicles=counted(len(listed), "vehicle"),
            complete=sum(not vehicle.missing(views) for vehicle in listed),
            left_out=len(listed) - len(cards),
            threshold=threshold,
        )
        temporary.write_text(page, encoding="utf-8")


# --- The contact sheet --------------------------------------------------------------


COLUMNS = 6  # of the contact sheet


class LeastCertain:
    """Takes predictions one by one and keeps the config.CONTACT_SHEET_IMAGES with the lowest scores."""

    def __init__(self) -> None:
        self.photos: list[Prediction] = []

    def add(self, photo: Prediction) -> None:
        """Take a prediction; photos that failed are passed over."""
        if photo.result.error is None:
            self.photos.append(photo)
        if len(self.photos) >= 2 * config.CONTACT_SHEET_IMAGES:
            self.photos = self.lowest()

    def lowest(self) -> list[Prediction]:
        """The predictions kept, lowest score first."""
        return heapq.nsmallest(config.CONTACT_SHEET_IMAGES, self.photos, key=lambda photo: photo.result.score)


def draw_predictions(photos: LeastCertain, path: Path) -> None:
    """Draw a contact sheet of the least certain predictions, lowest score first.

    The suffix of `path` decides the picture's format. Raises UserError when none of the photos exists any more.
    """
    tiles = []
    for photo in progress(photos.lowest(), "Contact sheet"):
        lines = [f"{photo.result.prediction} {photo.result.score:.2f}", photo.name]
        with contextlib.suppress(ImageError):  # deleted since it was predicted
            tiles.append((thumbnail(photo.file, config.THUMBNAIL_SIZE), lines))
    if not tiles:
        raise UserError(f"{path} was not drawn: the predicted photos no longer exist")
    with write_atomically(path) as temporary:
        contact_sheet(tiles, COLUMNS).save(temporary)
    print(f"{path} shows {counted(len(tiles), 'prediction')}, the least certain first.")
