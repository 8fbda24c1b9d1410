"""Which photos and labels a model was trained on, so that figures on its own training photos are noticed.

train.py writes models/data.json. Every model also carries it without the photo hashes: a
SavedModel in training.json, a .tflite file in a file of that name behind the model, beside
labels.txt. Standard library only, because test_predict.py reads it.
"""

import functools
import hashlib
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from viewpoint.common.cli import UserError, counted
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.writing import write_atomically

DATA_NAME = "data.json"  # beside model.keras
UNLABELLED = "unlabelled"  # the photos of train.py --unlabelled, beside "train" and "val" in ModelData.photos
PACKED_NAME = "training.json"  # in a SavedModel folder and in a .tflite file
HASH_LENGTH = 16  # hexadecimal digits; equal by accident about once in 2 ** 64 pairs of photos
# Copying a folder can change the order of file times that are closer than this.
COPYING_SECONDS = 60.0


class SplitData(NamedTuple):
    """A split's fingerprint: its photos in all, a hash over photos and labels, and its photos by class."""

    photos: int
    hash: str
    classes: dict[str, int]


@dataclass(frozen=True)
class ModelData:
    """What a model knows of its training; `photos` are hashes by split, {} when only the model itself is there."""

    training: str  # the id of the training, derived from its weights and its data
    splits: dict[str, SplitData]
    threshold: float | None = None  # the suggested --unknown-below
    photos: dict[str, list[str]] = field(default_factory=dict)  # of train, val and learned without labels

    def trained_on(self) -> set[str]:
        """The hashes of all photos that the model has learned from, with and without labels."""
        return {*self.photos.get("train", []), *self.photos.get(UNLABELLED, [])}


# --- Hashes ------------------------------------------------------------------------


