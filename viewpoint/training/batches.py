"""From the photos of a split to the batches that Keras trains and predicts on.

Every photo is decoded once, into a cache on disk that is mapped into memory: later epochs and
trainings need not decode again, and the photos need not fit into memory.
"""

import hashlib
import math
import shutil
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import numpy as np
import PIL
from sklearn.utils.class_weight import compute_class_weight

import config
from viewpoint.common import images, orientation
from viewpoint.common.cli import UserError
from viewpoint.common.images import load_image, scale
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.common.writing import remove, write_atomically
from viewpoint.training.augmentation import augment, mix

# MIRRORED_INDEX[i] is the class index of class i after a horizontal flip.
MIRRORED_INDEX = np.array([config.CLASSES.index(config.MIRRORED_CLASS[name]) for name in config.CLASSES])


class Images(Protocol):
    """Uint8 images (size, size, 3) by row: a list, an array, or one of the classes below."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> np.ndarray: ...


# --- Decoded photos ----------------------------------------------------------------


class DecodedPhotos:
    """Photos as uint8 images (size, size, 3), each decoded when it is accessed."""

    def __init__(self, files: Sequence[str], size: int):
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> np.ndarray:
        return load_image(self.files[row], self.size)

    def key(self) -> str:
        """A short hash of the files, their order, the size and the code that reads them."""
        content = hashlib.sha256()
        for module in (images, orientation):
            content.update(Path(str(module.__file__)).read_bytes())
        for file in self.files:
            status = Path(file).stat()
            content.update(f"{file}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}\n".encode())
        content.update(f"{self.size} {PIL.__version__}".encode())
        return content.hexdigest()[:16]


class MappedImages:
    """Uint8 images (size, size, 3), each mapped from one large .npy file when it is accessed.

    Mapping the whole file at once would in time count all of it as memory of this process. The file
    stays open, so that it may be deleted or replaced meanwhile. Accessing an image raises UserError
    when the file was cut off, or is on a mount where deleting takes it from others that read it.
    """

    def __init__(self, path: Path):
        self.path, self.file = path, path.open("rb")
        weakref.finalize(self, self.file.close)
        np.lib.format.read_magic(self.file)
        self.shape, _, _ = np.lib.format.read_array_header_1_0(self.file)
        self.offset = self.file.tell()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> np.ndarray:
        row = range(len(self))[row]
        offset = self.offset + row * int(np.prod(self.shape[1:]))
        try:
            return np.memmap(self.file, np.uint8, "r", offset, self.shape[1:])
        except (OSError, ValueError) as error:
            remove(self.path)
            raise UserError(
                f"{self.path} was deleted or changed during the training ({error}); "
                "continue with --resume, which decodes the photos again"
            ) from error


class MirroredImages:
    """Images flipped left to right."""

    def __init__(self, images: Images):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.images[row][:, ::-1]


def load_photos(name: str, files: Sequence[str], size: int, cache: Path | None, quiet: bool = False) -> Images:
    """The photos of the split `name` as uint8 images (size, size, 3).

    They come from the folder `cache`, or are decoded at each access when it is None.
    """
    photos = DecodedPhotos(files, size)
    return read_through_cache(photos, cache, name, quiet) if cache else photos


def read_through_cache(photos: DecodedPhotos, folder: Path, name: str, quiet: bool = False) -> MappedImages:
    """The same images, mapped from a file in `folder`, uint8 (n, size, size, 3).

    The file is written on first use and kept; it is written again when a photo changed, or the
    code that reads photos. Raises UserError when the disk has no room for it, ImageError when a
    photo cannot be read.
    """
    path = folder / f"{name}_{photos.size}_{photos.key()}.npy"
    if not path.is_file():
        shape = (len(photos), photos.size, photos.size, 3)
        # Written instead of mapped, so that a full disk is an error and not a crash.
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            for stale in folder.glob(f"{name}_{photos.size}_*.npy"):
                remove(stale)
            if np.prod(shape, dtype=float) > shutil.disk_usage(folder).free:
                raise UserError(
                    f"{folder} has no room for {np.prod(shape, dtype=float) / 2**30:.0f} GiB of decoded photos; "
                    "make room, or train with --no-cache"
                )
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            decoded = map_in_order(photos.__getitem__, range(len(photos)), cpu_count())
            for image in progress(decoded, f"Decoding {name}", len(photos), quiet=quiet):
                file.write(image.tobytes())
    return MappedImages(path)


# --- Batches -----------------------------------------------------------------------


class ImageBatches(keras.utils.PyDataset):
    """Batches of (images, targets) or, with class weights, (images, targets, weights).

    Images are float32 (n, size, size, 3), -1 to 1; targets float32 rows (n, classes) that
    add up to 1; weights float32 (n,). `images` holds the uint8 images (size, size, 3).
    """

    def __init__(self, images: Images, targets: np.ndarray, batch_size: int):
        # Threads, not processes: Pillow releases the interpreter lock while it works.
        super().__init__(workers=cpu_count(), max_queue_size=8)
        self.images, self.targets, self.batch_size = images, targets, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self.images) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = range(len(self.images))[index * self.batch_size : (index + 1) * self.batch_size]
        return scale(np.stack([self.images[row] for row in rows])), self.targets[rows]


@dataclass(frozen=True)
class Variation:
    """How training images are changed at random.

    With `strengths` (see augmentation.augment) a random crop of each image is resized; `flip` mirrors
    half of the images, `mixup` is the alpha of mixup, 0 for none.
    """

    flip: bool = False
    strengths: Mapping[str, float] | None = None
    mixup: float = 0.0


NO_VARIATION = Variation()


class TrainingBatches(ImageBatches):
    """ImageBatches in a new order each epoch, weighted by class and changed at random.

    Crops are resized to `size`; without crops the images must have that size. The same seed gives
    the same orders and the same changes.
    """

    def __init__(
        self,
        images: Images,
        targets: np.ndarray,
        batch_size: int,
        size: int,
        seed: int,
        variation: Variation = NO_VARIATION,
    ):
        super().__init__(images, targets, batch_size)
        self.size, self.seed, self.variation = size, seed, variation
        self.epoch = -1
        self.on_epoch_end()
        # Mirroring half the images makes FrontLeft and FrontRight equally frequent.
        seen = np.concatenate([targets, targets[:, MIRRORED_INDEX]]) if variation.flip else targets
        self.class_weights = balanced_class_weights(seen)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[override]
        # Each batch has a random generator of its own, because batches are made in parallel.
        random = np.random.default_rng([self.seed, self.epoch, index])
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pairs = [self.change(row, random) for row in rows]
        images, targets = scale(np.stack([image for image, _ in pairs])), np.stack([target for _, target in pairs])
        if self.variation.mixup:
            images, targets = mix(images, targets, self.variation.mixup, random)
        return images, targets, targets @ self.class_weights

    def change(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """One training image and its target row, changed at random."""
        pixels, target = self.images[row], self.targets[row]
        if self.variation.strengths is not None:
            pixels = augment(pixels, self.size, self.variation.strengths, random)
        if self.variation.flip and random.random() < 0.5:
            pixels, target = mirror(pixels, target)
        return pixels, target

    def on_epoch_end(self) -> None:
        self.go_to(self.epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Continue with the batches of this epoch, counted from 0."""
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.images))


