"""The label review: one page of photos with their parts drawn, the most doubtful labels first.

The page saves corrections.csv, which data_preparation.py applies before it splits.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from viewpoint.annotations.photo import Part
from viewpoint.annotations.shapes import ellipse_points
from viewpoint.cli import UserError
from viewpoint.files import write_atomically
from viewpoint.images import ImageError, upright_size
from viewpoint.inference import Input, Outcome, load_runners, predict_inputs
from viewpoint.labeling import VOTES, votes_of_names
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.reports.pages import render
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.scan import Photo

TIES = (("front", "rear"), ("left", "right"))
POINT_RADIUS = 3  # pixels of the thumbnail; a single point is drawn as a circle

# --- What makes a label doubtful ---------------------------------------------------


def find_model(models: Path) -> Path | None:
    """The newer of model.tflite and saved_model/ in a folder of models; None when there is neither."""
    files = {"model.tflite": models / "model.tflite", "saved_model": models / "saved_model" / "saved_model.pb"}
    found = [name for name, file in files.items() if file.is_file()]
    return models / max(found, key=lambda name: files[name].stat().st_mtime) if found else None


def predict_classes(df: pd.DataFrame, data: Path, model: Path) -> dict[str, dict[str, float]]:
    """The model's probability of each class for each photo that can be read: {image_path: {class: 0 to 1}}.

    Raises UserError when the model cannot be loaded or has other classes.
    """
    runners, size, labels = load_runners(model, None, len(df))
    if set(labels) != set(config.CLASSES):
        raise UserError(f"{model} has the classes {', '.join(labels)}, not those of config.py; train it again")
    inputs = [Input(image_path, data / image_path) for image_path in df["image_path"]]
    return {
        item.name: dict(zip(labels, map(float, probabilities), strict=True))
        for item, probabilities in predict_inputs(runners, size, inputs, Outcome())
    }


def find_suspicions(
    df: pd.DataFrame, hashes: dict[str, int], predictions: dict[str, dict[str, float]]
) -> list[tuple[float, list[str]]]:
    """How doubtful each label is, and why: (sum of config.SUSPICIONS, reasons), in the rows' order.

    `df` has parse_dataset's columns and order; `hashes` maps image_path to a perceptual hash;
    `predictions` are those of predict_classes, or {} without a model.
    """
    found = []
    for row, (before, after) in zip(df.itertuples(index=False), neighbours(df), strict=True):
        reasons = reasons_in_votes(row)
        for other in (before, after):
            if other and other.label != row.label:
                if (hashes[other.image_path] ^ hashes[row.image_path]).bit_count() <= config.TWIN_BITS:
                    reasons["twin"] = f"looks like {PurePosixPath(other.image_path).name}, which is {other.label}"
        if before and after and before.label == after.label != row.label:
            reasons["neighbours"] = f"the photos before and after it are {before.label}"
        score = sum(config.SUSPICIONS[reason] for reason in reasons)
        if probabilities := predictions.get(row.image_path):
            best = max(probabilities, key=lambda name: probabilities[name])
            score += config.SUSPICIONS["model"] * (1 - probabilities.get(row.label, 0.0))
            if best != row.label:
                reasons = {"model": f"the model says {best} ({probabilities[best]:.2f})", **reasons}
        found.append((score, list(reasons.values())))
    return found


def neighbours(df: pd.DataFrame) -> list[tuple[Any, Any]]:
    """The rows before and after each row among those of the same folder, None where there is none."""
    rows: list[Any] = list(df.itertuples(index=False))
    before, after = [None] * len(rows), [None] * len(rows)
    last: dict[PurePosixPath, int] = {}
    for number, row in enumerate(rows):
        folder = PurePosixPath(row.image_path).parent
        if folder in last:
            before[number], after[last[folder]] = rows[last[folder]], row
        last[folder] = number
    return list(zip(before, after, strict=True))


def reasons_in_votes(row: Any) -> dict[str, str]:
    """What in the votes of a row of parse_dataset speaks against its label: {a key of config.SUSPICIONS: why}."""
    front, rear, left, right = row.front_votes, row.rear_votes, row.left_votes, row.right_votes
    if row.label == config.BACKGROUND:
        return {"single": "parts, but too few for a car"} if front + rear + left + right else {}
    reasons = {}
    is_pure_side = row.label in ("Left", "Right")  # a class of its own, if config.CLASSES has it
    if not (front or rear or is_pure_side):
        reasons["no end"] = "no part says front or rear"
    if left and right:
        reasons["sides"] = "left and right parts"
    if front and rear:
        reasons["ends"] = "front and rear parts"
    ties = [
        f"as many {a} as {b} parts" for a, b in TIES if getattr(row, f"{a}_votes") == getattr(row, f"{b}_votes") > 0
    ]
    if is_pure_side:
        ties = [tie for tie in ties if "front" not in tie]
    if ties:
        reasons["tie"] = ", ".join(ties)
    elif 1 in (abs(front - rear), abs(left - right)):
        reasons["margin"] = "one part decides"
    return reasons


# --- The page ----------------------------------------------------------------------


def write_review(
    df: pd.DataFrame,
    photos: dict[str, Photo],
    corrections: dict[str, str],
    data: Path,
    model: Path | None,
    count: int,
    path: Path,
) -> None:
    """Write the page with the `count` most doubtful labels of `df`, those already corrected last.

    `df` has the labels that the votes gave, `photos` the parts and hash of each image_path.
    Photos that can no longer be read are left out.
    """
    predictions = predict_classes(df, data, model) if model else {}
    hashes = {image_path: photo.hash for image_path, photo in photos.items()}
    suspicions = find_suspicions(df, hashes, predictions)
    order = sorted(range(len(df)), key=lambda i: (df["image_path"].iloc[i] in corrections, -suspicions[i][0]))[:count]

    def make_card(i: int) -> dict | None:
        row = df.iloc[i]
        try:
            picture = thumbnail(data / row.image_path, config.THUMBNAIL_SIZE)
            scale = picture.width / upright_size(data / row.image_path)[0]
        except ImageError:
            return None
        return {
            "path": row.image_path,
            "label": row.label,
            "votes": [int(row[f"{name}_votes"]) for name in VOTES],
            "reasons": suspicions[i][1],
            "picture": data_uri(picture),
            "size": picture.size,
            "parts": drawn_parts(photos[row.image_path].parts, scale),
        }

    made = tqdm(map_in_order(make_card, order, cpu_count()), "Review page", len(order), unit="photo")
    cards = [card for card in made if card]
    content = {
        "cards": cards,
        "total": len(df),
        "classes": config.CLASSES,
        "wrong": config.WRONG,
        "corrections": corrections,
    }
    content["key"] = "review " + hashlib.sha256(json.dumps(content).encode()).hexdigest()
    with write_atomically(path) as temporary:
        temporary.write_text(render("review.html", content=content), encoding="utf-8")


def drawn_parts(parts: Iterable[Part], scale: float) -> list[dict[str, str]]:
    """The outlines as {name, votes, points} for the page, the largest first so that none hides another.

    `votes` says what the part votes for ("front left"), or "damage", "nothing", "unknown";
    `points` are in SVG's form, in pixels of the thumbnail, which is `scale` times the photo.
    """
    drawn = []
    for part in parts:
        for outline in part.outlines:
            points = np.array(outline) * scale
            if len(points) == 1:
                [(x, y)] = points.tolist()
                points = np.array(ellipse_points(x, y, POINT_RADIUS, POINT_RADIUS))
            rounded = np.rint(np.clip(points, -9999, 9999)).astype(int)
            text = " ".join(dict.fromkeys(f"{x},{y}" for x, y in rounded))
            area = float(np.ptp(rounded, axis=0).prod())
            drawn.append((area, {"name": ", ".join(part.names), "votes": votes_of_names(part.names), "points": text}))
    return [part for _, part in sorted(drawn, key=lambda item: -item[0])]
