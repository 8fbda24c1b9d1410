"""Make the pictures in docs/: each class, the review page, the report, the vehicles, the capture guide.

    make demo
    python tools/take_pictures.py              # or make pictures

Draws a car from each viewpoint, and a close-up, with the annotated parts in the colour of their vote, as
docs/viewpoints.png. Opens the pages of demo/, which make demo wrote, in a headless Chromium and writes docs/review.png,
docs/report.png and docs/vehicles.png. For docs/guide.png it serves demo's capture guide and shows it a
walk around a drawn car. Needs Chromium, playwright (pip install playwright) and, the first time, npm.
"""

import contextlib
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import make_demo_data
import serve_demo

import config
from viewpoint.annotations.via import read_regions
from viewpoint.common.cli import UserError, make_parser, run
from viewpoint.common.writing import write_atomically
from viewpoint.data.labeling import label_parts, part_names, votes_of_names
from viewpoint.reports.pictures import Tile, contact_sheet

# Each picture: the page in the demo folder, and the size of the window in pixels.
PICTURES = {
    "review.png": ("dataset/review.html", (1280, 800)),
    "report.png": ("models/report/index.html", (1280, 960)),
    "vehicles.png": ("vehicles_per_folder.html", (1280, 620)),
}
PALETTE = 128  # colours of a picture; the files stay small
PHONE = (390, 844)  # the screen of the capture guide, in pixels
GAP = 24  # between its two screens, in pixels
CAR_SEED = 5  # draws one car, the same from every side
VIEWPOINTS_SEED = 11  # draws the car of viewpoints.png
EXAMPLE_WIDTH = 200  # of each class in viewpoints.png, in pixels

# Colours that colour-blind readers can tell apart (Okabe and Ito). A lamp votes twice: it is
# filled with the colour of its end and outlined with that of its side.
COLOURS = {"front": "#0072B2", "rear": "#D55E00", "left": "#009E73", "right": "#CC79A7"}


def draw_example(image: Image.Image, regions: list[make_demo_data.Region]) -> Tile:
    """An image with its parts in the colours of their votes, and its label below it."""
    draw, parts = ImageDraw.Draw(image, "RGBA"), read_regions(regions)
    for part in parts:
        colours = [COLOURS[vote] for vote in votes_of_names(part.names).split() if vote in COLOURS]
        fill, rim = (f"{colours[0]}a5", colours[-1]) if colours else ("#ffffff40", "#ffffff")
        for outline in part.outlines:
            draw.polygon(outline, fill=fill, outline=rim, width=4)
    image.thumbnail((EXAMPLE_WIDTH, EXAMPLE_WIDTH))
    return Tile(image, [label_parts(part_names(parts))])


def draw_viewpoints(path: Path) -> None:
    """Draw the README's picture into a PNG file: each class, with the colour of the votes in its parts."""
    tiles = []
    for view in make_demo_data.views().values():
        random = np.random.default_rng(VIEWPOINTS_SEED)
        image, regions, _ = make_demo_data.draw_car(float(np.mean(view.azimuths)), random, view.heights)
        tiles.append(draw_example(image, regions))
    close_up = make_demo_data.draw_close_up(np.random.default_rng(VIEWPOINTS_SEED))
    tiles.insert(3, draw_example(*close_up))  # so that each view of the rear is below that of the front
    sheet = contact_sheet(tiles, 4, "Votes: front blue, rear orange, left green, right pink; white parts have none")
    save(sheet, path, Path("a drawn car"))


@contextlib.contextmanager
def open_browser(film: Path) -> Iterator[Any]:
    """A headless Chromium whose camera sees a film. Raises UserError without Chromium or playwright."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not chromium:
        raise UserError("no Chromium found, which takes the pictures; install it")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("playwright not found, which operates Chromium; pip install playwright") from error
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options.append(f"--use-file-for-fake-video-capture={film}")
        browser = playwright.chromium.launch(executable_path=chromium, args=options)
        yield browser
        browser.close()


def draw_walk(path: Path, seconds: float = 3) -> None:
    """Write a film of a drawn car, each view for `seconds`: 30 JPEGs a second, as Chromium's fake camera reads them."""
    views = make_demo_data.views()
    with path.open("wb") as film:
        for name in config.VIEW_CIRCLE:
            photo = io.BytesIO()
            car = make_demo_data.draw_car(sum(views[name].azimuths) / 2, np.random.default_rng(CAR_SEED))[0]
            car.save(photo, "JPEG", quality=95)
            film.write(photo.getvalue() * round(30 * seconds))


def take_guide_picture(browser: Any, models: Path) -> Image.Image:
    """Two screens of the capture guide, as it takes a view and its summary."""
    with serve_demo.make_server(models, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]})
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.click("#start")
        page.get_by_text("Hold still: taking rear left").wait_for()
        page.evaluate("scrollTo(0, 0)")
        screens = [page.screenshot()]
        page.locator("#summary[open]").wait_for()
        screens.append(page.screenshot())
        server.shutdown()
    picture = Image.new("RGB", (2 * PHONE[0] + GAP, PHONE[1]), "white")
    for index, screen in enumerate(screens):
        picture.paste(Image.open(io.BytesIO(screen)), (index * (PHONE[0] + GAP), 0))
    return picture


def save(image: Image.Image, path: Path, shown: Path) -> None:
    """Write a picture with a palette of PALETTE colours, and say what it shows."""
    with write_atomically(path) as part:
        image.quantize(PALETTE, dither=Image.Dither.NONE).save(part, optimize=True)
    print(f"{path} shows {shown}")


def take_pictures(demo: Path, output: Path) -> None:
    """Write viewpoints.png, all PICTURES and guide.png into `output`. Raises UserError when a page is missing."""
    for page, _ in PICTURES.values():
        if not (demo / page).is_file():
            raise UserError(f"{demo / page} not found; run make demo first")
    draw_viewpoints(output / "viewpoints.png")
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "walk.mjpeg"
        draw_walk(film)
        with open_browser(film) as browser:
            for name, (page, (width, height)) in PICTURES.items():
                window = browser.new_page(viewport={"width": width, "height": height})
                window.goto((demo / page).resolve().as_uri())
                with Image.open(io.BytesIO(window.screenshot())) as image:
                    save(image.convert("RGB"), output / name, demo / page)
            models = demo / "models"
            save(take_guide_picture(browser, models), output / "guide.png", models / "handoff" / "web")


def main() -> None:
    parser = make_parser("Take the pictures in docs/.")
    parser.add_argument("--demo", type=Path, default="demo", help="folder that make demo wrote")
    parser.add_argument("--output", type=Path, default="docs", help="folder to write the pictures to")
    args = parser.parse_args()
    take_pictures(args.demo, args.output)


if __name__ == "__main__":
    run(main)
