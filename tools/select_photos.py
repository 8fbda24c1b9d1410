"""Choose the unlabelled photos that are most worth annotating, and write them as a project for VIA, LabelMe and CVAT.

    python tools/select_photos.py new_photos --count 200

Reads the photos, models/model.keras, and what is annotated already: models/data.json, and splits.csv
and parts.jsonl in dataset/. Writes the folder to_annotate/:

    0001_NAME.jpg ...    copies of the photos, the first ones are the most useful
    via_project.json     open it in VIA 2: the photos, the part names (those that the data set uses first), and what
                         the model takes each photo for
    labelme_labels.txt   the part names for LabelMe (labelme . --labels labelme_labels.txt --nodata)
    cvat_labels.txt      the part names for CVAT, to paste into a new task as raw labels
    selection.csv        where each photo came from, the model's guess, how sure it is, and the hash of its file

When the photos are annotated, put the folder, with VIA's saved project in it, beside the others in
dataset/ and run data_preparation.py. docs/selecting.md says how photos are chosen and what it gains.
"""

import argparse
import contextlib
import itertools
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from viewpoint.common.tensorflow import import_tensorflow

import_tensorflow()

import numpy as np
from sklearn.cluster import KMeans

import config
from viewpoint.annotations.places import GUESS_KEY
from viewpoint.annotations.via import NO_PARTS_KEY
from viewpoint.annotations.vocabulary import KNOWN, known_by_words, without_synonyms
from viewpoint.common.cli import COUNT, UserError, counted, make_parser, run
from viewpoint.common.files import csv_name
from viewpoint.common.images import ImageError, open_header, open_image
from viewpoint.common.metrics import predicted_classes
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.common.quality import quality_reasons
from viewpoint.common.tables import read_table, write_csv
from viewpoint.common.writing import write_atomically
from viewpoint.data.dataset import PARTS_NAME, SPLITS, read_parts, recorded_data_dir
from viewpoint.data.duplicates import group_photos, near_duplicates, perceptual_hash
from viewpoint.data.labeling import VAGUE
from viewpoint.data.provenance import UNLABELLED, ModelData, hash_photos, photo_hash, read_data
from viewpoint.data.splits import SplitHistory, read_history
from viewpoint.inference.inputs import Input, is_video, list_inputs
from viewpoint.training.features import backbone_features
from viewpoint.training.network import head_of, load_model

# What browsers show, as Pillow names it, with the suffix of the copy; other photos are saved as JPEG.
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
JPEG_QUALITY = 95
SELECTION_NAME = "selection.csv"
VIA_FORMAT = "2.0.10"  # the _via_data_format_version that VIA 2.0.10 to 2.0.12 write
ANNOTATED = "annotated already"
LEARNED = "learned without labels by train.py --unlabelled"
NEARLY_KNOWN = "nearly the same as a photo that is annotated or learned already"
NEAR_DUPLICATE = "nearly the same as another photo"
# Among this many times the photos wanted, the most uncertain ones, those are chosen that differ.
CANDIDATES = 4


@dataclass(frozen=True)
class Choice:
    """A photo that was chosen, and what the model takes it for: the class, and its lead over the next one, 0 to 1."""

    photo: Input
    guess: str
    margin: float


# --- Which photos can be annotated -------------------------------------------------


