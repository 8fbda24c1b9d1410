"""Damaged annotation files and photos are read, or refused in a sentence; nothing else may come out.

Each reader gets damaged files for a second; `make stress` gives it a minute, and other damage each time. A
file that is not handled is left in the test's folder, whose name pytest prints.
test_predict.py works through very many photos, some of them broken: none is lost, and its memory stays flat.
"""

import contextlib
import csv
import io
import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import save_photo
from PIL import Image

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import load_image, upright_size
from viewpoint.data.scan import nothing_found, read_dataset
from viewpoint.handoff.quantization import convert
from viewpoint.inference.model import LABELS_NAME
from viewpoint.reports.review import drawn_parts

REGION = {
    "shape_attributes": {"name": "polygon", "all_points_x": [1, 9.5, 9], "all_points_y": [1, -1, 9]},
    "region_attributes": {"identity": "Partial_Bonnet\n"},
}
ENTRY = {"filename": "car.jpg", "size": 9, "regions": [REGION, {"region_attributes": {"identity": {"grille": True}}}]}
VIA_1 = {**ENTRY, "fileref": "", "base64_img_data": "", "regions": {"0": REGION, "1": REGION}}
COCO = {
    "images": [{"id": 1, "file_name": "car.jpg"}],
    "annotations": [{"image_id": 1, "category_id": 2, "segmentation": [[1, 2, 3, 4, 5, 6]], "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 2, "name": "tailgate"}],
}
LABELME = {"imagePath": "car.jpg", "shapes": [{"label": "hood", "points": [[1, 2], [3, 4]], "shape_type": "rectangle"}]}
CSV = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
car.jpg,9,"{}",2,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{""identity"":""bonnet""}"
car.jpg,9,"{}",2,1,"{""name"":""point"",""cx"":1,""cy"":2}","{""identity"":""grille""}"
"""


def annotation_files() -> list[bytes]:
    """A valid file of every kind that is read."""
    named = {**ENTRY, "regions": [{"region_attributes": {"name": "bonnet"}}]}
    contents = [
        {"k": ENTRY},
        {"k": VIA_1, "l": ENTRY},
        {"_via_img_metadata": {"k": ENTRY}},
        {"k": named},
        COCO,
        LABELME,
    ]
    files = [json.dumps(content).encode() for content in contents]
    return [*files, b"\xef\xbb\xbf" + files[0], json.dumps({"é": ENTRY}, ensure_ascii=False).encode("latin-1")]


def photo_files() -> list[bytes]:
    """A small valid image file of every kind that is read."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [("RGB", "JPEG", {"exif": exif}), ("RGB", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {})]
    kinds += [("RGB", name, {}) for name in ("PNG", "WEBP", "GIF", "BMP", "TIFF")]
    kinds += [("RGBA", "PNG", {}), ("P", "PNG", {})]
    kinds += [("RGB", "GIF", {"save_all": True, "append_images": [image.rotate(90)]})]
    files = []
    for mode, name, options in kinds:
        content = io.BytesIO()
        image.convert(mode).save(content, name, **options)
        files.append(content.getvalue())
    return files


def damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """`content` with one to eight random changes, some with pieces of `other`."""
    result = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 3, 8])):
        start = chance.randrange(len(result) + 1)
        end = min(len(result), start + chance.choice([1, 1, 2, 4, 16, 64]))
        piece = chance.randrange(len(other))
        replacements = [
            b"",
            bytes(chance.randrange(256) for _ in range(end - start)),
            bytes(result[start:end]) * 2,
            other[piece : piece + 64],
            chance.choice([b"\0", b"\xff\xff\xff\xff", b"null", b"[]", b"{}", b"1e999", b'"', b"\\ud800", b"../"]),
        ]
        result[start:end] = chance.choice(replacements)
    return bytes(result)


def read_annotations(path: Path) -> None:
    """Label what an annotation file says, as data_preparation.py does. Raises UserError when it says nothing usable."""
    if not (path.parent / "car.jpg").exists():
        save_photo(path.parent / "car.jpg", size=(24, 16))
    table, photos, report = read_dataset(path.parent)
    json.dumps([report.skipped, report.notes, report.warnings], ensure_ascii=False).encode()
    assert [*table["image_path"], *report.left_out] == ["car.jpg"]
    if table.empty:
        raise UserError(nothing_found(path.parent, report))
    assert table["label"][0] in config.CLASSES
    drawn_parts(photos["car.jpg"].parts, 1.0)


def read_photo(path: Path) -> None:
    """Read a photo as the model would get it."""
    assert load_image(path, 32).shape == (32, 32, 3)
    upright_size(path)


# Pillow warns of damaged metadata, and then reads the pixels.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(("seconds", "seed"), [(1, 1), pytest.param(60, None, marks=pytest.mark.stress)])
@pytest.mark.parametrize(
    ("files", "name", "read"),
    [
        (annotation_files(), "via.json", read_annotations),
        ([CSV.encode(), CSV.replace(",", ";").encode("utf-16")], "via.csv", read_annotations),
        (photo_files(), "photo.jpg", read_photo),
    ],
    ids=["annotation files", "CSV files", "photos"],
)
def test_damaged_files_are_read_or_refused(tmp_path, files, name, read, seconds, seed):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    for file in files:
        path.write_bytes(file)
        read(path)
    outcomes: Counter[str] = Counter()
    chance, end = random.Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        path.write_bytes(damaged(chance.choice(files), chance.choice(files), chance))
        try:
            read(path)
            outcomes["read"] += 1
        except UserError:
            outcomes["refused"] += 1
    print(dict(outcomes))  # shown with -s
    assert outcomes["read"] and outcomes["refused"]


# --- Soak --------------------------------------------------------------------------


SCRIPT = Path(__file__).parents[1] / "test_predict.py"
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