def photo_hash(path: Path | str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a file's content. Raises OSError when it cannot be read."""
    with Path(path).open("rb") as file:
        return content_hash(file)


def content_hash(file: io.BufferedReader) -> str:
    """photo_hash of an opened file."""
    file.seek(0)
    content = hashlib.sha256()
    while block := file.read(1 << 20):
        content.update(block)
    return content.hexdigest()[:HASH_LENGTH]


def hash_photos(paths: Iterable[Path | str]) -> list[str]:
    """photo_hash of every file, in order, in threads; "" for a file that cannot be read."""

    def hash_one(path: Path | str) -> str:
        try:
            return photo_hash(path)
        except OSError:
            return ""

    return list(map_in_order(hash_one, paths, cpu_count()))


def fingerprint(hashes: Sequence[str], labels: Sequence[str]) -> SplitData:
    """The fingerprint of a split, whatever the order and the names of its photos."""
    pairs = sorted(zip(hashes, labels, strict=True))
    content = "".join(f"{photo} {label}\n" for photo, label in pairs)
    classes = dict(sorted(Counter(labels).items()))
    return SplitData(len(pairs), hashlib.sha256(content.encode()).hexdigest()[:HASH_LENGTH], classes)


def describe_training(
    weights: Iterable[bytes], hashes: Mapping[str, list[str]], labels: Mapping[str, Sequence[str]]
) -> ModelData:
    """The data of a new model; equal weights, photos and labels give an equal id.

    `hashes` and `labels` hold one entry for each photo of each split.
    """
    splits = {name: fingerprint(hashes[name], labels[name]) for name in hashes}
    content = hashlib.sha256(json.dumps([split.hash for split in splits.values()]).encode())
    for weight in weights:
        content.update(weight)
    photos = {name: sorted(hashes[name]) for name in ("train", "val")}
    return ModelData(content.hexdigest()[:12], splits, photos=photos)


def also_seen(data: ModelData, earlier: ModelData | None, unlabelled: Sequence[str]) -> ModelData:
    """The data of a model that has seen more photos: in its earlier training, or without labels (their hashes)."""
    photos = data.photos | {UNLABELLED: list(unlabelled)}
    before = earlier.photos if earlier else {}
    return replace(data, photos={name: sorted({*photos[name], *before.get(name, [])}) for name in photos})


# --- Files -------------------------------------------------------------------------


def as_text(data: ModelData, with_photos: bool) -> str:
    """The content of data.json, or without the photos of training.json."""
    content = asdict(data) | {"splits": {name: split._asdict() for name, split in data.splits.items()}}
    photos = content.pop("photos")
    if with_photos:
        # In one string for each split, because a list would take a line for each photo.
        content["photos"] = {name: " ".join(hashes) for name, hashes in photos.items()}
    return json.dumps(content, indent=2) + "\n"


def from_text(text: str | bytes) -> ModelData | None:
    """What as_text wrote; None when it is damaged or something else."""
    try:
        content = json.loads(text)
        threshold = content["threshold"]
        return ModelData(
            str(content["training"]),
            {name: SplitData(**split) for name, split in content["splits"].items()},
            None if threshold is None else float(threshold),
            {name: hashes.split() for name, hashes in content.get("photos", {}).items()},
        )
    # A file of another program may have any content.
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None


def write_data(data: ModelData, models: Path) -> None:
    """Write data.json into the models folder. Raises UserError when that cannot be written."""
    with write_atomically(models / DATA_NAME) as path:
        path.write_text(as_text(data, with_photos=True), encoding="utf-8")


def read_data(models: Path) -> ModelData | None:
    """The data of model.keras in a models folder; None without data.json, as before it existed."""
    try:
        return from_text((models / DATA_NAME).read_bytes())
    except OSError:
        return None


def packed_data(model: Path) -> ModelData | None:
    """What a SavedModel folder or a .tflite file itself says of its training; None when it says nothing."""
    try:
        if model.is_dir():
            return from_text((model / PACKED_NAME).read_bytes())
        with zipfile.ZipFile(model) as packed:
            return from_text(packed.read(PACKED_NAME))
    # zipfile raises half a dozen unrelated types on files that are no archives or damaged ones.
    except Exception:
        return None


def find_data(model: Path) -> ModelData | None:
    """What is known of the training of a SavedModel folder or a .tflite file; None when nothing is.

    The photo hashes come from the data.json of the same training, beside the model or one folder up
    (models/handoff/model.tflite); without one, `photos` is {}.
    """
    packed = packed_data(model)
    if packed is None:
        return None
    for folder in (model.absolute().parent, model.absolute().parent.parent):
        data = read_data(folder)
        if data and data.training == packed.training:
            return replace(packed, photos=data.photos)
    return packed


# --- What people are told ----------------------------------------------------------


class KnownPhotos:
    """The photos that a model was trained and validated on, read when the first one is looked up."""

    def __init__(self, model: Path) -> None:
        self.model = model

    @functools.cached_property
    def splits(self) -> dict[str, str]:
        """The split, "train" or "val", of each photo hash; {} when the model does not tell."""
        data = find_data(self.model)
        return (
            dict.fromkeys(data.photos.get("val", []), "val") | dict.fromkeys(data.trained_on(), "train") if data else {}
        )

    def split_of(self, photo: Path) -> str:
        """The split of a photo, by its content; "" when it is in none or cannot be read."""
        try:
            return self.splits.get(photo_hash(photo), "") if self.splits else ""
        except OSError:
            return ""


def count_known(data: ModelData | None, hashes: Sequence[str], split: str = "train") -> int:
    """How many of the photos belong to a split that the model was trained with; 0 when that is not known."""
    if data is None:
        return 0
    known = data.trained_on() if split == "train" else set(data.photos.get(split, []))
    return sum(photo in known for photo in hashes)


def describe_known(data: ModelData | None, hashes: Sequence[str], what: str = "these figures are") -> str | None:
    """What to say when a model is measured on photos that it was trained or validated on; None otherwise."""
    return describe_seen(len(hashes), count_known(data, hashes), count_known(data, hashes, "val"), what)


def describe_seen(count: int, trained: int, validated: int, what: str = "these figures are") -> str | None:
    """describe_known() where the photos are counted already: all, those trained on and those validated on."""
    photos = f"of {'this' if count == 1 else 'these'} {counted(count, 'photo')}"
    if trained:
        besides = f", and {validated} used for validation" if validated else ""
        return f"{trained} {photos} {'was' if trained == 1 else 'were'} trained on{besides}: {what} too good"
    if validated:
        verb = "was" if validated == 1 else "were"
        return f"{validated} {photos} {verb} used for validation in the training: {what} somewhat too good"
    return None


def read_earlier(start_from: Path, hashes: Mapping[str, Sequence[str]]) -> ModelData | None:
    """What the model to start from knows of its training; None, with a warning, when it knows nothing.

    Raises UserError when it was trained on validation or test photos of these splits.
    """
    data = read_data(start_from.parent)
    if data is None:
        print(
            f"{start_from.parent} does not tell on which photos {start_from.name} was trained; "
            "if any of them is in val.csv or test.csv, the figures are too good"
        )
    for name in ("val", "test"):
        if known := count_known(data, hashes[name]):
            advice = "prepare into the dataset folder that it was trained from, whose splits are kept"
            if count_known(data, hashes[name], UNLABELLED):
                advice = "it learned them without labels, before they were annotated: start from the model before it"
            raise UserError(
                f"{start_from} was trained on {known} of the {counted(len(hashes[name]), 'photo')} of {name}.csv, "
                f"so the figures would be too good; {advice}, or train without --start-from"
            )
    return data


def describe_outdated(model: Path) -> str | None:
    """What to say of a .tflite file that was converted from another model than the model.keras beside it.

    Compares the ids of the trainings, or else the times of the files. None when all is well, or
    when there is no model.keras.
    """
    original = model.parent / "model.keras"
    if model.is_dir() or not original.is_file() or not model.is_file():
        return None
    packed, data = packed_data(model), read_data(model.parent)
    if packed and data:
        if packed.training == data.training:
            return None
        reason = f"comes from another training ({packed.training}) than {original} ({data.training})"
    elif original.stat().st_mtime > model.stat().st_mtime + COPYING_SECONDS:
        reason = f"is older than {original}"
    else:
        return None
    return f"{model} {reason}; run convert_tflite.py to convert the new model"
