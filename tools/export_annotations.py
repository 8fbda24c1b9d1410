"""Export the annotated damage or parts of all photos for the training of a detector, as COCO or YOLO.

    python tools/export_annotations.py --what damage --format yolo
    yolo detect train data=export/data.yaml model=yolo11n.pt
    python tools/export_annotations.py --what parts --format coco --output export_parts

Reads the photos and annotation files that data_preparation.py has read, in the same way, and its
splits in dataset/ if there are any. Writes to export/:

    coco   instances_train.json, instances_val.json and instances_test.json, or without splits
           instances.json; file names start from --data
    yolo   data.yaml, images/ and labels/ as Ultralytics reads them
    both   export.json: what was exported, and everything that was left out

Sizes and outlines are those of the upright photo, so what loads the COCO files must turn photos by
their EXIF orientation. For YOLO the photos are saved again as upright JPEGs, because Ultralytics
does not read every format and orientation, and overwrites JPEGs that it takes for damaged.

Photos with no damage (or part) are exported, too: from them a detector learns where there is none.
"""

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up


import config
from viewpoint.annotations.photo import Outline, Part, Report
from viewpoint.annotations.shapes import box_points
from viewpoint.annotations.vocabulary import DAMAGE, KNOWN
from viewpoint.common.cli import UserError, counted, make_parser, run
from viewpoint.common.images import open_image
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.common.writing import write_atomically
from viewpoint.data.dataset import SPLITS, read_rows, recorded_data_dir
from viewpoint.data.scan import Reading, nothing_found, read_dataset, recorded_reading

NAMES = {"damage": DAMAGE, "parts": KNOWN - DAMAGE}
ALL = "all"  # takes the place of the splits where there are none
REPORT_NAME = "export.json"
OWN_NAMES = {REPORT_NAME, "data.yaml", "images", "labels", "instances.json"} | {f"instances_{s}.json" for s in SPLITS}
JPEG_QUALITY = 95
MIN_SIZE = 1  # pixels; what is narrower or lower inside the photo is a stray click or lies outside

# A region to export: its name, and its outlines inside the photo, in pixels.
Region = tuple[str, tuple[Outline, ...]]


@dataclass(frozen=True)
class Item:
    """A photo to export: its path below the data folder, its upright size, and its regions."""

    image_path: str
    width: int
    height: int
    regions: tuple[Region, ...]


# --- What to export ----------------------------------------------------------------


def clip(outline: Outline, width: int, height: int) -> Outline:
    """An outline with the points outside the photo moved to its border, of a line the box around it.

    () when less than MIN_SIZE is left.
    """
    points = tuple((min(max(x, 0.0), width), min(max(y, 0.0), height)) for x, y in outline)
    box = box_around((points,))
    if min(box[2:]) < MIN_SIZE:
        return ()
    return points if area(points) else tuple(box_points(*box))


def area(outline: Outline) -> float:
    """The area that an outline encloses, by the shoelace formula."""
    following = [*outline[1:], *outline[:1]]
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(outline, following, strict=True))) / 2


def box_around(outlines: tuple[Outline, ...]) -> tuple[float, float, float, float]:
    """The left, top, width and height of the box around outlines."""
    xs, ys = zip(*(point for outline in outlines for point in outline), strict=True)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def find_regions(
    image_path: str, parts: tuple[Part, ...], size: tuple[int, int], names: frozenset[str], report: Report
) -> tuple[Region, ...]:
    """The regions of a photo with one of `names`; `report` gets those that cannot be exported."""
    regions = []
    for part in parts:
        if not part.names:
            report.skip("region without a name", image_path)
        outlines = tuple(filter(None, (clip(outline, *size) for outline in part.outlines)))
        for name in part.names:
            if name not in KNOWN:
                report.skip("region with a name that no list knows", f"{image_path}: {name}")
            elif name in names and outlines:
                regions.append((name, outlines))
            elif name in names:
                reason = "region without extent inside the photo" if part.outlines else "region without an outline"
                report.skip(reason, f"{image_path}: {name}")
    return tuple(regions)