def usable_photos(
    photos: list[Input], size: int, known: Mapping[str, str], known_hashes: Mapping[str, int]
) -> tuple[list[Input], Counter[str]]:
    """The photos that can be read and used, of near-duplicates the first, and how many are left out why.

    `size` is the model's input in pixels; `known` has the reason for each provenance.photo_hash to leave out,
    `known_hashes` the perceptual_hash of photos whose near-duplicates are left out.
    """

    def look(photo: Input) -> tuple[str, int]:
        try:
            if reason := known.get(photo_hash(photo.file)):
                return reason, 0
            reasons = quality_reasons(open_image(photo.file, size))
            return (reasons[0], 0) if reasons else ("", perceptual_hash(photo.file))
        except (ImageError, OSError):
            return "unreadable", 0

    looks = progress(map_in_order(look, photos, cpu_count()), "Looking at photos", len(photos))
    left_out: Counter[str] = Counter()
    usable, hashes = {}, {}
    for photo, (reason, value) in zip(photos, looks, strict=True):
        left_out.update([reason] if reason else [])
        if not reason:
            usable[photo.name], hashes[photo.name] = photo, value
    earlier = {f"/{content}": value for content, value in known_hashes.items()}  # no name begins with "/"
    units = group_photos([*earlier, *usable], near_duplicates(earlier | hashes))
    taken, first = set(units[: len(earlier)]), dict[int, Input]()
    for unit, photo in zip(units[len(earlier) :], usable.values(), strict=True):
        left_out.update({NEARLY_KNOWN: unit in taken, NEAR_DUPLICATE: unit in first})
        if unit not in taken:
            first.setdefault(unit, photo)
    return list(first.values()), +left_out  # "+" drops what was counted 0 times


# --- Which are worth it ------------------------------------------------------------


def class_weights(data: ModelData | None) -> np.ndarray:
    """How much a class needs photos: float (classes,), 1 for a class with the mean number of training photos.

    A class with a quarter of that weighs 2. Photos of the mirrored class count too, because train.py
    mirrors them. All classes weigh 1 where it is not known what the model was trained on.
    """
    classes = data.splits["train"].classes if data and "train" in data.splits else {}
    photos = [classes.get(name, 0) + classes.get(config.MIRRORED_CLASS[name], 0) for name in config.CLASSES]
    return np.sqrt(np.mean(photos) / np.maximum(photos, 1)) if any(photos) else np.ones(len(photos))


def choose(features: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, count: int) -> list[int]:
    """The rows of `count` photos that are uncertain and differ from each other, the most uncertain first.

    Takes features (n, channels), probabilities (n, classes) and a weight of each class. Of the
    CANDIDATES * count photos with the smallest margin between the two best classes, k-means makes
    `count` clusters, and the photo nearest to the centre of each is chosen.
    Source: Zhdanov, Diverse mini-batch Active Learning (2019), https://arxiv.org/abs/1901.05954.
    """
    needed = (1 - margins(probabilities)) * (probabilities @ weights) + 1e-6
    candidates = np.argsort(-needed, kind="stable")[: CANDIDATES * count]
    if len(candidates) <= count:
        return candidates.tolist()
    clusters = KMeans(count, n_init=1, random_state=config.SEED)
    distances = clusters.fit_transform(features[candidates], sample_weight=needed[candidates])
    nearest = set(distances.argmin(axis=0).tolist())
    others = (row for row in range(len(candidates)) if row not in nearest)
    nearest.update(itertools.islice(others, count - len(nearest)))  # where one photo is nearest to two centres
    return candidates[sorted(nearest)].tolist()


def margins(probabilities: np.ndarray) -> np.ndarray:
    """The lead of the best class over the next one: (n,), 0 to 1, of probabilities (n, classes)."""
    second, best = np.sort(probabilities, axis=1)[:, -2:].T
    return best - second


# --- Output ------------------------------------------------------------------------


def part_options(used: Counter[str]) -> list[str]:
    """The part names to choose from, of names with one meaning one: those `used` most, then parts, then damage."""
    first: dict[str, str] = {}
    for name, _ in used.most_common():
        if name in KNOWN - VAGUE:
            first.setdefault(without_synonyms(name), name)
    names = [*sorted(set(known_by_words().values()) - VAGUE), *config.DAMAGE_PARTS]
    return [*first.values(), *(name for name in names if name not in first)]


def names_in_use(dataset: Path) -> Counter[str]:
    """How often the data set uses each part name, by its parts.jsonl."""
    photos = read_parts(dataset / PARTS_NAME).values()
    return Counter(name for parts in photos for part in parts for name in part.names)


