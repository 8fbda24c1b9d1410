"""Cut labelled photos into train, val and test; find near-duplicates across them."""

import itertools
import os
import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

import config
from viewpoint.cli import UserError
from viewpoint.dataset import class_counts

GROUPED_DRAWS = 20  # random draws of folders; --split grouped takes the best


def create_stratified_splits(
    df: pd.DataFrame,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled photos into train, val and test (80/10/10) with equal class fractions.

    Every row lands in exactly one split; the same input and seed give the same splits.
    Raises UserError when a class has too few photos to be in all three.
    """
    check_shares(val_share, test_share)
    if df.empty:
        raise UserError("no labelled photos to split; give the folder of your photos with --data")
    try:
        train, rest = train_test_split(df, test_size=val_share + test_share, stratify=df["label"], random_state=seed)
        val, test = train_test_split(
            rest,
            test_size=test_share / (val_share + test_share),
            stratify=rest["label"],
            random_state=seed,
        )
        # scikit-learn may put both photos of a class of two into train without an error.
        if not set(df["label"]) == set(train["label"]) == set(val["label"]) == set(test["label"]):
            raise ValueError("a class is missing from a split")
    except ValueError as error:
        counts = class_counts(df["label"])
        smallest = min((name for name in counts if counts[name]), key=lambda name: counts[name])
        needed = round(1 / min(val_share, test_share))
        raise UserError(
            f"too few photos to split: {smallest} has {counts[smallest]} of {len(df)}; "
            f"annotate more until every class you use has about {needed}, or write the labels alone with --split none"
        ) from error
    return in_path_order(train), in_path_order(val), in_path_order(test)


def create_grouped_splits(
    df: pd.DataFrame,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled photos like create_stratified_splits, but keep each folder in one split.

    Sizes and class fractions are as close to the requested ones as whole folders allow; a class
    with photos in few folders may be missing from val or test. Raises UserError when there are
    fewer than three folders, or a class would be missing from train.
    """
    check_shares(val_share, test_share)
    rest, test = split_off_folders(df, test_share, seed)
    train, val = split_off_folders(rest, val_share / (1 - test_share), seed)
    missing = sorted(set(df["label"]) - set(train["label"]))
    if missing:
        raise UserError(
            f"all photos of {missing[0]} are in folders of the val or test split; "
            "annotate more folders, give another --seed, or use --split stratified"
        )
    return in_path_order(train), in_path_order(val), in_path_order(test)


def split_off_folders(df: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take whole folders with about the fraction `share` of the photos out of `df`: (the rest, the taken)."""
    folders = df["image_path"].map(os.path.dirname)
    parts = min(round(1 / share), folders.nunique(), df["label"].value_counts().max())
    if parts < 2:
        raise UserError("--split grouped needs photos in at least three folders; use --split stratified")
    wanted = share * df["label"].value_counts()

    def distance(rows: np.ndarray) -> float:
        counts = df["label"].iloc[rows].value_counts().reindex(wanted.index, fill_value=0)
        return ((counts / wanted - 1) ** 2).sum()

    # Every fold of every draw is a candidate; the one closest to the wanted class counts is taken.
    draws = [StratifiedGroupKFold(parts, shuffle=True, random_state=(seed + i) % 2**32) for i in range(GROUPED_DRAWS)]
    with warnings.catch_warnings():
        # scikit-learn warns about rare classes; the summary says more clearly where they are missing.
        warnings.simplefilter("ignore", UserWarning)
        candidates = [pair for draw in draws for pair in draw.split(df, df["label"], folders)]
    rest, taken = min(candidates, key=lambda pair: distance(pair[1]))
    return df.iloc[rest], df.iloc[taken]


def in_path_order(df: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by image_path, with a new index."""
    return df.sort_values("image_path", ignore_index=True)


def check_shares(val_share: float, test_share: float) -> None:
    """Raise UserError unless both fractions, and what they leave for train, are above 0."""
    if val_share <= 0 or test_share <= 0 or val_share + test_share >= 1:
        raise UserError("--val-share and --test-share must be above 0 and add up to less than 1")


def straddling_duplicates(
    splits: dict[str, pd.DataFrame], hashes: dict[str, int], max_bits: int = config.DUPLICATE_BITS
) -> list[tuple[str, str, str, str]]:
    """Pairs of near-duplicates in different splits: (photo, its split, photo, its split).

    `hashes` maps image_path to a 64-bit perceptual hash (imagehash.dhash); photos are
    near-duplicates when at most `max_bits` of its bits differ. Every photo that has a
    near-duplicate in another split is in some pair, but not every such pair is listed.
    """
    photos_of: dict[int, dict[str, list[str]]] = {}
    for name, split in splits.items():
        for path in split["image_path"]:
            photos_of.setdefault(hashes[path], {}).setdefault(name, []).append(path)
    values = np.array(list(photos_of), dtype=np.uint64)
    pairs: set[tuple[tuple[str, str], tuple[str, str]]] = set()
    for first, second in near_pairs(values, max_bits) | {(value, value) for value in photos_of}:
        for (name, photos), (other_name, others) in itertools.product(
            photos_of[first].items(), photos_of[second].items()
        ):
            if name != other_name:
                # Pair each photo with one of the other split only: many equal photos would give too many pairs.
                some = [(photo, others[0]) for photo in photos] + [(photos[0], other) for other in others]
                pairs.update(ordered((a, name), (b, other_name)) for a, b in some)
    return sorted((*first, *second) for first, second in pairs)


def ordered(first: tuple[str, str], second: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    """A pair with the smaller value first."""
    return (first, second) if first <= second else (second, first)


def near_pairs(values: np.ndarray, max_bits: int) -> set[tuple[int, int]]:
    """All pairs of distinct 64-bit values that differ in at most `max_bits` bits.

    When values are cut into max_bits + 1 pieces, two such values have at least one piece in
    common, so only values with a common piece are compared.
    """
    edges = np.linspace(0, 64, max_bits + 2).astype(np.uint64)
    pairs: set[tuple[int, int]] = set()
    for low, high in itertools.pairwise(edges):
        pieces = (values >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(pieces, kind="stable")
        for bucket in np.split(values[order], np.flatnonzero(np.diff(pieces[order])) + 1):
            for start in range(0, len(bucket), 1000):  # in blocks, because a bucket may be large
                differing = np.bitwise_count(bucket[start : start + 1000, np.newaxis] ^ bucket[start:])
                for i, j in np.argwhere(np.triu(differing <= max_bits, 1)):
                    pairs.add((int(bucket[start + i]), int(bucket[start + j])))
    return pairs
