"""The label review: one page of photos with their parts drawn, the most doubtful labels first.

The page saves corrections.csv, which data_preparation.py applies before it splits.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from viewpoint.annotations.photo import Part
from viewpoint.annotations.shapes import ellipse_points
from viewpoint.cli import UserError
from viewpoint.confident_learning import find_label_errors, self_confidence
from viewpoint.files import write_atomically
from viewpoint.images import ImageError, upright_size
from viewpoint.labeling import VOTES, votes_of_names
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.predictor import Predictor
from viewpoint.reports.pages import render
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.scan import Photo

ENDS, SIDES = ("front", "rear"), ("left", "right")
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
    predictor = Predictor(model)
    if set(predictor.labels) != set(config.CLASSES):
        raise UserError(
            f"{model} has the classes {', '.join(predictor.labels)}, not those of config.py; train it again"
        )
    names = list(df["image_path"])
    results = tqdm(predictor.batch(data / name for name in names), "Predicting", len(names), unit="photo")
    return {name: result.probabilities for name, result in zip(names, results, strict=True) if result.error is None}


def find_suspicions(
    df: pd.DataFrame,
    photos: dict[str, Photo],
    predictions: dict[str, dict[str, float]],
    out_of_fold: dict[str, dict[str, float]],
    conflicts: Iterable[tuple[str, str]] = (),
) -> list[tuple[float, list[str]]]:
    """How doubtful each label is, and why: (sum of config.SUSPICIONS, reasons), in the rows' order.

    `df` has parse_dataset's columns and order; `photos` maps image_path to parts and hash;
    `out_of_fold` are the probabilities of models that did not learn the photo, `predictions` those
    of a model that may have, for other photos; either may be {}. `conflicts` are pairs of nearly
    equal photos with different labels.
    """
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    judged = judge_labels(labels, predictions, "the model says")
    judged |= judge_labels(labels, out_of_fold, "models that did not learn this photo say")
    counterparts = counterparts_of(conflicts)
    found = []
    for row, others in zip(df.itertuples(index=False), neighbours(df), strict=True):
        photo, same = photos[row.image_path], counterparts.get(row.image_path, [])
        reasons = {}
        if same:
            reasons["conflict"] = "nearly the same photo as " + "; ".join(f"{it}, which is {labels[it]}" for it in same)
        if looks_mirrored(photo.parts):
            reasons["mirrored"] = "the parts are where a mirrored car has them: left and right swapped?"
        doubt, contradiction = judged.get(row.image_path, (0.0, ""))
        if contradiction:
            reasons["model"] = contradiction
        for other in others:
            if other and other.label != row.label and other.image_path not in same:
                if (photos[other.image_path].hash ^ photo.hash).bit_count() <= config.TWIN_BITS:
                    reasons["twin"] = f"looks like {PurePosixPath(other.image_path).name}, which is {other.label}"
        reasons |= reasons_in_votes(row)
        score = doubt + sum(config.SUSPICIONS[reason] for reason in reasons if reason != "model")
        found.append((score, list(reasons.values())))
    return found


def judge_labels(
    labels: dict[str, str], predictions: dict[str, dict[str, float]], who: str
) -> dict[str, tuple[float, str]]:
    """What predictions say of the labels: {image_path: (share of the score, reason)}.

    The reason begins with `who`; it is "" when the label is the most probable class.
    """
    paths = [path for path in labels if path in predictions]
    if not paths:
        return {}
    given = np.array([config.CLASSES.index(labels[path]) for path in paths])
    probabilities = np.array([[predictions[path].get(name, 0.0) for name in config.CLASSES] for path in paths])
    others = 1 - self_confidence(given, probabilities)
    scores = config.SUSPICIONS["model"] * others
    scores += config.SUSPICIONS["confident"] * find_label_errors(given, probabilities)
    best = probabilities.argmax(axis=1)
    reasons = [
        f"{who} {config.CLASSES[best[i]]} ({probabilities[i, best[i]]:.2f})" if best[i] != given[i] else ""
        for i in range(len(paths))
    ]
    return dict(zip(paths, zip(scores.tolist(), reasons, strict=True), strict=True))


def counterparts_of(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The other photos of the pairs that each photo is in."""
    others: dict[str, list[str]] = {}
    for first, second in pairs:
        others.setdefault(first, []).append(second)
        others.setdefault(second, []).append(first)
    return others


