"""Turn photos with part annotations into labelled train, val and test splits.

    python data_preparation.py                      # folders of photos and JSON files in dataset/
    python data_preparation.py --data photos
    python data_preparation.py --review             # also a page to look at the labels

Reads every VIA 1, VIA 2 or COCO file at any depth below --data, and the photos beside each of
them. Writes to dataset/:

    train.csv, val.csv, test.csv   image_path (relative to --data), label and its votes
    class_distribution.png         photos per class and split
    summary.json                   where the photos are, everything left out, near-duplicates
    review.html                    with --review: the labels to look at, the most doubtful first

With --split grouped every folder (one vehicle, one inspection) stays in one split. The review
page saves corrections.csv; put it into dataset/, and the next run applies it before the split.
"""

import argparse
import contextlib
import json
from pathlib import Path

import pandas as pd

import config
from viewpoint.annotations.photo import Report
from viewpoint.cli import COUNT, FRACTION, SEED, UserError, command, counted, number, printable, run
from viewpoint.corrections import apply_corrections, read_corrections
from viewpoint.dataset import CORRECTIONS_NAME, REVIEW_NAME, SPLITS, SUMMARY_NAME, class_counts, refuse_to_overwrite
from viewpoint.files import relative_path, write_atomically
from viewpoint.images import CHART_NAME
from viewpoint.labeling import extract_viewpoint_label
from viewpoint.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold
from viewpoint.reports.charts import draw_class_distribution
from viewpoint.reports.review import find_model, write_review
from viewpoint.scan import Photo, parse_dataset, read_dataset
from viewpoint.splits import create_grouped_splits, create_stratified_splits, straddling_duplicates

# The part lists belong to config.py; people import them together with the functions that use them.
FRONT_PARTS, REAR_PARTS = config.FRONT_PARTS, config.REAR_PARTS
LEFT_PARTS, RIGHT_PARTS = config.LEFT_PARTS, config.RIGHT_PARTS
DAMAGE_PARTS = config.DAMAGE_PARTS

__all__ = [
    "DAMAGE_PARTS",
    "FRONT_PARTS",
    "LEFT_PARTS",
    "REAR_PARTS",
    "RIGHT_PARTS",
    "create_grouped_splits",
    "create_stratified_splits",
    "extract_viewpoint_label",
    "parse_dataset",
]

# --- Outputs -----------------------------------------------------------------------


