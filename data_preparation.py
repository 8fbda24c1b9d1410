"""Turn photos with part annotations into labelled train, val and test splits.

    python data_preparation.py                      # folders of photos and JSON files in dataset/
    python data_preparation.py --data photos
    python data_preparation.py --review             # also a page to look at the labels

Reads every VIA, COCO, LabelMe or CVAT file at any depth below --data, and the photos that they name.
A photo that was not understood gets no label, and the summary says why. Writes to dataset/:

    train.csv, val.csv, test.csv   image_path (relative to --data), label and its votes
    splits.csv                     the split of every photo that ever had one, for the next run
    labels.csv                     the labels in one file, with --split none
    parts.jsonl                    the parts of each photo, for train.py and its report
    class_distribution.png         photos per class and split
    summary.json                   where the photos are, everything left out, near-duplicates
    part_names.csv                 the part names that no list knows, to fill in what they mean
    review.html                    with --review: the labels to look at, the most doubtful first

Near-duplicates are one group and share a split; with --split grouped so do the photos of a folder
(one vehicle, one inspection), or those in whose names --group-by finds the same. Every photo stays
in its split when the script runs again; --resplit starts over. The review
page saves corrections.csv, which the next run applies before the split; tools/review.py serves the
page and saves every mark into dataset/ at once. The next run also reads the meanings in
part_names.csv. Exits with 1 when something was left out and --strict was given, with 2 when the
annotations were not understood or are too few to split.
"""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import config
from viewpoint.annotations.part_names import PART_NAMES_NAME, known_meanings, read_part_names, write_part_names
from viewpoint.annotations.photo import Photo, Report
from viewpoint.common.cli import (
    COUNT,
    FRACTION,
    SEED,
    UserError,
    command,
    counted,
    make_parser,
    number,
    print_next,
    run,
)
from viewpoint.common.files import relative_name, relative_path
from viewpoint.common.images import CHART_NAME
from viewpoint.common.writing import lock, write_together
from viewpoint.data.corrections import apply_corrections, read_corrections
from viewpoint.data.dataset import (
    CORRECTIONS_NAME,
    LABELS_NAME,
    PARTS_NAME,
    REVIEW_NAME,
    SPLIT_HISTORY_NAME,
    SPLITS,
    SUMMARY_NAME,
    class_counts,
    data_set_id,
    read_summary,
    refuse_to_overwrite,
    write_parts,
)
from viewpoint.data.duplicates import find_conflicts, near_duplicates
from viewpoint.data.labeling import extract_viewpoint_label
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold
from viewpoint.data.scan import Reading, nothing_found, parse_dataset, read_dataset
from viewpoint.data.splits import (
    Changes,
    SplitHistory,
    SplitOptions,
    create_grouped_splits,
    create_stratified_splits,
    history_table,
    make_splits,
    read_history,
)
from viewpoint.inference.model import find_model
from viewpoint.reports.charts import draw_class_distribution
from viewpoint.reports.preparation import print_changes, print_conflicts, print_summary
from viewpoint.reports.review import Judgements, write_review

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
    tables: dict[str, pd.DataFrame],
    history: pd.DataFrame | None,
    summary: dict,
    photos: dict[str, Photo],
    output: Path,
) -> None:
    """Write a CSV for each table, splits.csv, parts, chart and summary.json into `output`: all, or on an error none.

    `tables` are the three splits by name, or only "labels"; `history` is splits.history_table. After a
    kill or a power cut some files may be missing, but old and new ones are never mixed.
    """
    written = {output / f"{name}.csv": table for name, table in tables.items()}
    others = {output / SPLIT_HISTORY_NAME: history} if history is not None else {}
    parts, chart, description = output / PARTS_NAME, output / CHART_NAME, output / SUMMARY_NAME
    # Together, because a new train.csv with an old test.csv would share photos.
    with write_together([*written], [*others, parts, chart, description]) as temporaries:
        for path, table in (written | others).items():
            table.to_csv(temporaries[path], index=False, lineterminator="\n")
        write_parts({path: photo.parts for path, photo in photos.items()}, temporaries[parts])
        draw_class_distribution(tables, temporaries[chart])
        text = json.dumps(summary, indent=2, ensure_ascii=False) + "\n"
        temporaries[description].write_text(text, encoding="utf-8")


