"""Draw the README's picture: each class with the parts that vote for it.

    python tools/draw_viewpoints.py --output docs/viewpoints.png

One drawn car for each viewpoint and one close-up, their annotated parts filled with the
colour of their vote.
"""

import argparse
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to a file, so it needs no screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch, Polygon

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts lie one folder up

from make_demo_data import AZIMUTHS, draw_car, draw_close_up

from annotations import VOTES, extract_viewpoint_label, region_identities
from common import run, write_atomically

# Colours that stay apart for colour-blind readers (Okabe and Ito). A lamp votes twice:
# its end fills it, its side rims it.
COLOURS = {"front": "#0072B2", "rear": "#D55E00", "left": "#009E73", "right": "#CC79A7"}


def votes_of(region: dict) -> list[str]:
    """What a region votes for: none, one or two of front, rear, left and right."""
    return [vote for vote, parts in VOTES.items() if region_identities([region]) & parts]


def draw_example(axes: plt.Axes, image, regions: list[dict]) -> None:
    """Draw a photo with its regions coloured by their votes, titled with its label."""
    axes.imshow(image)
    for region in regions:
        votes = votes_of(region)
        shape = region["shape_attributes"]
        corners = np.stack([shape["all_points_x"], shape["all_points_y"]], axis=1)
        fill = COLOURS[votes[0]] if votes else "#ffffff"
        axes.add_patch(Polygon(corners, facecolor=fill, alpha=0.65 if votes else 0.25))
        axes.add_patch(Polygon(corners, fill=False, edgecolor=COLOURS[votes[-1]] if votes else "white", linewidth=2))
    axes.set_title(extract_viewpoint_label(regions), fontsize=15)
    axes.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Draw each class with its votes.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default="docs/viewpoints.png", help="PNG file to write")
    parser.add_argument("--seed", type=int, default=11, help="seed of the cars")
    args = parser.parse_args()

    figure, panels = plt.subplots(2, 4, figsize=(14, 6), layout="constrained")
    examples = [draw_car(np.mean(span), np.random.default_rng(args.seed))[:2] for span in AZIMUTHS.values()]
    examples.append(draw_close_up(np.random.default_rng(args.seed)))
    # Front views above, rear views below, so that mirrored classes stand side by side.
    places = [panels[0, 1], panels[0, 0], panels[0, 2], panels[1, 1], panels[1, 0], panels[1, 2], panels[0, 3]]
    for axes, (image, regions) in zip(places, examples, strict=True):
        draw_example(axes, image, regions)
    panels[1, 3].axis("off")
    key = [Patch(color=colour, label=f"votes {vote}") for vote, colour in COLOURS.items()]
    key.append(Patch(facecolor="white", edgecolor="grey", label="votes for nothing"))
    panels[1, 3].legend(handles=key, loc="center", fontsize=14, frameon=False)
    with write_atomically(args.output) as path:
        figure.savefig(path, dpi=60)
    plt.close(figure)
    print(f"Drew {args.output}.")


if __name__ == "__main__":
    run(main)
