"""Let test_predict.py work through very many images, some of them broken, and check that nothing is lost.

    python tools/soak.py --model models/model.tflite
    python tools/soak.py --images 100000 --bad-share 0.2 --folder soak       # keeps the images

Writes small drawn photos, by default 20,000 (about 250 MB), under names with spaces, non-Latin
letters and upper-case extensions, in sub-folders of 500; a share of them is damaged in one of
six ways. Runs test_predict.py on them, with the model given, and checks that

    rows      every good image has one row in predictions.csv, every bad one none
    summary   what test_predict.py prints counts every image, and names every bad one
    memory    it stays flat from a tenth of the run on; measured where there is /proc (Linux)

Prints what it found, and exits with 1 when something is wrong. All files lie in a temporary
folder, or in --folder: images/, predictions.csv, and in summary.txt what test_predict.py printed.
"""

import argparse
import contextlib
import csv
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts lie one folder up

from make_demo_data import AZIMUTHS, draw_image

import config
from common import COUNT, SEED, SHARE, UserError, printable, run

PROJECT = Path(__file__).parents[1]

CONTENTS = 42  # distinct photos: each kind of scene in each format
FORMATS = [("JPEG", "RGB"), ("PNG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("PNG", "P")]
SIDES = (16, 240)  # least and largest width and height, in pixels

FOLDER_IMAGES = 500  # images in a sub-folder
NAMES = ["photo", "my car", "авто", "汽车 前"]
SUFFIXES = {"JPEG": [".jpg", ".JPG", ".jpeg"], "PNG": [".png", ".PNG"]}

READING_INTERVAL = 0.2  # seconds between two readings of the memory
MIN_READINGS = 50  # in fewer, the first tenth may be warm-up
# With 20,000 images it was 3, with 100,000 it was 12: the list of their answers. A copy of
# test_predict.py that kept 1 KB of each of 20,000 images grew by 20.
MAX_GROWTH_MIB = 16

# --- Images ------------------------------------------------------------------------


def draw_contents(seed: int) -> list[tuple[str, bytes]]:
    """Distinct small photos in all FORMATS and many sizes: (format, content of the file) of each."""
    kinds = [*AZIMUTHS, "scene"]
    contents = []
    for index in range(CONTENTS):
        random = np.random.default_rng([seed, index])
        photo, _ = draw_image(kinds[index % len(kinds)], random)
        file_format, mode = FORMATS[index % len(FORMATS)]
        file = io.BytesIO()
        photo.resize(random.integers(*SIDES, 2, endpoint=True).tolist()).convert(mode).save(file, file_format)
        contents.append((file_format, file.getvalue()))
    return contents


def damage(jpeg: bytes, png: bytes) -> dict[str, tuple[str, bytes]]:
    """One bad file of each kind: (format that its name claims, content), by what is wrong with it."""
    return {
        "truncated": ("JPEG", jpeg[: len(jpeg) // 2]),
        "empty": ("PNG", b""),
        "text": ("JPEG", "Not a photo, ein Text: 汽车\n".encode() * 20),
        "header cut": ("PNG", png[:20]),
        "zeros": ("JPEG", bytes(len(jpeg))),
        "too large": ("PNG", make_bomb(60_000)),
    }


def make_bomb(side: int) -> bytes:
    """A PNG file of a few bytes that claims so many pixels in width and height."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def make_name(index: int, file_format: str) -> str:
    """The name of an image relative to the folder of all, with "/"."""
    suffixes = SUFFIXES[file_format]
    name = f"{NAMES[index % len(NAMES)]} {index:06}{suffixes[index % len(suffixes)]}"
    return f"part {index // FOLDER_IMAGES:03}/{name}"


def write_images(folder: Path, images: int, bad_share: float, seed: int) -> tuple[list[str], list[str]]:
    """Write the images below a folder: the names of the good and of the bad ones, as make_name gives them.

    Raises UserError when no image would be good, or the folder cannot be written.
    """
    bad_count = round(images * bad_share)
    if bad_count == images:
        raise UserError(f"--bad-share {bad_share:g} of {images} images leaves no good one; give a lower share")
    contents = draw_contents(seed)
    first = dict(reversed(contents))
    damaged = list(damage(first["JPEG"], first["PNG"]).values())
    chosen = set(np.random.default_rng(seed).permutation(images)[:bad_count].tolist())
    good, bad = [], []
    try:
        for index in tqdm(range(images), "Writing", unit="image"):
            names, choices = (bad, damaged) if index in chosen else (good, contents)
            file_format, content = choices[len(names) % len(choices)]
            names.append(make_name(index, file_format))
            path = folder / names[-1]
            if index % FOLDER_IMAGES == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write the images to {folder}: {error.strerror}; give another --folder") from error
    return good, bad


# --- The run -----------------------------------------------------------------------


def read_memory(process_id: int) -> float | None:
    """The resident memory of a process in MiB; None without /proc, and once the process has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return None


def run_prediction(model: Path, folder: Path) -> tuple[int, float, list[float]]:
    """Run test_predict.py on images/ in a folder: its exit code, its seconds, and its memory in MiB.

    The memory is read at equal intervals from the first image to the last. Writes
    predictions.csv and summary.txt to the folder.
    """
    command = [sys.executable, PROJECT / "test_predict.py", "--model", model]
    command += ["--images", folder / "images", "--output", folder / "predictions.csv"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}  # of the summary, whatever the terminal's
    readings = []
    started = time.perf_counter()
    with (folder / "summary.txt").open("wb") as summary:
        process = subprocess.Popen(list(map(str, command)), stdout=summary, env=environment)
        with process:
            while process.poll() is None:
                memory = read_memory(process.pid)
                # The hidden file of rows is there while images are predicted, not at start-up nor afterwards.
                if memory and any(folder.glob(".*.partial.csv")):
                    readings.append(memory)
                time.sleep(READING_INTERVAL)
    return process.returncode, time.perf_counter() - started, readings


# --- Checks ------------------------------------------------------------------------


def describe(problem: str, names: list[str]) -> list[str]:
    """The problem with the number of images that have it, and one of them; nothing without any."""
    return [f"{problem}: {len(names)}, such as {names[0]}"] if names else []


def check_rows(rows: list[str], good: list[str], bad: list[str]) -> list[str]:
    """What is wrong with the image names of the rows of predictions.csv, in sentences."""
    counts = Counter(rows)
    return [
        *describe("good images without a row", [name for name in good if name not in counts]),
        *describe("images with more than one row", [name for name, count in counts.items() if count > 1]),
        *describe("bad images with a row", [name for name in bad if name in counts]),
        *describe("rows of no image", sorted(set(counts) - set(good) - set(bad))),
    ]


def check_summary(summary: str, good: list[str], bad: list[str]) -> list[str]:
    """What is wrong with the text that test_predict.py printed, in sentences."""
    lines = summary.splitlines()
    counted = f"{len(good)} images predicted, {len(bad)} skipped"
    named = Counter(line[2:].split(": ")[0] for line in lines if line.startswith("  "))
    expected = Counter(map(printable, bad))
    return [
        *([] if counted in lines else [f'the summary does not say "{counted}"']),
        *describe("bad images that the summary does not name", sorted(expected - named)),
        *describe("images that the summary names without need", sorted(named - expected)),
    ]


def check_memory(readings: list[float]) -> list[str]:
    """What is wrong with the memory, read in MiB at equal intervals, in sentences; nothing with too few."""
    if len(readings) < MIN_READINGS:
        return []
    early, highest = readings[len(readings) // 10], max(readings[len(readings) // 2 :])
    if highest - early < MAX_GROWTH_MIB:
        return []
    return [
        f"the memory grew by {highest - early:.0f} MiB, from {early:.0f} after a tenth of the run to {highest:.0f} "
        f"in its second half; less than {MAX_GROWTH_MIB} are expected"
    ]


def describe_memory(readings: list[float]) -> str:
    """The memory of the run in a line of the summary."""
    if not readings:
        return "not measured: no /proc here, or too short a run"
    text = f"{readings[len(readings) // 10]:.0f} MiB after a tenth of the run, "
    text += f"{readings[-1]:.0f} at the end, {max(readings):.0f} at most"
    return text if len(readings) >= MIN_READINGS else f"{text}; too short a run to judge its growth"


def soak(model: Path, folder: Path, images: int, bad_share: float, seed: int) -> list[str]:
    """Write images to a folder, predict them, print how it went, and return what is wrong, in sentences."""
    good, bad = write_images(folder / "images", images, bad_share, seed)
    exit_code, seconds, readings = run_prediction(model, folder)
    if exit_code:
        return [f"test_predict.py ended with exit code {exit_code}; its message stands above"]
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [row["image_name"] for row in csv.DictReader(file)]
    summary = (folder / "summary.txt").read_text(encoding="utf-8")
    print(f"\nImages   {images}, {len(bad)} of them bad")
    print(f"Rows     {len(rows)}")
    print(f"Skipped  {images - len(rows)}")
    print(f"Time     {seconds:.1f} s, {images / seconds:.0f} images a second, start-up included")
    print(f"Memory   {describe_memory(readings)}")
    return [*check_rows(rows, good, bad), *check_summary(summary, good, bad), *check_memory(readings)]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Check test_predict.py on very many images.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file or SavedModel folder")
    add("--images", type=COUNT, default=20_000, help="how many images to write")
    add("--bad-share", type=SHARE, default=0.05, help="share of the images, 0 to 1, that is damaged")
    add("--folder", type=Path, help="new or empty folder to keep all files in; None: a temporary one")
    add("--seed", type=SEED, default=config.SEED, help="seed of the photos and of which are damaged")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if not args.model.exists():
        raise UserError(f"{args.model} not found; run train.py and convert_tflite.py, or give --model")
    if args.folder and args.folder.exists() and not (args.folder.is_dir() and not any(args.folder.iterdir())):
        raise UserError(f"{args.folder} is not an empty folder; give a new one with --folder")
    with contextlib.nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        problems = soak(args.model, Path(folder), args.images, args.bad_share, args.seed)
    for problem in problems:
        print(f"Wrong: {printable(problem)}")
    if not problems:
        print("All as it should be.")
    return int(bool(problems))


if __name__ == "__main__":
    run(main)
