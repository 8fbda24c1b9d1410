"""test_predict.py works through very many photos, some of them broken: none is lost, and its memory stays flat.

Takes 600 photos; `pytest -m stress` takes 20,000 (about 200 MB). The memory is checked there, and only
where there is /proc (Linux).
"""

import contextlib
import csv
import io
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import config
from viewpoint.handoff.quantization import convert
from viewpoint.inference.model import LABELS_NAME

SCRIPT = Path(__file__).parents[2] / "test_predict.py"
FORMATS = [("JPEG", "RGB"), ("PNG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("PNG", "P")]
NAMES = ["photo", "my car", "авто", "汽车 前"]
SUFFIXES = {"JPEG": [".jpg", ".JPG", ".jpeg"], "PNG": [".png", ".PNG"]}
FOLDER_PHOTOS = 500  # photos in a folder

READING_INTERVAL = 0.2  # seconds between two readings of the memory
MIN_READINGS = 50  # in fewer, the first tenth may be start-up
# With 20,000 photos the memory grew by 3, with 100,000 by 12, when all predictions were kept.
# A copy of test_predict.py that kept 1 KB of each of 20,000 photos grew by 20.
MAX_GROWTH_MIB = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A tiny model with its labels beside it."""
    folder = tmp_path_factory.mktemp("model")
    inputs = keras.Input((32, 32, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(len(config.CLASSES), activation="softmax")(pooled)
    keras.Model(inputs, outputs).export(folder / "saved_model", verbose=False)
    (folder / "model.tflite").write_bytes(convert(folder / "saved_model"))
    (folder / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n")
    return folder / "model.tflite"


def good_contents() -> list[tuple[str, bytes]]:
    """Small photos in all FORMATS and several sizes: (format, content of the file) of each."""
    random = np.random.default_rng(1)
    contents = []
    for file_format, mode in 7 * FORMATS:
        image = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        image = image.resize(random.integers(16, 240, 2, endpoint=True).tolist(), Image.Resampling.BILINEAR)
        file = io.BytesIO()
        image.convert(mode).save(file, file_format)
        contents.append((file_format, file.getvalue()))
    return contents


def bad_contents() -> list[tuple[str, bytes]]:
    """A file of each kind that cannot be read: (format that its name claims, content)."""
    (_, jpeg), (_, png), *_ = good_contents()
    return [
        ("JPEG", jpeg[: len(jpeg) // 2]),
        ("PNG", png[:20]),
        ("PNG", b""),
        ("JPEG", "Not a photo, ein Text: 汽车\n".encode() * 20),
        ("JPEG", bytes(len(jpeg))),
        ("PNG", make_bomb(60_000)),
    ]


def make_bomb(side: int) -> bytes:
    """A PNG file of a few bytes that claims `side` pixels in width and height."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return content


def write_photos(folder: Path, count: int, bad_count: int) -> tuple[list[str], list[str]]:
    """Write `count` photos below a folder, `bad_count` of them bad: the names of the good and of the bad ones."""
    chosen = set(np.random.default_rng(1).permutation(count)[:bad_count].tolist())
    good: list[str] = []
    bad: list[str] = []
    kinds = [(good, good_contents()), (bad, bad_contents())]
    for index in range(count):
        names, contents = kinds[index in chosen]
        file_format, content = contents[len(names) % len(contents)]
        suffixes = SUFFIXES[file_format]
        name = f"{NAMES[index % len(NAMES)]} {index:06}{suffixes[index % len(suffixes)]}"
        path = folder / f"part {index // FOLDER_PHOTOS:03}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        names.append(f"{path.parent.name}/{name}")
    return good, bad


def run_prediction(model: Path, folder: Path) -> tuple[int, list[float]]:
    """Run test_predict.py on photos/ in a folder: its exit code and its memory in MiB, read at equal intervals.

    Writes predictions.csv and summary.txt to the folder.
    """
    options = ["--model", model, "--images", folder / "photos", "--output", folder / "predictions.csv"]
    readings = []
    with (folder / "summary.txt").open("wb") as summary:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, *options], stdout=summary, env=os.environ | {"PYTHONIOENCODING": "utf-8"}
        )
        while process.poll() is None:
            # The hidden file of rows exists only while photos are predicted.
            if any(folder.glob(".*.partial.csv")):
                readings += read_memory(process.pid)
            time.sleep(READING_INTERVAL)
    return process.returncode, readings


def read_memory(process_id: int) -> list[float]:
    """The resident memory of a process in MiB, in a list; [] without /proc, and when the process has ended."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
        return [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")]
    return []


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.stress)])
def test_no_photo_is_lost_and_the_memory_stays_flat(model, tmp_path, count):
    good, bad = write_photos(tmp_path / "photos", count, bad_count=count // 20)
    exit_code, memory = run_prediction(model, tmp_path)
    assert exit_code == 0
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image_name"] for row in csv.DictReader(file)] == sorted(good)
    lines = (tmp_path / "summary.txt").read_text(encoding="utf-8").splitlines()
    assert f"{count} photos found: {len(good)} predicted, {len(bad)} failed" in lines
    with (tmp_path / "predictions_failed.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image_name"] for row in csv.DictReader(file)] == sorted(bad)
    print(f"memory in MiB: {memory[len(memory) // 10 :: 10]}")  # shown with -s
    if len(memory) >= MIN_READINGS:
        assert max(memory[len(memory) // 2 :]) - memory[len(memory) // 10] < MAX_GROWTH_MIB
