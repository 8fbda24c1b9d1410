"""The label review: one page of photos with their parts drawn, the most doubtful labels first.

The page saves corrections.csv, which data_preparation.py applies before it splits. Opened as a
file, the page keeps its marks in the browser and saves the CSV as a download; served by
tools/review.py, the same page writes every mark into dataset/corrections.csv at once.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import config
from viewpoint.annotations.photo import Part, Photo
from viewpoint.annotations.shapes import ellipse_points
from viewpoint.common.cli import UserError
from viewpoint.common.images import ImageError
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.data.corrections import WRONG
from viewpoint.data.dataset import data_set_id
from viewpoint.data.doubts import KINDS, REASONS, find_suspicions, kind_of_doubt
from viewpoint.data.labeling import VOTES, votes_of_names
from viewpoint.inference.predictor import Predictor
from viewpoint.reports.pages import write_page
from viewpoint.reports.pictures import data_uri, thumbnail

# Outlines are drawn in a coordinate system in which the longer side of a photo has this length, so
# that they are exact enough for a thumbnail and for the photo in full.
CANVAS = 1000
POINT_RADIUS = 15  # a single point is drawn as a circle of this radius

# --- The model --------------------------------------------------------------------


def predict_classes(df: pd.DataFrame, data: Path, model: Path) -> dict[str, dict[str, float]]:
    """The model's probability of each class for each photo that can be read: {image_path: {class: 0 to 1}}.

    Raises UserError when the model cannot be loaded or has other classes.
    """
    predictor = Predictor(model)
    if set(predictor.labels) != set(config.CLASSES):
        raise UserError(
            f"{model} has the classes {', '.join(predictor.labels)}, not those of config.py; train it again"
        )
    names = list(df["image_path"])
    results = progress(predictor.batch(data / name for name in names), "Predicting", len(names))
    return {name: result.probabilities for name, result in zip(names, results, strict=True) if result.error is None}


# --- The page ----------------------------------------------------------------------


@dataclass(frozen=True)
class Judgements:
    """What is known of the photos besides their votes.

    `out_of_fold` has the probabilities of read_out_of_fold; `model` judges the other photos.
    `conflicts` are pairs of paths of nearly equal photos with different labels; `splits` has the
    split of each photo, and `again` is the command that applies the marks of the page.
    """

    model: Path | None = None
    out_of_fold: dict[str, dict[str, float]] = field(default_factory=dict)
    conflicts: Sequence[tuple[str, str]] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    again: str = "python data_preparation.py"


def write_review(
    df: pd.DataFrame,
    photos: dict[str, Photo],
    corrections: dict[str, str],
    data: Path,
    count: int,
    path: Path,
    judged: Judgements,
) -> int:
    """Write the page with the `count` most doubtful labels of `df`, those already corrected last.

    `df` has the labels that the votes gave, `photos` the parts and hash of each image_path.
    Conflicts come first, side by side. Returns how many labels without a correction are doubtful.
    """
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    # The pairs whose photos are still there and have not both been marked.
    conflicts = [pair for pair in judged.conflicts if {*pair} <= labels.keys() and not {*pair} <= corrections.keys()]
    groups = group_pairs(conflicts)
    # A model that learned both labels of a pair cannot say which of them is wrong.
    others = df[~df["image_path"].isin({*judged.out_of_fold, *groups})]
    predictions = predict_classes(others, data, judged.model) if judged.model and len(others) else {}
    suspicions = find_suspicions(df, photos, predictions, judged.out_of_fold, conflicts)
    order = card_order(df["image_path"].tolist(), suspicions, corrections, groups)[:count]
    predictions |= judged.out_of_fold

    def card_of(i: int) -> dict | None:
        row = df.iloc[i]
        card = make_card(row, photos[row.image_path], data, predictions.get(row.image_path, {}), suspicions[i][1])
        group = groups.get(row.image_path, [None])[0]
        return card and card | {"split": judged.splits.get(row.image_path, ""), "group": group}

    made = map_in_order(card_of, order, cpu_count())
    cards = [card for card in progress(made, "Review page", len(order)) if card]
    content = {
        "data_set": data_set_id(path.parent),
        "folder": str(path.parent),
        "again": judged.again,
        "cards": cards,
        "total": len(df),
        "doubtful": sum(bool(reasons) for _, reasons in suspicions),
        "classes": config.CLASSES,
        "wrong": WRONG,
        "corrections": corrections,
        # To say what corrections change, also of photos that are not on the page.
        "others": {name: labels[name] for name in corrections if name in labels},
        "reasons": list(REASONS.items()),
        "kinds": [heading for heading, _ in KINDS],
    }
    write_page(path, "review.html", content=content)
    return sum(bool(found) and name not in corrections for name, (_, found) in zip(labels, suspicions, strict=True))


def make_card(
    row: pd.Series, photo: Photo, data: Path, probabilities: dict[str, float], reasons: dict[str, str]
) -> dict | None:
    """What the page shows of one photo; None when it can no longer be read.

    `row` is of parse_dataset's table; `probabilities` are those of each class, {} without a model.
    """
    try:
        picture = thumbnail(data / row.image_path, config.THUMBNAIL_SIZE)
        scale = CANVAS / max(photo.size)
    except ImageError:
        return None
    best = max(probabilities, key=lambda name: probabilities[name], default=None)
    return {
        "path": row.image_path,
        "label": row.label,
        "predicted": best,
        "score": round(probabilities[best], 4) if best else None,
        "votes": [int(row[f"{name}_votes"]) for name in VOTES],
        "reasons": list(reasons.items()),
        "kind": kind_of_doubt(reasons),
        "picture": data_uri(picture),
        "size": picture.size,
        "parts": drawn_parts(photo.parts, scale),
    }


def read_review(path: Path) -> dict:
    """The content of a page of write_review, for tools/review.py.

    Raises UserError when there is no such page, or an earlier version of the project wrote it.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run data_preparation.py --review first")
    try:
        found = re.search(r'<script type="application/json" id="content">(.*?)</script>', path.read_text("utf-8"), re.S)
        content = json.loads(found[1]) if found else {}
        if {"data_set", "cards", "classes", "wrong", "again"} <= content.keys():
            return content
    except (OSError, ValueError):
        pass
    raise UserError(f"{path} cannot be served; write it again with data_preparation.py --review")