def read_splits(dataset: Path) -> dict[str, str]:
    """The split of each photo in data_preparation.py's CSVs, {image_path: split}; {} when there are none."""
    paths = {split: dataset / f"{split}.csv" for split in SPLITS}
    return {row["image_path"]: split for split, path in paths.items() if path.is_file() for row in read_rows(path)}


def collect(
    data: Path, reading: Reading, split_of: dict[str, str], names: frozenset[str]
) -> tuple[dict[str, list[Item]], Report]:
    """The photos to export by split, or under ALL without splits, and a report of what is left out.

    Raises UserError when there are none, or nothing with one of `names` on them.
    """
    _, photos, report = read_dataset(data, reading)
    if not photos:
        raise UserError(nothing_found(data, report))
    splits: dict[str, list[Item]] = {split: [] for split in (SPLITS if split_of else [ALL])}
    for image_path, photo in photos.items():
        split = split_of.get(image_path) if split_of else ALL
        if split:
            regions = find_regions(image_path, photo.parts, photo.size, names, report)
            splits[split].append(Item(image_path, *photo.size, regions))
        else:
            report.leave_out("in none of the splits", image_path)
    splits = {split: items for split, items in splits.items() if items}
    if not any(item.regions for items in splits.values() for item in items):
        reasons = ", ".join(f"{reason}: {len(what)}" for reason, what in report.skipped.items())
        raise UserError(f"nothing to export in {counted(len(photos), 'photo')} of {data} ({reasons}); change --what")
    return splits, report


# --- Formats -----------------------------------------------------------------------