def describe_dataset(
    tables: dict[str, pd.DataFrame], report: Report, conflicts: list[tuple[str, str]], args: argparse.Namespace
) -> dict:
    """The content of summary.json."""
    return {
        # Relative, so that a project folder can be moved as a whole.
        "data_dir": relative_path(args.data, args.output),
        "id": data_set_id(args.output),
        "split": split_method(args),
        "reading": {
            name: getattr(args, name) for name in ("label_key", "empty", "merge", "follow_links", "swap_sides")
        },
        "annotation_files": report.annotation_files,
        "photos_found": report.photos_found,
        "images": {name: class_counts(table["label"]) for name, table in tables.items()},
        "without_any_region": report.empty,
        "warnings": report.warnings,
        "notes": report.notes,
        "corrections": report.corrections,
        "skipped": report.skipped,
        "names_read_as": {f"{name} = {part}": count for (name, part), count in report.spellings.most_common() if count},
        "unknown_parts": dict(report.unknown_parts.most_common()),
        "conflicts": conflicts,
    }


def review_labels(
    labelled: pd.DataFrame,
    photos: dict[str, Photo],
    corrections: dict[str, str],
    conflicts: list[tuple[str, str]],
    tables: dict[str, pd.DataFrame],
    args: argparse.Namespace,
) -> int:
    """Write review.html and say what was found; how many doubtful labels nobody has marked yet.

    Raises UserError when the model in --models cannot be used.
    """
    page, model = args.output / REVIEW_NAME, find_model(args.models)
    contents = {path: photo.content for path, photo in photos.items()}
    out_of_fold = read_out_of_fold(args.output / OUT_OF_FOLD_NAME, contents)
    splits = {path: name for name, table in tables.items() if name in SPLITS for path in table["image_path"]}
    # As it was run, but with --resplit a mark would also move photos.
    again = shlex.join(["python", "data_preparation.py", *(word for word in sys.argv[1:] if word != "--resplit")])
    judged = Judgements(model, out_of_fold, conflicts, splits, again)
    try:
        doubtful = write_review(labelled, photos, corrections, args.data, args.review, page, judged)
    except UserError as error:
        raise UserError(f"no review page was written: {error} (--models is {args.models})") from error
    print(f"\nSomething speaks against {doubtful} of {counted(len(labelled), 'label')} that nobody has marked yet.")
    if out_of_fold:
        print(f"{counted(len(out_of_fold), 'label')} judged by models that did not learn them ({OUT_OF_FOLD_NAME})")
    if others := len(labelled) - len(out_of_fold) if model else 0:
        print(f"{counted(others, 'label')} judged by {model}, which may have learned them")
    return doubtful


# --- Refusals ----------------------------------------------------------------------


def refuse_what_was_not_understood(df: pd.DataFrame, report: Report, data: Path, output: Path) -> None:
    """Raise UserError when the annotations as a whole were not understood, so that no label can be trusted."""
    if df.empty:
        raise UserError(nothing_found(data, report))
    if report.without_known_part > report.annotated / 2:
        raise UserError(
            f"{report.without_known_part} of {report.annotated} annotated photos have no known part besides damage, "
            f"so their labels would be wrong; write into {output / PART_NAMES_NAME} what the names mean, or name the "
            "parts, then run this script again"
        )
    if set(df["label"]) == {config.BACKGROUND}:
        raise UserError(
            f"all {len(df)} labelled photos are {config.BACKGROUND}, so there is nothing to train; "
            "check that the annotations name the parts of vehicles"
        )


def split_method(args: argparse.Namespace) -> dict | None:
    """How the photos in splits.csv were split, for summary.json; --split none leaves that as it is."""
    if args.split == "none":
        return read_summary(args.output / SUMMARY_NAME).get("split")
    return {"by": args.split, "group_by": args.group_by}


