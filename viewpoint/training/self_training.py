"""Learn from photos without labels: a model labels those that it is sure of, and learns from them.

Source: Lee, Pseudo-Label (2013); Xie et al., Self-training with Noisy Student (2020),
https://arxiv.org/abs/1911.04252. The mirror image serves as a check: a photo counts only when the
model gives it and its mirror image the same view of the car.

Needs TensorFlow.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import config
from viewpoint.common.cli import UserError, counted
from viewpoint.common.images import ImageError
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.data.duplicates import group_photos, near_duplicates, perceptual_hash
from viewpoint.data.provenance import hash_photos
from viewpoint.inference.inputs import find_inputs
from viewpoint.training.batches import MIRRORED_INDEX, MirroredImages, load_photos
from viewpoint.training.evaluation import predict


@dataclass(frozen=True)
class Unlabelled:
    """Photos without labels that a model may learn from: what it answered, and what was left out.

    `rows` has image_path, file and label, the model's answer; `hashes` and `looks` the photo_hash and the
    perceptual_hash of each; `left_out` counts the others by reason.
    """

    rows: pd.DataFrame
    hashes: list[str]
    looks: list[int]
    left_out: dict[str, int]

    def describe(self) -> str:
        """What was learned from and what was not, in a sentence."""
        total = len(self.rows) + sum(self.left_out.values())
        counts = self.rows["label"].value_counts()
        kept = ", ".join(f"{name} {counts[name]}" for name in config.CLASSES if name in counts)
        text = f"Of {counted(total, 'photo')} without labels, the model is sure of {len(self.rows)}"
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        return text + (f" ({kept})" if kept else "") + (f". Left out: {reasons}" if reasons else "")


def find_unlabelled(folder: Path, labelled: Sequence[str], quiet: bool) -> tuple[dict[str, int], dict[str, int]]:
    """The photos below a folder that can be read and are no near-duplicates of labelled ones, and the others' counts.

    The photos are {file: perceptual_hash}, the counts by reason. A model that learns from a near-duplicate of a test
    photo would have figures that are too good.
    """
    files = [str(item.file) for item in find_inputs(folder)]
    hashes: dict[str, int] = {}

    def add_hash(file: str) -> None:
        with contextlib.suppress(ImageError):
            hashes[file] = perceptual_hash(Path(file))

    every = [*labelled, *files]
    for _ in progress(map_in_order(add_hash, every, cpu_count()), "Near-duplicates", len(every), quiet=quiet):
        pass
    group_of = dict(zip(hashes, group_photos(list(hashes), near_duplicates(hashes)), strict=True))
    known = {group_of[file] for file in labelled if file in group_of}
    readable = [file for file in files if file in hashes]
    others = {file: hashes[file] for file in readable if group_of[file] not in known}
    left_out = {
        "unreadable": len(files) - len(readable),
        "nearly the same as a labelled photo": len(readable) - len(others),
    }
    return others, left_out


def answers(probabilities: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class index of each photo, and whether the model is sure of it: (int (n,), bool (n,)).

    Takes the probabilities (n, classes) of photos and of their mirror images. Sure means that both
    show the same view, left and right exchanged, and that the mean of their scores is at least
    config.PSEUDO_LABEL_SCORE. Nothing counts as a sure Background: vehicles of a kind that the model
    has never seen are called so with high scores, and their mirror images too.
    """
    mirrored = mirrored[:, MIRRORED_INDEX]
    mean = (probabilities + mirrored) / 2
    agree = probabilities.argmax(axis=1) == mirrored.argmax(axis=1)
    is_view = mean.argmax(axis=1) != config.CLASSES.index(config.BACKGROUND)
    return mean.argmax(axis=1), agree & is_view & (mean.max(axis=1) >= config.PSEUDO_LABEL_SCORE)


def label_unlabelled(
    model: keras.Model,
    folder: Path,
    splits: dict[str, pd.DataFrame],
    cache: Path | None,
    batch_size: int,
    quiet: bool,
) -> Unlabelled:
    """Let a trained model label the photos below `folder`, and keep those that it is sure of.

    Decoded photos are kept in the folder `cache`, if one is given. Raises UserError when the model is sure of none.
    """
    labelled = [file for split in splits.values() for file in split["file"]]
    files, left_out = find_unlabelled(folder, labelled, quiet)
    indices, sure = np.zeros(0, int), np.zeros(0, bool)
    if files:
        images = load_photos("unlabelled", list(files), model.input_shape[1], cache, quiet)
        indices, sure = answers(predict(model, images, batch_size), predict(model, MirroredImages(images), batch_size))
    is_background = indices == config.CLASSES.index(config.BACKGROUND)
    left_out[f"called {config.BACKGROUND}, as vehicles of unknown kinds often are"] = int(is_background.sum())
    left_out["answered with too low a score, or differently in the mirror"] = int((~sure & ~is_background).sum())
    kept = [file for file, is_sure in zip(files, sure, strict=True) if is_sure]
    rows = pd.DataFrame(
        {"image_path": kept, "file": kept, "label": [config.CLASSES[index] for index in indices[sure]]}, dtype=str
    )
    found = Unlabelled(rows, hash_photos(kept), [files[file] for file in kept], left_out)
    print(f"{found.describe()}.")
    if not kept:
        raise UserError(f"nothing to learn from {folder}; train without --unlabelled")
    return found
