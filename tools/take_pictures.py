"""Make the pictures in docs/: each class, the review page, the report, the vehicles, the capture guide.

    make demo
    python tools/take_pictures.py              # or make pictures

Draws a car from each viewpoint, and a close-up, with the annotated parts in the colour of their vote, as
docs/viewpoints.png. Opens the pages of demo/, which make demo wrote, in a headless Chromium and writes docs/review.png,
docs/report.png and docs/vehicles.png. For docs/guide.png it serves demo's capture guide and shows it a
walk around a drawn car; this needs playwright (pip install playwright) and, the first time, npm.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Polygon
from matplotlib.typing import HashableList
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import make_demo_data
import serve_demo

import config
from viewpoint.annotations.via import read_regions
from viewpoint.common.cli import UserError, make_parser, run
from viewpoint.common.writing import write_atomically
from viewpoint.data.labeling import label_parts, part_names, votes_of_names

# Each picture: the page in the demo folder, and the size of the window in pixels.
PICTURES = {
    "review.png": ("dataset/review.html", (1280, 1000)),
    "report.png": ("models/report/index.html", (1280, 1300)),
    "vehicles.png": ("vehicles_per_folder.html", (1280, 700)),
}
PALETTE = 256  # colours of a picture; the files stay small
PHONE = (390, 844)  # the screen of the capture guide, in pixels
GAP = 24  # between its two screens, in pixels
CAR_SEED = 5  # draws one car, the same from every side
VIEWPOINTS_SEED = 11  # draws the car of viewpoints.png

# Where each class is drawn, so that a class and its mirror image are in the same row.
PLACES: list[HashableList[str]] = [
    ["FrontLeft", "Front", "FrontRight", config.BACKGROUND],
    ["Left", ".", "Right", "."],
    ["RearLeft", "Rear", "RearRight", "key"],
]

# Colours that colour-blind readers can tell apart (Okabe and Ito). A lamp votes twice: it is
# filled with the colour of its end and outlined with that of its side.
COLOURS = {"front": "#0072B2", "rear": "#D55E00", "left": "#009E73", "right": "#CC79A7"}


def draw_example(axes: plt.Axes, image: Image.Image, regions: list[make_demo_data.Region]) -> None:
    """Draw an image with its parts coloured by their votes, and its label as title."""
    axes.imshow(np.asarray(image))
    parts = read_regions(regions)
    for part in parts:
        colours = [COLOURS[vote] for vote in votes_of_names(part.names).split() if vote in COLOURS]
        fill, rim = (colours[0], colours[-1]) if colours else ("white", "white")
        for outline in part.outlines:
            axes.add_patch(Polygon(outline, facecolor=fill, alpha=0.65 if colours else 0.25))
            axes.add_patch(Polygon(outline, fill=False, edgecolor=rim, linewidth=2))
    axes.set_title(label_parts(part_names(parts)), fontsize=15)
    axes.axis("off")


def draw_viewpoints(path: Path) -> None:
    """Draw the README's picture into a PNG file: each class, with the colour of the votes in its parts."""
    places = [row for row in PLACES if row[0] in config.CLASSES]
    figure, panels = plt.subplot_mosaic(places, figsize=(14, 3 * len(places)), layout="constrained")
    for name, view in make_demo_data.views().items():
        random = np.random.default_rng(VIEWPOINTS_SEED)
        image, regions, _ = make_demo_data.draw_car(float(np.mean(view.azimuths)), random, view.heights)
        draw_example(panels[name], image, regions)
    draw_example(panels[config.BACKGROUND], *make_demo_data.draw_close_up(np.random.default_rng(VIEWPOINTS_SEED)))
    panels["key"].axis("off")
    key = [Patch(color=colour, label=f"votes {vote}") for vote, colour in COLOURS.items()]
    key.append(Patch(facecolor="white", edgecolor="grey", label="votes for nothing"))
    panels["key"].legend(handles=key, loc="center", fontsize=14, frameon=False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=60)
    plt.close(figure)


def find_chromium() -> str:
    """The command of a Chromium or Chrome. Raises UserError when there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise UserError("no Chromium found, which takes the pictures; install it")


def take_picture(chromium: str, page: Path, size: tuple[int, int]) -> Image.Image:
    """The upper part of a page, as a window of this size shows it. Raises UserError when Chromium fails."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1"]
        options += [f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}"]
        options += ["--virtual-time-budget=5000", f"--screenshot={picture}"]
        command = [chromium, *options, page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if not picture.is_file():
            raise UserError(f"Chromium took no picture of {page}: {done.stderr.strip().rpartition(chr(10))[2]}")
        with Image.open(picture) as image:
            return image.convert("RGB")


def draw_walk(seconds: float = 3) -> bytes:
    """A film of a drawn car, each view for `seconds`: 30 JPEGs a second, as Chromium's fake camera reads them."""
    film = io.BytesIO()
    views = make_demo_data.views()
    for name in config.VIEW_CIRCLE:
        photo = io.BytesIO()
        car = make_demo_data.draw_car(sum(views[name].azimuths) / 2, np.random.default_rng(CAR_SEED))[0]
        car.save(photo, "JPEG", quality=95)
        film.write(photo.getvalue() * round(30 * seconds))
    return film.getvalue()


def take_guide_picture(chromium: str, models: Path) -> Image.Image:
    """Two screens of the capture guide, as it takes a view and its summary. Raises UserError when it cannot."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("playwright not found, which operates the capture guide; pip install playwright") from error
    with tempfile.TemporaryDirectory() as folder, serve_demo.make_server(models, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        film = Path(folder) / "walk.mjpeg"
        film.write_bytes(draw_walk())
        options = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options.append(f"--use-file-for-fake-video-capture={film}")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=options)
            page = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]})
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.click("#start")
            page.get_by_text("Hold still: taking rear left").wait_for()
            page.evaluate("scrollTo(0, 0)")
            screens = [page.screenshot()]
            page.locator("#summary[open]").wait_for()
            screens.append(page.screenshot())
            browser.close()
        server.shutdown()
    picture = Image.new("RGB", (2 * PHONE[0] + GAP, PHONE[1]), "white")
    for index, screen in enumerate(screens):
        picture.paste(Image.open(io.BytesIO(screen)), (index * (PHONE[0] + GAP), 0))
    return picture


def save(image: Image.Image, path: Path) -> None:
    """Write a picture with a palette of PALETTE colours."""
    with write_atomically(path) as part:
        image.quantize(PALETTE, Image.Quantize.MAXCOVERAGE).save(part, optimize=True)


def take_pictures(demo: Path, output: Path) -> None:
    """Write viewpoints.png, all PICTURES and guide.png into `output`. Raises UserError when a page is missing."""
    draw_viewpoints(output / "viewpoints.png")
    chromium = find_chromium()
    for name, (page, size) in PICTURES.items():
        if not (demo / page).is_file():
            raise UserError(f"{demo / page} not found; run make demo first")
        save(take_picture(chromium, demo / page, size), output / name)
        print(f"{output / name} shows {demo / page}")
    save(take_guide_picture(chromium, demo / "models"), output / "guide.png")
    print(f"{output / 'guide.png'} shows {demo / 'models' / 'handoff' / 'web'}")


def main() -> None:
    parser = make_parser("Take the pictures in docs/.")
    parser.add_argument("--demo", type=Path, default="demo", help="folder that make demo wrote")
    parser.add_argument("--output", type=Path, default="docs", help="folder to write the pictures to")
    args = parser.parse_args()
    take_pictures(args.demo, args.output)


if __name__ == "__main__":
    run(main)
