"""Time the project against the straightforward way of doing the same.

    python tools/benchmark.py                                      # on drawn photos
    python tools/benchmark.py --data photos --model models/model.tflite --weights mobilenet_v2_no_top.weights.h5
    python tools/benchmark.py --only start prediction

The two run alternately, so that a busy machine slows both down; only their ratio is worth quoting.
Prints the median seconds of each, and the median ratio with the lowest and the highest one:

    start        test_predict.py on one photo, against a script that imports TensorFlow
    prediction   a folder of photos of 512x512 pixels, and one of 12 megapixels, against full
                 decoding and one interpreter, one photo after the other; also how close that comes
                 to the machine's limit, and how far the answers differ
    python       a Predictor called for one photo after the other, and its batch, in photos a second;
                 how much of a prediction's time the quality reasons take; and a drawn walk-around in
                 full HD, in frames a second (needs PyAV)
    growth       data_preparation.py on 1,000, 10,000 and 100,000 tiny photos with 2.3 annotated
                 parts each, against reading, decoding and hashing one photo after the other; also
                 the time and the peak memory of test_predict.py on the same photos
    training     train.py with the reference and the default recipe: phase 1, an epoch of phase 2
                 and the whole run, the validation accuracy of each, and how long the default
                 would take on 1,000, 10,000 and 100,000 photos

The photos of --data are copied to temporary folders and are not changed.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

from make_demo_data import draw_car, make_demo_data

import config
from test_predict import predict_images
from viewpoint.common.cli import COUNT, UserError, make_parser, run
from viewpoint.common.images import ImageError, load_batch, open_image, resize, scale
from viewpoint.common.parallel import cpu_count
from viewpoint.common.quality import quality_reasons
from viewpoint.data.labeling import extract_viewpoint_label
from viewpoint.inference.inputs import find_inputs
from viewpoint.inference.model import LABELS_NAME, load_runner
from viewpoint.inference.predictor import Predictor

PROJECT = Path(__file__).parents[1]
PARTS = ["start", "prediction", "python", "growth", "training"]
SMALL = 512 * 512  # pixels of a photo that was sent by messenger
LARGE = 4032 * 3024  # pixels of a phone's photo
GROWTH_SIZES = [1_000, 10_000, 100_000]

# The cold start is compared with the usual way to run one photo through a TFLite model.
TENSORFLOW_SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
from PIL import Image
interpreter = tf.lite.Interpreter(sys.argv[1])
interpreter.allocate_tensors()
given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
size = given["shape"][1]
pixels = np.asarray(Image.open(sys.argv[2]).convert("RGB").resize((size, size)), np.float32)
interpreter.set_tensor(given["index"], pixels[np.newaxis] / 127.5 - 1)
interpreter.invoke()
print(interpreter.get_tensor(result["index"]))
"""

# Runs a script from a small process, because Linux counts the memory of the process that starts another one
# as the other one's peak.
MEASURING_SCRIPT = """
import resource, subprocess, sys
exit_code = subprocess.call([sys.executable, *sys.argv[1:]])
if exit_code:
    sys.exit(exit_code)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""

# --- Timing ------------------------------------------------------------------------


def seconds_of(action: Callable[[], object]) -> float:
    """How long an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(name: str, reference: Callable[[], object], project: Callable[[], object], rounds: int) -> list[float]:
    """Run the two alternately, print their times and ratios, and return the project's times."""
    times = [(seconds_of(reference), seconds_of(project)) for _ in tqdm(range(rounds), name, leave=False)]
    print_comparison(name, times)
    return [project_time for _, project_time in times]


