"""The one road from an image file to model input.

Training, conversion, prediction and reports all use it, so the model gets exactly the input it
was validated and tested on; training images are then changed by augmentation.py.
Needs Pillow and NumPy only.
"""

import contextlib
import functools
import io
import math
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features
from PIL.TiffImagePlugin import TiffImageFile

import config
from viewpoint.common.cli import UserError
from viewpoint.common.orientation import read_orientation, turn, upright_dimensions

# The normalization of MobileNetV2's ImageNet weights (keras.applications.mobilenet_v2.preprocess_input).
PIXEL_MEAN, PIXEL_STD = 127.5, 127.5

# The chart that data_preparation.py writes, possibly into the folder of the photos.
CHART_NAME = "class_distribution.png"

# Pillow's own limit warns at one size and raises at another; open_header refuses by config.MAX_MEGAPIXELS.
Image.MAX_IMAGE_PIXELS = None

# Pillow's memory of a large image in one piece, which the system gets back at once; the threads would keep
# smaller pieces for later. Source: pillow.readthedocs.io/en/stable/reference/block_allocator.html
Image.core.set_block_size(64 << 20)

# Pillow reads many more formats; some of them, like EPS, run other programs. MPO, several JPEGs in
# one file, is read as a JPEG.
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else [])]

# The first brand in a HEIC or HEIF file, whatever its name.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")

# So many pixels of an image are converted at a time, because that takes several copies.
STRIP_PIXELS = 1 << 20
# Above this many megapixels, an image is reduced before it is resized, as JPEGs of any size are.
REDUCED_ABOVE = 50

# An image file: its path, its content, or the opened file, whose position then changes.
File = Path | str | bytes | io.BufferedReader
# What a photo can be given as: a file, a Pillow image, or pixels (height, width, 3), RGB, uint8.
Source = File | Image.Image | np.ndarray


class ImageError(UserError):
    """The image file is missing or cannot be decoded."""


def open_image(source: Source, size: int | None = None) -> Image.Image:
    """Decode an image file, its content, or an image: upright by its orientation, mode RGB, transparency on white.

    Of several pictures in one file the first counts; 16 bits a channel give the upper eight. When
    `size` is given, a JPEG is decoded at reduced scale, to no less than twice that width and height:
    much faster, with hardly a difference after resizing to `size`. So is any other image of more than
    REDUCED_ABOVE megapixels, which saves memory. Raises ImageError when the file is missing, empty,
    truncated, too large or not an image, or the array is not as Source says.
    """
    try:
        if isinstance(source, Image.Image):
            return turn(to_rgb(source), read_orientation(source))
        if isinstance(source, np.ndarray):
            return from_array(source)
        with open_header(source) as image:
            if size:
                image.draft(None, (2 * size, 2 * size))
            with DECODING.room_for(image.width * image.height / 1e6):
                return turn(to_rgb(image, size), read_orientation(image))
    # Pillow's decoders raise a dozen unrelated types for damaged files.
    except Exception as error:
        raise image_error(error, source) from error


def from_array(pixels: np.ndarray) -> Image.Image:
    """An image of these pixels. Raises ValueError when they are not uint8 (height, width, 3)."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        shape = ", ".join(map(str, pixels.shape))
        raise ValueError(f"an array of {pixels.dtype} ({shape}); give uint8 (height, width, 3), RGB, 0 to 255")
    return Image.fromarray(pixels)


def open_header(file: File) -> Image.Image:
    """Open an image file, or its content, without decoding it.

    Raises ValueError when it is too large, else what Pillow raises.
    """
    brands = brands_of(file)
    is_avif = b"avif" in brands or b"avis" in brands
    is_heic = brands.startswith(HEIC_BRANDS) and not is_avif
    if is_heic and not can_read_heic():
        raise ValueError("a HEIC photo; install pillow-heif to read it (pip install pillow-heif), or export it as JPEG")
    if "AVIF" not in FORMATS and is_avif:
        raise ValueError("an AVIF photo, which this version of Pillow cannot read; update Pillow, or export it as JPEG")
    opened = io.BytesIO(file) if isinstance(file, bytes) else file
    image = Image.open(opened, formats=[*FORMATS, "HEIF"] if is_heic else FORMATS)
    if image.width * image.height > config.MAX_MEGAPIXELS * 1e6:
        size = f"{image.width}x{image.height}"
        image.close()
        raise ValueError(f"{size} pixels are more than {config.MAX_MEGAPIXELS} megapixels (MAX_MEGAPIXELS)")
    return image


def brands_of(file: File) -> bytes:
    """The first brands of a file in the ISO base media format, which tell HEIC and AVIF; empty for any other file."""
    if isinstance(file, bytes):
        start = file[:32]
    elif isinstance(file, io.BufferedReader):
        file.seek(0)
        start = file.read(32)
    else:
        with Path(file).open("rb") as opened:
            start = opened.read(32)
    return start[8:] if start[4:8] == b"ftyp" else b""


@functools.cache
def can_read_heic() -> bool:
    """Whether the optional package pillow-heif is installed; after this call Pillow uses it."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


