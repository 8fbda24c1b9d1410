"""From the splits' photos to the batches that Keras trains and predicts on.

Decodes every photo once into a cache on disk, which is mapped into memory: later epochs and
trainings need not decode, and photos need not fit into memory.
"""

import argparse
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import PIL
from sklearn.utils.class_weight import compute_class_weight
from tqdm import tqdm

import config
import images
from augmentation import augment, mix
from common import UserError, map_in_order, write_atomically
from images import load_image, scale

# Where the class that each class index becomes in the mirror stands.
MIRRORED_INDEX = np.array([config.CLASSES.index(config.MIRRORED_CLASS[name]) for name in config.CLASSES])

# --- Photos ------------------------------------------------------------------------


class Photos(Sequence):
    """Photos as uint8 (size, size, 3), each decoded when it is asked for."""

    def __init__(self, files: Sequence[str], size: int):
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> np.ndarray:
        return load_image(self.files[row], self.size)

    def key(self) -> str:
        """A short name that changes with any of the files, their order, the size, and how they are read."""
        content = hashlib.sha256(Path(images.__file__).read_bytes())
        for file in self.files:
            status = Path(file).stat()
            content.update(f"{file}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}\n".encode())
        content.update(f"{self.size} {PIL.__version__}".encode())
        return content.hexdigest()[:16]


class MappedPhotos(Sequence):
    """Photos as uint8 (size, size, 3), each mapped from the .npy file of them all when it is asked for.

    A map of the whole file would in time count all of it as this process's memory.
    """

    def __init__(self, path: Path):
        whole = np.load(path, mmap_mode="r")
        self.path, self.shape, self.offset = path, whole.shape, whole.offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        row = range(len(self))[row]
        offset = self.offset + row * int(np.prod(self.shape[1:]))
        return np.memmap(self.path, np.uint8, "r", offset, self.shape[1:])


class MirroredPhotos(Sequence):
    """Photos left to right."""

    def __init__(self, photos: Sequence[np.ndarray]):
        self.photos = photos

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.photos[row][:, ::-1]


def load_photos(name: str, split: pd.DataFrame, size: int, args: argparse.Namespace) -> Sequence[np.ndarray]:
    """The photos of the split `name` as uint8 (size, size, 3): from the cache, or anew with --no-cache."""
    photos = Photos(split["file"], size)
    return read_through_cache(photos, args.dataset / "cache", name, args.quiet) if args.cache else photos


def read_through_cache(photos: Photos, folder: Path, name: str, quiet: bool = False) -> MappedPhotos:
    """The same photos, mapped from a file in `folder`, uint8 (n, size, size, 3).

    The file is written on the first use and kept for the next; when a photo or the way to
    read it changed, it is written anew. Raises UserError when there is no room for it,
    ImageError when a photo cannot be read.
    """
    path = folder / f"{name}_{photos.size}_{photos.key()}.npy"
    if not path.is_file():
        shape = (len(photos), photos.size, photos.size, 3)
        # Written and not mapped, for a full disk must be an error and not a crash.
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            for stale in folder.glob(f"{name}_{photos.size}_*.npy"):
                stale.unlink(missing_ok=True)
            if np.prod(shape, dtype=float) > shutil.disk_usage(folder).free:
                raise UserError(
                    f"{folder} has no room for {np.prod(shape, dtype=float) / 2**30:.0f} GiB of decoded photos; "
                    "make room, or train with --no-cache"
                )
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            decoded = map_in_order(photos.__getitem__, range(len(photos)), os.cpu_count() or 1)
            for image in tqdm(decoded, f"Decoding {name}", len(photos), unit="image", disable=quiet):
                file.write(image.tobytes())
    return MappedPhotos(path)


# --- Batches -----------------------------------------------------------------------