def print_comparison(name: str, times: list[tuple[float, float]]) -> None:
    """Print the medians of (reference, project) in seconds, and their ratio with its range."""
    before, after = np.median(times, axis=0)
    ratios = [reference / project for reference, project in times]
    print(f"{name:<42}{before:>9.2f} s{after:>10.2f} s", end="   ")
    print(f"{np.median(ratios):.2f} times faster ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def silently(action: Callable[..., object], *arguments: object) -> Callable[[], None]:
    """The action with these arguments, without its progress bars and messages."""

    def call() -> None:
        with Path(os.devnull).open("w") as sink, contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            action(*arguments)

    return call


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


def peak_memory(*command: str | Path) -> float:
    """Run a Python script and return its peak memory in MiB. Raises UserError as run_script does."""
    return float(run_script("-c", MEASURING_SCRIPT, *command).split()[-1])


# --- Start-up ----------------------------------------------------------------------


def benchmark_start(model: Path, photo: Path, folder: Path, rounds: int) -> None:
    """Compare the time from the command to the answer for one photo."""
    script = folder / "reference.py"
    script.write_text(TENSORFLOW_SCRIPT, encoding="utf-8")
    output = folder / "predictions.csv"
    compare(
        "cold start, one photo",
        lambda: run_script(script, model, photo),
        lambda: run_script(PROJECT / "test_predict.py", "--model", model, "--images", photo, "--output", output),
        rounds,
    )


# --- Prediction --------------------------------------------------------------------


def predict_plainly(model: Path, files: list[Path]) -> np.ndarray:
    """The probabilities of photos, each decoded at full size, one after the other."""
    runner, size, _ = load_runner(model)
    return np.concatenate([runner(scale(np.asarray(resize(open_image(file), size)))[np.newaxis]) for file in files])


def predict_reduced(model: Path, files: list[Path]) -> np.ndarray:
    """The probabilities of photos as test_predict.py computes them, decoded at reduced scale."""
    runner, size, _ = load_runner(model)
    return np.concatenate([runner(load_batch([file], size)) for file in files])


def limit_seconds(model: Path, files: list[Path]) -> float:
    """How many seconds decoding and inference alone would take if they used all cores perfectly."""
    runner, size, _ = load_runner(model)
    batch = load_batch(files[:1], size)
    runner(batch)
    decoding = seconds_of(lambda: [load_batch([file], size) for file in files])
    inference = seconds_of(lambda: [runner(batch) for _ in files])
    return (decoding + inference) / cpu_count()


def benchmark_prediction(name: str, model: Path, folder: Path, rounds: int) -> None:
    """Compare the time to predict a folder of photos, and the answers."""
    files = [item.file for item in find_inputs(folder)]
    output = folder.parent / "predictions.csv"
    times = compare(
        f"prediction, {len(files)} photos, {name}",
        lambda: predict_plainly(model, files),
        silently(predict_images, model, None, folder, output),
        rounds,
    )
    limits = [limit_seconds(model, files) for _ in range(rounds)]
    plain, reduced = predict_plainly(model, files), predict_reduced(model, files)
    print(f"  fraction of the limit reached {np.median(limits) / np.median(times):.2f}", end=", ")
    print(f"equal predictions {np.mean(plain.argmax(axis=1) == reduced.argmax(axis=1)):.4f}", end=", ")
    print(f"largest difference of a score {np.abs(plain - reduced).max():.4f}")


def benchmark_python(name: str, model: Path, folder: Path, rounds: int) -> None:
    """Measure a Predictor on a folder of photos, and its quality reasons."""
    files = [item.file for item in find_inputs(folder)]
    predictor = Predictor(model)
    list(predictor.batch(files))  # loads the interpreters of all cores
    images = [open_image(file, predictor.size) for file in files]
    actions = {
        "one after the other": lambda: [predictor(file) for file in files],
        "batch": lambda: list(predictor.batch(files)),
        "quality": lambda: [quality_reasons(image) for image in images],
    }
    one, batch, quality = (
        float(np.median([seconds_of(action) for _ in range(rounds)])) / len(files) for action in actions.values()
    )
    print(f"Predictor, {len(files)} photos, {name}: {1 / one:.0f} a second one after the other", end=", ")
    print(
        f"{1 / batch:.0f} as a batch; quality {1000 * quality:.2f} ms, {quality / one:.1%} of a prediction", flush=True
    )


def benchmark_video(model: Path, folder: Path, rounds: int) -> None:
    """Time a drawn walk-around of 10 seconds in full HD, from decoding to the steady views."""
    try:
        import av
    except ImportError:
        print("Video: left out, because PyAV is not installed (pip install av)")
        return
    from viewpoint.inference.video import watch

    path, count = folder / "walk.mp4", 300
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 1920, 1080, "yuv420p", 12_000_000
        for index in tqdm(range(count), "Encoding", unit="frame", leave=False):
            image = draw_car(index * 360 / count, np.random.default_rng(1))[0].resize((1920, 1080))
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    predictor = Predictor(model)
    predicted = len(watch(predictor, path).results)
    seconds = float(np.median([seconds_of(silently(watch, predictor, path)) for _ in range(rounds)]))
    print(f"Video, 1920x1080 pixels: {count / seconds:.0f} frames a second read, ", end="")
    print(f"{predicted / seconds:.0f} of them predicted, {10 / seconds:.1f} times as fast as it plays", flush=True)


def copy_photos(files: list[Path], folder: Path, pixels: int) -> None:
    """Write JPEG copies of photos, each resized to about `pixels` pixels; leave out unreadable ones."""
    folder.mkdir()
    for index, file in enumerate(tqdm(files, f"Resizing to {pixels / 1e6:.1f} megapixels", leave=False)):
        with contextlib.suppress(ImageError):
            photo = open_image(file)
            factor = np.sqrt(pixels / (photo.width * photo.height))
            size = (round(photo.width * factor), round(photo.height * factor))
            photo.resize(size, Image.Resampling.BICUBIC).save(folder / f"{index:05}.jpg", quality=90)


# --- Data preparation --------------------------------------------------------------


def write_annotated_photos(count: int, folder: Path) -> None:
    """Write `count` tiny photos, all different, and their annotations, up to three parts each, to a new folder."""
    folder.mkdir()
    random = np.random.default_rng(0)
    shape = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}
    parts = [("bonnet", "frontbumper", "leftheadlamp"), ("tailgate", "rearbumper", "righttaillamp"), ("roof",)]
    content = {}
    for index in tqdm(range(count), "Drawing", unit="photo", leave=False):
        pixels = random.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((72, 64), Image.Resampling.NEAREST).save(folder / f"{index}.jpg")
        attributes = [{config.IDENTITY_KEY: name} for name in parts[index % 3]]
        regions = [{"shape_attributes": shape, "region_attributes": names} for names in attributes]
        content[f"{index}.jpg1"] = {"filename": f"{index}.jpg", "size": 1, "regions": regions, "file_attributes": {}}
    (folder / "via_region_data.json").write_text(json.dumps(content), encoding="utf-8")


