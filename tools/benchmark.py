"""Time the project against the straightforward way of doing the same.

    python tools/benchmark.py --only prediction
    python tools/benchmark.py --only training --weights mobilenet_v2_no_top.weights.h5
    python tools/benchmark.py --data demo/photos --model demo/models/model.tflite    # after make demo

Only ratios are worth quoting, because seconds depend on the machine:

    prediction   test_predict.py on 24 photos of 12 megapixels, against full decoding and one interpreter, one
                 photo after the other; the two run alternately, so that a busy machine slows both down. Prints
                 the median seconds, the median ratio with the lowest and the highest one, and how far the
                 answers differ
    preparation  the seconds of data_preparation.py on 1,000, 10,000 and 100,000 tiny photos with up to three
                 annotated parts each
    training     train.py with the reference and the default recipe: an epoch of phase 2 and the whole run, and the
                 validation accuracy of each

The photos of --data are copied to temporary folders and are not changed.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.common.cli import COUNT, UserError, make_parser, run
from viewpoint.common.images import ImageError, load_batch, open_image, resize, scale
from viewpoint.inference.inputs import find_inputs
from viewpoint.inference.model import load_runner

PROJECT = Path(__file__).parents[1]
WHAT = ["prediction", "preparation", "training"]
# How many photos are predicted, and their size, as a phone takes them.
PHOTOS, PIXELS = 24, 4032 * 3024
COUNTS = [1_000, 10_000, 100_000]


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, reference: Callable[[], object], project: Callable[[], object], rounds: int) -> None:
    """Run the two alternately, and print their times and ratios."""
    print_comparison(
        name,
        [(seconds_of(reference), seconds_of(project)) for _ in tqdm(range(rounds), name, leave=False, disable=None)],
    )


def print_comparison(name: str, times: list[tuple[float, float]]) -> None:
    """Print the medians of (reference, project) in seconds, and their ratio with its range."""
    before, after = np.median(times, axis=0)
    ratios = [reference / project for reference, project in times]
    print(f"{name:<42}{before:>9.2f} s{after:>10.2f} s", end="   ")
    print(f"{np.median(ratios):.2f} times faster ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def run_script(*command: str | Path) -> str:
    """Run a Python script and return what it printed. Raises UserError, with the last line of that, when it fails."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        reason = done.stdout.strip().rpartition("\n")[2]
        raise UserError(f"a script failed: {reason}")
    return done.stdout


def predict(model: Path, files: list[Path], load: Callable[[Path, int], np.ndarray]) -> np.ndarray:
    """The probabilities of photos, one after the other; `load` gives a file as model input (1, size, size, 3)."""
    runner, size, _ = load_runner(model)
    return np.concatenate([runner(load(file, size)) for file in files])


def load_plainly(file: Path, size: int) -> np.ndarray:
    """A photo as model input, decoded at full size."""
    return scale(np.asarray(resize(open_image(file), size)))[np.newaxis]


def benchmark_prediction(model: Path, folder: Path, rounds: int) -> None:
    """Compare the time to predict a folder of photos, and the answers."""
    files = [item.file for item in find_inputs(folder)]
    arguments = ("--model", model, "--images", folder, "--output", folder.parent / "predictions.csv")
    compare(
        f"prediction, {len(files)} photos, {PIXELS / 1e6:.0f} megapixels",
        lambda: predict(model, files, load_plainly),
        lambda: run_script(PROJECT / "test_predict.py", *arguments),
        rounds,
    )
    plain = predict(model, files, load_plainly)
    reduced = predict(model, files, lambda file, size: load_batch([file], size))
    print(f"  equal predictions {np.mean(plain.argmax(axis=1) == reduced.argmax(axis=1)):.4f}", end=", ")
    print(f"largest difference of a score {np.abs(plain - reduced).max():.4f}")


def copy_photos(files: list[Path], folder: Path, pixels: int) -> None:
    """Write JPEG copies of photos, each resized to about `pixels` pixels; leave out unreadable ones."""
    folder.mkdir()
    for index, file in enumerate(tqdm(files, f"Resizing to {pixels / 1e6:.1f} megapixels", leave=False, disable=None)):
        with contextlib.suppress(ImageError):
            photo = open_image(file)
            factor = np.sqrt(pixels / (photo.width * photo.height))
            size = (round(photo.width * factor), round(photo.height * factor))
            photo.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:05}.jpg", quality=90)