class ImageBatches(keras.utils.PyDataset):
    """Batches of (images, targets) or, with class weights, (images, targets, weights).

    Images are float32 (n, size, size, 3), -1 to 1; targets float32 rows (n, classes) that
    add up to 1; weights float32 (n,). `photos` gives uint8 images by row.
    """

    def __init__(self, photos: Sequence[np.ndarray], targets: np.ndarray, batch_size: int):
        # Threads, not processes: Pillow lets go of the interpreter lock while it works.
        super().__init__(workers=os.cpu_count() or 1, max_queue_size=8)
        self.photos, self.targets, self.batch_size = photos, targets, batch_size

    def __len__(self) -> int:
        return -(-len(self.photos) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = range(len(self.photos))[index * self.batch_size : (index + 1) * self.batch_size]
        return scale(np.stack([self.photos[row] for row in rows])), self.targets[rows]


class TrainingBatches(ImageBatches):
    """ImageBatches in a new order each epoch, weighted by class, changed as the recipe says.

    The images of a batch are of `size`, to which --augment cuts larger photos; without it,
    the photos must have it. The same seed gives the same orders and the same changes.
    """

    def __init__(self, photos: Sequence[np.ndarray], targets: np.ndarray, size: int, args: argparse.Namespace):
        super().__init__(photos, targets, args.batch_size)
        self.size, self.args, self.epoch = size, args, -1
        self.on_epoch_end()
        # Mirroring half the images makes FrontLeft and FrontRight equally frequent.
        seen = np.concatenate([targets, targets[:, MIRRORED_INDEX]]) if args.flip else targets
        self.class_weights = balanced_class_weights(seen)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # A generator for each batch, because batches are made in parallel.
        random = np.random.default_rng([self.args.seed, self.epoch, index])
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [change(self.photos[row], self.targets[row], self.size, self.args, random) for row in rows]
        images, targets = scale(np.stack([image for image, _ in pairs])), np.stack([target for _, target in pairs])
        if self.args.mixup:
            images, targets = mix(images, targets, self.args.mixup, random)
        return images, targets, targets @ self.class_weights

    def on_epoch_end(self) -> None:
        self.go_to(self.epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Give the batches of this epoch next, counted from 0."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.args.seed, self.epoch]).permutation(len(self.photos))


class FeatureBatches(keras.utils.PyDataset):
    """Batches of (features, targets, weights) out of arrays, in a new order each epoch.

    From the arrays themselves Keras would train as well, but on a copy: of 100,000 photos, 1.5 GB.
    """

    def __init__(self, arrays: Sequence[np.ndarray], batch_size: int, seed: int):
        super().__init__()
        self.arrays, self.batch_size, self.random, self.epoch = arrays, batch_size, np.random.default_rng(seed), -1
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.arrays[0]) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return tuple(array[rows] for array in self.arrays)

    def on_epoch_end(self) -> None:
        self.go_to(self.epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Give the batches of this epoch next, counted from 0; only ever forward."""
        while self.epoch < epoch:
            self.epoch += 1
            self.order = self.random.permutation(len(self.arrays[0]))


def change(
    pixels: np.ndarray, target: np.ndarray, size: int, args: argparse.Namespace, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One training image and its target, changed at random as the recipe says."""
    if args.augment:
        pixels = augment(pixels, size, args, random)
    if args.flip and random.random() < 0.5:
        pixels, target = mirror(pixels, target)
    return pixels, target


def mirror(pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, 3) left to right, and its target row (classes,) with it.

    A car's left side becomes its right one, so FrontLeft becomes FrontRight.
    """
    return pixels[:, ::-1], target[MIRRORED_INDEX]


def one_hot(labels: Sequence[str]) -> np.ndarray:
    """Class names as target rows, float32 (n, classes), in the order of config.CLASSES."""
    return np.eye(len(config.CLASSES), dtype=np.float32)[[config.CLASSES.index(label) for label in labels]]


def balanced_class_weights(targets: np.ndarray) -> np.ndarray:
    """The weight of each class in the loss: n / (classes present * images of the class).

    Takes one-hot rows (n, classes), gives float32 (classes,); a class without images gets 1.
    Source: sklearn.utils.class_weight, "balanced".
    """
    indices = targets.argmax(axis=1)
    present = np.unique(indices)
    weights = np.ones(targets.shape[1], np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=indices)
    return weights
