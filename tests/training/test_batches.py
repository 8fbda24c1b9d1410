"""From photos to batches: what is cached, mirrored, weighted, and never changed.

Random changes keep an image what it is; fixed ones do what they say.
"""

import shutil

import numpy as np
import pytest
from conftest import save_photo
from PIL import Image

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import ImageError, open_image, resize, scale
from viewpoint.training import augmentation
from viewpoint.training.batches import (
    DecodedPhotos,
    ImageBatches,
    MappedImages,
    TrainingBatches,
    Variation,
    balanced_class_weights,
    mirror,
    one_hot,
    read_through_cache,
)
from viewpoint.training.settings import Settings


def numbered_images(count: int, size: int = 8) -> np.ndarray:
    """Uint8 images (count, size, size, 3) that are recognised by their one grey level."""
    return np.stack([np.full((size, size, 3), level, np.uint8) for level in range(count)])


def test_batches_hold_every_photo_once_in_a_new_order_each_epoch():
    targets = one_hot((config.CLASSES * 2)[:10])

    def epochs(seed: int) -> list[list[int]]:
        batches, orders = TrainingBatches(numbered_images(10), targets, batch_size=4, size=8, seed=seed), []
        for _ in range(2):
            parts = [batches[index] for index in range(len(batches))]
            assert [len(part[0]) for part in parts] == [4, 4, 2]
            images = np.concatenate([part[0] for part in parts])
            order = [round((image[0, 0, 0] + 1) * 127.5) for image in images]
            assert np.array_equal(np.concatenate([part[1] for part in parts]), targets[order])
            orders.append(order)
            batches.on_epoch_end()
        return orders

    first, second = epochs(1)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert epochs(1) == [first, second]
    assert epochs(2) != [first, second]


def test_validation_batches_are_in_order_and_never_changed():
    images, targets = numbered_images(5), one_hot(config.CLASSES[:5])
    batches = ImageBatches(images, targets, batch_size=3)
    seen = np.concatenate([batches[0][0], batches[1][0]])
    assert np.array_equal(seen, scale(images))
    assert np.array_equal(np.concatenate([batches[0][1], batches[1][1]]), targets)


@pytest.mark.parametrize(
    ("name", "mirrored_name"),
    [
        ("Front", "Front"),
        ("FrontLeft", "FrontRight"),
        ("FrontRight", "FrontLeft"),
        ("Rear", "Rear"),
        ("RearLeft", "RearRight"),
        ("RearRight", "RearLeft"),
        ("Background", "Background"),
    ],
)
def test_a_mirrored_image_has_the_mirrored_class(name, mirrored_name):
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 0] = 255  # white on the left edge
    mirrored, target = mirror(image, one_hot([name])[0])
    assert mirrored[:, 3].min() == 255
    assert mirrored[:, :3].max() == 0
    assert config.CLASSES[int(target.argmax())] == mirrored_name
    assert target.sum() == 1


def test_the_flip_mirrors_image_and_class_together():
    """Of one FrontLeft photo, white on its left edge, some copies come out mirrored."""
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :2] = 255
    labels = set()
    for seed in range(20):
        batches = TrainingBatches([image], one_hot(["FrontLeft"]), 1, 8, seed=0, variation=Variation(flip=True))
        pixels, target = batches.change(0, np.random.default_rng(seed))
        label = config.CLASSES[int(target.argmax())]
        assert label == ("FrontLeft" if pixels[0, 0, 0] else "FrontRight")
        labels.add(label)
    assert labels == {"FrontLeft", "FrontRight"}


def test_class_weights_count_the_mirrored_images_too():
    """Six FrontLeft and two FrontRight, mirrored half the time, are equally frequent."""
    targets = one_hot(["FrontLeft"] * 6 + ["FrontRight"] * 2 + ["Front"] * 4)
    weights = TrainingBatches(numbered_images(12), targets, 16, 8, seed=0, variation=Variation(flip=True)).class_weights
    # 12 images, 3 classes, 4 of each.
    assert weights[:3] == pytest.approx([1, 1, 1])


def test_class_weights_balance_the_classes():
    weights = balanced_class_weights(one_hot(["Front"] * 6 + ["Rear"] * 2))
    # 8 images, 2 classes: 8 / (2 * 6) and 8 / (2 * 2).
    assert weights[config.CLASSES.index("Front")] == pytest.approx(2 / 3)
    assert weights[config.CLASSES.index("Rear")] == pytest.approx(2)
    assert weights[config.CLASSES.index("RearLeft")] == 1


def test_training_images_carry_the_weight_of_their_class():
    targets = one_hot(["Front"] * 6 + ["Rear"] * 2)
    _, batch_targets, weights = TrainingBatches(numbered_images(8), targets, batch_size=8, size=8, seed=0)[0]
    for target, weight in zip(batch_targets, weights, strict=True):
        assert weight == pytest.approx(2 if config.CLASSES[int(target.argmax())] == "Rear" else 2 / 3)


# --- The cache ---------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path) -> DecodedPhotos:
    return DecodedPhotos([str(save_photo(tmp_path / f"{index}.png", seed=index)) for index in range(3)], 32)


def test_the_cache_holds_what_decoding_gives_and_is_mapped_not_read(photos, tmp_path):
    cached = read_through_cache(photos, tmp_path / "cache", "train")
    assert all(isinstance(photo, np.memmap) for photo in cached)
    assert np.array_equal(cached, np.stack(list(photos)))


def test_cached_photos_are_not_decoded_again(photos, tmp_path, monkeypatch):
    first = read_through_cache(photos, tmp_path / "cache", "train")
    monkeypatch.setattr(DecodedPhotos, "__getitem__", None)
    assert np.array_equal(read_through_cache(photos, tmp_path / "cache", "train"), first)