def copy_photo(choice: Choice, rank: int, folder: Path) -> str:
    """Copy a photo into the folder, as JPEG what browsers do not show: the name of the copy.

    The name begins with the rank, and has no character that means something else in a URL.
    """
    with open_header(choice.photo.file) as image:
        suffix = SUFFIXES.get(str(image.format))
    stem = re.sub(r"[^\w.-]+", "_", Path(choice.photo.name).with_suffix("").as_posix())
    name = f"{rank:04}_{stem.encode()[-150:].decode(errors='ignore')}{suffix or '.jpg'}"
    if suffix:
        shutil.copyfile(choice.photo.file, folder / name)
    else:
        open_image(choice.photo.file).save(folder / name, quality=JPEG_QUALITY)
    return name


def via_project(names: list[str], choices: list[Choice], options: list[str], folder: Path, location: Path) -> dict:
    """A VIA 2 project of photos in `folder`, which will be at `location`, with the part names `options`.

    VIA opens the files at default_filepath + filename. An entry's key is its file's name and size in bytes.
    Source: project_save_confirmed() and project_open_parse_json_file() in
    https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/src/via.js.
    """
    sizes = [(folder / name).stat().st_size for name in names]
    entries = {
        f"{name}{size}": {
            "filename": name,
            "size": size,
            "regions": [],
            "file_attributes": {GUESS_KEY: choice.guess, NO_PARTS_KEY: {}},
        }
        for name, size, choice in zip(names, sizes, choices, strict=True)
    }
    parts = {"type": "dropdown", "description": "part", "options": dict.fromkeys(options, "")}
    guess = {"type": "text", "description": "what the model takes the photo for", "default_value": ""}
    seen = {"type": "checkbox", "description": "", "options": {"yes": "seen, and there is no part to annotate"}}
    return {
        "_via_settings": {
            "ui": {"image": {"region_label": config.IDENTITY_KEY}},
            "core": {"buffer_size": 18, "filepath": {}, "default_filepath": f"{location.as_uri()}/"},
            "project": {"name": "via_project"},
        },
        "_via_img_metadata": entries,
        "_via_attributes": {
            "region": {config.IDENTITY_KEY: parts | {"default_options": {}}},
            "file": {GUESS_KEY: guess, NO_PARTS_KEY: seen | {"default_options": {}}},
        },
        "_via_data_format_version": VIA_FORMAT,
        "_via_image_id_list": list(entries),
    }


def write_project(choices: list[Choice], options: list[str], output: Path) -> None:
    """Write the copies of the photos, and the files for the annotation tools with the part names `options`."""
    with write_atomically(output) as folder:
        folder.mkdir()
        ranked = progress(list(enumerate(choices, 1)), "Copying photos")
        names = [copy_photo(choice, rank, folder) for rank, choice in ranked]
        project = via_project(names, choices, options, folder, output.resolve())
        (folder / "via_project.json").write_text(json.dumps(project, ensure_ascii=False), encoding="utf-8")
        (folder / "labelme_labels.txt").write_text("".join(f"{name}\n" for name in options), encoding="utf-8")
        # CVAT's raw labels are JSON, but not a file that data_preparation.py should try to read.
        labels = [{"name": name, "attributes": []} for name in options]
        (folder / "cvat_labels.txt").write_text(json.dumps(labels, indent=1) + "\n", encoding="utf-8")
        rows = [
            (csv_name(name), one.photo.name, one.guess, f"{one.margin:.4f}", photo_hash(one.photo.file))
            for name, one in zip(names, choices, strict=True)
        ]
        write_csv(folder / SELECTION_NAME, ["copy", "image_name", "guess", "margin", "content"], rows)


