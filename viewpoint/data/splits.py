"""Split labelled photos into train, val and test, once: later runs keep every photo where it was.

What is assigned to a split is a group of photos, never a photo alone: near-duplicates, and with
--split grouped all photos of a vehicle. A model that has learned one photo of a burst knows the
others, so figures on them would be too good. `assign` does it for the first run, for the new photos
of later runs, and for the folds of a cross-validation.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

import config
from viewpoint.annotations.photo import Photo
from viewpoint.common.cli import UserError, counted
from viewpoint.common.tables import stream_table
from viewpoint.common.writing import lock, write_atomically
from viewpoint.data.dataset import SPLIT_HISTORY_NAME, SPLITS, read_rows
from viewpoint.data.duplicates import group_keys, group_photos

HISTORY_COLUMNS = ["image_path", "split", "content", "perceptual_hash"]
# Few groups of different sizes fit differently well in different orders, so some orders are tried
# (fewer of many groups), and each is improved by moving single groups this many times over.
MAX_DRAWS, GROUPS_DRAWN = 50, 20_000
IMPROVING_PASSES = 5


@dataclass(frozen=True)
class SplitOptions:
    """How to split: data_preparation.py's options of the same names."""

    by: str = "stratified"  # or "grouped"
    group_by: str | None = None
    val_share: float = config.VAL_SHARE
    test_share: float = config.TEST_SHARE
    seed: int = config.SEED

    def shares(self) -> dict[str, float]:
        """The fraction of the photos that each split should have. Raises UserError when they are no fractions."""
        if self.val_share <= 0 or self.test_share <= 0 or self.val_share + self.test_share >= 1:
            raise UserError("--val-share and --test-share must be above 0 and add up to less than 1")
        return {"train": 1 - self.val_share - self.test_share, "val": self.val_share, "test": self.test_share}


# --- From groups to splits ---------------------------------------------------------


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
    options = SplitOptions("stratified", None, val_share, test_share, seed)
    train, val, test = split_groups(df, list(range(len(df))), options, {}).values()
    return train, val, test


