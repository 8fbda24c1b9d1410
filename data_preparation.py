"""Turn photos with part annotations into labelled train, val and test splits.

    python data_preparation.py --data photos

Reads every JSON file of VIA 1, VIA 2 or COCO, at any depth below --data, and the photos
beside each of them. Writes to dataset/:

    train.csv, val.csv, test.csv   image_path (relative to --data), label and its votes
    class_distribution.png         images per class and split
    summary.json                   where the photos are, all that was skipped, near-duplicates
    review.html                    with --review: a page to look at the labels and mark the wrong ones

With --split grouped every folder (one vehicle, one inspection) stays in one split. The page
saves corrections.csv; put into dataset/, it is applied before the split.
"""

import argparse
import contextlib
import csv
import itertools
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen

import imagehash
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, train_test_split
from tqdm import tqdm

import config
from annotations import (
    KNOWN,
    VOTES,
    Report,
    choose_annotations,
    count_votes,
    extract_viewpoint_label,
    is_file,
    is_inside,
    region_identities,
)
from common import (
    COUNT,
    SEED,
    SHARE,
    UserError,
    list_files,
    map_in_order,
    number,
    printable,
    relative_name,
    run,
    write_atomically,
)
from images import ImageError, is_photo, open_image
from reports.review import find_model, write_review

SPLITS = ("train", "val", "test")
SUMMARY_NAME = "summary.json"
CORRECTIONS_NAME = "corrections.csv"
HASHED_SIZE = 64  # a perceptual hash sees 9x8 pixels, so large photos need not be decoded in full
GROUPED_DRAWS = 20  # random draws of folders, of which --split grouped takes the best
COLUMNS = ["image_path", "label", *(f"{name}_votes" for name in VOTES)]


# --- From a folder to labelled images ----------------------------------------------


def read_dataset(folder: Path | str, label_key: str | None = None) -> tuple[pd.DataFrame, Report]:
    """Label every annotated, readable photo below `folder`: see parse_dataset; and a report.

    `label_key` is the attribute that names the parts (None: config.IDENTITY_KEY). Raises
    UserError when the folder is missing or holds no labelled photo.
    """
    folder = Path(folder).resolve()
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder of your photos with --data")
    if str(folder).encode(errors="ignore").decode() != str(folder):
        raise UserError(f"the name of {folder} is not UTF-8, which no CSV file could hold; rename it")
    report = Report()
    annotations = choose_annotations(folder, report, label_key)

    def hash_photo(image_path: str) -> int | ImageError | None:
        """The photo's perceptual hash, the reason why it cannot be read, or None if it is missing."""
        if not is_file(folder / image_path):
            return None
        try:
            return int(str(imagehash.dhash(open_image(folder / image_path, HASHED_SIZE))), 16)
        except ImageError as error:
            return error

    rows = []
    # Pillow lets go of the interpreter lock while it decodes.
    results = map_in_order(hash_photo, annotations, os.cpu_count() or 1)
    results = tqdm(results, "Reading photos", len(annotations), unit="image")
    for (image_path, regions), result in zip(annotations.items(), results, strict=True):
        if result is None:
            report.skip("annotated but missing", image_path)
            continue
        if isinstance(result, ImageError):
            reason = str(result).rpartition(f"{image_path}: ")[2]
            report.skip("unreadable", f"{image_path} ({reason})")
            continue
        report.hashes[image_path] = result
        report.regions[image_path] = regions
        identities = region_identities(regions)
        report.unknown_parts.update(identities - KNOWN)
        rows.append([image_path, extract_viewpoint_label(regions), *count_votes(identities).values()])
    for path in list_files(folder):
        if relative_name(path, folder) not in annotations and is_inside(path, folder) and is_photo(path):
            report.skip("never annotated", relative_name(path, folder))
    if not rows:
        raise UserError(nothing_found(folder, report))
    return pd.DataFrame(rows, columns=COLUMNS), report


def nothing_found(folder: Path, report: Report) -> str:
    """What to tell people whose folder gave no labelled photo: why, and what to do."""
    if report.annotation_files:
        first = next(((reason, items[0]) for reason, items in report.skipped.items()), ("no entries in them", ""))
        return (
            f"no annotated photo found below {folder}: {report.annotation_files} annotation files read, but "
            f"{first[0]}: {first[1]}; put each JSON file into the folder of its photos"
        )
    unused = report.skipped.get("JSON file not used")
    reason = f", but not used: {unused[0]}" if unused else ""
    return (
        f"no annotated photo found below {folder}: {len(unused or [])} JSON files there{reason}; "
        "put the JSON file that VIA exports into the folder of its photos"
    )


