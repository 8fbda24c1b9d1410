"""Thumbnails and contact sheets. Needs only Pillow, so that test_predict.py starts fast."""

import base64
import contextlib
import importlib.util
import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from viewpoint.common.images import open_image

LINE_HEIGHT, TITLE_HEIGHT, MARGIN = 20, 40, 8
MIN_COLUMN = 160  # pixels; a class and its score must fit below a narrow photo
INK, PAPER, MARK = "#1a1a1a", "#ffffff", "#c00000"


def thumbnail(path: Path | str, size: int) -> Image.Image:
    """A photo, upright and in RGB, at most `size` pixels wide and high.

    Raises ImageError as open_image does.
    """
    image = open_image(path, size)
    image.thumbnail((size, size))
    return image


def data_uri(image: Image.Image) -> str:
    """The picture as a data: URL with WebP content, for pages that must not need a second file."""
    content = io.BytesIO()
    image.save(content, "WEBP", quality=60)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()


class Tile(NamedTuple):
    """A picture of a contact sheet with lines of text below it; a marked one has a red frame and text."""

    picture: Image.Image
    lines: Sequence[str]
    is_marked: bool = False


def contact_sheet(tiles: Sequence[Tile], columns: int, title: str) -> Image.Image:
    """One picture of all tiles, row by row, below a title.

    Lines that are longer than a column is wide are cut at their beginning because the end of a path says more.
    """
    font, title_font = load_font(14), load_font(18)
    width = max(MIN_COLUMN, *(tile.picture.width for tile in tiles)) + MARGIN
    top = max(tile.picture.height for tile in tiles)
    height = top + max(len(tile.lines) for tile in tiles) * LINE_HEIGHT + 2 * MARGIN
    sheet_width = max(min(columns, len(tiles)) * width, round(title_font.getlength(title)) + MARGIN) + MARGIN
    sheet = Image.new("RGB", (sheet_width, TITLE_HEIGHT + math.ceil(len(tiles) / columns) * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=title_font)
    for number, (picture, lines, is_marked) in enumerate(tiles):
        row, column = divmod(number, columns)
        left, base, colour = MARGIN + column * width, TITLE_HEIGHT + row * height + top, MARK if is_marked else INK
        sheet.paste(picture, (left, base - picture.height))
        if is_marked:
            frame = (left, base - picture.height, left + picture.width - 1, base - 1)
            draw.rectangle(frame, outline=MARK, width=5)
        for line_number, line in enumerate(lines):
            place = (left, base + 4 + line_number * LINE_HEIGHT)
            draw.text(place, shortened(line, width - MARGIN, font), fill=colour, font=font)
    return sheet


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which covers most alphabets, from Matplotlib or the system; or else Pillow's own font."""
    matplotlib = importlib.util.find_spec("matplotlib")  # located but not imported, which would be slow
    folder = Path(matplotlib.origin).parent / "mpl-data/fonts/ttf" if matplotlib and matplotlib.origin else Path()
    for path in (folder / "DejaVuSans.ttf", Path("DejaVuSans.ttf")):
        with contextlib.suppress(OSError):
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def shortened(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, or "..." and as much of its end as fits into `width` pixels."""
    # Without this, a line break in a file name would start a new line, and a combining accent would be a box.
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    if font.getlength(text) <= width:
        return text
    start = next((i for i in range(len(text)) if font.getlength("..." + text[i:]) <= width), len(text))
    return "..." + text[start:]
