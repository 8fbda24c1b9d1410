"""Damaged annotation files and photos are read, or refused in a sentence; nothing else may come out.

Each reader gets damaged files for a second; `make stress` gives it a minute, and other damage each time. A
file that is not handled is left in the test's folder, whose name pytest prints.
"""

import io
import json
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import save_photo
from PIL import Image

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import load_image, upright_size
from viewpoint.data.scan import nothing_found, read_dataset
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
