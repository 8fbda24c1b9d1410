"""Draw the README's picture: each class with the parts that vote for it.

    python tools/draw_viewpoints.py --output docs/viewpoints.png

Draws a car from each viewpoint and a close-up, with the annotated parts filled with the colour of
their vote.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Polygon
from matplotlib.typing import HashableList
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from make_demo_data import Region, draw_car, draw_close_up, views

import config
from viewpoint.annotations.via import read_regions
from viewpoint.common.cli import SEED, make_parser, run
from viewpoint.common.files import write_atomically
from viewpoint.data.labeling import label_parts, part_names, votes_of_names

# Where each class is drawn, so that a class and its mirror image are in the same row.
PLACES: list[HashableList[str]] = [
    ["FrontLeft", "Front", "FrontRight", config.BACKGROUND],
    ["Left", ".", "Right", "."],
    ["RearLeft", "Rear", "RearRight", "key"],
]

# Colours that colour-blind readers can tell apart (Okabe and Ito). A lamp votes twice: it is
# filled with the colour of its end and outlined with that of its side.
COLOURS = {"front": "#0072B2", "rear": "#D55E00", "left": "#009E73", "right": "#CC79A7"}


def draw_example(axes: plt.Axes, image: Image.Image, regions: list[Region]) -> None:
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


def draw_viewpoints(path: Path, seed: int) -> None:
    """Draw the picture into a PNG file."""
    places = [row for row in PLACES if row[0] in config.CLASSES]
    figure, panels = plt.subplot_mosaic(places, figsize=(14, 3 * len(places)), layout="constrained")
    for name, view in views().items():
        random = np.random.default_rng(seed)
        image, regions, _ = draw_car(float(np.mean(view.azimuths)), random, view.heights)
        draw_example(panels[name], image, regions)
    draw_example(panels[config.BACKGROUND], *draw_close_up(np.random.default_rng(seed)))
    panels["key"].axis("off")
    key = [Patch(color=colour, label=f"votes {vote}") for vote, colour in COLOURS.items()]
    key.append(Patch(facecolor="white", edgecolor="grey", label="votes for nothing"))
    panels["key"].legend(handles=key, loc="center", fontsize=14, frameon=False)
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=60)
    plt.close(figure)


def main() -> None:
    parser = make_parser("Draw each class with its votes.")
    parser.add_argument("--output", type=Path, default="docs/viewpoints.png", help="PNG file to write")
    parser.add_argument("--seed", type=SEED, default=11, help="seed of the cars")
    args = parser.parse_args()
    draw_viewpoints(args.output, args.seed)
    print(f"Drew {args.output}.")


if __name__ == "__main__":
    run(main)
