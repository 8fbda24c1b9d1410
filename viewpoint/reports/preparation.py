"""What data_preparation.py prints at its end: what was labelled, what was left out and why, what has moved."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import config
from viewpoint.annotations.photo import Report
from viewpoint.common.cli import counted, print_first, printable
from viewpoint.data.dataset import CORRECTIONS_NAME, class_counts
from viewpoint.data.labeling import UNKNOWN_PARTS
from viewpoint.data.splits import Changes

SOME = 5  # items of a long list are printed
NAMES_PRINTED = 20  # unknown part names are printed; all are in part_names.csv


def print_summary(tables: dict[str, pd.DataFrame], report: Report, output: Path, written_to: Path | None) -> None:
    """Print what was labelled, what was left out and why, and what the user should look at.

    `output` is the folder of corrections.csv, `written_to` the summary.json that has all of it; None
    when none was written.
    """
    total = sum(len(table) for table in tables.values())
    print(f"\n{counted(report.annotation_files, 'annotation file')} read, {counted(total, 'photo')} labelled\n")
    print_class_table(tables, total)
    print(f"\nPhotos found: {report.photos_found} = {total} labelled + {len(report.left_out)} left out")
    if report.empty:
        print(f"{report.empty} of the labelled photos are {config.BACKGROUND} because they have no region")
    for warning in report.warnings:
        print(f"WARNING: {warning}")
    if any(report.corrections.values()):
        counts = report.corrections
        print(f"\nCorrections of {output / CORRECTIONS_NAME}: {counted(counts['changed'], 'label')} changed, ", end="")
        print(f"{counts['confirmed']} confirmed, {counted(counts['left_out'], 'photo')} left out as wrong")
    if report.notes:
        print("\nUnusual, but read:")
        print_some(report.notes, written_to)
    spellings = [
        f"{printable(name)} as {part}: {count}" for (name, part), count in report.spellings.most_common() if count
    ]
    if spellings:
        print("\nPart names in other spellings, and how they were read:")
        print_some(spellings, written_to)
    print("\nSkipped:" if report.skipped else "\nSkipped: nothing")
    for reason, items in report.skipped.items():
        print(f"  {reason}: {len(items)}")
        print_some(items, written_to)
    if report.unknown_parts:
        left_out = len(report.skipped.get(UNKNOWN_PARTS, []))
        photos = counted(report.with_unknown_part, "photo")
        print(f"\nPart names that no list knows, and that do not vote, in {photos}; ", end="")
        print(f"{left_out} of these left out (see Skipped):")
        names = [f"{printable(name)} in {counted(n, 'photo')}" for name, n in report.unknown_parts.most_common()]
        print_first(names, NAMES_PRINTED)


def print_class_table(tables: dict[str, pd.DataFrame], total: int) -> None:
    """Print the photos of each class in all tables together and, if there are several, in each."""
    names = list(tables) if len(tables) > 1 else []
    per_table = [class_counts(tables[name]["label"]) for name in names]
    overall = class_counts(label for table in tables.values() for label in table["label"])
    print(f"{'class':<12}{'photos':>8}{'fraction':>10}" + "".join(f"{name:>8}" for name in names))
    for name, count in overall.items():
        counts = [counts[name] for counts in per_table]
        row = "".join(f"{one:>8}" for one in counts)
        absent = [split for split, one in zip(names, counts, strict=True) if not one]
        note = f"   none in {' and '.join(absent)}: not measured there" if absent else ""
        note = note if count else "   no photos: the model cannot learn this class"
        print(f"{name:<12}{count:>8}{count / max(total, 1):>10.1%}{row}{note}")
    print(f"{'all':<12}{total:>8}{min(total, 1):>10.1%}" + "".join(f"{len(tables[name]):>8}" for name in names))


def print_changes(changes: Changes, written_to: Path | None) -> None:
    """Print what differs from the earlier splits: normally nothing."""
    if not changes.kept and not changes.moved:
        print(f"\nThe splits are new: {counted(changes.new, 'photo')} assigned")
        return
    print(f"\nCompared with the earlier splits, {counted(changes.kept, 'photo')} stayed, ", end="")
    print(f"{changes.new} are new, {changes.gone} are gone, {len(changes.moved)} moved")
    moved = [printable(f"{path}: from {earlier} to {now}") for path, earlier, now in changes.moved]
    print_some(moved, written_to)
    if changes.moved:
        print("They moved because near-duplicates and groups share a split; compare no figures across this change.")


def print_conflicts(conflicts: list[tuple[str, str]], labels: dict[str, str], written_to: Path | None) -> None:
    """Print the nearly equal photos that have different labels."""
    if conflicts:
        print(f"\nNearly equal photos with different labels: {counted(len(conflicts), 'pair')}; one is probably wrong")
        print_some([printable(f"{a} ({labels[a]}) and {b} ({labels[b]})") for a, b in conflicts], written_to)


def print_some(items: Sequence[str], written_to: Path | None) -> None:
    """Print the first five of a long list, and where the rest is: in summary.json, or nowhere when there is none."""
    print_first(items, SOME, indent="    ", rest=f"the rest is in {written_to}" if written_to else "")
