"""What the backbone sees in photos: the values between backbone and head, 1,280 of them with MobileNetV2."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from viewpoint.common.cli import counted, printable
from viewpoint.common.images import ImageError, load_image, scale
from viewpoint.common.parallel import cpu_count, map_in_order

BATCH_SIZE = 16
REASONS_SHOWN = 5


def backbone_features(model: keras.Model, files: Sequence[Path | str], quiet: bool = False) -> np.ndarray:
    """The pooled features of photos by a model of train.py: float32 (n, channels), in the photos' order.

    A photo that cannot be read has a row of NaN, and the first few of them are printed with the reason.
    `quiet` shows no progress bar.
    """
    extractor = keras.Model(model.input, model.get_layer("features").output)
    size = model.input_shape[1]
    features = np.full((len(files), extractor.output_shape[1]), np.nan, np.float32)

    def read(file: Path | str) -> np.ndarray | ImageError:
        try:
            return load_image(file, size)
        except ImageError as error:
            return error

    waiting: dict[int, np.ndarray] = {}
    failed: list[ImageError] = []
    images = tqdm(map_in_order(read, files, cpu_count()), "Features", len(files), unit="photo", disable=quiet)
    for row, image in enumerate(images):
        if isinstance(image, ImageError):
            failed.append(image)
        else:
            waiting[row] = image
        if waiting and (len(waiting) == BATCH_SIZE or row == len(files) - 1):
            # Not predict_on_batch(), which gives every row once for each device with --devices all.
            features[list(waiting)] = extractor(scale(np.stack(list(waiting.values()))), training=False)
            waiting = {}
    if failed:
        print(f"{counted(len(failed), 'photo')} could not be read:")
        for error in failed[:REASONS_SHOWN]:
            print(f"  {printable(str(error))}")
        if len(failed) > REASONS_SHOWN:
            print(f"  ... and {len(failed) - REASONS_SHOWN} more")
    return features
