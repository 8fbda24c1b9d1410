"""Near-duplicates: which photos are nearly equal, and the groups that they make."""

import itertools
import random

import pandas as pd
from PIL import Image, ImageEnhance

import config
from viewpoint.data.duplicates import (
    find_conflicts,
    group_keys,
    group_photos,
    near_duplicates,
    near_pairs,
    perceptual_hash,
)


def test_near_pairs_equal_a_search_through_all_pairs():
    draw = random.Random(0)
    values = [draw.getrandbits(128) for _ in range(60)]
    for value in values[:]:
        for flips in (3, config.DUPLICATE_BITS, config.DUPLICATE_BITS + 1):
            values.append(value ^ sum(1 << bit for bit in draw.sample(range(128), flips)))
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(values), 2)
        if (a ^ b).bit_count() <= config.DUPLICATE_BITS
    }
    assert near_pairs(values, config.DUPLICATE_BITS) == expected
    assert 120 <= len(expected) < 360
    assert near_pairs([], 14) == near_pairs([7], 14) == near_pairs([7, 6], 0) == set()
    assert near_pairs([7, 1 << 127], 127) == {(0, 1)}


def test_a_burst_of_one_car_is_chained_and_another_car_is_not(demo_photos, tmp_path):
    """Exposure and compression differ from photo to photo of a burst, as phones save them."""
    files = sorted(demo_photos.rglob("*.jpg"))[:12]
    hashes = {}
    for number, file in enumerate(files):
        for shot, (brightness, quality) in enumerate([(0.8, 90), (0.9, 40), (1.1, 60), (1.2, 75)]):
            saved = tmp_path / f"{number}_{shot}.jpg"
            ImageEnhance.Brightness(Image.open(file)).enhance(brightness).save(saved, quality=quality)
            hashes[saved.name] = perceptual_hash(saved)
    groups = group_photos(list(hashes), near_duplicates(hashes))
    assert groups == [number for number in range(12) for _ in range(4)]


def test_near_duplicates_are_all_connected_by_the_pairs():
    base, far = 0x0123456789ABCDEF << 64, 0xFEDCBA9876543210
    hashes = {
        "a": base,
        "b": base,
        "c": far,
        "d": base ^ (1 << 14) - 1,  # 14 bits from a and b
        "e": far ^ (1 << 127 | 1 << 63 | 1),  # 3 bits, far apart, from c
        "f": base ^ ((1 << 15) - 1) << 20,  # 15 bits from a and b: too far
    }
    assert near_duplicates(hashes) == [("a", "b"), ("a", "d"), ("c", "e")]
    assert len(near_duplicates({str(number): 7 for number in range(700)})) == 699


def test_groups_are_chained_by_pairs_and_keys():
    assert group_photos(list("abcdef"), [("a", "c"), ("c", "d")]) == [0, 1, 0, 0, 2, 3]
    assert group_photos(list("abcdef"), [("a", "c")], ["x", "x", "y", "z", "z", "w"]) == [0, 0, 0, 1, 1, 2]


def test_groups_are_folders_or_what_a_pattern_finds_in_names():
    assert group_keys(["lot 1/a.jpg", "lot 1/b/c.jpg", "d.jpg"], None) == ["lot 1", "lot 1/b", "."]
    assert group_keys(["a_jpg.rf.0123.jpg", "a_jpg.rf.9.jpg", "b.jpg"], r"(.*)_jpg\.rf\.") == ["a", "a", "/b.jpg"]


def test_nearly_equal_photos_with_different_labels_conflict():
    df = pd.DataFrame({"image_path": list("abcd"), "label": ["Front", "Rear", "Rear", "Rear"]})
    assert find_conflicts(df, [("a", "b"), ("c", "d")]) == [("a", "b")]
