"""The one road from an image file to model input.

Training, conversion, prediction and reports all come through here, so what the model is
served is to the bit what it was validated and tested on; training images go on from here
through augmentation.py. Needs Pillow and NumPy only.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

import config
from common import UserError

# What MobileNetV2 was trained with (keras.applications.mobilenet_v2.preprocess_input).
PIXEL_MEAN, PIXEL_STD = 127.5, 127.5


# open_image refuses by config.MAX_MEGAPIXELS, where Pillow would first warn and then refuse at other sizes.
Image.MAX_IMAGE_PIXELS = None


# Pillow reads many more; some of them, like EPS, run other programs.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


class ImageError(UserError):
    """The image file is missing or cannot be decoded."""


def open_image(path: Path | str, size: int | None = None) -> Image.Image:
    """Decode an image file: turned upright by its EXIF orientation, mode RGB, transparency on white.

    Of an animation, the first picture; of 16 bits a channel, the upper eight. In full, or for a
    `size` to shrink it to, reduced in the JPEG decoder to no less than twice that width and
    height, which takes a fraction of the time and differs by little. Raises ImageError when the
    file is missing, empty, truncated, too large or not an image.
    """
    try:
        with open_header(path) as image:
            if size:
                image.draft(None, (2 * size, 2 * size))
            image.load()
            return to_rgb(turn_upright(image))
    # Pillow's decoders raise a dozen unrelated types on damaged files.
    except Exception as error:
        raise ImageError(f"cannot read {path}: {reason_of(error, path)}") from error


def open_header(path: Path | str) -> Image.Image:
    """Open an image file without decoding it. Raises ValueError when it is too large, or what Pillow raises."""
    if is_heic(path) and not can_read_heic():
        raise ValueError("a HEIC photo; install pillow-heif to read it (pip install pillow-heif), or export it as JPEG")
    image = Image.open(path, formats=[*FORMATS, "HEIF"] if is_heic(path) else FORMATS)
    if image.width * image.height > config.MAX_MEGAPIXELS * 1e6:
        size = f"{image.width}x{image.height}"
        image.close()
        raise ValueError(f"{size} pixels are more than {config.MAX_MEGAPIXELS} megapixels (MAX_MEGAPIXELS)")
    return image


def is_heic(path: Path | str) -> bool:
    """Whether a file's first bytes say HEIC or HEIF, as iPhones write them, whatever its name."""
    with Path(path).open("rb") as file:
        start = file.read(32)
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
    return start[4:8] == b"ftyp" and start[8:12] in brands and b"avif" not in start


@functools.cache
def can_read_heic() -> bool:
    """Whether pillow-heif, which this project does not require, is installed; from then on Pillow uses it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def turn_upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation; as it is where the EXIF is broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as many types as there are ways to break it
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB."""
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, of which nobody can say what is white; export it with 8 or 16")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would make all but black white
        pixels = np.asarray(image)
        greys = np.where(pixels == image.info.get("transparency", -1), 255, pixels >> 8)
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def reason_of(error: Exception, path: Path | str) -> str:
    """What an error says of an image, without the path, which stands before it."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its beginning" if Path(path).stat().st_size else "an empty file"
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__


def upright_size(path: Path | str) -> tuple[int, int]:
    """Width and height of an image file once it is turned upright, without decoding it.

    Raises ImageError when the file is missing or not an image.
    """
    try:
        with open_header(path) as image:
            try:
                on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            except Exception:  # broken EXIF, as in turn_upright
                on_its_side = False
            return image.size[::-1] if on_its_side else image.size
    except Exception as error:
        raise ImageError(f"cannot read {path}: {reason_of(error, path)}") from error


def is_photo(path: Path) -> bool:
    """Whether a file counts as a photo: by its extension, or, without one, by its content."""
    if path.suffix or not path.is_file():  # a pipe would be waited for
        return path.suffix.lower() in config.IMAGE_EXTENSIONS and path.is_file()
    try:
        with open_header(path):
            return True
    except Exception:  # whatever Pillow makes of a file that is no image
        return False


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