def as_coco(items: list[Item], categories: list[str]) -> dict:
    """Photos as the content of a COCO file. Source: https://cocodataset.org/#format-data."""
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, item in enumerate(items, 1):
        images.append({"id": image_id, "file_name": item.image_path, "width": item.width, "height": item.height})
        for name, outlines in item.regions:
            polygons = [[value for point in outline for value in point] for outline in outlines]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": categories.index(name) + 1,
                    "segmentation": [[round(value, 2) for value in polygon] for polygon in polygons],
                    "bbox": [round(value, 2) for value in box_around(outlines)],
                    "area": round(sum(map(area, outlines)), 2),
                    "iscrowd": 0,
                }
            )
    named = [{"id": number, "name": name} for number, name in enumerate(categories, 1)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": named}


def as_yolo(item: Item, categories: list[str], shape: str) -> str:
    """The label file of a photo: a line for each box or outline, in fractions of the photo's width and height.

    Source: https://docs.ultralytics.com/datasets/detect/ and https://docs.ultralytics.com/datasets/segment/.
    """
    lines = []
    for name, outlines in item.regions:
        left, top, width, height = box_around(outlines)
        box = ((left + width / 2, top + height / 2), (width, height))
        for points in [box] if shape == "box" else outlines:
            values = [f"{value:.6f}" for x, y in points for value in (x / item.width, y / item.height)]
            lines.append(" ".join([str(categories.index(name)), *values]) + "\n")
    return "".join(lines)


def write_yolo(splits: dict[str, list[Item]], categories: list[str], shape: str, data: Path, folder: Path) -> None:
    """Write data.yaml, and a photo and a label file for each item.

    Ultralytics reads labels/NAME.txt for images/NAME.jpg, and would also replace a folder "images" in
    the name. So names have no folders, and a number tells apart those that are then the same.
    """
    places = {split: split if split in splits else next(iter(splits)) for split in SPLITS}
    lines = [f"{split}: images/{place}" for split, place in places.items() if split in splits or split != "test"]
    lines += ["names:", *(f"  {number}: {json.dumps(name)}" for number, name in enumerate(categories))]
    # Without a line "path", Ultralytics starts from the folder of data.yaml, wherever that is moved to.
    (folder / "data.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write(job: tuple[str, int, Item]) -> None:
        split, number, item = job
        name = Path(item.image_path).with_suffix("").as_posix().replace("/", "__")
        name = f"{number:05}_{name.encode()[-150:].decode(errors='ignore')}"
        image = open_image(data / item.image_path)
        image.save(folder / "images" / split / f"{name}.jpg", quality=JPEG_QUALITY, subsampling=0)
        (folder / "labels" / split / f"{name}.txt").write_text(as_yolo(item, categories, shape), encoding="utf-8")

    for split in splits:
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
    jobs = [(split, number, item) for split, items in splits.items() for number, item in enumerate(items, 1)]
    for _ in progress(map_in_order(write, jobs, cpu_count()), "Saving photos", len(jobs)):
        pass


# --- The whole ---------------------------------------------------------------------


def refuse_to_overwrite(output: Path, data: Path) -> None:
    """Raise UserError when the output folder holds more than an earlier export, or is not apart from the photos."""
    if output.is_relative_to(data) or data.is_relative_to(output):
        raise UserError(f"{output} and the photos in {data} must be apart; give another folder with --output")
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if output.is_file() or names - OWN_NAMES or (names and REPORT_NAME not in names):
        raise UserError(f"{output} is not an earlier export and would be lost; give another folder with --output")


def print_summary(
    categories: list[str], counts: dict[str, Counter[str]], splits: dict[str, list[Item]], report: Report
) -> None:
    """Print the regions of each name and the photos in each split, and how much was left out why."""
    rows = {name: [count[name] for count in counts.values()] for name in categories}
    rows["photos"] = [len(items) for items in splits.values()]
    rows["photos with none of these"] = [sum(not item.regions for item in items) for items in splits.values()]
    print(f"\n{'name':<28}" + "".join(f"{split:>8}" for split in splits))
    for name, numbers in rows.items():
        print(f"{name:<28}" + "".join(f"{number:>8}" for number in numbers))
    for warning in report.warnings:
        print(f"WARNING: {warning}")
    for note in report.notes:
        print(note)
    print("\nLeft out:" if report.skipped else "\nLeft out: nothing")
    for reason, what in report.skipped.items():
        print(f"  {reason}: {len(what)}")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Export annotations for the training of a detector.")
    add = parser.add_argument
    add("--what", choices=list(NAMES), required=True, help="regions to export")
    add("--format", choices=["coco", "yolo"], required=True, help="format to write")
    add("--shape", choices=["box", "polygon"], default="box", help="for YOLO: detection boxes or segmentation outlines")
    add("--data", type=Path, help="folder of photos and annotation files; without it, the one recorded in --dataset")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of data_preparation.py's splits")
    add("--output", type=Path, default="export", help="folder to write")
    args = parser.parse_args()
    parser.refuse_unused(args, ["shape"], args.format == "yolo", "--format yolo")
    return args


def main() -> None:
    args = parse_arguments()
    data, output = (args.data or recorded_data_dir(args.dataset)).resolve(), args.output.resolve()
    refuse_to_overwrite(output, data)
    splits, report = collect(data, recorded_reading(args.dataset), read_splits(args.dataset), NAMES[args.what])
    counts = {split: Counter(name for item in items for name, _ in item.regions) for split, items in splits.items()}
    categories = sorted(set().union(*counts.values()))
    with write_atomically(output) as folder:
        folder.mkdir()
        if args.format == "coco":
            for split, items in splits.items():
                path = folder / ("instances.json" if split == ALL else f"instances_{split}.json")
                path.write_text(json.dumps(as_coco(items, categories), ensure_ascii=False), encoding="utf-8")
        else:
            write_yolo(splits, categories, args.shape, data, folder)
        content = {"what": args.what, "data": str(data), "regions": counts, "left_out": report.skipped}
        (folder / REPORT_NAME).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print_summary(categories, counts, splits, report)
    print(f"\nThe export is in {args.output}/; {REPORT_NAME} lists everything that was left out.")
    if args.format == "yolo" and "val" not in splits:
        print(f"No splits in {args.dataset}/: data.yaml gives the same photos for training and validation.")


if __name__ == "__main__":
    run(main)