def print_summary(choices: list[Choice], guesses: list[str], left_out: Counter[str], output: Path) -> None:
    """Print what was left out why, how many photos of each guess were chosen, and what to do next."""
    print("\nLeft out:" if left_out else "\nLeft out: nothing")
    for reason, count in left_out.most_common():
        print(f"  {reason}: {count}")
    print(f"\n{counted(len(choices), 'photo')} of {len(guesses)} chosen\n{'guess':<16}{'chosen':>8}{'of':>8}")
    chosen, found = Counter(choice.guess for choice in choices), Counter(guesses)
    for name in config.CLASSES:
        print(f"{name:<16}{chosen[name]:>8}{found[name]:>8}")
    print(
        f"\nOpen {output / 'via_project.json'} in VIA 2 (Project > Load). In each photo draw the parts, or tick "
        f'"{NO_PARTS_KEY}" among\nthe file annotations; photos with neither are not used. Save the project '
        f"into {output}/, put\nthat folder beside your other photos and run data_preparation.py."
    )


def find_photos(folder: Path, output: Path) -> tuple[list[Input], Counter[str]]:
    """The photos of a folder, and how many files are left out why. Raises UserError when `output` is in the way."""
    if output.exists():
        raise UserError(f"{output} exists and may hold annotations; move it away, or give another folder with --output")
    if output.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{output} is inside {folder}, whose photos are to be chosen from; give another --output")
    inputs = list_inputs([folder])
    left_out = Counter({reason: len(names) for reason, names in inputs.left_out.items()})
    return [photo for photo in inputs if not is_video(photo.file)], left_out


def known_photos(data: ModelData | None, history: SplitHistory, folder: Path) -> dict[str, str]:
    """Why photos are not to be chosen, by provenance.photo_hash: annotated already, or learned without labels.

    The model is sure of the latter, and once it has learned them, they could not be used to test it. `folder` has
    the annotated photos.
    """
    photos = data.photos if data else {}
    annotated = {photo for split in SPLITS for photo in photos.get(split, [])} | history.by_content.keys()
    annotated |= converted_photos(folder, annotated)
    return dict.fromkeys(annotated, ANNOTATED) | dict.fromkeys(photos.get(UNLABELLED, []), LEARNED)


def converted_photos(folder: Path, known: Collection[str]) -> set[str]:
    """The photo_hash of photos whose copies, in another format, are `known`, from the selections below a folder."""
    originals = set()
    for path in folder.rglob(SELECTION_NAME):
        with contextlib.suppress(UserError):  # a damaged file
            rows = [row for row in read_table(path)[1] if row.get("content") and row["content"] not in known]
            copies = hash_photos(path.parent / row.get("copy", "") for row in rows)
            originals |= {row["content"] for row, copy in zip(rows, copies, strict=True) if copy in known}
    return originals


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Choose the photos that are most worth annotating.")
    add = parser.add_argument
    parser.add_main("--images", type=Path, metavar="FOLDER", help="folder of unlabelled photos")
    add("--count", type=COUNT, default=200, help="photos to choose")
    add("--models", type=Path, default=config.MODELS_DIR, help="folder of model.keras and data.json")
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of splits.csv, which says what is annotated")
    add("--output", type=Path, default="to_annotate", help="folder to write")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    photos, left_out = find_photos(args.images, args.output)
    model = load_model(args.models / "model.keras")
    data, history = read_data(args.models), read_history(args.dataset)
    known = known_photos(data, history, recorded_data_dir(args.dataset))
    photos, unusable = usable_photos(photos, model.input_shape[1], known, history.hashes_besides([]))
    left_out.update(unusable)
    if not photos:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in left_out.items())
        raise UserError(f"no photo in {args.images} is left to annotate ({reasons}); give another folder")
    features = backbone_features(model, [photo.file for photo in photos])
    is_there = np.isfinite(features).all(axis=1)  # a photo may vanish meanwhile
    photos = [photo for photo, there in zip(photos, is_there, strict=True) if there]
    features = features[is_there]
    probabilities = head_of(model).predict(features, verbose=0)
    guesses = predicted_classes(probabilities)
    rows = choose(features, probabilities, class_weights(data), args.count)
    leads = margins(probabilities)
    choices = [Choice(photos[row], guesses[row], float(leads[row])) for row in rows]
    write_project(choices, part_options(names_in_use(args.dataset)), args.output)
    print_summary(choices, guesses, left_out, args.output)


if __name__ == "__main__":
    run(main)