def write_annotated_photos(count: int, folder: Path) -> None:
    """Write `count` tiny photos, all different, and their annotations, up to three parts each, to a new folder."""
    folder.mkdir()
    random = np.random.default_rng(0)
    shape = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}
    parts = [("bonnet", "frontbumper", "leftheadlamp"), ("tailgate", "rearbumper", "righttaillamp"), ("roof",)]
    content = {}
    for index in tqdm(range(count), "Drawing", leave=False, disable=None):
        pixels = random.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((72, 64), Image.Resampling.NEAREST).save(folder / f"{index}.jpg")
        attributes = [{config.IDENTITY_KEY: name} for name in parts[index % 3]]
        regions = [{"shape_attributes": shape, "region_attributes": names} for names in attributes]
        content[f"{index}.jpg1"] = {"filename": f"{index}.jpg", "size": 1, "regions": regions, "file_attributes": {}}
    (folder / "via_region_data.json").write_text(json.dumps(content), encoding="utf-8")


def benchmark_preparation(folder: Path) -> None:
    """Measure the time of preparing more and more photos."""
    for count in COUNTS:
        photos = folder / f"annotated {count}"
        write_annotated_photos(count, photos)
        command = (PROJECT / "data_preparation.py", "--data", photos, "--output", folder / "dataset")
        seconds = seconds_of(partial(run_script, *command))
        print(f"data_preparation.py, {count:,} photos: {seconds:.1f} s", flush=True)


def benchmark_training(photos: Path, weights: str, folder: Path) -> None:
    """Compare the default recipe with the reference recipe, once."""
    run_script(PROJECT / "data_preparation.py", "--data", photos, "--output", folder / "splits")
    found = {}
    for recipe in ("reference", "default"):
        command: list[str | Path] = [PROJECT / "train.py", "--dataset", folder / "splits", "--models", folder / recipe]
        command += ["--weights", weights, "--recipe", recipe]
        seconds = seconds_of(partial(run_script, *command))
        history = json.loads((folder / recipe / "report" / "metrics.json").read_text(encoding="utf-8"))["history"]
        epochs = [log["mean_seconds"] for log in history if log["phase"] == 2]
        [accuracy] = [log["val_accuracy"] for log in history if log["kept"]]
        found[recipe] = {"an epoch of phase 2": float(np.mean(epochs)), "train.py": seconds, "accuracy": accuracy}
    reference, default = found["reference"], found["default"]
    for name in ("an epoch of phase 2", "train.py"):
        print_comparison(name, [(reference[name], default[name])])
    print(f"  validation accuracy: reference {reference['accuracy']:.3f}, default {default['accuracy']:.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Time the project against the straightforward way of doing the same.")
    add = parser.add_argument
    add("--data", type=Path, default=config.DATA_DIR, help="folder of photos, annotated ones for training")
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help="model with labels.txt beside it")
    add("--weights", default="none", help="weights of the backbone to train from, as in train.py")
    add("--only", nargs="+", choices=WHAT, default=WHAT, help="what to time")
    add("--rounds", type=COUNT, default=3, help="how often each way starts and predicts")
    args = parser.parse_args()
    parser.refuse_unused(args, ["weights"], "training" in args.only, "--only training")
    parser.refuse_unused(args, ["rounds"], bool({"start", "prediction"} & {*args.only}), "--only start or prediction")
    parser.refuse_unused(args, ["model"], args.only != ["training"], "another part than training")
    return args


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [item.file for item in find_inputs(args.data)]
        print(f"{'':<42}{'reference':>11}{'project':>12}")
        if "prediction" in args.only:
            # Spread over all of them, because the first ones may all look alike.
            copy_photos(files[:: max(1, len(files) // PHOTOS)][:PHOTOS], folder / "photos", PIXELS)
            benchmark_prediction(args.model, folder / "photos", args.rounds)
        if "preparation" in args.only:
            benchmark_preparation(folder)
        if "training" in args.only:
            benchmark_training(args.data, args.weights, folder)


if __name__ == "__main__":
    run(main)
