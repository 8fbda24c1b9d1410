"""The one road from an image file to model input.

Training, conversion, prediction and reports all come through here, so what the model is
served is to the bit what it was validated and tested on; training images go on from here
through augmentation.py. Needs Pillow and NumPy only.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

import config
from common import UserError

# What MobileNetV2 was trained with (keras.applications.mobilenet_v2.preprocess_input).
PIXEL_MEAN, PIXEL_STD = 127.5, 127.5


class ImageError(UserError):
    """The image file is missing or cannot be decoded."""


def open_image(path: Path | str, size: int | None = None) -> Image.Image:
    """Decode an image file: turned upright by its EXIF orientation, mode RGB.

    In full, or for a `size` to shrink it to, reduced in the JPEG decoder to no less than
    twice that width and height, which takes a fraction of the time and differs by little.
    Raises ImageError when the file is missing, empty, truncated or not an image.
    """
    try:
        with Image.open(path) as image:
            if size:
                image.draft(None, (2 * size, 2 * size))
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError as error:
        raise ImageError(f"cannot read {path}: no such file") from error
    # Pillow's decoders raise a dozen unrelated types on damaged files.
    except Exception as error:
        reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise ImageError(f"cannot read {path}: {reason}") from error


def upright_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file once it is turned upright, without decoding it.

    Raises ImageError when the file is missing or not an image.
    """
    try:
        with Image.open(path) as image:
            lies_on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[::-1] if lies_on_its_side else image.size
    except Exception as error:
        raise ImageError(f"cannot read {path}: {error}") from error


def load_image(path: Path | str, size: int = config.IMAGE_SIZE) -> np.ndarray:
    """Read an image file as uint8 of shape (size, size, 3), RGB, 0 to 255.

    Raises ImageError as open_image does.
    """
    return np.asarray(resize(open_image(path, size), size), dtype=np.uint8)


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize a whole photo, uncropped, to (size, size) with Pillow's antialiased bilinear filter."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def scale(pixels: np.ndarray) -> np.ndarray:
    """Scale uint8 pixels, 0 to 255, to the model's float32 input, -1 to 1; any shape."""
    return pixels.astype(np.float32) / np.float32(PIXEL_STD) - np.float32(PIXEL_MEAN / PIXEL_STD)


def unscale(batch: np.ndarray) -> np.ndarray:
    """The uint8 pixels, 0 to 255, that scale() made this input of."""
    return np.rint(batch * PIXEL_STD + PIXEL_MEAN).astype(np.uint8)


def load_batch(paths: Iterable[Path | str], size: int = config.IMAGE_SIZE) -> np.ndarray:
    """Read image files as model input: float32 of shape (n, size, size, 3), -1 to 1.

    Raises ImageError as open_image does.
    """
    return scale(np.stack([load_image(path, size) for path in paths]))