def looks_mirrored(parts: Iterable[Part]) -> bool:
    """Whether most parts that can be compared are drawn where a mirrored car has them.

    Seen from outside, a car's left side reaches from its front, at the left, to its rear, at the
    right; its right side the other way round. That holds for views of a corner and of the whole
    side: so left parts are to the right of front parts, and to the left of rear parts. Within a
    side, parts whose names say front and rear are compared.
    """
    places = [place for part in parts if (place := place_of(part))]
    right = wrong = 0
    for x, end, side, word in places:
        for other_x, other_end, other_side, other_word in places:
            corner = end and not side and other_side and not other_end
            along = side and side == other_side and (word, other_word) == ("front", "rear")
            if corner or along:
                direction = 1 if (word == "front") == (other_side == "left") else -1
                right += (other_x - x) * direction > 0
                wrong += (other_x - x) * direction < 0
    return wrong > right


def place_of(part: Part) -> tuple[float, str, str, str] | None:
    """Where a part is drawn and what it is: (middle x, its end's vote, its side's vote, front or rear by name).

    The texts are "" where it is neither, and None stands for a part that is not drawn.
    """
    xs = [x for outline in part.outlines for x, _ in outline]
    if not xs:
        return None
    votes = votes_of_names(part.names).split()
    end, side = (next((vote for vote in pair if vote in votes), "") for pair in (ENDS, SIDES))
    word = end or next((end for end in ENDS if any(end in name for name in part.names)), "")
    return (min(xs) + max(xs)) / 2, end, side, word


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
    """What in the votes of a row of parse_dataset speaks against its label: {a key of config.SUSPICIONS: why}.

    As many left as right parts are what a straight view has, so they are no reason.
    """
    front, rear, left, right = row.front_votes, row.rear_votes, row.left_votes, row.right_votes
    if row.label == config.BACKGROUND:
        return {"single": "parts, but too few for a car"} if front + rear + left + right else {}
    reasons = {}
    is_pure_side = row.label in ("Left", "Right")  # a class of its own, if config.CLASSES has it
    if not (front or rear or is_pure_side):
        reasons["no end"] = "no part says front or rear"
    if left != right and min(left, right) > 1:
        reasons["sides"] = "several left and right parts"
    if front == rear > 0 and not is_pure_side:
        reasons["tie"] = "as many front as rear parts"
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
    out_of_fold: dict[str, dict[str, float]] | None = None,
    conflicts: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the page with the `count` most doubtful labels of `df`, those already corrected last.

    `df` has the labels that the votes gave, `photos` the parts and hash of each image_path.
    `out_of_fold` has the probabilities of read_out_of_fold; `model` judges the other photos.
    `conflicts` are pairs of paths of nearly equal photos with different labels; they come first,
    side by side. Photos that can no longer be read are left out.
    """
    out_of_fold = out_of_fold or {}
    others = df[~df["image_path"].isin(out_of_fold)]
    predictions = predict_classes(others, data, model) if model and len(others) else {}
    # Pairs whose photos have both been marked are settled, and photos that are gone show nothing.
    known, marked = set(df["image_path"]), set(corrections)
    conflicts = [pair for pair in conflicts if set(pair) <= known and not set(pair) <= marked]
    groups = group_pairs(conflicts)
    suspicions = find_suspicions(df, photos, predictions, out_of_fold, conflicts)
    order = card_order(df["image_path"].tolist(), suspicions, corrections, groups)[:count]

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
            "group": groups[row.image_path][0] if row.image_path in groups else None,
            "picture": data_uri(picture),
            "size": picture.size,
            "parts": drawn_parts(photos[row.image_path].parts, scale),
        }

    made = tqdm(map_in_order(make_card, order, cpu_count()), "Review page", len(order), unit="photo")
    cards = [card for card in made if card]
    content = {
        "cards": cards,
        "total": len(df),
        "doubtful": sum(bool(reasons) for _, reasons in suspicions),
        "classes": config.CLASSES,
        "wrong": config.WRONG,
        "corrections": corrections,
    }
    content["key"] = "review " + hashlib.sha256(json.dumps(content).encode()).hexdigest()
    with write_atomically(path) as temporary:
        temporary.write_text(render("review.html", content=content), encoding="utf-8")


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
    suspicions: list[tuple[float, list[str]]],
    corrections: dict[str, str],
    groups: dict[str, list[str]],
) -> list[int]:
    """The order of the cards, as indices of `paths`.

    Groups of nearly equal photos come first; then labels with reasons against them, by score; then
    the others, by score; last those that a person has marked.
    """
    position = {path: number for number, path in enumerate(dict.fromkeys(itertools.chain(*groups.values())))}

    def key(i: int) -> tuple:
        score, reasons = suspicions[i]
        if paths[i] in position:
            return 0, position[paths[i]]
        return 3 if paths[i] in corrections else 1 if reasons else 2, -score

    return sorted(range(len(paths)), key=key)


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
