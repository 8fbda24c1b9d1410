"""Random changes keep an image what it is; fixed ones do what they say."""

import numpy as np
import pytest
from conftest import save_photo
from PIL import Image

from viewpoint.common.images import open_image, resize
from viewpoint.training import augmentation
from viewpoint.training.settings import Settings

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
