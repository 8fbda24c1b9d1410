"""Cross-validate any options of train.py: figures with their spread.

    python tools/crossval.py --output cv.jsonl --seeds 42 1
    python tools/crossval.py --output cv.jsonl --seeds 42 1 -- --recipe reference
    python tools/crossval.py --output cv.jsonl --other others/labels.csv more_photos
    python tools/crossval.py --output cv.jsonl --learning-curve

Joins the splits in dataset/ and cuts them into folds. For each seed and fold, train.py runs with
the options after "--" on the other folds, an eighth of which is for validation. Appends a JSON
line for each fold to --output, with the predictions of the fold's photos; folds that the file
already has, with the same options, photos and code, are not trained again. Prints the mean and
standard deviation of accuracy, macro F1 and more, and the figures of all folds together.
With --other, every fold's model also predicts labelled photos of other sources, which no model is
trained on. The mean of the accuracies on all sources is the figure to choose a recipe by: one that
is only better on its own photos, or on one other source, may just know those well. A source is a
CSV with the columns image_path and label, a folder with such a labels.csv, or a folder with a
folder for each class.

With --learning-curve, every fold is also trained on a third and on two thirds of its photos. A
table and a sentence say whether more photos would help, and of which classes.

Writes out_of_fold.csv into the folder of the splits: each photo's probabilities, the mean over the
seeds, from models that did not learn it. "data_preparation.py --review" judges the labels by them.
Near-duplicates share a fold, and so do the photos of a group where data_preparation.py --split
grouped made the splits.
"""

import argparse
import contextlib
import hashlib
import itertools
import json
import modulefinder
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.common.cli import SEED, UserError, counted, make_parser, number, run
from viewpoint.common.files import list_folder
from viewpoint.common.images import is_photo
from viewpoint.common.metrics import expected_calibration_error
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.progress import progress
from viewpoint.data.dataset import SPLITS, SUMMARY_NAME, read_split, read_summary, recorded_data_dir
from viewpoint.data.duplicates import group_keys, group_photos, near_duplicates, perceptual_hash
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, write_out_of_fold
from viewpoint.data.provenance import fingerprint, hash_photos, read_data
from viewpoint.data.splits import assign, in_path_order
from viewpoint.inference.predictor import Predictor
from viewpoint.reports.review import predict_classes
from viewpoint.reports.training import compute_metrics
from viewpoint.training.settings import parse_settings

PROJECT = Path(__file__).parents[1]
VAL_SHARE = 1 / 8  # fraction of the photos outside the fold that is for validation
NUMBERS = ["accuracy", "macro_f1", "log_loss", "calibration_error"]
PARTS = 3  # --learning-curve trains on one, two and all of this many parts of the photos


def make_folds(df: pd.DataFrame, folds: int, groups: Sequence[int]) -> list[dict[str, pd.DataFrame]]:
    """The train, val and test rows of each fold; every photo is in the test rows of one fold.

    `groups` has the group number of each row, see duplicates.group_photos; a group is never cut. The folds are
    the same for all options and seeds. Raises UserError when a class or the whole has too few groups.
    """
    unit_of = pd.Series(groups, df.index)
    per_class = unit_of.groupby(df["label"]).nunique()
    # Three, because with two folds the other one must still be enough for train and val.
    if per_class.min() < max(folds, 3):
        raise UserError(
            f"{counted(len(df), 'photo')}, {counted(int(per_class.min()), 'group')} of {per_class.idxmin()}, are too "
            f"few for {folds} folds; annotate more, or give a lower number with --folds"
        )
    fold_of = np.array(assign(df["label"].tolist(), groups, {str(k): 1 / folds for k in range(folds)}, config.SEED))
    result = []
    for fold in range(folds):
        others = df[fold_of != str(fold)]
        shares = {"train": 1 - VAL_SHARE, "val": VAL_SHARE}
        split = np.array(assign(others["label"].tolist(), unit_of[others.index].tolist(), shares, config.SEED))
        parts = (others[split == "train"], others[split == "val"], df[fold_of == str(fold)])
        result.append({name: in_path_order(part) for name, part in zip(SPLITS, parts, strict=True)})
    return result