def write_dataset(
    splits: dict[str, pd.DataFrame], report: Report, duplicates: list[tuple], data: Path, output: Path
) -> None:
    """Write the three CSVs, the chart and summary.json into `output`: all of them, or on an error none.

    After a kill or a power cut some may be missing, but old and new ones are never mixed.
    """
    summary = {
        # Relative, so that a project folder can be moved as a whole.
        "data_dir": relative_path(data, output),
        "annotation_files": report.annotation_files,
        "images": {name: class_counts(split["label"]) for name, split in splits.items()},
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
        draw_class_distribution(splits, files.enter_context(write_atomically(output / CHART_NAME)))
        path = files.enter_context(write_atomically(output / SUMMARY_NAME))
        path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        # The old CSVs go first, so that a kill between the renames leaves no mixture.
        for name in splits:
            (output / f"{name}.csv").unlink(missing_ok=True)


def review_labels(
    labelled: pd.DataFrame, photos: dict[str, Photo], corrections: dict[str, str], args: argparse.Namespace
) -> None:
    """Write review.html and say how to use it. Raises UserError when the model in --models cannot be used."""
    page, model = args.output / REVIEW_NAME, find_model(args.models)
    out_of_fold = read_out_of_fold(args.output / OUT_OF_FOLD_NAME, args.data)
    try:
        write_review(labelled, photos, corrections, args.data, model, args.review, page, out_of_fold)
    except UserError as error:
        raise UserError(f"the splits are written, but no review page: {error} (--models is {args.models})") from error
    print(f"Open {page} in a browser to look at the labels.")
    if out_of_fold:
        print(f"Models that did not learn them judged {counted(len(out_of_fold), 'label')} ({OUT_OF_FOLD_NAME}).")
    if model and len(out_of_fold) < len(labelled):
        print(f"{model} judged {'the others' if out_of_fold else 'the labels'}, although it may have learned them;")
        print("tools/crossval.py trains models that have not.")
    print(f"Put the {CORRECTIONS_NAME} that it saves into {args.output}/, then run this script again.")


# --- The summary -------------------------------------------------------------------


def print_summary(splits: dict[str, pd.DataFrame], report: Report, duplicates: list[tuple], output: Path) -> None:
    """Print what was labelled, what was left out and why, and what the user should look at."""
    total = sum(len(split) for split in splits.values())
    print(f"\n{counted(report.annotation_files, 'annotation file')} read, {counted(total, 'photo')} labelled\n")
    print_class_table(splits, total)
    if any(report.corrections.values()):
        counts = report.corrections
        print(f"\nCorrections of {output / CORRECTIONS_NAME}: {counted(counts['changed'], 'label')} changed, ", end="")
        print(f"{counts['confirmed']} confirmed, {counted(counts['left_out'], 'photo')} left out as wrong")
    if report.notes:
        print("\nUnusual, but read:")
        print_some(report.notes, output)
    print("\nSkipped:" if report.skipped else "\nSkipped: nothing")
    for reason, items in report.skipped.items():
        print(f"  {reason}: {len(items)}")
        print_some(items, output)
    print("\nNear-duplicates in different splits: ", end="")
    if duplicates:
        print(f"at least {counted(len(duplicates), 'pair')}; they make the test figures too good")
        print_some([printable(f"{a} ({a_split}) and {b} ({b_split})") for a, a_split, b, b_split in duplicates], output)
    else:
        print("none")
    if report.unknown_parts:
        print("\nParts that no list in config.py has (they do not vote; add them there):")
        for name, count in report.unknown_parts.most_common():
            print(f"  {count:>6} x {printable(name)}")
    print(f"\nThe splits and {CHART_NAME} are in {output}/.")


def print_class_table(splits: dict[str, pd.DataFrame], total: int) -> None:
    """Print the photos of each class in all splits together and in each."""
    per_split = [class_counts(split["label"]) for split in splits.values()]
    print(f"{'class':<12}{'photos':>8}{'fraction':>10}" + "".join(f"{name:>8}" for name in splits))
    for name in config.CLASSES:
        counts = [counts[name] for counts in per_split]
        row = "".join(f"{count:>8}" for count in counts)
        absent = [split for split, count in zip(splits, counts, strict=True) if not count]
        note = f"   none in {' and '.join(absent)}: not measured there" if absent else ""
        note = note if sum(counts) else "   no photos: the model cannot learn this class"
        print(f"{name:<12}{sum(counts):>8}{sum(counts) / total:>10.1%}{row}{note}")
    print(f"{'all':<12}{total:>8}{1:>10.1%}" + "".join(f"{len(split):>8}" for split in splits.values()))


def print_some(items: list[str], output: Path) -> None:
    """Print the first five of a long list, and where the rest is."""
    for item in items[:5]:
        print(f"    {item}")
    if len(items) > 5:
        print(f"    ... the rest is in {output / SUMMARY_NAME}")


# --- The whole ---------------------------------------------------------------------


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Turn photos with part annotations into labelled splits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, default=config.DATA_DIR, help="folder of photos and annotation files, at any depth")
    add("--output", type=Path, default=config.DATASET_DIR, help="folder to write the splits to")
    add("--label-key", default=config.IDENTITY_KEY, help="region attribute that names the part")
    add(
        "--split",
        choices=["stratified", "grouped"],
        default="stratified",
        help="by photo with equal class fractions, or with each folder in one split",
    )
    add("--val-share", type=FRACTION, default=config.VAL_SHARE, help="fraction of the photos for validation")
    add("--test-share", type=FRACTION, default=config.TEST_SHARE, help="fraction of the photos for the test")
    add(
        "--duplicate-bits",
        type=number(int, 0, 63),
        default=config.DUPLICATE_BITS,
        help="largest difference, in bits of their 64-bit hashes, between near-duplicates",
    )
    add("--seed", type=SEED, default=config.SEED, help="seed of the random split")
    add(
        "--review",
        type=COUNT,
        nargs="?",
        const=config.REVIEW_IMAGES,
        metavar="N",
        help=f"also write a page with the N most doubtful labels ({config.REVIEW_IMAGES} without N)",
    )
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of a trained model for --review to compare with")
    add("--strict", action="store_true", help="exit with 1 when anything was skipped")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    refuse_to_overwrite(args.output)
    corrections = read_corrections(args.output / CORRECTIONS_NAME)
    labelled, photos, report = read_dataset(args.data, args.label_key)
    df = apply_corrections(labelled, corrections, report)
    if df.empty:
        raise UserError(f"{args.output / CORRECTIONS_NAME} marks every photo as wrong; correct or remove it")
    create_splits = create_grouped_splits if args.split == "grouped" else create_stratified_splits
    parts = create_splits(df, args.val_share, args.test_share, args.seed)
    splits = dict(zip(SPLITS, parts, strict=True))
    hashes = {image_path: photo.hash for image_path, photo in photos.items()}
    duplicates = straddling_duplicates(splits, hashes, args.duplicate_bits)
    write_dataset(splits, report, duplicates, args.data, args.output)
    print_summary(splits, report, duplicates, args.output)
    if args.review:
        review_labels(labelled, photos, corrections, args)
    print(f"Next: {command('train.py', [('--dataset', args.output, config.DATASET_DIR)])}")
    return int(args.strict and bool(report.skipped))


if __name__ == "__main__":
    run(main)
