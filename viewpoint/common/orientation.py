"""How a stored photo is turned upright, and the outlines drawn on it with it. Needs Pillow only."""

import contextlib
import struct
from collections.abc import Iterable, Sequence

from PIL import ExifTags, Image

# How a viewer turns a stored image upright, by its EXIF orientation (EXIF 2.3, tag 0x0112).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UPRIGHT = 1
SHORT = 3  # EXIF's type of a 16-bit number

# Points (x, y) around a part of a photo, in pixels.
Points = tuple[tuple[float, float], ...]


def read_orientation(image: Image.Image) -> int:
    """How an image file that Pillow opened is to be turned, 1 to 8 as in EXIF; 1, upright, when it does not say.

    Only the orientation is read, so that other tags, however odd, cannot hide it.
    """
    # For a PNG this also reads what follows the pixels, so it comes first. It can raise almost any type.
    with contextlib.suppress(Exception):
        image.getexif()
    if orientation := find_orientation(image.info.get("exif")):
        return orientation
    # From XMP, PNG's text chunks or the tags of a TIFF.
    with contextlib.suppress(Exception):
        value = image.getexif().get(ExifTags.Base.Orientation)
        return next((orientation for orientation in TURNS if orientation == value), UPRIGHT)
    return UPRIGHT


def find_orientation(exif: object) -> int | None:
    """The orientation in a block of EXIF data; None without one.

    Pillow stops reading a block at a tag that points outside it. Browsers do not, and so show the photo upright.
    """
    if not isinstance(exif, bytes):
        return None
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    byte_order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if byte_order is None:
        return None
    with contextlib.suppress(struct.error):  # the block is cut off
        [start] = struct.unpack_from(f"{byte_order}L", exif, 4)
        [count] = struct.unpack_from(f"{byte_order}H", exif, start)
        for offset in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(f"{byte_order}HHLH", exif, offset)
            if tag == ExifTags.Base.Orientation and kind == SHORT and values == 1 and UPRIGHT <= value <= 8:
                return value
    return None


def turn(image: Image.Image, orientation: int) -> Image.Image:
    """A stored image turned upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def upright_dimensions(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of the upright photo, for a photo that is stored as stored_geometry says."""
    return (height, width) if orientation >= 5 else (width, height)


def turn_outlines(outlines: Sequence[Points], width: int, height: int, orientation: int) -> list[Points]:
    """The outlines of a photo's parts on the upright photo, for a photo that is stored as stored_geometry says.

    Browsers show photos upright, and annotation tools in them save what they show: such outlines are
    left as they are. Older tools show photos as stored: outlines that leave the upright photo but fit
    the stored one were drawn there and are turned with it.
    """
    points = [point for outline in outlines for point in outline]
    if fit(points, *upright_dimensions(width, height, orientation)) or not fit(points, width, height):
        return list(outlines)
    return [tuple(turn_point(x, y, width, height, orientation) for x, y in outline) for outline in outlines]


def fit(points: Iterable[tuple[float, float]], width: int, height: int) -> bool:
    """Whether points lie inside a photo of this size, give or take a pixel."""
    return all(-1 <= x <= width + 1 and -1 <= y <= height + 1 for x, y in points)


def turn_point(x: float, y: float, width: int, height: int, orientation: int) -> tuple[float, float]:
    """Where a point of a stored photo of this size is in the upright photo; (0, 0) is the corner of the first pixel."""
    if orientation in (2, 3, 7, 8):
        x = width - x
    if orientation in (3, 4, 6, 7):
        y = height - y
    return (y, x) if orientation >= 5 else (x, y)
