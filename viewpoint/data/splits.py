"""Cut labelled photos into train, val and test, once: later runs keep every photo where it was."""

import itertools
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, train_test_split

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import open_image
from viewpoint.common.tables import read_table
from viewpoint.data.dataset import MEMORY_NAME, SPLITS, class_counts, read_rows

MEMORY_COLUMNS = ["image_path", "split", "content"]
HASHED_SIZE = 64  # a perceptual hash uses 9x8 pixels, so large photos need not be decoded in full
GROUPED_DRAWS = 20  # random draws of groups; --split grouped takes the best


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
    groups: Sequence[Hashable] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled photos like create_stratified_splits, but keep each group in one split.

    `groups` has the group of each row (None: its folder). Sizes and class fractions are as close to
    the requested ones as whole groups allow; a class with photos in few groups may be missing from
    val or test. Raises UserError when there are fewer than three groups, or a class would be missing
    from train.
    """
    check_shares(val_share, test_share)
    group_of = dict(zip(df["image_path"], folders_of(df["image_path"]) if groups is None else groups, strict=True))
    rest, test = split_off_groups(df, test_share, seed, group_of)
    train, val = split_off_groups(rest, val_share / (1 - test_share), seed, group_of)
    missing = sorted(set(df["label"]) - set(train["label"]))
    if missing:
        raise UserError(
            f"all photos of {missing[0]} are in groups of the val or test split; "
            "annotate more groups, give another --seed, or use --split stratified"
        )
    return in_path_order(train), in_path_order(val), in_path_order(test)


def folders_of(image_paths: Iterable[str]) -> list[str]:
    """The folder of each photo, which --split grouped keeps together."""
    return [os.path.dirname(path) for path in image_paths]  # noqa: PTH120


def split_off_groups(
    df: pd.DataFrame, share: float, seed: int, group_of: Mapping[str, Hashable] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take whole groups with about the fraction `share` of the photos out of `df`: (the rest, the taken).

    `group_of` has the group of each image_path (None: its folder).
    """
    keys = folders_of(df["image_path"]) if group_of is None else [group_of[path] for path in df["image_path"]]
    groups = pd.Series(keys, index=df.index)
    parts = min(round(1 / share), groups.nunique(), df["label"].value_counts().max())
    if parts < 2:
        raise UserError("--split grouped needs photos in at least three groups; use --split stratified")
    wanted = share * df["label"].value_counts()

    def distance(rows: np.ndarray) -> float:
        counts = df["label"].iloc[rows].value_counts().reindex(wanted.index, fill_value=0)
        return ((counts / wanted - 1) ** 2).sum()

    # Every fold of every draw is a candidate; the one closest to the wanted class counts is taken.
    draws = [StratifiedGroupKFold(parts, shuffle=True, random_state=(seed + i) % 2**32) for i in range(GROUPED_DRAWS)]
    with warnings.catch_warnings():
        # scikit-learn warns about rare classes; the summary says more clearly where they are missing.
        warnings.simplefilter("ignore", UserWarning)
        candidates = [pair for draw in draws for pair in draw.split(df, df["label"], groups)]
    rest, taken = min(candidates, key=lambda pair: distance(pair[1]))
    return df.iloc[rest], df.iloc[taken]