def parse_dataset(folder: Path | str) -> pd.DataFrame:
    """Label every annotated, readable photo below `folder`.

    Returns one row a photo, sorted by image_path (relative to `folder`, with "/"), with its
    label and the columns front_votes, rear_votes, left_votes and right_votes (int).
    Raises UserError when the folder is missing or holds no labelled photo.
    """
    return read_dataset(folder)[0]


# --- Corrections -------------------------------------------------------------------


def read_corrections(path: Path | str) -> dict[str, str]:
    """What a person said of each photo on the review page: {image_path: a class or config.WRONG}.

    {} when there is no such file. Raises UserError when it is no CSV with the columns
    image_path and label, or holds an unknown label or two for one photo.
    """
    path = Path(path)
    if not path.exists():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV file: {error}; save it anew from review.html") from error
    corrections = {}
    for line, row in enumerate(rows, 2):
        # DictReader puts cells too many under None, and None into those too few.
        if not {"image_path", "label"} <= set(row) or None in row or None in row.values():
            raise UserError(
                f"line {line} of {path} does not fit the columns image_path and label; "
                'put a path with a comma into "quotes", or save the file anew from review.html'
            )
        image_path, label = row["image_path"], row["label"].strip()
        if label not in (*config.CLASSES, config.WRONG):
            known = ", ".join([*config.CLASSES, config.WRONG])
            raise UserError(f"{path} calls {image_path} {label!r}; use one of {known}")
        if corrections.setdefault(image_path, label) != label:
            raise UserError(f"{path} calls {image_path} both {corrections[image_path]} and {label}; keep one of them")
    return corrections


def apply_corrections(df: pd.DataFrame, corrections: dict[str, str], report: Report) -> pd.DataFrame:
    """The labelled images with the labels that a person gave, without those marked as config.WRONG.

    Counts in `report` what it did, and notes corrections of photos that are not there.
    """
    for image_path in sorted(set(corrections) - set(df["image_path"])):
        report.skip(f"corrected in {CORRECTIONS_NAME}, but not among the labelled photos", image_path)
    given = df["image_path"].map(corrections)
    wrong = given == config.WRONG
    for image_path in df["image_path"][wrong]:
        report.skip(f"marked as wrong in {CORRECTIONS_NAME}, without a right class", image_path)
    report.corrections = Counter(
        changed=int((given.notna() & ~wrong & (given != df["label"])).sum()),
        confirmed=int((given == df["label"]).sum()),
        left_out=int(wrong.sum()),
    )
    return df.assign(label=given.fillna(df["label"]))[~wrong].reset_index(drop=True)


# --- Splits ------------------------------------------------------------------------


