"""Whether a photo is usable at all: too dark, too bright, blurred. Needs Pillow and NumPy only.

The thresholds are in config.py. What would need a vehicle detector is not told: a vehicle that is
too small, cut off or tilted. docs/predicting.md says how good the answers are.
"""

import numpy as np
from PIL import Image

import config

TOO_DARK, TOO_BRIGHT, BLURRED = "too dark", "too bright", "blurred"


def quality_reasons(image: Image.Image) -> tuple[str, ...]:
    """Why a photo is hardly usable; () when it is.

    Takes an upright image in RGB of any size. Everything is measured on a small grey copy, so that
    photos of one scene get the same answer from any camera; a blur that is invisible there is not told.
    """
    grey = small_grey(image)
    # Where there is no light, or too much, sharpness cannot be told.
    if np.count_nonzero(grey >= config.TOO_DARK_BELOW) < config.BRIGHT_SHARE * grey.size:
        return (TOO_DARK,)
    border = config.QUALITY_SIZE // 5
    # In the middle only, because a vehicle may stand before a white wall.
    centre = grey[border:-border, border:-border]
    if np.count_nonzero(centre >= config.CLIPPED_LEVEL) > config.TOO_BRIGHT_ABOVE * centre.size:
        return (TOO_BRIGHT,)
    return (BLURRED,) if blur_of(grey) > config.BLURRED_ABOVE else ()


def sharpness(image: Image.Image) -> float:
    """How sharp an image in RGB is, 0 to 1, to compare photos of one scene."""
    return 1 - blur_of(small_grey(image))


def small_grey(image: Image.Image) -> np.ndarray:
    """The grey copy of an image that is measured: float32 (config.QUALITY_SIZE, config.QUALITY_SIZE), 0 to 255."""
    size = (config.QUALITY_SIZE, config.QUALITY_SIZE)
    # reducing_gap: first by a whole factor, which is much faster.
    small = image.convert("L").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small, dtype=np.float32)


def blur_of(grey: np.ndarray) -> float:
    """How blurred an image (height, width) is in the worse one of both directions: 0 sharp, 1 blurred."""
    return max(blur(grey), blur(np.ascontiguousarray(grey.T)))


def blur(grey: np.ndarray) -> float:
    """How blurred an image (height, width) is along its columns: 0 sharp, 1 blurred.

    A sharp image loses most differences between neighbouring pixels when it is averaged over a few
    pixels, a blurred one hardly any. Source: Crete et al., The blur effect (SPIE 6492, 2007).
    """
    window = 9
    differences = np.abs(np.diff(grey, axis=0))
    # The difference of two averages that are one pixel apart is that of what leaves and what enters.
    after = np.abs(grey[window:] - grey[:-window]) / window
    before = differences[window // 2 : len(differences) - window // 2]
    lost = np.maximum(before - after, 0).sum()
    return float(1 - lost / max(before.sum(), 1e-6))