def split(
    df: pd.DataFrame, photos: dict[str, Photo], pairs: list[tuple[str, str]], args: argparse.Namespace
) -> tuple[dict[str, pd.DataFrame], pd.DataFrame | None, Changes | None]:
    """The tables to write, three splits or one with --split none; the new splits.csv; what changed in the splits.

    `pairs` are near-duplicates. Raises UserError when there are too few photos, or the earlier
    splits were made in another way.
    """
    if args.split == "none":
        return {LABELS_NAME: df}, None, None
    history = SplitHistory() if args.resplit else read_history(args.output)
    earlier = read_summary(args.output / SUMMARY_NAME).get("split")
    if history.rows and earlier and earlier != split_method(args):
        raise UserError(
            f"the splits in {args.output} were made with other options ({earlier}); use the same, or add --resplit"
        )
    contents = {path: photo.content for path, photo in photos.items()}
    options = SplitOptions(args.split, args.group_by, args.val_share, args.test_share, args.seed)
    if others := history.hashes_besides({contents[path] for path in df["image_path"]}):
        pairs = near_duplicates({path: photos[path].hash for path in df["image_path"]} | others, args.duplicate_bits)
    tables, changes = make_splits(df, contents, pairs, history, options)
    return tables, history_table(tables, photos, history), changes


def name_in_data(path: Path, data: Path) -> str:
    """A file or folder of --swap-sides relative to the data folder, which its path may start from; with "/".

    Raises UserError when it is not there.
    """
    for start in (data, Path()):
        file = (start / path).resolve()
        if file.exists() and file.is_relative_to(data.resolve()):
            return relative_name(file, data.resolve())
    raise UserError(f"--swap-sides {path} is not in {data}; give an annotation file or a folder in it")


# --- The whole ---------------------------------------------------------------------


def regular_expression(text: str) -> str:
    """An option type for argparse: a regular expression."""
    try:
        return re.compile(text).pattern
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text} is not a regular expression: {error}") from error


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Turn photos with part annotations into labelled splits.")
    meaning = "folder of photos and annotation files, at any depth"
    parser.add_main("--data", type=Path, required=False, default=config.DATA_DIR, help=meaning)
    add_reading_options(parser.add_argument)
    add_split_options(parser.add_argument)
    args = parser.parse_args()
    parser.refuse_unused(args, ["group_by"], args.split == "grouped", "--split grouped")
    of_splits = ["val_share", "test_share", "seed", "resplit"]
    parser.refuse_unused(args, of_splits, args.split != "none", "--split stratified or grouped")
    parser.refuse_unused(args, ["models"], bool(args.review), "--review")
    return args


def add_reading_options(add: Callable[..., object]) -> None:
    """Add the options of how the annotations are read."""
    add("--output", type=Path, default=config.DATASET_DIR, help="folder to write the splits to")
    add("--label-key", default=config.IDENTITY_KEY, help="region attribute that names the part")
    add(
        "--empty",
        choices=["background", "skip"],
        default="background",
        help=f"photos without any region are {config.BACKGROUND}, or are left out",
    )
    add(
        "--merge",
        choices=["fuller", "union"],
        help="of annotations of one photo that contradict each other, use the one with most parts, or all parts; "
        "without it, leave the photo out",
    )
    add(
        "--swap-sides",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="annotation files, or folders of files for one photo each, whose left and right are those of somebody "
        "who faces the car",
    )
    add("--follow-links", action="store_true", help="also read what links in the folder lead to outside of it")
    add("--strict", action="store_true", help="exit with 1 when anything was skipped")