# --- Size ---------------------------------------------------------------------------


def stored_geometry(file: File) -> tuple[int, int, int]:
    """Width and height of the photo as it is stored in a file, and its orientation, 1 to 8 as in EXIF.

    Mostly without decoding it. Raises ImageError when the file is missing or not an image.
    """
    try:
        with open_header(file) as image:
            width, height = image.size
            if isinstance(image, TiffImageFile):  # Pillow gives the size of the upright photo
                width, height = image.tag_v2[ExifTags.Base.ImageWidth], image.tag_v2[ExifTags.Base.ImageLength]
            return width, height, read_orientation(image)
    except Exception as error:
        raise image_error(error, file) from error


def upright_size(path: Path | str) -> tuple[int, int]:
    """Width and height of the upright photo in an image file, mostly without decoding it.

    Raises ImageError when the file is missing or not an image.
    """
    return upright_dimensions(*stored_geometry(path))


# --- Decoding ----------------------------------------------------------------------


class Decoding:
    """Lets threads decode images together only while these have no more than config.MAX_MEGAPIXELS in all.

    Otherwise a few small files of very large images would fill the memory.
    """

    def __init__(self) -> None:
        self.megapixels = 0.0
        self.queue, self.changed = threading.Lock(), threading.Condition()

    @contextlib.contextmanager
    def room_for(self, megapixels: float) -> Iterator[None]:
        """Wait until there is room for an image, and hold that during the block."""
        # Who waits keeps the queue closed, so that small images do not overtake a large one for ever.
        with self.queue, self.changed:
            self.changed.wait_for(lambda: not self.megapixels or self.megapixels + megapixels <= config.MAX_MEGAPIXELS)
            self.megapixels += megapixels
        try:
            yield
        finally:
            with self.changed:
                self.megapixels -= megapixels
                self.changed.notify_all()


DECODING = Decoding()


def to_rgb(image: Image.Image, size: int | None = None) -> Image.Image:
    """The image in mode RGB, transparency on white; a very large one at reduced scale when `size` is given.

    See open_image. It is converted in strips, so that the copies that this takes are small.
    """
    image.load()
    is_large = image.width * image.height > REDUCED_ABOVE * 1e6
    factor = max(1, min(image.size) // (2 * size)) if size and is_large else 1
    if image.mode == "RGB" and not image.has_transparency_data and factor == 1:
        return image
    rgb = Image.new("RGB", (math.ceil(image.width / factor), math.ceil(image.height / factor)))
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = strip_to_rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        rgb.paste(strip.reduce(factor), (0, top // factor))
    return rgb


def strip_to_rgb(image: Image.Image) -> Image.Image:
    """A part of an image in mode RGB, transparency on white."""
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


def image_error(error: Exception, source: Source) -> ImageError:
    """The ImageError that says why an image could not be read."""
    source = Path(source.name) if isinstance(source, io.BufferedReader) else source
    name = source if isinstance(source, (Path, str)) else "the image"
    return ImageError(f"cannot read {name}: {reason_of(error, source)}")


def reason_of(error: Exception, source: Source) -> str:
    """The reason in an error about an image file, without the path, which the message already names."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnidentifiedImageError):
        is_empty = not (Path(source).stat().st_size if isinstance(source, (Path, str)) else source)
        return "an empty file" if is_empty else "not an image, or damaged at its beginning"
    return str(error).replace(f" {str(source)!r}", "") or type(error).__name__


def is_photo(path: Path) -> bool:
    """Whether a file counts as a photo: by its extension, or, without one, by its content.

    The chart of data_preparation.py, which may lie among the photos, does not count.
    """
    try:
        if not path.is_file():  # opening a pipe would wait forever
            return False
    except OSError:
        pass  # it may be a photo, and opening it will give the reason
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