def in_path_order(df: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by image_path, with a new index."""
    return df.sort_values("image_path", ignore_index=True)


def check_shares(val_share: float, test_share: float) -> None:
    """Raise UserError unless both fractions, and what they leave for train, are above 0."""
    if val_share <= 0 or test_share <= 0 or val_share + test_share >= 1:
        raise UserError("--val-share and --test-share must be above 0 and add up to less than 1")


def perceptual_hash(path: Path) -> int:
    """A hash of 64 bits that nearly equal photos nearly share: imagehash.dhash. Raises ImageError like open_image."""
    return int(str(imagehash.dhash(open_image(path, HASHED_SIZE))), 16)


def near_duplicates(hashes: Mapping[str, int], max_bits: int = config.DUPLICATE_BITS) -> list[tuple[str, str]]:
    """Pairs of nearly equal photos, so many that all near-duplicates are connected by them, sorted.

    `hashes` maps image_path to its perceptual_hash; photos are near-duplicates when at most
    `max_bits` of its bits differ.
    """
    photos_of: dict[int, list[str]] = defaultdict(list)
    for path, value in sorted(hashes.items()):
        photos_of[value].append(path)
    pairs = [(photos[0], other) for photos in photos_of.values() for other in photos[1:]]
    values = np.array(list(photos_of), dtype=np.uint64)
    pairs += [(photos_of[first][0], photos_of[second][0]) for first, second in near_pairs(values, max_bits)]
    return sorted((min(pair), max(pair)) for pair in pairs)


def find_conflicts(
    df: pd.DataFrame, hashes: Mapping[str, int], max_bits: int = config.DUPLICATE_BITS
) -> list[tuple[str, str]]:
    """Pairs of nearly equal photos of `df` that have different labels."""
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    pairs = near_duplicates({path: hashes[path] for path in labels}, max_bits)
    return [(a, b) for a, b in pairs if labels[a] != labels[b]]


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


# --- Splits that stay --------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """The split of every photo that was ever dealt, by its image_path and by the hash of its content."""

    by_path: dict[str, str] = field(default_factory=dict)
    by_content: dict[str, str] = field(default_factory=dict)

    def split_of(self, image_path: str, content: str) -> str | None:
        """The split of a photo that stayed, was changed, or was renamed; None for a new one."""
        return self.by_path.get(image_path) or self.by_content.get(content)


def read_memory(folder: Path) -> Memory:
    """What the splits.csv in a dataset folder remembers, or else the split CSVs of an earlier version.

    Raises UserError when it is damaged.
    """
    path, memory = folder / MEMORY_NAME, Memory()
    if path.exists():
        columns, rows = read_table(path)
        if not set(MEMORY_COLUMNS) <= set(columns) or any(row["split"] not in SPLITS for row in rows):
            raise UserError(f"{path} does not say the split of each photo; restore it, or start over with --resplit")
        for row in rows:
            memory.by_path[row["image_path"]] = memory.by_content[row["content"]] = row["split"]
    else:
        for name in SPLITS:
            if (folder / f"{name}.csv").exists():
                memory.by_path.update((row["image_path"], name) for row in read_rows(folder / f"{name}.csv"))
    memory.by_content.pop("", None)
    return memory


def memory_table(tables: dict[str, pd.DataFrame], photos: Mapping[str, tuple[int, str]], folder: Path) -> pd.DataFrame:
    """The rows of splits.csv: the photos of the tables, and those that it remembers though they are gone."""
    rows: dict[str, tuple[str, ...]] = {
        path: (path, name, photos[path][1]) for name, table in tables.items() for path in table["image_path"]
    }
    if (folder / MEMORY_NAME).exists():
        contents = {row[2] for row in rows.values()}
        for row in read_table(folder / MEMORY_NAME)[1]:
            if row["image_path"] not in rows and row["content"] not in contents:
                rows[row["image_path"]] = tuple(row[column] for column in MEMORY_COLUMNS)
    return pd.DataFrame(sorted(rows.values()), columns=MEMORY_COLUMNS)


@dataclass
class Changes:
    """What differs from the earlier splits: how many photos stayed, were dealt, or are gone, and who moved.

    `moved` has (photo, earlier split, split now).
    """

    kept: int = 0
    new: int = 0
    gone: int = 0
    moved: list[tuple[str, str, str]] = field(default_factory=list)


def make_splits(
    df: pd.DataFrame,
    photos: Mapping[str, tuple[int, str]],
    memory: Memory,
    by: str = "stratified",
    group_by: str | None = None,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
    duplicate_bits: int = config.DUPLICATE_BITS,
) -> tuple[dict[str, pd.DataFrame], Changes]:
    """The tables train, val and test of labelled photos: as remembered, new photos dealt by class.

    `photos` has the perceptual hash and the content's hash of each image_path. Near-duplicates share
    a split; with `by` "grouped" so do the photos of a folder, or those with an equal match of the
    regular expression `group_by` in their path. Without a memory, the splits are those of
    create_stratified_splits or create_grouped_splits. Raises UserError as those do.
    """
    paths = df["image_path"].tolist()
    keys = group_keys(paths, group_by) if by == "grouped" else None
    pairs = near_duplicates({path: photos[path][0] for path in paths}, duplicate_bits)
    units = dict(zip(paths, connect(paths, pairs, keys), strict=True))
    if memory.by_path:
        shares = {"train": 1 - val_share - test_share, "val": val_share, "test": test_share}
        contents = {path: photos[path][1] for path in paths}
        splits, changes = keep_splits(df, contents, units, memory, shares, seed)
    else:
        if by == "grouped":
            parts = create_grouped_splits(df, val_share, test_share, seed, [units[path] for path in paths])
        else:
            parts = create_stratified_splits(df, val_share, test_share, seed)
        dealt = {path: name for name, part in zip(SPLITS, parts, strict=True) for path in part["image_path"]}
        splits, changes = unify(dealt, units), Changes(new=len(paths))
    assigned = df["image_path"].map(splits)
    return {name: in_path_order(df[assigned == name]) for name in SPLITS}, changes


def group_keys(image_paths: Sequence[str], pattern: str | None) -> list[str]:
    """What photos of one group have in common: their folder, or what `pattern` finds in their path.

    That is its first group in parentheses, if it has one. A photo in which it finds nothing is its own group.
    """
    if pattern is None:
        return folders_of(image_paths)
    found = [re.search(pattern, path) for path in image_paths]
    return [
        f"{match[1 if match.re.groups else 0]}" if match else f"/{path}"
        for path, match in zip(image_paths, found, strict=True)
    ]


def connect(
    image_paths: Sequence[str], pairs: Iterable[tuple[str, str]], keys: Sequence[str] | None = None
) -> list[int]:
    """A number for each photo, equal for photos that must share a split: those of a pair or with the same key."""
    number = {path: index for index, path in enumerate(image_paths)}
    links = [(number[a], number[b]) for a, b in pairs if a in number and b in number]
    if keys is not None:
        first: dict[str, int] = {}
        links += [(first.setdefault(key, index), index) for index, key in enumerate(keys)]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(number), len(number)))
    return connected_components(graph, directed=False)[1].tolist()


def unify(splits: dict[str, str], units: dict[str, int]) -> dict[str, str]:
    """The splits with every unit in one of them: in train if any of its photos is there, else in val.

    A model may have seen a photo in train, so its near-duplicates in test would make figures too good;
    the other way round nothing is lost.
    """
    first: dict[int, str] = {}
    for path, split in splits.items():
        unit = units[path]
        first[unit] = min(first.get(unit, split), split, key=SPLITS.index)
    return {path: first[units[path]] for path in splits}


def keep_splits(
    df: pd.DataFrame,
    contents: dict[str, str],
    units: dict[str, int],
    memory: Memory,
    shares: dict[str, float],
    seed: int,
) -> tuple[dict[str, str], Changes]:
    """The split of each photo of `df`: as remembered, and for new units of photos dealt by class.

    `contents` has the hash of each photo's content, `units` the number of its unit (see connect).
    """
    changes = Changes()
    remembered = {path: memory.split_of(path, contents[path]) for path in df["image_path"]}
    kept = unify({path: split for path, split in remembered.items() if split}, units)
    changes.moved = [(path, str(remembered[path]), split) for path, split in kept.items() if split != remembered[path]]
    changes.kept = len(kept) - len(changes.moved)
    split_of_unit = {units[path]: split for path, split in kept.items()}
    splits = {path: split_of_unit[units[path]] for path in df["image_path"] if units[path] in split_of_unit}
    splits |= deal(df, units, splits, shares, seed)
    changes.new = len(splits) - len(kept)
    renamed = sum(path not in memory.by_path for path in kept)
    changes.gone = max(0, len(memory.by_path.keys() - contents.keys()) - renamed)
    return splits, changes


def deal(
    df: pd.DataFrame, units: dict[str, int], splits: dict[str, str], shares: dict[str, float], seed: int
) -> dict[str, str]:
    """A split for every photo of `df` that has none yet, so that each class comes near to its `shares`.

    Whole units are dealt in an order drawn with `seed`, large ones first, each to the split that lacks
    most photos of its most frequent class.
    """
    labels = dict(zip(df["image_path"], df["label"], strict=True))
    totals, counts = Counter(labels.values()), Counter((splits[path], labels[path]) for path in splits)
    members: dict[int, list[str]] = defaultdict(list)
    for path in labels:
        if path not in splits:
            members[units[path]].append(path)
    order = np.random.default_rng(seed).permutation(list(members)).tolist()
    dealt = {}
    for unit in sorted(order, key=lambda unit: -len(members[unit])):
        paths = members[unit]
        [(label, _)] = Counter(labels[path] for path in paths).most_common(1)
        split = max(shares, key=lambda split: shares[split] * totals[label] - counts[split, label])
        for path in paths:
            dealt[path] = split
            counts[split, labels[path]] += 1
    return dealt
