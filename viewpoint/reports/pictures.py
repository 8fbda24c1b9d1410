"""Thumbnails and contact sheets. Needs only Pillow, so that test_predict.py starts fast."""

import base64
import contextlib
import importlib.util
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from viewpoint.common.images import open_image

LINE_HEIGHT, MARGIN = 20, 8
MIN_COLUMN = 160  # pixels; a class and its score must fit below a narrow photo
INK, PAPER = "#1a1a1a", "#ffffff"


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


def contact_sheet(tiles: Sequence[tuple[Image.Image, Sequence[str]]], columns: int) -> Image.Image:
    """One picture of all tiles, each a picture with lines of text below it, row by row.

    Every column is as wide as the widest picture, and at least MIN_COLUMN. Longer lines are cut at
    their beginning because the end of a path says more.
    """
    font = load_font(14)
    width = max(MIN_COLUMN, *(picture.width for picture, _ in tiles)) + MARGIN
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [
        max(picture.height for picture, _ in row) + max(len(lines) for _, lines in row) * LINE_HEIGHT + 2 * MARGIN
        for row in rows
    ]
    sheet = Image.new("RGB", (min(columns, len(tiles)) * width + MARGIN, sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        base = top + max(picture.height for picture, _ in row)
        for column, (picture, lines) in enumerate(row):
            left = MARGIN + column * width
            sheet.paste(picture, (left, base - picture.height))
            for number, line in enumerate(lines):
                draw.text(
                    (left, base + 4 + number * LINE_HEIGHT), shortened(line, width - MARGIN, font), fill=INK, font=font
                )
        top += height
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