def create_stratified_splits(
    df: pd.DataFrame,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled images into train, val and test (80/10/10) with equal class shares.

    Every row lands in exactly one split; the same input and seed give the same splits.
    Raises UserError when a class has too few images to be in all three.
    """
    check_shares(val_share, test_share)
    if df.empty:
        raise UserError("no labelled images to split; give the folder of your photos with --data")
    try:
        train, rest = train_test_split(df, test_size=val_share + test_share, stratify=df["label"], random_state=seed)
        val, test = train_test_split(
            rest,
            test_size=test_share / (val_share + test_share),
            stratify=rest["label"],
            random_state=seed,
        )
        # Of a class of two, scikit-learn may put both into train without a complaint.
        if not set(df["label"]) == set(train["label"]) == set(val["label"]) == set(test["label"]):
            raise ValueError("a class is missing from a split")
    except ValueError as error:
        counts = ordered_counts(df["label"])
        smallest = min((name for name in counts if counts[name]), key=counts.get)
        needed = round(1 / min(val_share, test_share))
        raise UserError(
            f"too few images to split: {smallest} has {counts[smallest]} of {len(df)}; "
            f"annotate more until every class you use has about {needed}"
        ) from error
    return tuple(part.sort_values("image_path", ignore_index=True) for part in (train, val, test))


def create_grouped_splits(
    df: pd.DataFrame,
    val_share: float = config.VAL_SHARE,
    test_share: float = config.TEST_SHARE,
    seed: int = config.SEED,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Split labelled images like create_stratified_splits, but keep each folder in one split.

    Sizes and class shares are as near to the asked ones as whole folders allow; a class
    whose images lie in few folders may be missing from val or test. Raises UserError when
    there are fewer than three folders, or a class would be missing from train.
    """
    check_shares(val_share, test_share)
    rest, test = split_off_folders(df, test_share, seed)
    train, val = split_off_folders(rest, val_share / (1 - test_share), seed)
    missing = sorted(set(df["label"]) - set(train["label"]))
    if missing:
        raise UserError(
            f"all images of {missing[0]} lie in folders of the val or test split; "
            "annotate more folders, give another --seed, or use --split stratified"
        )
    return tuple(part.sort_values("image_path", ignore_index=True) for part in (train, val, test))


def split_off_folders(df: pd.DataFrame, share: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Cut whole folders with about `share` of the images off `df`: (the rest, the cut-off)."""
    folders = df["image_path"].map(os.path.dirname)
    parts = min(round(1 / share), folders.nunique(), df["label"].value_counts().max())
    if parts < 2:
        raise UserError("--split grouped needs photos in at least three folders; use --split stratified")
    wanted = share * df["label"].value_counts()

    def distance(rows: np.ndarray) -> float:
        counts = df["label"].iloc[rows].value_counts().reindex(wanted.index, fill_value=0)
        return ((counts / wanted - 1) ** 2).sum()

    # Each draw proposes every one of its parts; the one nearest to the class shares is taken.
    draws = [StratifiedGroupKFold(parts, shuffle=True, random_state=(seed + i) % 2**32) for i in range(GROUPED_DRAWS)]
    with warnings.catch_warnings():
        # scikit-learn warns of rare classes; the summary says better where they are missing.
        warnings.simplefilter("ignore", UserWarning)
        candidates = [pair for draw in draws for pair in draw.split(df, df["label"], folders)]
    rest, cut_off = min(candidates, key=lambda pair: distance(pair[1]))
    return df.iloc[rest], df.iloc[cut_off]


def check_shares(val_share: float, test_share: float) -> None:
    """Raise UserError unless both shares, and what they leave for train, are above 0."""
    if val_share <= 0 or test_share <= 0 or val_share + test_share >= 1:
        raise UserError("--val-share and --test-share must be above 0 and add up to less than 1")


def ordered_counts(labels: Iterable[str]) -> dict[str, int]:
    """Images of every class, in class order."""
    counts = Counter(labels)
    return {name: counts[name] for name in config.CLASSES}


def straddling_duplicates(
    splits: dict[str, pd.DataFrame], hashes: dict[str, int], max_bits: int = config.DUPLICATE_BITS
) -> list[tuple[str, str, str, str]]:
    """Pairs of nearly equal photos in different splits: (photo, its split, photo, its split).

    `hashes` maps image_path to a 64-bit perceptual hash (imagehash.dhash); photos are nearly
    equal when at most `max_bits` of its bits differ. Every photo that has a near-duplicate in
    another split is in some pair, but not every such pair is listed.
    """
    photos_of = {}
    for name, split in splits.items():
        for path in split["image_path"]:
            photos_of.setdefault(hashes[path], {}).setdefault(name, []).append(path)
    values = np.array(list(photos_of), dtype=np.uint64)
    pairs = set()
    for first, second in near_pairs(values, max_bits) | {(value, value) for value in photos_of}:
        for (name, photos), (other_name, others) in itertools.product(
            photos_of[first].items(), photos_of[second].items()
        ):
            if name != other_name:
                # Each photo with one of the other split: all pairs of many equal photos would be too many.
                some = [(photo, others[0]) for photo in photos] + [(photos[0], other) for other in others]
                pairs.update(tuple(sorted([(a, name), (b, other_name)])) for a, b in some)
    return sorted((*first, *second) for first, second in pairs)


def near_pairs(values: np.ndarray, max_bits: int) -> set[tuple[int, int]]:
    """All pairs of distinct 64-bit values that differ in at most `max_bits` bits.

    Cut into max_bits + 1 pieces, two such values share a whole piece, so only values that
    do are compared.
    """
    edges = np.linspace(0, 64, max_bits + 2).astype(np.uint64)
    pairs = set()
    for low, high in itertools.pairwise(edges):
        pieces = (values >> low) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(pieces, kind="stable")
        for bucket in np.split(values[order], np.flatnonzero(np.diff(pieces[order])) + 1):
            for start in range(0, len(bucket), 1000):  # in blocks, for a bucket may be large
                differing = np.bitwise_count(bucket[start : start + 1000, np.newaxis] ^ bucket[start:])
                for i, j in np.argwhere(np.triu(differing <= max_bits, 1)):
                    pairs.add((int(bucket[start + i]), int(bucket[start + j])))
    return pairs


def read_split(csv_path: Path | str, data_dir: Path | str | None = None) -> pd.DataFrame:
    """Read a split's CSV with the full path of each photo added as the column `file`.

    `data_dir` is the folder that image_path starts from; without it, the one recorded in
    the summary.json beside the CSV, or else the CSV's own folder. All other columns are
    kept; `label` need not be there. Raises UserError when the file is missing, not such
    a CSV, or has a label that is no class.
    """
    csv_path = Path(csv_path)
    try:
        df = pd.read_csv(csv_path, dtype={"image_path": str, "label": str}, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"{csv_path} not found; run data_preparation.py first") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{csv_path} is not a readable CSV file: {error}") from error
    if "image_path" not in df:
        raise UserError(f"{csv_path} has no column image_path; make it with data_preparation.py")
    unknown = set(df.get("label", [])) - set(config.CLASSES)
    if unknown:
        raise UserError(
            f"{csv_path} has the unknown class {sorted(unknown)[0]!r}; "
            f"use {', '.join(config.CLASSES)}, or run data_preparation.py again"
        )
    root = Path(data_dir) if data_dir else recorded_data_dir(csv_path.parent)
    df["file"] = [str(root / image_path) for image_path in df["image_path"]]
    return df


def recorded_data_dir(dataset_dir: Path) -> Path:
    """The photo folder that summary.json records, relative to `dataset_dir`; or else that."""
    try:
        summary = json.loads((dataset_dir / SUMMARY_NAME).read_text(encoding="utf-8"))
        return dataset_dir / summary["data_dir"]
    except (OSError, ValueError, KeyError, TypeError):
        return dataset_dir


# --- Outputs -----------------------------------------------------------------------


def write_dataset(
    splits: dict[str, pd.DataFrame], report: Report, duplicates: list[tuple], data: Path, output: Path
) -> None:
    """Write the three CSVs, the bar chart and summary.json into `output`: all, or on an error none.

    After a kill or a power cut in the middle some may be missing, but never old and new ones mixed.
    """
    summary = {
        # Relative, so that a project folder can be moved as a whole.
        "data_dir": Path(os.path.relpath(data.resolve(), output.resolve())).as_posix(),
        "annotation_files": report.annotation_files,
        "images": {name: ordered_counts(split["label"]) for name, split in splits.items()},
        "notes": report.notes,
        "corrections": report.corrections,
        "skipped": report.skipped,
        "unknown_parts": dict(report.unknown_parts.most_common()),
        "near_duplicates": duplicates,
    }
    # All are written before the first is renamed: a new train.csv with an old test.csv would share photos.
    with contextlib.ExitStack() as files:
        for name, split in splits.items():
            path = files.enter_context(write_atomically(output / f"{name}.csv"))
            split.to_csv(path, index=False, lineterminator="\n")
        draw_class_distribution(splits, files.enter_context(write_atomically(output / "class_distribution.png")))
        path = files.enter_context(write_atomically(output / SUMMARY_NAME))
        path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        # The old ones go first, so that a kill between the renames leaves no mixture.
        for name in splits:
            (output / f"{name}.csv").unlink(missing_ok=True)


def draw_class_distribution(splits: dict[str, pd.DataFrame], path: Path) -> None:
    """Draw images per class, stacked by split, to a PNG file."""
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    bottom = [0] * len(config.CLASSES)
    # Three colours that stay apart for colour-blind readers (Okabe and Ito).
    for (name, split), colour in zip(splits.items(), ("#0072B2", "#E69F00", "#009E73"), strict=True):
        counts = list(ordered_counts(split["label"]).values())
        bars = axes.bar(config.CLASSES, counts, bottom=bottom, label=name, color=colour)
        bottom = [below + count for below, count in zip(bottom, counts, strict=True)]
    axes.bar_label(bars, labels=[str(total) for total in bottom], padding=2)
    axes.set(ylabel="images", title=f"Class distribution ({sum(bottom)} images)")
    axes.margins(y=0.1)
    axes.tick_params(axis="x", rotation=30)
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def print_summary(splits: dict[str, pd.DataFrame], report: Report, duplicates: list[tuple], output: Path) -> None:
    """Print what was labelled, what was skipped and why, and what the user should look at."""
    per_split = [ordered_counts(split["label"]) for split in splits.values()]
    total = sum(len(split) for split in splits.values())
    print(f"\n{report.annotation_files} annotation files read, {total} images labelled\n")
    print(f"{'class':<12}{'images':>8}{'share':>9}" + "".join(f"{name:>8}" for name in splits))
    for name in config.CLASSES:
        counts = [counts[name] for counts in per_split]
        row = "".join(f"{count:>8}" for count in counts)
        absent = [split for split, count in zip(splits, counts, strict=True) if not count]
        note = f"   none in {' and '.join(absent)}: not measured there" if absent else ""
        note = note if sum(counts) else "   no images: the model cannot learn this class"
        print(f"{name:<12}{sum(counts):>8}{sum(counts) / total:>9.1%}{row}{note}")
    print(f"{'all':<12}{total:>8}{1:>9.1%}" + "".join(f"{len(split):>8}" for split in splits.values()))

    if any(report.corrections.values()):
        counts = report.corrections
        print(f"\nCorrections of {output / CORRECTIONS_NAME}: {counts['changed']} labels changed, ", end="")
        print(f"{counts['confirmed']} confirmed, {counts['left_out']} photos left out as wrong")
    if report.notes:
        print("\nUnusual, but read:")
        print_some(report.notes, output)
    print("\nSkipped:" if report.skipped else "\nSkipped: nothing")
    for reason, items in report.skipped.items():
        print(f"  {reason}: {len(items)}")
        print_some(items, output)
    print("\nNearly equal photos in different splits: ", end="")
    print(f"at least {len(duplicates)} pairs; they make the figures too good" if duplicates else "none")
    print_some([printable(f"{a} ({a_split}) and {b} ({b_split})") for a, a_split, b, b_split in duplicates], output)
    if report.unknown_parts:
        print("\nParts that no list in config.py knows (they vote for nothing; add them there):")
        for name, count in report.unknown_parts.most_common():
            print(f"  {count:>6} x {printable(name)}")
    print(f"\nSplits and class_distribution.png are in {output}/.")


def review_labels(df: pd.DataFrame, report: Report, corrections: dict[str, str], args: argparse.Namespace) -> None:
    """Write review.html and say how to use it. Raises UserError when the model in --models is unfit."""
    page, model = args.output / "review.html", find_model(args.models)
    try:
        write_review(df, report, corrections, args.data, model, args.review, page)
    except UserError as error:
        raise UserError(f"the splits are written, but no review page: {error} (--models is {args.models})") from error
    asked = f" The labels that {model} contradicts come first." if model else ""
    print(f"Open {page} in a browser to look at the labels.{asked}")
    print(f"Put what it saves into {args.output} and run this script again.")


def print_some(items: list[str], output: Path) -> None:
    """Print the first five of a long list, and where the rest is."""
    for item in items[:5]:
        print(f"    {item}")
    if len(items) > 5:
        print(f"    ... the rest is in {output / SUMMARY_NAME}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Turn photos with VIA part annotations into labelled splits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, default=config.DATA_DIR, help="folder of photos and JSON files")
    add("--output", type=Path, default=config.DATASET_DIR, help="folder to write the splits to")
    add("--label-key", default=config.IDENTITY_KEY, help="the region attribute that names the part")
    add(
        "--split",
        choices=["stratified", "grouped"],
        default="stratified",
        help="by photo with equal class shares, or each folder into one split",
    )
    add("--val-share", type=SHARE, default=config.VAL_SHARE, help="share of images for validation")
    add("--test-share", type=SHARE, default=config.TEST_SHARE, help="share of images for the test")
    add(
        "--duplicate-bits",
        type=number(int, 0, 63),
        default=config.DUPLICATE_BITS,
        help="photos are nearly equal when at most so many bits of their 64-bit hashes differ",
    )
    add("--seed", type=SEED, default=config.SEED, help="seed of the random split")
    add(
        "--review",
        type=COUNT,
        nargs="?",
        const=config.REVIEW_IMAGES,
        metavar="N",
        help=f"also write a page of the N photos (without N: {config.REVIEW_IMAGES}) whose labels are most suspicious",
    )
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of a trained model that --review asks, if any")
    add("--strict", action="store_true", help="exit with 1 when anything was skipped")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    corrections = read_corrections(args.output / CORRECTIONS_NAME)
    labelled, report = read_dataset(args.data, args.label_key)
    df = apply_corrections(labelled, corrections, report)
    if df.empty:
        raise UserError(f"{args.output / CORRECTIONS_NAME} marks every photo as wrong; correct or remove it")
    create_splits = create_grouped_splits if args.split == "grouped" else create_stratified_splits
    parts = create_splits(df, args.val_share, args.test_share, args.seed)
    splits = dict(zip(SPLITS, parts, strict=True))
    duplicates = straddling_duplicates(splits, report.hashes, args.duplicate_bits)
    write_dataset(splits, report, duplicates, args.data, args.output)
    print_summary(splits, report, duplicates, args.output)
    if args.review:
        review_labels(labelled, report, corrections, args)
    print("Next: python train.py" + ("" if args.output == Path(config.DATASET_DIR) else f" --dataset {args.output}"))
    return int(args.strict and bool(report.skipped))


if __name__ == "__main__":
    run(main)
