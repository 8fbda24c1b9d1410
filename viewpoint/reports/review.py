"""The label review: one page of photos with their parts drawn, the most doubtful labels first.

The page saves corrections.csv, which data_preparation.py applies before it splits. Opened as a
file, the page keeps its marks in the browser and saves the CSV as a download; served by
tools/review.py, the same page writes every mark into dataset/corrections.csv at once.
"""

import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

import config
from viewpoint.annotations.photo import Part
from viewpoint.annotations.shapes import ellipse_points
from viewpoint.cli import UserError, counted, printable
from viewpoint.confident_learning import find_label_errors, self_confidence
from viewpoint.dataset import data_set_id
from viewpoint.files import write_atomically
from viewpoint.images import ImageError, upright_size
from viewpoint.inference import Input, Outcome, load_runners, predict_inputs
from viewpoint.labeling import VOTES, part_names, votes_of_names
from viewpoint.parallel import cpu_count, map_in_order
from viewpoint.reports.pages import render
from viewpoint.reports.pictures import data_uri, thumbnail
from viewpoint.scan import Photo
from viewpoint.vocabulary import KNOWN

ENDS, SIDES = ("front", "rear"), ("left", "right")
# Outlines are drawn in a coordinate system in which the longer side of a photo has this length, so
# that they are exact enough for a thumbnail and for the photo in full.
CANVAS = 1000
POINT_RADIUS = 15  # a single point is drawn as a circle of this radius

# What the page calls each key of config.SUSPICIONS that gives a reason.
REASONS = {
    "conflict": "nearly equal photos, different labels",
    "mirrored": "parts look mirrored",
    "model": "a model disagrees",
    "twin": "the next photo disagrees",
    "nameless": "regions without a name",
    "unknown": "unknown part names",
    "single": "parts, but a Background",
    "no end": "neither front nor rear",
    "margin": "one part decides",
    "sides": "left and right parts",
    "tie": "as many front as rear parts",
}
# The kinds of doubt, in the order of the page: a heading and the reasons for each. A photo with
# reasons of several kinds is shown under the first.
KINDS = [
    ("Nearly equal photos with different labels: one of them is wrong", ["conflict"]),
    ("A model, or where the parts are drawn, contradicts the label", ["mirrored", "model", "twin"]),
    ("Annotations that were only half understood", ["nameless", "unknown", "single"]),
    ("Ambiguous views: people could give them either name", ["no end", "margin", "sides", "tie"]),
]

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
    df: pd.DataFrame,
    photos: dict[str, Photo],
    predictions: dict[str, dict[str, float]],
    out_of_fold: dict[str, dict[str, float]],
    conflicts: Iterable[tuple[str, str]] = (),
) -> list[tuple[float, dict[str, str]]]:
    """How doubtful each label is, and why: (sum of config.SUSPICIONS, reasons by their key), in the rows' order.

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
        reasons |= reasons_in_names(photo.parts) | reasons_in_votes(row)
        score = doubt + sum(config.SUSPICIONS[reason] for reason in reasons if reason != "model")
        found.append((score, reasons))
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


def reasons_in_names(parts: Iterable[Part]) -> dict[str, str]:
    """What in the part names was not understood, although it could not change the label: as reasons_in_votes."""
    parts, reasons = list(parts), {}
    if nameless := sum(not part.names for part in parts):
        reasons["nameless"] = f"{counted(nameless, 'region')} without a name"
    if unknown := sorted(part_names(parts) - KNOWN):
        reasons["unknown"] = "no list knows " + ", ".join(printable(name) for name in unknown)
    return reasons


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
    splits: Mapping[str, str] | None = None,
) -> None:
    """Write the page with the `count` most doubtful labels of `df`, those already corrected last.

    `df` has the labels that the votes gave, `photos` the parts and hash of each image_path.
    `out_of_fold` has the probabilities of read_out_of_fold; `model` judges the other photos.
    `conflicts` are pairs of paths of nearly equal photos with different labels; they come first,
    side by side. `splits` has the split of each photo. Photos that can no longer be read are left out.
    """
    out_of_fold, splits = out_of_fold or {}, splits or {}
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
            scale = CANVAS / max(upright_size(data / row.image_path))
        except ImageError:
            return None
        probabilities = out_of_fold.get(row.image_path) or predictions.get(row.image_path) or {}
        best = max(probabilities, key=lambda name: probabilities[name], default=None)
        return {
            "path": row.image_path,
            "label": row.label,
            "split": splits.get(row.image_path, ""),
            "predicted": best,
            "score": round(probabilities[best], 4) if best else None,
            "votes": [int(row[f"{name}_votes"]) for name in VOTES],
            "reasons": list(suspicions[i][1].items()),
            "kind": kind_of_doubt(suspicions[i][1]),
            "group": groups[row.image_path][0] if row.image_path in groups else None,
            "picture": data_uri(picture),
            "size": picture.size,
            "parts": drawn_parts(photos[row.image_path].parts, scale),
        }

    made = tqdm(map_in_order(make_card, order, cpu_count()), "Review page", len(order), unit="photo")
    cards = [card for card in made if card]
    shown = {card["path"] for card in cards}
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    content = {
        "data_set": data_set_id(path.parent),
        "folder": path.parent.name,
        "cards": cards,
        "total": len(df),
        "doubtful": sum(bool(reasons) for _, reasons in suspicions),
        "classes": config.CLASSES,
        "wrong": config.WRONG,
        "corrections": corrections,
        # The labels of photos that were corrected and are not on the page, to say what the corrections change.
        "others": {name: labels[name] for name in corrections if name in labels and name not in shown},
        "reasons": list(REASONS.items()),
        "kinds": [heading for heading, _ in KINDS],
    }
    with write_atomically(path) as temporary:
        temporary.write_text(render("review.html", content=content), encoding="utf-8")


def read_review(path: Path) -> dict:
    """The content of a page of write_review, for tools/review.py.

    Raises UserError when there is no such page, or an earlier version of the project wrote it.
    """
    if not path.is_file():
        raise UserError(f"{path} not found; run data_preparation.py --review first")
    try:
        found = re.search(r'<script type="application/json" id="content">(.*?)</script>', path.read_text("utf-8"), re.S)
        content = json.loads(found[1]) if found else {}
        if {"data_set", "cards", "classes", "wrong"} <= content.keys():
            return content
    except (OSError, ValueError):
        pass
    raise UserError(f"{path} cannot be served; write it again with data_preparation.py --review")


def kind_of_doubt(reasons: Iterable[str]) -> int:
    """The first of KINDS that one of the reasons belongs to, as its index; len(KINDS) without any reason."""
    keys = set(reasons)
    return next((number for number, (_, kind) in enumerate(KINDS) if keys & set(kind)), len(KINDS))


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
