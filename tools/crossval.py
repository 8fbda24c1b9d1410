"""Cross-validate any set of train.py's options, for figures with their spread.

    python tools/crossval.py --output cv.jsonl --seeds 42 1
    python tools/crossval.py --output cv.jsonl --seeds 42 1 -- --recipe reference

Joins the splits in dataset/, cuts them into folds and, for each seed and fold, runs
train.py with the options after "--" on the other folds (an eighth of them as validation).
Writes a JSON line for each fold to --output, with the predictions of the held-out images;
folds that already stand there with the same options, images and code are not trained again.
Prints the mean and spread of accuracy and macro F1, and the figures of all folds together.
With --split grouped every folder stays in one fold, as in data_preparation.py.
"""

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts lie one folder up

import config
from common import UserError, run
from data_preparation import SPLITS, read_split, recorded_data_dir, split_off_folders
from reports.training import compute_metrics, expected_calibration_error

PROJECT = Path(__file__).parents[1]
VAL_PART = 8  # one image in so many of those not held out goes to validation
NUMBERS = ["accuracy", "macro_f1", "log_loss", "calibration_error"]


def make_folds(df: pd.DataFrame, folds: int, grouped: bool = False) -> list[dict[str, pd.DataFrame]]:
    """The train, val and test rows of each fold; every image is in one test part.

    The folds are the same for all options and seeds; `grouped` folds hold whole folders.
    Raises UserError when a class has too few images.
    """
    counts = df["label"].value_counts()
    if folds < 2 or counts.min() < max(folds, 3) or len(df) * (1 - 1 / folds) / VAL_PART < len(counts):
        raise UserError(
            f"{len(df)} images, {counts.min()} of the smallest class, are too few for {folds} folds; "
            "give --folds from 2 up, or more images"
        )
    result = []
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(folds, shuffle=True, random_state=config.SEED)
    share = 1 / VAL_PART
    for rest, test in splitter.split(df, df["label"], df["image_path"].map(os.path.dirname) if grouped else None):
        if grouped:
            train, val = split_off_folders(df.iloc[rest], share, config.SEED)
        else:
            labels = df["label"].iloc[rest]
            train, val = train_test_split(df.iloc[rest], test_size=share, stratify=labels, random_state=config.SEED)
        parts = (train, val, df.iloc[test])
        result.append({name: part.sort_values("image_path") for name, part in zip(SPLITS, parts, strict=True)})
    return result


def train_fold(fold: dict[str, pd.DataFrame], data_dir: Path, seed: int, options: list[str]) -> dict:
    """Run train.py on one fold and return its figures and its predictions of the test part.

    Raises UserError when train.py fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, split in fold.items():
            split.to_csv(Path(folder) / f"{name}.csv", index=False)
        command = [sys.executable, str(PROJECT / "train.py"), "--dataset", folder, "--data", str(data_dir)]
        command += ["--models", folder, "--seed", str(seed), *options]
        started = time.monotonic()
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            raise UserError(f"train.py failed; its message stands above. The command was: {' '.join(command)}")
        seconds = time.monotonic() - started
        content = json.loads((Path(folder) / "report" / "metrics.json").read_text(encoding="utf-8"))
        predictions = pd.read_csv(Path(folder) / "report" / "test_predictions.csv")
        return {
            **{name: content["test"][name] for name in NUMBERS},
            "robustness": content["test"]["robustness"],
            "temperature": content["settings"].get("temperature"),
            "seconds": round(seconds),
            "predictions": predictions.values.tolist(),
        }


def fingerprint(df: pd.DataFrame) -> str:
    """A short name for exactly these images and labels, and this code and its settings."""
    content = df[["image_path", "label"]].to_csv(index=False).encode()
    code = ["config.py", "images.py", "augmentation.py", "training_data.py", "network.py", "checkpoint.py"]
    for name in [*code, "evaluation.py", "train.py", "reports/training.py"]:
        content += (PROJECT / name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:12]


def read_rows(path: Path) -> dict[str, dict]:
    """The finished folds in a file, by key; a line cut off by an interruption is passed over."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            row = json.loads(line)
            rows[json.dumps(row["key"])] = row
    return rows


def print_results(rows: list[dict]) -> None:
    """Print mean and spread over folds and seeds, and each seed's folds taken together."""
    print(f"\n{len(rows)} trainings, mean ± standard deviation over them:")
    for name in [*NUMBERS, "seconds"]:
        values = [row[name] for row in rows]
        print(f"  {name:<26}{np.mean(values):.3f} ± {np.std(values):.3f}")
    for name in rows[0]["robustness"]:
        values = [row["robustness"][name] for row in rows]
        print(f"  {name:<26}{np.mean(values):.3f} ± {np.std(values):.3f}")
    for seed in dict.fromkeys(row["key"]["seed"] for row in rows):
        predictions = [prediction for row in rows if row["key"]["seed"] == seed for prediction in row["predictions"]]
        _, predicted, scores, true = zip(*predictions, strict=True)
        metrics = compute_metrics(list(true), list(predicted))
        error = expected_calibration_error(np.array(scores), np.array(true) == np.array(predicted))
        wrong = round(metrics["images"] * (1 - metrics["accuracy"]))
        print(f"\nSeed {seed}, all folds together: {wrong} of {metrics['images']} wrong, ", end="")
        print(f"accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, calibration error {error:.3f}")
        print(metrics["text"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Cross-validate train.py.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of the splits to join")
    add("--data", type=Path, help="folder the CSVs' paths start from; None: the one recorded beside them")
    add("--output", type=Path, default="crossval.jsonl", help="file to append a JSON line for each fold to")
    add("--folds", type=int, default=5, help="how many parts to cut the images into")
    add("--split", choices=["stratified", "grouped"], default="stratified", help="by photo, or whole folders")
    add("--seeds", type=int, nargs="+", default=[config.SEED], help="seeds to train every fold with")
    add("options", nargs="*", metavar="-- options", help="options of train.py, after a --")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    df = pd.concat([read_split(args.dataset / f"{name}.csv", args.data) for name in SPLITS])
    df = df.drop(columns="file").sort_values("image_path", ignore_index=True)
    data_dir = (args.data or recorded_data_dir(args.dataset)).resolve()
    folds = make_folds(df, args.folds, args.split == "grouped")
    key = {"fingerprint": fingerprint(df), "split": args.split, "folds": args.folds, "options": args.options}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    done, rows = read_rows(args.output), []
    for seed in args.seeds:
        for index, fold in enumerate(folds):
            fold_key = {**key, "seed": seed, "fold": index}
            if json.dumps(fold_key) not in done:
                print(f"Seed {seed}, fold {index + 1} of {args.folds}", flush=True)
                row = {"key": fold_key, **train_fold(fold, data_dir, seed, args.options)}
                with args.output.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                done[json.dumps(fold_key)] = row
            rows.append(done[json.dumps(fold_key)])
    print_results(rows)


if __name__ == "__main__":
    run(main)
