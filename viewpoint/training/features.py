"""What the backbone sees in photos: the values between backbone and head, 1,280 of them with MobileNetV2."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from viewpoint.common.cli import counted, printable
from viewpoint.common.images import ImageError, load_image, scale
from viewpoint.common.parallel import cpu_count, map_in_order

BATCH_SIZE = 16
REASONS_SHOWN = 5


def read_batches(
    files: Sequence[Path | str], size: int, failed: list[str], title: str, quiet: bool = False
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Photos as model input, BATCH_SIZE at a time: (their positions, float32 (n, size, size, 3), -1 to 1).

    Adds to `failed` why the others cannot be read.
    """

    def read(file: Path | str) -> np.ndarray | ImageError:
        try:
            return load_image(file, size)
        except ImageError as error:
            return error

    waiting: dict[int, np.ndarray] = {}
    images = tqdm(map_in_order(read, files, cpu_count()), title, len(files), unit="photo", disable=quiet)
    for row, image in enumerate(images):
        if isinstance(image, ImageError):
            failed.append(str(image))
        else:
            waiting[row] = image
        if waiting and (len(waiting) == BATCH_SIZE or row == len(files) - 1):
            yield list(waiting), scale(np.stack(list(waiting.values())))
            waiting = {}


def backbone_features(model: keras.Model, files: Sequence[Path | str], quiet: bool = False) -> np.ndarray:
    """The pooled features of photos by a model of train.py: float32 (n, channels), in the photos' order.

    A photo that cannot be read has a row of NaN, and the first few of them are printed with the reason.
    `quiet` shows no progress bar.
    """
    extractor = keras.Model(model.input, model.get_layer("features").output)
    features = np.full((len(files), extractor.output_shape[1]), np.nan, np.float32)
    failed: list[str] = []
    for rows, batch in read_batches(files, model.input_shape[1], failed, "Features", quiet):
        # Not predict_on_batch(), which gives every row once for each device with --devices all.
        features[rows] = extractor(batch, training=False)
    if failed:
        print(f"{counted(len(failed), 'photo')} could not be read:")
        for error in failed[:REASONS_SHOWN]:
            print(f"  {printable(error)}")
        if len(failed) > REASONS_SHOWN:
            print(f"  ... and {len(failed) - REASONS_SHOWN} more")
    return features