def test_a_changed_photo_size_or_order_is_never_served_stale(photos, tmp_path):
    def cached(files, size) -> MappedImages:
        wanted = DecodedPhotos(files, size)
        pixels = read_through_cache(wanted, tmp_path / "cache", "train")
        assert np.array_equal(pixels, np.stack(list(wanted)))
        return pixels

    first = np.array(cached(photos.files, 32))
    save_photo(tmp_path / "1.png", seed=9)
    assert not np.array_equal(cached(photos.files, 32), first)
    cached(photos.files[::-1], 32)
    cached(photos.files, 48)
    # One file for each size: what a change made useless is gone.
    assert sorted(path.name.split("_")[1] for path in (tmp_path / "cache").iterdir()) == ["32", "48"]


def test_a_cache_that_another_run_deletes_or_rewrites_is_still_read(photos, tmp_path):
    expected = np.stack(list(photos))
    cached = read_through_cache(photos, tmp_path / "cache", "train")
    save_photo(tmp_path / "1.png", seed=9)
    other = read_through_cache(DecodedPhotos(photos.files, 32), tmp_path / "cache", "train")
    assert not cached.path.exists()  # it was of the photos as they were
    assert np.array_equal(cached, expected)
    assert not np.array_equal(other, expected)
    shutil.rmtree(tmp_path / "cache")
    assert np.array_equal(cached, expected)


def test_a_cache_that_was_cut_off_is_one_sentence_and_decoded_again_by_the_next_run(photos, tmp_path):
    cached = read_through_cache(photos, tmp_path / "cache", "train")
    with cached.path.open("r+b") as file:
        file.truncate(5000)  # the first of three images of 3,072 bytes is whole
    assert np.array_equal(cached[0], photos[0])
    with pytest.raises(UserError, match=r"train_32_.*npy was deleted or changed .*; continue with --resume"):
        cached[2]
    assert np.array_equal(read_through_cache(photos, tmp_path / "cache", "train"), np.stack(list(photos)))


def test_an_unreadable_photo_leaves_no_cache(photos, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"1\.png"):
        read_through_cache(photos, tmp_path / "cache", "train")
    assert not list((tmp_path / "cache").iterdir())


# --- Augmentation ------------------------------------------------------------------


STRENGTHS = Settings().strengths()


@pytest.fixture
def photo(tmp_path) -> Image.Image:
    return open_image(save_photo(tmp_path / "photo.png", size=(280, 280)))


def changed(pixels: np.ndarray, seed: int) -> np.ndarray:
    return augmentation.augment(pixels, 224, STRENGTHS, np.random.default_rng(seed))


def test_augmented_images_differ_but_the_same_seed_gives_the_same(photo):
    pixels = np.asarray(photo)
    first, again, other = (
        augmentation.augment(pixels, 224, STRENGTHS, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (224, 224, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_augmentation_never_mirrors():
    """A photo that grows brighter from its left to its right still does."""
    pixels = np.broadcast_to(np.linspace(0, 200, 280).astype(np.uint8)[:, np.newaxis], (280, 280, 3))
    for seed in range(50):
        columns = changed(pixels, seed).mean(axis=(0, 2))
        assert np.corrcoef(columns, np.arange(224))[0, 1] > 0.7


@pytest.mark.parametrize("area", [0.05, 0.25])
def test_erasing_covers_the_area_asked_for(area):
    pixels = np.full((200, 200, 3), 77, np.uint8)
    augmentation.erase(pixels, area, np.random.default_rng(0))
    assert (pixels != 77).any(axis=2).mean() == pytest.approx(area, rel=0.05)


def test_mixup_blends_images_and_targets_alike():
    images, targets = np.eye(4, dtype=np.float32).reshape(4, 2, 2, 1), np.eye(4, dtype=np.float32)
    mixed_images, mixed_targets = augmentation.mix(images, targets, 0.5, np.random.default_rng(0))
    assert mixed_images.dtype == mixed_targets.dtype == np.float32
    # Image i is row i of the same identity, so both must come out equal.
    assert np.array_equal(mixed_images.reshape(4, 4), mixed_targets)
    assert mixed_targets.sum(axis=1) == pytest.approx(np.ones(4))


def test_a_turned_photo_keeps_its_size_and_its_middle(photo):
    turned = augmentation.rotate(photo, 10)
    assert turned.size == photo.size
    assert np.abs(np.asarray(turned)[138:142, 138:142].astype(int) - np.asarray(photo)[138:142, 138:142]).max() <= 3
    white = Image.new("RGB", (90, 60), "white")
    assert np.asarray(augmentation.rotate(white, 10)).min() == 255  # no dark corners


def test_an_aliased_resize_does_not_average():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    image = Image.fromarray(stripes)
    averaged, aliased = resize(image, 16), augmentation.resize_aliased(image, (16, 16))
    assert np.ptp(np.asarray(averaged)[:, 2:-2].astype(int)) <= 10
    assert set(np.unique(np.asarray(aliased))) <= {0, 127, 128, 255}


@pytest.mark.parametrize("name", augmentation.CORRUPTIONS)
def test_corruptions_change_the_photo_and_give_the_models_size(photo, name):
    corrupted = np.asarray(augmentation.CORRUPTIONS[name](photo.resize((300, 200)), 224))
    assert corrupted.shape == (224, 224, 3)
    if name == "25 % occluded":
        assert (corrupted == 128).all(axis=2).mean() == pytest.approx(0.25, abs=0.01)
    if name == "low light":
        assert corrupted.mean() < 0.35 * np.asarray(photo).mean()