def prepare_plainly(folder: Path) -> list[tuple[str, str, imagehash.ImageHash]]:
    """(photo, label, perceptual hash) of every entry, one photo after the other; the hashes are not compared."""
    prepared = []
    for path in folder.rglob("*.json"):
        for entry in json.loads(path.read_text(encoding="utf-8")).values():
            photo = open_image(path.parent / entry["filename"])
            prepared.append((entry["filename"], extract_viewpoint_label(entry["regions"]), imagehash.dhash(photo)))
    return prepared


def benchmark_growth(model: Path, folder: Path) -> None:
    """Compare the time to prepare more and more photos, and measure their prediction."""
    output = folder / "predictions.csv"
    for count in GROWTH_SIZES:
        photos = folder / f"annotated {count}"
        write_annotated_photos(count, photos)
        prepare = (PROJECT / "data_preparation.py", "--data", photos, "--output", folder / "dataset")
        name = f"data preparation, {count:,} photos"
        compare(name, partial(prepare_plainly, photos), partial(run_script, *prepare), rounds=1)
        started = time.perf_counter()
        memory = peak_memory(PROJECT / "test_predict.py", "--model", model, "--images", photos, "--output", output)
        seconds = time.perf_counter() - started
        print(f"prediction, {count:,} photos: {seconds:.1f} s, {1000 * seconds / count:.2f} ms a photo", end=", ")
        print(f"{memory:.0f} MiB of memory", flush=True)


# --- Training ----------------------------------------------------------------------