def create_grouped_splits(
    df: pd.DataFrame,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled photos like create_stratified_splits, but keep the photos of a folder in one split.

    Sizes and class fractions are as close to the requested ones as whole folders allow; a class with
    photos in fewer than three folders may be missing from val or test. Raises UserError when a split
    would be empty, or a class would be missing from train.
    """
    paths = df["image_path"].tolist()
    options = SplitOptions("grouped", None, val_share, test_share, seed)
    train, val, test = split_groups(df, group_photos(paths, [], group_keys(paths, None)), options, {}).values()
    return train, val, test


def split_groups(
    df: pd.DataFrame, groups: Sequence[int], options: SplitOptions, fixed: Mapping[int, str]
) -> dict[str, pd.DataFrame]:
    """The tables train, val and test of `df`, whose rows have the group numbers `groups`.

    The groups in `fixed` stay in the split that it says. Raises UserError when that is impossible.
    """
    shares = options.shares()
    if df.empty:
        raise UserError("no labelled photos to split; give the folder of your photos with --data")
    labels = df["label"].tolist()
    assigned = np.array(assign(labels, groups, shares, options.seed, fixed))
    # Of a data set that was split before, a class may have lost its last photo in a split: no
    # reason to refuse it, the summary says that the class is not measured there.
    refuse_incomplete(df, groups, assigned, everywhere=options.by == "stratified" and not fixed)
    return {name: in_path_order(df[assigned == name]) for name in shares}


def assign(
    labels: Sequence[str],
    groups: Sequence[int],
    shares: Mapping[str, float],
    seed: int,
    fixed: Mapping[int, str] | None = None,
) -> list[str]:
    """The split of each photo, so that whole groups give each split about its share of every class.

    `labels` and `groups` have the class and the group's number of each photo, `shares` the fraction
    of the photos that each split should have; the groups in `fixed` are assigned already. Every class
    with as many groups as there are splits gets into all of them if that is possible at all, and every
    class into the first split. Minimizes the chi-square distance between the numbers of photos (of
    each class, and of all together) and those wanted: large groups first, each to the split that
    lacks its photos most, then single groups are moved as long as that helps.
    """
    fixed, names = fixed or {}, list(shares)
    table = pd.crosstab(np.array(groups), np.array(labels))
    counts = np.column_stack([table, table.sum(axis=1)]).astype(float)  # the last column is all photos
    # All photos together are one more "class", so that the sizes of the splits are right as well.
    wanted = np.outer(list(shares.values()), counts.sum(axis=0))
    required = np.tile((counts > 0).sum(axis=0) >= len(names), (len(names), 1))
    required[0] = True  # a class that is not in train could never be predicted
    start = np.array([names.index(fixed[group]) if group in fixed else -1 for group in table.index])
    sizes, random = counts[start < 0, -1], np.random.default_rng(seed)
    best, lowest = start, np.inf
    # The order decides where large groups end up, so that several orders are tried and the best is kept.
    for draw in range(max(1, min(MAX_DRAWS, GROUPS_DRAWN // max(1, len(sizes))))):
        # The first draw takes groups by size, the others nearly so; equal groups come in a random order.
        priority = sizes * random.uniform(0.5, 1.5, len(sizes)) if draw else sizes
        shuffled = random.permutation(len(sizes))
        order = np.flatnonzero(start < 0)[shuffled[np.argsort(-priority[shuffled], kind="stable")]]
        places, distance = place(counts, wanted, required, order, start)
        if distance < lowest:
            best, lowest = places, distance
    split_of = dict(zip(table.index, best, strict=True))
    return [names[split_of[group]] for group in groups]


def place(
    counts: np.ndarray, wanted: np.ndarray, required: np.ndarray, order: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """The split of each group, when the groups in `order` are assigned one after the other; and how far off that is.

    `counts` (groups, classes + 1) are photos, `wanted` and `required` (splits, classes + 1) the photos
    that each split should have and whether it must have any, `start` the split of each group or -1.
    """
    places, now, missing = start.copy(), np.zeros_like(wanted), 10 * counts.sum()
    for split in range(len(wanted)):
        now[split] = counts[start == split].sum(axis=0)
    for _ in range(1 + IMPROVING_PASSES * (len(order) <= GROUPS_DRAWN // 4)):
        moved = False
        for group in order:
            photos, before = counts[group], places[group]
            if before >= 0:
                now[before] -= photos
            # The change of the distance when this group joins each split.
            change = (photos * (2 * (now - wanted) + photos) / wanted).sum(axis=1)
            # A class that a split lacks counts far more than how full the split is.
            change -= missing * (required & (now == 0) & (photos > 0)).sum(axis=1)
            # A group only moves when that helps, or equal places would exchange groups for ever.
            places[group] = change.argmin()
            if before >= 0 and change[before] <= change.min() + 1e-9:
                places[group] = before
            now[places[group]] += photos
            moved |= places[group] != before
        if not moved:
            break
    return places, float(((now - wanted) ** 2 / wanted).sum() + missing * (required & (now == 0)).sum())


def refuse_incomplete(df: pd.DataFrame, groups: Sequence[int], assigned: np.ndarray, everywhere: bool) -> None:
    """Raise UserError when a split is empty or a class is missing from train, with `everywhere` from any split.

    The message names the class and the group of photos that are in the way.
    """
    needed = len(SPLITS)
    sizes = Counter(groups)
    [(largest, size)] = sizes.most_common(1)
    example = df["image_path"].iloc[list(groups).index(largest)]
    apart = f"the largest group, of {example}, has {size} of the {counted(len(df), 'photo')}" if size > 1 else ""
    empty = [name for name in SPLITS if not (assigned == name).any()]
    if empty:
        raise UserError(
            f"too few photos to split: {counted(len(df), 'photo')} in {counted(len(sizes), 'group')} leave nothing for "
            f"{' and '.join(empty)}, because near-duplicates (and groups of --split grouped) stay together and train "
            f"needs every class{f'; {apart}' if apart else ''}; annotate more, or write the labels alone with --split "
            "none"
        )
    in_group = pd.Series(list(groups), df.index).groupby(df["label"]).nunique()
    for label, of_class in sorted(df.groupby("label").groups.items(), key=lambda item: in_group[item[0]]):
        rows = df.index.isin(of_class)
        absent = [name for name in SPLITS if not (rows & (assigned == name)).any()]
        if "train" in absent or (absent and everywhere):
            grouped = f", in {counted(int(in_group[label]), 'group')}" if len(of_class) > in_group[label] else ""
            because = f"; {apart}" if apart and in_group[label] >= needed else ""
            raise UserError(
                f"too few photos to split: {label} has {len(of_class)} of {len(df)}{grouped}, which leaves none for "
                f"{' and '.join(absent)}{because}; annotate more until every class you use is in at least {needed} "
                "groups (about 10 photos), or write the labels alone with --split none"
            )


def in_path_order(df: pd.DataFrame) -> pd.DataFrame:
    """The rows sorted by image_path, with a new index."""
    return df.sort_values("image_path", ignore_index=True)


# --- Splits that stay --------------------------------------------------------------


@dataclass(frozen=True)
class SplitHistory:
    """The split of every photo that ever had one, by the hash of its content and by its image_path.

    `rows` are those of splits.csv, texts in HISTORY_COLUMNS. `last_run` has the content's hash ("" when
    not known) of each photo in the splits as they were written last.
    """

    by_content: dict[str, str] = field(default_factory=dict)
    by_path: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, ...]] = field(default_factory=list)
    last_run: dict[str, str] = field(default_factory=dict)

    def split_of(self, image_path: str, content: str) -> str | None:
        """The split of a photo that stayed, was renamed, or was changed; None for a new one.

        The content decides before the name: a photo that a model has learned must stay in train,
        also when its name now belongs to another photo.
        """
        return self.by_content.get(content) or self.by_path.get(image_path)

    def hashes_besides(self, contents: Collection[str]) -> dict[str, int]:
        """The perceptual_hash, by content, of the photos with other contents: they are gone, or had no labels."""
        rows = (row for row in self.rows if row[2] and row[2] not in contents)
        return {content: int(value, 16) for _, _, content, value in rows if value}


def read_history(folder: Path) -> SplitHistory:
    """What the splits.csv in a dataset folder remembers, or else the split CSVs of an earlier version.

    Raises UserError when it is damaged.
    """
    path, history = folder / SPLIT_HISTORY_NAME, SplitHistory()
    if path.exists():
        columns, rows = stream_table(path)
        # Earlier versions wrote no perceptual_hash.
        history.rows.extend(tuple(row.get(name, "") for name in HISTORY_COLUMNS) for row in rows)
        is_known = all(
            split in SPLITS and re.fullmatch("([0-9a-f]{32})?", value) for _, split, _, value in history.rows
        )
        if not is_known or not set(HISTORY_COLUMNS[:3]) <= set(columns):
            raise UserError(f"{path} does not say the split of each photo; restore it, or start over with --resplit")
    content_of = {image_path: content for image_path, _, content, _ in history.rows}
    for name in SPLITS:
        if (folder / f"{name}.csv").exists():
            image_paths = [row["image_path"] for row in read_rows(folder / f"{name}.csv")]
            history.last_run.update((image_path, content_of.get(image_path, "")) for image_path in image_paths)
            if not path.exists():
                history.rows.extend((image_path, name, "", "") for image_path in image_paths)
    for image_path, split, content, _ in history.rows:
        history.by_path[image_path] = split
        history.by_content[content] = min(split, history.by_content.get(content, split), key=SPLITS.index)
    history.by_content.pop("", None)
    history.by_path.pop("", None)
    return history


def history_table(
    tables: Mapping[str, pd.DataFrame], photos: Mapping[str, Photo], history: SplitHistory
) -> pd.DataFrame:
    """The rows of splits.csv: the photos of the tables, and those that `history` remembers though they are gone.

    `photos` has them by image_path. A content whose name belongs to another photo now is kept without a name,
    so that it finds its split when it comes back.
    """
    split_of = {path: name for name, table in tables.items() for path in table["image_path"]}
    rows = {(path, name, photos[path].content, f"{photos[path].hash:032x}") for path, name in split_of.items()}
    known = {row[2] for row in rows}
    for path, split, content, value in history.rows:
        if content not in known and (content or path not in split_of):
            rows.add(("" if path in split_of else path, split, content, value))
    return pd.DataFrame(sorted(rows), columns=HISTORY_COLUMNS)


def remember_learned(folder: Path, hashes: Mapping[str, int]) -> None:
    """Note in the splits.csv of a dataset folder that photos were learned without labels: {content: perceptual_hash}.

    When they, or near-duplicates of them, are annotated later, they are in train. Without splits.csv nothing is noted.
    Raises UserError when it is damaged, in use, or cannot be written.
    """
    path = folder / SPLIT_HISTORY_NAME
    if path.exists():
        with lock(folder, "--dataset"), write_atomically(path) as temporary:
            learned = [("", "train", content, f"{value:032x}") for content, value in hashes.items()]
            table = pd.DataFrame(sorted({*read_history(folder).rows, *learned}), columns=HISTORY_COLUMNS)
            table.to_csv(temporary, index=False, lineterminator="\n")


@dataclass
class Changes:
    """What differs from the earlier splits: how many photos stayed, are new, or are gone, and which moved.

    `moved` has (photo, earlier split, split now).
    """

    kept: int = 0
    new: int = 0
    gone: int = 0
    moved: list[tuple[str, str, str]] = field(default_factory=list)


def make_splits(
    df: pd.DataFrame,
    contents: Mapping[str, str],
    pairs: Sequence[tuple[str, str]],
    history: SplitHistory,
    options: SplitOptions,
) -> tuple[dict[str, pd.DataFrame], Changes]:
    """The tables train, val and test of labelled photos: as remembered, new groups of photos assigned by class.

    `contents` has the hash of each photo's content by image_path; `pairs` are near_duplicates, in which remembered
    photos that are gone are named by their content. With options.by "grouped", the photos of a folder, or those with
    an equal match of options.group_by in their path, are a group as well. Raises UserError when a class or a group
    is in the way.
    """
    paths = df["image_path"].tolist()
    keys = group_keys(paths, options.group_by) if options.by == "grouped" else None
    now = {contents[path] for path in paths}
    others = {content: split for content, split in history.by_content.items() if content not in now}
    groups = group_photos([*paths, *others], pairs, keys)
    remembered = {path: history.split_of(path, contents[path]) for path in paths}
    # A group whose photos are in several splits, as when a new photo resembles both, joins train, or
    # else val: a model may have learned the photo in train, so its near-duplicates must leave test.
    fixed: dict[int, str] = {}
    for split, group in zip([*remembered.values(), *others.values()], groups, strict=True):
        if split:
            fixed[group] = min(fixed.get(group, split), split, key=SPLITS.index)
    tables = split_groups(df, groups[: len(paths)], options, fixed)
    splits = {path: name for name, table in tables.items() for path in table["image_path"]}
    earlier = {path: split for path, split in remembered.items() if split}
    moved = [(path, split, splits[path]) for path, split in earlier.items() if splits[path] != split]
    gone = sum(path not in splits and content not in now for path, content in history.last_run.items())
    return tables, Changes(len(earlier) - len(moved), len(paths) - len(earlier), gone, moved)