def add_split_options(add: Callable[..., object]) -> None:
    """Add the options of the splits and of the review page."""
    add(
        "--split",
        choices=["stratified", "grouped", "none"],
        default="stratified",
        help="with equal class fractions, also with each folder in one split, or one file with all labels",
    )
    add("--val-share", type=FRACTION, default=config.VAL_SHARE, help="fraction of the photos for validation")
    add("--test-share", type=FRACTION, default=config.TEST_SHARE, help="fraction of the photos for the test")
    add(
        "--duplicate-bits",
        type=number(int, 0, 127),
        default=config.DUPLICATE_BITS,
        help="largest difference, in bits of their 128-bit hashes, between near-duplicates",
    )
    add(
        "--group-by",
        type=regular_expression,
        metavar="REGEX",
        help="with --split grouped: what photos of one group have in common in their path, instead of the folder",
    )
    add("--resplit", action="store_true", help="split all photos again, instead of keeping each in its split")
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


def main() -> int:
    args = parse_arguments()
    with lock(args.output, "--output"):
        return prepare(args)


def prepare(args: argparse.Namespace) -> int:
    """Label the photos, split them and write the dataset folder; the exit code."""
    refuse_to_overwrite(args.output)
    corrections = read_corrections(args.output / CORRECTIONS_NAME)
    filled_in = read_part_names(args.output / PART_NAMES_NAME)
    meanings = known_meanings(filled_in, args.output / PART_NAMES_NAME)
    args.swap_sides = sorted({name_in_data(path, args.data) for path in args.swap_sides})
    reading = Reading(args.label_key, args.empty, args.merge, args.follow_links, meanings, frozenset(args.swap_sides))
    labelled, photos, report = read_dataset(args.data, reading)
    if report.unknown_parts or filled_in:
        read = Counter({name: count for (name, _), count in report.spellings.items()})
        write_part_names(args.output / PART_NAMES_NAME, report.unknown_parts, filled_in, read)
    df = apply_corrections(labelled, corrections, report)
    # A refusal comes last, because the summary and the review page say what is behind it.
    tables, history, changes, refusal = {LABELS_NAME: df}, None, None, None
    pairs = near_duplicates({path: photos[path].hash for path in df["image_path"]}, args.duplicate_bits)
    conflicts = find_conflicts(df, pairs)
    try:
        refuse_what_was_not_understood(df, report, args.data, args.output)
        tables, history, changes = split(df, photos, pairs, args)
    except UserError as error:
        refusal = error
    if not refusal:
        write_dataset(tables, history, describe_dataset(tables, report, conflicts, args), photos, args.output)
    written_to = None if refusal else args.output / SUMMARY_NAME
    print_summary(tables, report, args.output, written_to)
    print_conflicts(conflicts, dict(zip(df["image_path"], df["label"], strict=True)), written_to)
    if changes:
        print_changes(changes, written_to)
    to_look_at, doubtful = {}, 0
    if args.review and not labelled.empty:
        doubtful = review_labels(labelled, photos, corrections, conflicts, tables, args)
        to_look_at[REVIEW_NAME] = "the labels, the most doubtful first"
    if report.unknown_parts:
        to_look_at[PART_NAMES_NAME] = "the unknown names: write what they mean into the column means, for the next run"
    if not refusal:
        to_look_at |= {CHART_NAME: "the photos of each class", SUMMARY_NAME: "everything that was left out, and why"}
    print("\nTo look at:" if to_look_at else "")
    for name, meaning in to_look_at.items():
        print(f"  {args.output / name}: {meaning}")
    if refusal:
        raise UserError(f"no splits were written: {refusal}") from refusal
    print_next_step(args, doubtful)
    return int(args.strict and bool(report.skipped))


def print_next_step(args: argparse.Namespace, doubtful: int) -> None:
    """Print the command to run next: the review of `doubtful` labels, if there are such, before the training."""
    if doubtful:
        print_next(command("tools/review.py", [("--dataset", args.output, config.DATASET_DIR)]))
    elif args.split == "none":
        print_next(command("test_predict.py", [("--images", args.output / f"{LABELS_NAME}.csv", None)]))
    else:
        print_next(command("train.py", [("--dataset", args.output, config.DATASET_DIR)]))


if __name__ == "__main__":
    run(main)