def benchmark_training(photos: Path, weights: str, folder: Path, rounds: int) -> None:
    """Compare the default recipe with the reference recipe."""
    run_script(PROJECT / "data_preparation.py", "--data", photos, "--output", folder / "splits")

    def train(recipe: str) -> dict[str, float]:
        command: list[str | Path] = [PROJECT / "train.py", "--dataset", folder / "splits", "--models", folder / recipe]
        started = time.perf_counter()
        memory = peak_memory(*command, "--weights", weights, "--recipe", recipe)
        seconds = time.perf_counter() - started
        history = json.loads((folder / recipe / "report" / "metrics.json").read_text(encoding="utf-8"))["history"]
        times = {phase: [log["mean_seconds"] for log in history if log["phase"] == phase] for phase in (1, 2)}
        [accuracy] = [log["val_accuracy"] for log in history if log["kept"]]
        return {
            "phase 1": sum(times[1]),
            "an epoch of phase 2": float(np.mean(times[2])),
            "train.py": seconds,
            "memory": memory,
            "all epochs": sum(times[1]) + sum(times[2]),
            "accuracy": accuracy,
        }

    results = []
    for _ in tqdm(range(rounds), "training", leave=False):
        # Each round decodes the photos again, as a first training does.
        shutil.rmtree(folder / "splits" / "cache", ignore_errors=True)
        results.append((train("reference"), train("default")))
    # With random weights train.py leaves phase 1 out.
    for name in ("phase 1", "an epoch of phase 2", "train.py")[weights == "none" :]:
        print_comparison(name, [(reference[name], default[name]) for reference, default in results])
    reference, default = np.mean([[one["accuracy"] for one in pair] for pair in results], axis=0)
    print(f"  validation accuracy: reference {reference:.3f}, default {default:.3f}", end="; ")
    reference, default = np.max([[one["memory"] for one in pair] for pair in results], axis=0)
    print(f"peak memory: reference {reference:.0f} MiB, default {default:.0f} MiB")
    whole, epochs = np.median([[default["train.py"], default["all epochs"]] for _, default in results], axis=0)
    count = len(find_inputs(folder / "splits" / "train.csv"))
    print(f"  default: {epochs / count:.3f} s a photo in all epochs, {whole - epochs:.0f} s besides", end="; ")
    print(", ".join(f"{(whole - epochs + epochs / count * n) / 3600:.1f} h for {n:,} photos" for n in GROWTH_SIZES))


# --- The whole ---------------------------------------------------------------------


def write_untrained_model(path: Path) -> None:
    """Write a TFLite file of the project's network with random weights, which is as fast as a trained one."""
    # Imported here because TensorFlow takes seconds, and is not needed with --model.
    from viewpoint.common.tensorflow import import_tensorflow

    import_tensorflow()
    from viewpoint.handoff.quantization import convert
    from viewpoint.training.network import build_model

    model, _ = build_model()
    model.export(path.parent / "saved_model", verbose=False)
    path.write_bytes(convert(path.parent / "saved_model"))
    (path.parent / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Time the project against the straightforward way of doing the same.")
    add = parser.add_argument
    add("--data", type=Path, help="folder of photos; without it, drawn ones")
    add("--model", type=Path, help="model.tflite with labels.txt beside it; without it, an untrained one")
    add("--weights", default="none", help="weights of the backbone to train from, as in train.py")
    add("--only", nargs="+", choices=PARTS, default=PARTS, help="what to time")
    add("--rounds", type=COUNT, default=5, help="how often each way runs")
    add("--training-rounds", type=COUNT, default=1, help="how often each recipe trains")
    add("--small-photos", type=COUNT, default=200, help="how many photos of 512x512 pixels to predict")
    add("--large-photos", type=COUNT, default=40, help="how many photos of 12 megapixels to predict")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.data is None:
            make_demo_data(folder / "drawn", images=args.small_photos, seed=config.SEED)
        photos = args.data or folder / "drawn"
        files = [item.file for item in find_inputs(photos)]
        # Spread over all of them, because the first ones may all look alike.
        small = files[:: max(1, len(files) // args.small_photos)][: args.small_photos]
        large = files[:: max(1, len(files) // args.large_photos)][: args.large_photos]
        print(f"{'':<42}{'reference':>11}{'project':>12}")
        model = args.model or folder / "model.tflite"
        if not args.model and set(args.only) != {"training"}:
            write_untrained_model(model)
        if {"start", "prediction", "python"} & set(args.only):
            copy_photos(small, folder / "small", SMALL)
            copy_photos(large, folder / "large", LARGE)
        if "start" in args.only:
            benchmark_start(model, find_inputs(folder / "small")[0].file, folder, args.rounds)
        if "prediction" in args.only:
            benchmark_prediction("512x512 pixels", model, folder / "small", args.rounds)
            benchmark_prediction("12 megapixels", model, folder / "large", args.rounds)
        if "python" in args.only:
            benchmark_python("512x512 pixels", model, folder / "small", args.rounds)
            benchmark_python("12 megapixels", model, folder / "large", args.rounds)
            benchmark_video(model, folder, args.rounds)
        if "growth" in args.only:
            benchmark_growth(model, folder)
        if "training" in args.only:
            benchmark_training(photos, args.weights, folder, args.training_rounds)


if __name__ == "__main__":
    run(main)
