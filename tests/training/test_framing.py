"""A training frames vehicles in other ways by the outlines of their parts, without losing their ends."""

import numpy as np
import pytest
from PIL import Image

from viewpoint.annotations.photo import Part
from viewpoint.data.parts import WHOLE_PHOTO, read_drawn, write_parts
from viewpoint.training import augmentation
from viewpoint.training.batches import vehicle_boxes
from viewpoint.training.settings import Settings

BONNET = Part(("bonnet",), (((40.0, 20.0), (80.0, 20.0), (80.0, 40.0)),))
DOOR = Part(("leftfrontdoor",), (((100.0, 10.0), (160.0, 60.0), (120.0, 90.0)),))


@pytest.fixture
def drawn(tmp_path):
    """Two photos as data_preparation.py hands them to train.py: 200 x 100 pixels with two parts, and without any."""
    write_parts({"a/é 1.jpg": ((BONNET, DOOR), (200, 100)), "b.jpg": ((), (10, 10))}, tmp_path / "parts.jsonl")
    return read_drawn(tmp_path / "parts.jsonl", {"a/é 1.jpg", "b.jpg"})


def test_a_vehicle_is_where_its_parts_are(drawn):
    """From x = 40 to 160 of 200 pixels and from y = 10 to 90 of 100."""
    assert vehicle_boxes(["a/é 1.jpg"], ["FrontLeft"], drawn) == [(0.2, 0.1, 0.8, 0.9)]


def test_a_background_counts_as_a_whole(drawn):
    assert vehicle_boxes(["b.jpg", "a/é 1.jpg"], ["Background", "Background"], drawn) == [WHOLE_PHOTO, WHOLE_PHOTO]


def test_a_corrected_label_or_an_unknown_photo_has_no_box(drawn):
    assert vehicle_boxes(["a/é 1.jpg", "new.jpg"], ["RearLeft", "Front"], drawn) == [None, None]


# --- Framing -----------------------------------------------------------------------

GEOMETRY_ONLY = Settings().strengths() | dict.fromkeys(
    "rotated_share brightness_change contrast_change saturation_change blurred_share "
    "compressed_share erased_share aliased_share".split(),
    0.0,
)


def photo_with_a_vehicle(box) -> np.ndarray:
    """A green photo with a vehicle in `box`: its left half red, its right half blue."""
    pixels = np.zeros((200, 200, 3), np.uint8)
    pixels[..., 1] = 128
    left, top, right, bottom = (round(200 * value) for value in box)
    pixels[top:bottom, left:right] = (0, 0, 255)
    pixels[top:bottom, left : (left + right) // 2] = (255, 0, 0)
    return pixels


def framed(seed: int, box, **strengths) -> np.ndarray:
    strengths = GEOMETRY_ONLY | {"framed_share": 1.0} | strengths
    return augmentation.augment(photo_with_a_vehicle(box), 100, strengths, np.random.default_rng(seed), box)


def count(image: np.ndarray, channel: int) -> int:
    """Pixels that are nearly pure red (0) or blue (2)."""
    others = [other for other in range(3) if other != channel]
    return int(((image[..., channel] > 200) & (image[..., others].max(axis=2) < 60)).sum())


@pytest.mark.parametrize("box", [(0.1, 0.2, 0.9, 0.8), (0.4, 0.5, 0.7, 0.6), WHOLE_PHOTO])
def test_a_framed_photo_shows_both_ends_of_its_vehicle(box):
    """Colors of the surroundings may add to the count, so only a lower bound is checked."""
    width, height = box[2] - box[0], box[3] - box[1]
    for seed in range(40):
        image = framed(seed, box, min_vehicle_share=0.5, max_vehicle_share=1.0, max_crop_stretch=1.0)
        # At half the frame's width, 50 x 50 * height / width pixels; each color has half of them.
        least = 0.5 * 50 * 50 * min(width, height) / max(width, height)
        assert count(image, 0) > 0.8 * least
        assert count(image, 2) > 0.8 * least


def test_a_vehicle_of_half_the_photo_is_shown_at_the_sizes_asked_for():
    box, shares = (0.25, 0.25, 0.75, 0.75), []
    for seed in range(60):
        image = framed(seed, box, min_vehicle_share=0.5, max_vehicle_share=1.0, max_crop_stretch=1.0)
        shares.append(((count(image, 0) + count(image, 2)) / 100**2) ** 0.5)
    assert min(shares) == pytest.approx(0.5, abs=0.06)
    assert max(shares) == pytest.approx(1.0, abs=0.06)


def test_without_a_box_a_photo_is_cropped_as_ever():
    pixels = photo_with_a_vehicle((0.2, 0.2, 0.8, 0.8))
    one, other = (
        augmentation.augment(pixels, 100, GEOMETRY_ONLY | {"framed_share": share}, np.random.default_rng(3))
        for share in (0.0, 1.0)
    )
    assert np.array_equal(one, other)


def test_a_box_turns_with_its_photo():
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[10:20, 70:90] = 255
    turned = np.asarray(augmentation.rotate(Image.fromarray(pixels), 10)).max(axis=2) > 128
    rows, columns = np.nonzero(turned)
    left, top, right, bottom = augmentation.rotate_box((0.7, 0.1, 0.9, 0.2), 10)
    assert (left, right) == pytest.approx((columns.min() / 100, (columns.max() + 1) / 100), abs=0.02)
    assert (top, bottom) == pytest.approx((rows.min() / 100, (rows.max() + 1) / 100), abs=0.02)
