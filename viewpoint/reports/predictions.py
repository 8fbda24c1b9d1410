"""The contact sheet of test_predict.py. Needs Pillow and tqdm only."""

import contextlib
import heapq
from pathlib import Path

from tqdm import tqdm

import config
from viewpoint.common.cli import UserError, counted
from viewpoint.common.files import write_atomically
from viewpoint.common.images import ImageError
from viewpoint.inference.outputs import Prediction
from viewpoint.reports.pictures import contact_sheet, thumbnail

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
    for photo in tqdm(photos.lowest(), "Contact sheet", unit="photo"):
        lines = [f"{photo.result.prediction} {photo.result.score:.2f}", photo.name]
        with contextlib.suppress(ImageError):  # deleted since it was predicted
            tiles.append((thumbnail(photo.file, config.THUMBNAIL_SIZE), lines))
    if not tiles:
        raise UserError(f"{path} was not drawn: the predicted photos no longer exist")
    with write_atomically(path) as temporary:
        contact_sheet(tiles, COLUMNS).save(temporary)
    print(f"{path} shows {counted(len(tiles), 'prediction')}, the least certain first.")