def find_near_duplicates(df: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of nearly equal photos, by image_path. Raises ImageError when a photo cannot be read."""
    hashes = progress(map_in_order(perceptual_hash, df["file"].map(Path), cpu_count()), "Near-duplicates", len(df))
    return near_duplicates(dict(zip(df["image_path"], hashes, strict=True)))


def read_other(path: Path) -> pd.DataFrame:
    """Labelled photos of another source, with the columns image_path, label and file; see the module's docstring.

    Raises UserError when there are none.
    """
    if path.is_file() or (path / "labels.csv").is_file():
        csv_path = path if path.is_file() else path / "labels.csv"
        other = read_split(csv_path, csv_path.parent)
        if "label" not in other:
            raise UserError(f"{csv_path} has no column label; --other needs the true class of every photo")
    else:
        found = [(file, name) for name in config.CLASSES for file in list_folder(path / name).files if is_photo(file)]
        rows = [(f"{name}/{file.relative_to(path / name).as_posix()}", name, str(file)) for file, name in found]
        other = pd.DataFrame(rows, columns=["image_path", "label", "file"])
    if other.empty:
        raise UserError(f"{path} has no labelled photos; give a CSV, or a folder with a folder for each class")
    return other


def predict_other(other: pd.DataFrame, model: Path) -> list[list]:
    """[predicted class, its score, true class] of each photo of another source that can be read."""
    results = zip(Predictor(model).batch(other["file"]), other["label"], strict=True)
    return [[one.best_class, round(one.score, 6), true] for one, true in results if one.error is None]


def keep_parts(train: pd.DataFrame, parts: int, group_of: dict[str, int]) -> pd.DataFrame:
    """`parts` of PARTS equal parts of a fold's photos to train on; more parts contain the fewer ones.

    `group_of` has the group number of each image_path; a group is never cut.
    """
    shares = {str(part): 1 / PARTS for part in range(PARTS)}
    groups = [group_of[path] for path in train["image_path"]]
    part_of = assign(train["label"].tolist(), groups, shares, config.SEED)
    return train[np.array(part_of).astype(int) < parts]


def train_fold(
    fold: dict[str, pd.DataFrame],
    data_dir: Path,
    seed: int,
    options: list[str],
    others: dict[str, pd.DataFrame],
) -> dict:
    """Run train.py on one fold; returns its figures and its predictions of the test rows, and of `others` by name.

    Raises UserError when train.py fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, split in fold.items():
            split.to_csv(Path(folder) / f"{name}.csv", index=False)
        command = [sys.executable, str(PROJECT / "train.py"), "--dataset", folder, "--data", str(data_dir)]
        command += ["--models", folder, "--seed", str(seed), *options]
        started = time.monotonic()
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise UserError(f"train.py failed, see its message above; the command was {shlex.join(command)}")
        seconds = time.monotonic() - started
        content = json.loads((Path(folder) / "report" / "metrics.json").read_text(encoding="utf-8"))
        predictions = pd.read_csv(Path(folder) / "report" / "test_predictions.csv")
        probabilities = predict_classes(fold["test"], data_dir, Path(folder) / "saved_model")
        return {
            **{name: content["test"][name] for name in NUMBERS},
            "photos": len(fold["train"]),
            "other": {name: predict_other(other, Path(folder) / "saved_model") for name, other in others.items()},
            "robustness": content["test"]["robustness"],
            "temperature": content["settings"].get("temperature"),
            "seconds": round(seconds),
            "predictions": predictions.values.tolist(),
            "probabilities": {
                path: [values[name] for name in config.CLASSES] for path, values in probabilities.items()
            },
        }


def describe_inputs(df: pd.DataFrame) -> str:
    """A short hash of these photos and labels, and of train.py and all modules of the project it imports."""
    content = df[["image_path", "label", "content"]].to_csv(index=False).encode()
    for path in code_of_training():
        content += path.read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def code_of_training() -> list[Path]:
    """train.py and the modules of the project that it imports, directly or not, sorted."""
    finder = modulefinder.ModuleFinder([str(PROJECT)])
    finder.run_script(str(PROJECT / "train.py"))
    files = [getattr(module, "__file__", None) for module in finder.modules.values()]
    return sorted(Path(file) for file in files if file)


def read_finished(path: Path) -> dict[str, dict]:
    """The finished folds in a file by key.

    A line that an interruption cut off is left out, and so is one of an earlier version.
    """
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            if "probabilities" in row and "parts" in row["key"]:
                rows[json.dumps(row["key"])] = row
    return rows


def mean_probabilities(rows: list[dict]) -> dict[str, list[float]]:
    """The mean over the seeds of each photo's probabilities: {image_path: one value for each class}."""
    of_photo: dict[str, list[list[float]]] = {}
    for row in rows:
        for image_path, values in row["probabilities"].items():
            of_photo.setdefault(image_path, []).append(values)
    return {image_path: np.mean(values, axis=0).tolist() for image_path, values in of_photo.items()}


def print_results(rows: list[dict]) -> None:
    """Print mean and standard deviation over folds and seeds, and the figures of each seed's folds together."""
    figures = {name: [row[name] for row in rows] for name in [*NUMBERS, "seconds"]}
    figures |= {name: [row["robustness"][name] for row in rows] for name in rows[0]["robustness"]}
    print(f"\n{counted(len(rows), 'training')}, mean ± standard deviation over them:")
    for name, values in figures.items():
        print(f"  {name:<26}{np.mean(values):.3f} ± {np.std(values):.3f}")
    for seed in dict.fromkeys(row["key"]["seed"] for row in rows):
        _, predicted, scores, true = zip(*predictions_of(rows, seed), strict=True)
        metrics = compute_metrics(list(true), list(predicted))
        right = np.array(true) == np.array(predicted)
        error = expected_calibration_error(np.array(scores), right)
        print(f"\nSeed {seed}, all folds together: {len(right) - right.sum()} of {len(right)} wrong, ", end="")
        print(f"accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, calibration error {error:.3f}")
        print(metrics["text"])


def print_other(rows: list[dict]) -> None:
    """Print the figures on the photos of --other, and the mean of the accuracies on all sources, by seed."""
    if not rows[0]["other"]:
        return
    seeds = list(dict.fromkeys(row["key"]["seed"] for row in rows))
    right = {seed: [one == true for _, one, _, true in predictions_of(rows, seed)] for seed in seeds}
    accuracies = [[float(np.mean(values)) for values in right.values()]]
    for source, answers in rows[0]["other"].items():
        print(f"\nOn {counted(len(answers), 'photo')} of {source}, which no model was trained on, by seed:")
        of_seeds = [
            pd.DataFrame([figures_on_other(row["other"][source]) for row in rows if row["key"]["seed"] == seed]).mean()
            for seed in seeds
        ]
        for name in of_seeds[0].index:
            print(f"  {name:<24}{by_seed([one[name] for one in of_seeds])}")
        accuracies.append([one["accuracy"] for one in of_seeds])
    means = np.mean(accuracies, axis=0)
    print(f"\nMean accuracy of the {len(accuracies)} sources: {by_seed(means)}", end="")
    print(f"; half the range over the seeds is {50 * np.ptp(means):.1f} points")


def by_seed(values: Sequence[float]) -> str:
    """The mean over the seeds, and each seed's value."""
    return f"{np.mean(values):.3f}  ({', '.join(f'{value:.3f}' for value in values)})"


def predictions_of(rows: list[dict], seed: int) -> list[list]:
    """[image_path, predicted, score, true] of all photos, from the folds of one seed."""
    return [prediction for row in rows if row["key"]["seed"] == seed for prediction in row["predictions"]]


def figures_on_other(predictions: list[list]) -> dict[str, float]:
    """Figures of the predictions that predict_other gives, fractions from 0 to 1.

    "opposite end" counts vehicles taken for the view from the opposite side, such as FrontLeft for
    RearRight: the outline is right and its end wrong.
    """
    predicted, scores, true = (np.array(column) for column in zip(*predictions, strict=True))
    circle = config.VIEW_CIRCLE
    opposite = {name: circle[(place + len(circle) // 2) % len(circle)] for place, name in enumerate(circle)}
    vehicles = true != config.BACKGROUND
    return {
        "accuracy": float(np.mean(predicted == true)),
        "calibration error": expected_calibration_error(scores.astype(float), predicted == true),
        "opposite end": float(np.mean([opposite.get(name) == one for name, one in zip(true, predicted, strict=True)])),
        "vehicles as Background": float(np.mean(predicted[vehicles] == config.BACKGROUND)),
    }


def print_learning_curve(rows: dict[int, list[dict]]) -> None:
    """Print how good the models of one, two and all parts of the photos are; rows of train_fold by number of parts."""
    # Each photo's share of right answers over the seeds, by number of parts, with the photo's true class.
    right, labels = {}, pd.Series(dtype=str)
    print(f"\n{'photos':<10}{'accuracy':>10}" + "".join(f"{name:>13}" for name in config.CLASSES))
    for parts, some in rows.items():
        table = pd.DataFrame([one for row in some for one in row["predictions"]], columns=["path", "best", "", "label"])
        right[parts] = (table["best"] == table["label"]).groupby(table["path"]).mean()
        labels = table.drop_duplicates("path").set_index("path")["label"]
        of_class = right[parts].groupby(labels).mean()
        print(f"{photos_of(some):<10}{right[parts].mean():>10.3f}", end="")
        print("".join(f"{of_class.get(name, np.nan):>13.3f}" for name in config.CLASSES))
    gain = right[PARTS] - right[PARTS - 1]
    print("The share of right answers, of all photos and of those of each class.\n")
    print(f"From {photos_of(rows[PARTS - 1])} to {photos_of(rows[PARTS])} photos: {describe_gain(gain, labels)}")
    weakest = of_class.nsmallest(2)
    print(f"Right least often: {', '.join(f'{name} ({share:.2f})' for name, share in weakest.items())}.")


def photos_of(rows: list[dict]) -> int:
    """The mean number of photos that these folds were trained on."""
    return round(np.mean([row["photos"] for row in rows]))


def describe_gain(gain: pd.Series, labels: pd.Series) -> str:
    """Whether more photos would help, and of which classes, in a sentence or two.

    `gain` has for each photo the difference that the last part of the photos made, -1 to 1, and
    `labels` its class. A gain counts from two standard errors on, since the same photos are compared.
    """
    points, error = 100 * gain.mean(), 100 * gain.sem()
    found = f"{points:+.1f} ± {error:.1f} points of accuracy"
    if points <= 2 * error or points <= 0:
        return f"{found}, which may be chance; photos of other vehicles or cameras may help more."
    of_class = gain.groupby(labels).agg(["mean", "sem"])
    better = of_class[of_class["mean"] > of_class["sem"]]["mean"].sort_values(ascending=False)
    names = ", ".join(f"{name} ({100 * value:+.0f})" for name, value in better.items())
    return f"{found}, so more photos would help, most with {names or 'no class in particular'}."


def print_other_data(
    done: dict[str, dict], key: dict, output: Path, splits: dict[str, pd.DataFrame], dataset: Path, models: Path
) -> None:
    """Say which folds in the file, and which model, are not of the photos and labels that the dataset has now."""
    others = sum(row["key"].get("fingerprint") != key["fingerprint"] for row in done.values())
    if others:
        print(f"Not counted: {counted(others, 'fold')} in {output} with other photos, labels or code.")
    data = read_data(models)
    differing = [
        name
        for name, split in splits.items()
        if data and fingerprint(split["content"], split["label"]) != data.splits.get(name)
    ]
    if differing:
        print(
            f"The model in {models}/ was trained on other photos or labels than {dataset}/ has now "
            f"(in {', '.join(differing)}): these figures are not of that model."
        )


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Cross-validate train.py.")
    add = parser.add_argument
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of the splits to join")
    add("--data", type=Path, help="folder that the CSVs' paths start from; without it, the one recorded beside them")
    add("--output", type=Path, default="crossval.jsonl", help="file to append a JSON line for each fold to")
    add("--other", type=Path, nargs="+", default=[], help="labelled photos of other sources: CSVs or folders")
    add("--learning-curve", action="store_true", help="train on a third and two thirds of the photos as well")
    add("--folds", type=number(int, 2), default=5, help="how many folds to cut the photos into")
    add("--seeds", type=SEED, nargs="+", default=[config.SEED], help="seeds to train every fold with")
    add("options", nargs="*", metavar="-- options", help="options of train.py, after a --")
    return parser.parse_args()


def train_all(
    args: argparse.Namespace,
    folds: list[dict[str, pd.DataFrame]],
    group_of: dict[str, int],
    key: dict,
    done: dict[str, dict],
) -> dict[int, list[dict]]:
    """The row of each fold and seed by the number of parts that it was trained on; trains those not in `done`.

    A new row is appended to --output, and added to `done`, with `key` and what is particular to it.
    """
    others = {str(path): read_other(path) for path in args.other}
    data_dir = (args.data or recorded_data_dir(args.dataset)).resolve()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[int, list[dict]] = {parts: [] for parts in range(1 if args.learning_curve else PARTS, PARTS + 1)}
    for seed, (index, fold), parts in itertools.product(args.seeds, enumerate(folds), rows):
        fold_key = {**key, "seed": seed, "fold": index, "parts": parts}
        if json.dumps(fold_key) not in done:
            some = fold | {"train": keep_parts(fold["train"], parts, group_of)}
            print(f"Seed {seed}, fold {index + 1} of {args.folds}, {len(some['train'])} photos", flush=True)
            row = {"key": fold_key, **train_fold(some, data_dir, seed, args.options, others)}
            with args.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            done[json.dumps(fold_key)] = row
        rows[parts].append(done[json.dumps(fold_key)])
    return rows


def main() -> None:
    args = parse_arguments()
    settings = parse_settings("Train the viewpoint classifier.", args.options)  # so that a mistake in them shows now
    splits = {name: read_split(args.dataset / f"{name}.csv", args.data) for name in SPLITS}
    for split in splits.values():
        split["content"] = hash_photos(split["file"])
    df = in_path_order(pd.concat(splits.values()))
    contents = dict(zip(df["image_path"], df["content"], strict=True))
    method = read_summary(args.dataset / SUMMARY_NAME).get("split") or {}
    paths = df["image_path"].tolist()
    keys = group_keys(paths, method.get("group_by")) if method.get("by") == "grouped" else None
    groups = group_photos(paths, find_near_duplicates(df), keys)
    group_of = dict(zip(paths, groups, strict=True))
    folds = make_folds(df, args.folds, groups)
    key = {"fingerprint": describe_inputs(df), "split": method, "folds": args.folds}
    key |= {"options": args.options, "other": [str(path) for path in args.other]}
    done = read_finished(args.output)
    rows = train_all(args, folds, group_of, key, done)
    print_results(rows[PARTS])
    print_other(rows[PARTS])
    if args.learning_curve:
        print_learning_curve(rows)
    print_other_data(done, key, args.output, splits, args.dataset, settings.models)
    out_of_fold = args.dataset / OUT_OF_FOLD_NAME
    write_out_of_fold(mean_probabilities(rows[PARTS]), contents, out_of_fold)
    print(f"The probabilities of all photos are in {out_of_fold}; data_preparation.py --review and train.py use them.")


if __name__ == "__main__":
    run(main)
