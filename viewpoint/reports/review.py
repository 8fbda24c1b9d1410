"""The label review: one page of photos with their parts drawn, the most suspicious labels first.

The page saves corrections.csv, which data_preparation.py applies before it splits.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from annotations import DAMAGE, KNOWN, VOTES, Report, list_regions, region_names
from common import UserError, map_in_order, write_atomically
from images import ImageError, upright_size
from reports.pages import render
from reports.pictures import data_uri, thumbnail
from test_predict import Input, Outcome, load_runners, predict_inputs

# --- What makes a label suspicious -------------------------------------------------


def find_model(models: Path) -> Path | None:
    """The trained model in a models folder, model.tflite or saved_model/, the newer one; None without any."""
    files = {"model.tflite": models / "model.tflite", "saved_model": models / "saved_model" / "saved_model.pb"}
    found = [name for name, file in files.items() if file.is_file()]
    return models / max(found, key=lambda name: files[name].stat().st_mtime) if found else None


def predict_classes(df: pd.DataFrame, data: Path, model: Path) -> dict[str, dict[str, float]]:
    """The model's probability of each class for each photo that can be read: {image_path: {class: 0 to 1}}.

    Raises UserError when the model cannot be loaded or has other classes.
    """
    runners, size, labels = load_runners(model, None, len(df))
    if set(labels) != set(config.CLASSES):
        raise UserError(f"{model} has the classes {', '.join(labels)}, not those of config.py; train it anew")
    inputs = [Input(image_path, data / image_path) for image_path in df["image_path"]]
    return {
        item.name: dict(zip(labels, map(float, probabilities), strict=True))
        for item, probabilities in predict_inputs(runners, size, inputs, Outcome())
    }


def find_suspicions(
    df: pd.DataFrame, hashes: dict[str, int], predictions: dict[str, dict[str, float]]
) -> list[tuple[float, list[str]]]:
    """How suspicious each label is, and why: (sum of config.SUSPICIONS, reasons), in the rows' order.

    `df` has parse_dataset's columns and order; `hashes` maps image_path to a perceptual hash;
    `predictions` are those of predict_classes, or {}.
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
            best = max(probabilities, key=probabilities.get)
            score += config.SUSPICIONS["model"] * (1 - probabilities.get(row.label, 0.0))
            if best != row.label:
                reasons = {"model": f"the model says {best} ({probabilities[best]:.2f})", **reasons}
        found.append((score, list(reasons.values())))
    return found


def neighbours(df: pd.DataFrame) -> list[tuple]:
    """The rows before and after each row among those of the same folder, None where there is none."""
    before, after, last = [None] * len(df), [None] * len(df), {}
    rows = list(df.itertuples(index=False))
    for number, row in enumerate(rows):
        folder = PurePosixPath(row.image_path).parent
        if folder in last:
            before[number], after[last[folder]] = rows[last[folder]], row
        last[folder] = number
    return list(zip(before, after, strict=True))


def reasons_in_votes(row: tuple) -> dict[str, str]:
    """What in the votes of a row of parse_dataset speaks against its label: {a key of config.SUSPICIONS: why}."""
    front, rear, left, right = row.front_votes, row.rear_votes, row.left_votes, row.right_votes
    if row.label == "Background":
        return {"single": "parts, but too few for a car"} if front + rear + left + right else {}
    reasons = {}
    if not (front or rear):
        reasons["no end"] = "no part says front or rear"
    if left and right:
        reasons["sides"] = "left and right parts"
    if front and rear:
        reasons["ends"] = "front and rear parts"
    ties = [name for name, a, b in (("front and rear", front, rear), ("left and right", left, right)) if a == b > 0]
    if ties:
        reasons["tie"] = f"as many {' as many '.join(ties)} parts".replace(" and ", " as ")
    elif 1 in (abs(front - rear), abs(left - right)):
        reasons["margin"] = "one part decides"
    return reasons


# --- The page ----------------------------------------------------------------------


def write_review(
    df: pd.DataFrame,
    report: Report,
    corrections: dict[str, str],
    data: Path,
    model: Path | None,
    count: int,
    path: Path,
) -> None:
    """Write the page of the `count` most suspicious labels of `df`, those already corrected last.

    `df` has the labels that the votes gave, `report` the photos' regions and hashes. Photos
    that cannot be read any more are left out.
    """
    predictions = predict_classes(df, data, model) if model else {}
    suspicions = find_suspicions(df, report.hashes, predictions)
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
            "parts": drawn_parts(report.regions[row.image_path], scale),
        }

    cards = map_in_order(make_card, order, os.cpu_count() or 1)
    cards = [card for card in tqdm(cards, "Review page", len(order), unit="image") if card]
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


def drawn_parts(regions: list | dict, scale: float) -> list[dict]:
    """The regions as {name, votes, points} for the page, the largest first so that none hides another.

    `votes` says what the part votes for ("front left"), or "damage", "nothing", "unknown";
    `points` are SVG's, in pixels of the thumbnail.
    """
    parts = []
    for region in list_regions(regions):
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        points = outline(shape, 3 / scale) if isinstance(shape, dict) else []
        if len(points) > 1:
            names = region_names(region)
            rounded = np.rint(np.clip(np.array(points) * scale, -9999, 9999)).astype(int)
            text = " ".join(dict.fromkeys(f"{x},{y}" for x, y in rounded))
            parts.append(
                (np.ptp(rounded, axis=0).prod(), {"name": ", ".join(names), "votes": votes_of(names), "points": text})
            )
    return [part for _, part in sorted(parts, key=lambda item: -item[0])]


def votes_of(names: list[str]) -> str:
    """What a region's parts vote for, "front left" for example, or "damage", "nothing" or "unknown"."""
    votes = [vote for vote, parts in VOTES.items() if parts.intersection(names)]
    known, damage = KNOWN.intersection(names), DAMAGE.intersection(names)
    return " ".join(votes) or ("damage" if damage else "nothing" if known else "unknown")


def outline(shape: dict, point_radius: float = 4) -> Sequence[tuple[float, float]]:
    """The points around a VIA shape, in pixels of the photo; [] when its numbers are missing or odd.

    Around a point, a circle of `point_radius`. Source: VIA 2, https://www.robots.ox.ac.uk/~vgg/software/via/.
    """
    try:
        match shape.get("name"):
            case "polygon" | "polyline":
                points = list(zip(map(float, shape["all_points_x"]), map(float, shape["all_points_y"]), strict=True))
            case "rect":
                x, y, width, height = (float(shape[key]) for key in ("x", "y", "width", "height"))
                points = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            case "circle" | "ellipse" | "point":
                x, y = float(shape["cx"]), float(shape["cy"])
                radius = float(shape.get("r", point_radius))
                points = ellipse(x, y, float(shape.get("rx", radius)), float(shape.get("ry", radius)), shape)
            case _:
                return []
    except (KeyError, TypeError, ValueError, OverflowError):
        return []
    return points if all(map(math.isfinite, (number for point in points for number in point))) else []


def ellipse(x: float, y: float, rx: float, ry: float, shape: dict) -> list[tuple[float, float]]:
    """24 points around an ellipse with the radii rx and ry, turned by VIA's `theta`, in radians."""
    turn = float(shape.get("theta", 0))
    cos, sin = math.cos(turn), math.sin(turn)
    around = [(rx * math.cos(angle), ry * math.sin(angle)) for angle in np.linspace(0, 2 * math.pi, 24, endpoint=False)]
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in around]
