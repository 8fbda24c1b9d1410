"""The one road from an image file to model input.

Training, conversion, prediction and reports all use it, so the model gets exactly the input it
was validated and tested on; training images are then changed by augmentation.py.
Needs Pillow and NumPy only.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, features

import config
from viewpoint.cli import UserError

# The normalization of MobileNetV2's ImageNet weights (keras.applications.mobilenet_v2.preprocess_input).
PIXEL_MEAN, PIXEL_STD = 127.5, 127.5

# The chart that data_preparation.py writes, possibly into the folder of the photos.
CHART_NAME = "class_distribution.png"

# Pillow's own limit warns at one size and raises at another; open_header refuses by config.MAX_MEGAPIXELS.
Image.MAX_IMAGE_PIXELS = None

# Pillow reads many more formats; some of them, like EPS, run other programs.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]


class ImageError(UserError):
    """The image file is missing or cannot be decoded."""


def open_image(path: Path | str, size: int | None = None) -> Image.Image:
    """Decode an image file: upright by its EXIF orientation, mode RGB, transparency on white.

    An animation gives its first frame, 16 bits a channel give the upper eight. When `size` is
    given, a JPEG is decoded at reduced scale, to no less than twice that width and height: much
    faster, with hardly a difference after resizing to `size`. Raises ImageError when the file is
    missing, empty, truncated, too large or not an image.
    """
    try:
        with open_header(path) as image:
            if size:
                image.draft(None, (2 * size, 2 * size))
            image.load()
            return to_rgb(turn_upright(image))
    # Pillow's decoders raise a dozen unrelated types for damaged files.
    except Exception as error:
        raise ImageError(f"cannot read {path}: {reason_of(error, path)}") from error


def open_header(path: Path | str) -> Image.Image:
    """Open an image file without decoding it. Raises ValueError when it is too large, else what Pillow raises."""
    if is_heic(path) and not can_read_heic():
        raise ValueError("a HEIC photo; install pillow-heif to read it (pip install pillow-heif), or export it as JPEG")
    image = Image.open(path, formats=[*FORMATS, "HEIF"] if is_heic(path) else FORMATS)
    if image.width * image.height > config.MAX_MEGAPIXELS * 1e6:
        size = f"{image.width}x{image.height}"
        image.close()
        raise ValueError(f"{size} pixels are more than {config.MAX_MEGAPIXELS} megapixels (MAX_MEGAPIXELS)")
    return image


def is_heic(path: Path | str) -> bool:
    """Whether a file's first bytes are those of HEIC or HEIF, whatever its name."""
    with Path(path).open("rb") as file:
        start = file.read(32)
    brands = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
    return start[4:8] == b"ftyp" and start[8:12] in brands and b"avif" not in start


@functools.cache
def can_read_heic() -> bool:
    """Whether the optional package pillow-heif is installed; after this call Pillow uses it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def turn_upright(image: Image.Image) -> Image.Image:
    """The image rotated by its EXIF orientation; unchanged when the EXIF data is broken."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF can raise almost any type
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode RGB."""
    if image.mode in ("I", "F"):
        raise ValueError("32 bits a pixel, whose white level is not defined; export it with 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion clips at 255
        pixels = np.asarray(image)
        greys = np.where(pixels == image.info.get("transparency", -1), 255, pixels >> 8)
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def reason_of(error: Exception, path: Path | str) -> str:
    """The reason in an error about an image file, without the path, which the message already names."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its beginning" if Path(path).stat().st_size else "an empty file"
    return str(error).replace(f" {str(path)!r}", "") or type(error).__name__


def upright_size(path: Path | str) -> tuple[int, int]:
    """Width and height of the upright photo in an image file, without decoding it.

    Raises ImageError when the file is missing or not an image.
    """
    try:
        with open_header(path) as image:
            try:
                on_its_side = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            except Exception:  # broken EXIF data, as in turn_upright
                on_its_side = False
            return image.size[::-1] if on_its_side else image.size
    except Exception as error:
        raise ImageError(f"cannot read {path}: {reason_of(error, path)}") from error


def is_photo(path: Path) -> bool:
    """Whether a file counts as a photo: by its extension, or, without one, by its content.

    The chart of data_preparation.py, which may lie among the photos, does not count.
    """
    if not path.is_file():  # opening a pipe would wait forever
        return False
    if path.suffix:
        return path.suffix.lower() in config.IMAGE_EXTENSIONS and not is_own_chart(path)
    try:
        with open_header(path):
            return True
    except Exception:  # whatever Pillow raises for a file that is not an image
        return False


def is_own_chart(path: Path) -> bool:
    """Whether a file is the class_distribution.png that data_preparation.py draws with Matplotlib."""
    if path.name != CHART_NAME:
        return False
    try:
        with open_header(path) as image:
            return str(image.info.get("Software", "")).startswith("Matplotlib")
    except Exception:  # whatever Pillow raises for a file that is not an image
        return False


def load_image(path: Path | str, size: int = config.IMAGE_SIZE) -> np.ndarray:
    """Read an image file as uint8 array (size, size, 3), RGB, 0 to 255.

    Raises ImageError as open_image does.
    """
    return np.asarray(resize(open_image(path, size), size), dtype=np.uint8)


def resize(image: Image.Image, size: int) -> Image.Image:
    """Resize a whole photo, uncropped, to (size, size) with Pillow's antialiased bilinear filter."""
    return image.resize((size, size), Image.Resampling.BILINEAR)


def scale(pixels: np.ndarray) -> np.ndarray:
    """Normalize uint8 pixels, 0 to 255, to the model's float32 input, -1 to 1; any shape."""
    return pixels.astype(np.float32) / np.float32(PIXEL_STD) - np.float32(PIXEL_MEAN / PIXEL_STD)


def unscale(batch: np.ndarray) -> np.ndarray:
    """The uint8 pixels, 0 to 255, from which scale() made this input."""
    return np.rint(batch * PIXEL_STD + PIXEL_MEAN).astype(np.uint8)


def load_batch(paths: Iterable[Path | str], size: int = config.IMAGE_SIZE) -> np.ndarray:
    """Read image files as model input: float32 of shape (n, size, size, 3), -1 to 1.

    Raises ImageError as open_image does.
    """
    return scale(np.stack([load_image(path, size) for path in paths]))