def group_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The group of each photo: all that pairs connect it with, itself included, in the order of the pairs."""
    groups: dict[str, list[str]] = {}
    for first, second in pairs:
        group, other = groups.setdefault(first, [first]), groups.setdefault(second, [second])
        if group is not other:
            group += other
            groups.update(dict.fromkeys(other, group))
    return groups


def card_order(
    paths: list[str],
    suspicions: list[tuple[float, dict[str, str]]],
    corrections: dict[str, str],
    groups: dict[str, list[str]],
) -> list[int]:
    """The order of the cards, as indices of `paths`.

    Groups of nearly equal photos come first; then labels with reasons against them, by KINDS and
    then by score; then the others, by score; last those that a person has marked.
    """
    position = {path: number for number, path in enumerate(dict.fromkeys(itertools.chain(*groups.values())))}

    def key(i: int) -> tuple:
        score, reasons = suspicions[i]
        if paths[i] in position:
            return 0, position[paths[i]]
        return len(KINDS) + 1 if paths[i] in corrections else kind_of_doubt(reasons), -score

    return sorted(range(len(paths)), key=key)


def drawn_parts(parts: Iterable[Part], scale: float) -> list[dict[str, str]]:
    """The outlines as {name, votes, points} for the page, the largest first so that none hides another.

    `votes` says what the part votes for ("front left"), or "damage", "nothing", "unknown";
    `points` are in SVG's form, in whole numbers of pixels times `scale`.
    """
    drawn: list[tuple[float, dict[str, str]]] = []
    for part in parts:
        about = {"name": ", ".join(part.names), "votes": votes_of_names(part.names)}
        for outline in part.outlines:
            points = np.array(outline) * scale
            if len(points) == 1:
                [(x, y)] = points.tolist()
                points = np.array(ellipse_points(x, y, POINT_RADIUS, POINT_RADIUS))
            rounded = np.rint(np.clip(points, -9999, 9999)).astype(int)
            text = " ".join(dict.fromkeys(f"{x},{y}" for x, y in rounded))
            drawn.append((float(np.ptp(rounded, axis=0).prod()), about | {"points": text}))
    return [part for _, part in sorted(drawn, key=lambda item: -item[0])]
