"""Feed damaged annotation files and photos to the readers, to find what they do not handle.

    python tools/fuzz.py --minutes 10

Damages valid files of every kind at random (bytes changed, cut out, doubled, joined with
another file's) and reads them. Whatever comes must be labels or pixels, or a refusal in a
sentence (UserError); anything else is written to --output with its traceback. Exits with 1
when there was any.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts lie one folder up

import config
from annotations import Report, choose_annotations, extract_viewpoint_label
from common import SEED, UserError, number, run
from images import load_image, upright_size
from reports.review import drawn_parts

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


def annotation_seeds() -> list[bytes]:
    """A valid file of every kind that is read."""
    named = {**ENTRY, "regions": [{"region_attributes": {"name": "bonnet"}}]}
    contents = [{"k": ENTRY}, {"k": VIA_1, "l": ENTRY}, {"_via_img_metadata": {"k": ENTRY}}, {"k": named}, COCO]
    files = [json.dumps(content).encode() for content in contents]
    return [*files, b"\xef\xbb\xbf" + files[0], json.dumps({"é": ENTRY}, ensure_ascii=False).encode("latin-1")]


def photo_seeds() -> list[bytes]:
    """A small valid image of every kind that is read."""
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [(pixels, "JPEG", {"exif": exif}), (pixels, "JPEG", {"progressive": True})]
    kinds += [(pixels, name, {}) for name in ("PNG", "WEBP", "GIF", "BMP", "TIFF")]
    kinds += [
        (pixels.convert("CMYK"), "JPEG", {}),
        (pixels.convert("RGBA"), "PNG", {}),
        (pixels.convert("P"), "PNG", {}),
    ]
    kinds += [(pixels, "GIF", {"save_all": True, "append_images": [pixels.rotate(90)]})]
    files = []
    for image, name, options in kinds:
        content = io.BytesIO()
        image.save(content, name, **options)
        files.append(content.getvalue())
    return files


def damage(content: bytes, other: bytes, chance: random.Random) -> bytes:
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


def read_annotations(path: Path) -> str:
    """Label what an annotation file says: "read", or "refused" when it says nothing usable."""
    report = Report()
    annotations = choose_annotations(path.parent.resolve(), report)
    for image_path, regions in annotations.items():
        assert ".." not in Path(image_path).parts
        assert extract_viewpoint_label(regions) in config.CLASSES
        drawn_parts(regions, 1.0)
    json.dumps(report.skipped, ensure_ascii=False).encode()
    return "read" if annotations else "refused"


def read_photo(path: Path) -> str:
    """Read a photo as the model would get it."""
    assert load_image(path, 32).shape == (32, 32, 3)
    upright_size(path)
    return "read"


def fuzz(
    name: str,
    seeds: list[bytes],
    path: Path,
    read: Callable[[Path], str],
    seconds: float,
    output: Path,
    chance: random.Random,
) -> Counter:
    """Read damaged files for so many seconds: how many were read, refused and not handled."""
    outcomes, end = Counter(), time.monotonic() + seconds
    with tqdm(desc=name, unit="file") as progress:
        while time.monotonic() < end:
            content = damage(chance.choice(seeds), chance.choice(seeds), chance)
            path.write_bytes(content)
            try:
                outcome = read(path)
            except UserError:
                outcome = "refused"
            except Exception:  # what this tool is there to find
                outcome = "not handled"
                output.mkdir(parents=True, exist_ok=True)
                found = output / f"{name.split()[0]}_{outcomes[outcome]:03}"
                found.with_suffix(path.suffix).write_bytes(content)
                found.with_suffix(".txt").write_text(traceback.format_exc(), encoding="utf-8")
            outcomes[outcome] += 1
            progress.update()
    return outcomes


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Feed damaged files to the readers.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=number(float, 0), default=10, help="how long, for both readers together")
    parser.add_argument("--seed", type=SEED, default=config.SEED, help="seed of the damages")
    parser.add_argument("--output", type=Path, default="fuzz", help="folder for what was not handled")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    chance, bad = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        data.mkdir()
        targets = [
            ("annotation files", annotation_seeds(), data / "via.json", read_annotations),
            ("photos", photo_seeds(), Path(folder) / "photo.jpg", read_photo),
        ]
        for name, seeds, path, read in targets:
            outcomes = fuzz(name, seeds, path, read, 30 * args.minutes, args.output, chance)
            print(f"\n{sum(outcomes.values())} {name}: ", end="")
            print(", ".join(f"{outcomes[outcome]} {outcome}" for outcome in ("read", "refused", "not handled")))
            bad += outcomes["not handled"]
    print(f"What was not handled is in {args.output}/." if bad else "Nothing was left unhandled.")
    return int(bool(bad))


if __name__ == "__main__":
    run(main)
