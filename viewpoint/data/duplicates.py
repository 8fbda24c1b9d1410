"""Nearly equal photos: how they are found, and the groups of photos that must share a split."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import config
from viewpoint.common.images import File, open_image

HASHED_SIZE = 64  # the hashes use at most 32x32 pixels, so large photos need not be decoded in full
HALF = 64  # bits of each of the two hashes
MASK = (1 << HALF) - 1


def perceptual_hash(file: File) -> int:
    """A hash of 128 bits that nearly equal photos nearly share. Raises ImageError like open_image.

    The first half is imagehash.dhash, which compares neighbouring pixels, the second imagehash.phash,
    which compares frequencies: each alone changes too much where a photo is plain or overexposed.
    """
    # Made small and grey once, which both hashes would do by themselves otherwise.
    image = open_image(file, HASHED_SIZE).convert("L").resize((HASHED_SIZE, HASHED_SIZE), Image.Resampling.BOX)
    return int(str(imagehash.dhash(image)), 16) << HALF | int(str(imagehash.phash(image)), 16)


def near_duplicates(hashes: Mapping[str, int], max_bits: int = config.DUPLICATE_BITS) -> list[tuple[str, str]]:
    """Pairs of nearly equal photos, enough of them that all near-duplicates are connected, sorted.

    `hashes` maps image_path to its perceptual_hash; photos are near-duplicates when at most
    `max_bits` of its bits differ.
    """
    photos_of: dict[int, list[str]] = defaultdict(list)
    for path, value in sorted(hashes.items()):
        photos_of[value].append(path)
    pairs = [(photos[0], other) for photos in photos_of.values() for other in photos[1:]]
    first_photos = [photos[0] for photos in photos_of.values()]
    pairs += [(first_photos[i], first_photos[j]) for i, j in near_pairs(list(photos_of), max_bits)]
    return sorted((min(pair), max(pair)) for pair in pairs)


def near_pairs(hashes: Sequence[int], max_bits: int) -> set[tuple[int, int]]:
    """The places (i, j), i < j, of all hashes that differ in at most `max_bits` of their 128 bits.

    When hashes are cut into max_bits + 1 pieces, two such hashes have at least one piece in common,
    so only hashes with a common piece are compared.
    """
    first, second = (np.array([value >> shift & MASK for value in hashes], dtype=np.uint64) for shift in (HALF, 0))
    bits = np.unpackbits(np.column_stack([first, second]).view(np.uint8), axis=1)
    pairs: set[tuple[int, int]] = set()
    for piece in np.array_split(bits, max_bits + 1, axis=1):
        keys = np.packbits(piece, axis=1).astype(np.int64) @ (1 << 8 * np.arange((piece.shape[1] + 7) // 8))
        order = np.argsort(keys, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for start in range(0, len(bucket), 1000):  # in blocks, because a bucket may be large
                block, rest = bucket[start : start + 1000, np.newaxis], bucket[start:]
                differing = np.bitwise_count(first[block] ^ first[rest])
                differing += np.bitwise_count(second[block] ^ second[rest])
                for i, j in np.argwhere(differing <= max_bits):
                    if i < j:
                        pairs.add((int(bucket[start + i]), int(rest[j])))
    return pairs


def find_conflicts(df: pd.DataFrame, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the `pairs` of near_duplicates whose two photos have different labels in `df`."""
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    return [(a, b) for a, b in pairs if labels[a] != labels[b]]


def group_keys(image_paths: Sequence[str], pattern: str | None) -> list[str]:
    """What photos of one group have in common: their folder, or what `pattern` finds in their path.

    That is its first group in parentheses, if it has one. A photo in which it finds nothing is its own group.
    """
    if pattern is None:
        return [str(PurePosixPath(path).parent) for path in image_paths]
    found = [re.search(pattern, path) for path in image_paths]
    return [
        f"{match[1 if match.re.groups else 0]}" if match else f"/{path}"
        for path, match in zip(image_paths, found, strict=True)
    ]


def group_photos(
    image_paths: Sequence[str], pairs: Iterable[tuple[str, str]], keys: Sequence[str] | None = None
) -> list[int]:
    """The number of each photo's group: photos of one of the `pairs` or with equal `keys` share a group.

    Groups are chained: when a and b are a pair, and b and c, all three are one group.
    """
    number = {path: index for index, path in enumerate(image_paths)}
    links = [(number[a], number[b]) for a, b in pairs if a in number and b in number]
    if keys is not None:
        first: dict[str, int] = {}
        links += [(first.setdefault(key, index), index) for index, key in enumerate(keys)]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(number), len(number)))
    return connected_components(graph, directed=False)[1].tolist()
