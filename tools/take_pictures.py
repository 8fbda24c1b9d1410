"""Take the pictures of the review page, the report and the vehicles in docs/, from what make demo wrote.

    make demo
    python tools/take_pictures.py              # or make pictures, which also draws docs/viewpoints.png

Opens the pages of demo/ in a headless Chromium and writes docs/review.png, docs/report.png and
docs/vehicles.png.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.cli import UserError, run
from viewpoint.files import write_atomically

# Each picture: the page in the demo folder, and the size of the window in pixels.
PICTURES = {
    "review.png": ("dataset/review.html", (1280, 1000)),
    "report.png": ("models/report/index.html", (1280, 1300)),
    "vehicles.png": ("predictions_per_folder.html", (1340, 450)),
}
COLOURS = 256  # of a palette; the files stay small


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


def take_pictures(demo: Path, output: Path) -> None:
    """Write all PICTURES into `output`. Raises UserError when a page is missing."""
    chromium = find_chromium()
    for name, (page, size) in PICTURES.items():
        if not (demo / page).is_file():
            raise UserError(f"{demo / page} not found; run make demo first")
        image = take_picture(chromium, demo / page, size).quantize(COLOURS, Image.Quantize.MAXCOVERAGE)
        with write_atomically(output / name) as path:
            image.save(path, optimize=True)
        print(f"{output / name} shows {demo / page}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Take the pictures in docs/.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default="demo", help="folder that make demo wrote")
    parser.add_argument("--output", type=Path, default="docs", help="folder to write the pictures to")
    args = parser.parse_args()
    take_pictures(args.demo, args.output)


if __name__ == "__main__":
    run(main)