class FeatureBatches(keras.utils.PyDataset):
    """Batches of (features, targets, weights) from arrays, in a new order each epoch.

    Keras could train on the arrays directly, but it would copy them: 1.5 GB for 100,000 photos.
    """

    def __init__(self, arrays: Sequence[np.ndarray], batch_size: int, seed: int):
        super().__init__()
        self.arrays, self.batch_size, self.random, self.epoch = arrays, batch_size, np.random.default_rng(seed), -1
        self.on_epoch_end()

    def __len__(self) -> int:
        return math.ceil(len(self.arrays[0]) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return tuple(array[rows] for array in self.arrays)

    def on_epoch_end(self) -> None:
        self.go_to(self.epoch + 1)

    def go_to(self, epoch: int) -> None:
        """Continue with the batches of this epoch, counted from 0; going back is not possible."""
        while self.epoch < epoch:
            self.epoch += 1
            self.order = self.random.permutation(len(self.arrays[0]))


def mirror(pixels: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image (height, width, 3) flipped left to right, and its target row (classes,) accordingly.

    The flip turns a car's left side into its right side, so FrontLeft becomes FrontRight.
    """
    return pixels[:, ::-1], target[MIRRORED_INDEX]


def one_hot(labels: Sequence[str]) -> np.ndarray:
    """Class names as target rows, float32 (n, classes), in the order of config.CLASSES."""
    return np.eye(len(config.CLASSES), dtype=np.float32)[[config.CLASSES.index(label) for label in labels]]


def balanced_class_weights(targets: np.ndarray) -> np.ndarray:
    """The weight of each class in the loss: n / (classes present * images of the class).

    Takes one-hot rows (n, classes), returns float32 (classes,); a class without images gets 1.
    Source: sklearn.utils.class_weight, "balanced".
    """
    indices = targets.argmax(axis=1)
    present = np.unique(indices)
    weights = np.ones(targets.shape[1], np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=indices)
    return weights
