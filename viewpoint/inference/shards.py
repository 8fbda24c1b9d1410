"""Very many photos, in blocks: what tools/predict_many.py does on one machine and on a cluster.

DESTINATION/manifest.parquet lists every photo once, a row group for each block. DESTINATION/predictions/
part-000000.parquet has the rows of block 0: it is complete, or not there. Needs requirements-cluster.txt.
"""

import functools
import glob
import io
import itertools
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import strip_protocol

import config
from viewpoint.common.cli import UserError
from viewpoint.common.files import JUNK, JUNK_FOLDERS, UNREAD_FORMAT, csv_name, is_junk_name
from viewpoint.common.parallel import map_in_order
from viewpoint.common.tables import stream_table
from viewpoint.data.dataset import recorded_data_dir
from viewpoint.inference import storage
from viewpoint.inference.inputs import NAME_COLUMNS, is_video, list_inputs
from viewpoint.inference.outputs import COLUMNS
from viewpoint.inference.predictor import Predictor, Result
from viewpoint.inference.storage import Store, with_retries

MANIFEST = "manifest.parquet"
MANIFEST_SCHEMA = pa.schema([("image_name", pa.string()), ("address", pa.binary())])
SETTINGS = b"viewpoint"  # the key in the manifest's metadata: what this run is, and what was not listed
PART = "predictions/part-{:06}.parquet"  # of a photo that failed, it has only the name and the error
PART_SCHEMA = pa.schema([(name, pa.float32() if name == "score" else pa.string()) for name in (*COLUMNS, "error")])
VIDEO = "video, which test_predict.py reads"

Photo = dict[str, Any]  # a row of the manifest, and what was found out since


def list_source(source: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The (name, address) of each photo of a folder, a glob, an address, or a CSV or Parquet file that names them.

    `left_out` counts what was not listed, by reason. Raises UserError when the source cannot be read.
    """
    try:
        if Path(storage.redact(source)).suffix.lower() in (".csv", ".parquet"):
            yield from list_names(source)
        elif storage.protocol_of(source) == "file":
            inputs = list_inputs([storage.full_address(source) if "://" in source else source])
            left_out.update({reason.partition(";")[0]: len(names) for reason, names in inputs.left_out.items()})
            left_out.update({VIDEO: inputs.videos} if inputs.videos else {})
            yield from ((item.name, str(item.file.absolute())) for item in inputs if not is_video(item.file))
        else:
            yield from list_store(source, left_out)
    except (OSError, pa.ArrowInvalid) as error:
        what = f"cannot list {storage.redact(source)}: {storage.reason_of(error)}"
        raise UserError(f"{what}; check the address") from error


def list_names(source: str) -> Iterator[tuple[str, str]]:
    """The photos that a CSV or Parquet file names. Names start from its folder, or are addresses themselves."""
    with tempfile.TemporaryDirectory() as copy:
        path, folder = Path(storage.full_address(source)), source.rpartition("/")[0]
        if storage.protocol_of(source) == "file":
            folder = str(recorded_data_dir(path.parent))
        else:
            path = Path(copy, Path(storage.redact(source)).name)
            with_retries(storage.filesystem(storage.protocol_of(source)).get_file, source, str(path))
        if path.suffix.lower() == ".csv":
            columns, rows = stream_table(path)
        else:
            columns = [name for name in pq.read_schema(path).names if name in NAME_COLUMNS]
            rows = (row for batch in pq.ParquetFile(path).iter_batches(columns=columns) for row in batch.to_pylist())
        column = next((name for name in NAME_COLUMNS if name in columns), None)
        if column is None:
            raise UserError(f"{path.name} has no column {' or '.join(NAME_COLUMNS)}; name the photos in one")
        for name in filter(None, (row[column] for row in rows)):
            address = name if "://" in name else f"{folder}/{name}" if "://" in folder else str(Path(folder, name))
            yield csv_name(storage.redact(name) if "://" in name else name), address


def list_store(source: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The photos below an address, or that match it as a glob."""
    fs, root = storage.filesystem(storage.protocol_of(source)), strip_protocol(source).rstrip("/")
    is_glob = glob.has_magic(root) and not fs.exists(root)
    found = with_retries(fs.glob if is_glob else fs.find, root)
    root = re.split(r"/[^/]*[*?[]", root)[0] if is_glob else root
    for address in found:
        # As a text, because in an object store "a//b.jpg" and "a/b.jpg" are two photos.
        name = address.removeprefix(f"{root}/") if address != root else root.rpartition("/")[2]
        path = Path(name)
        if any(is_junk_name(part) or part.lower() in JUNK_FOLDERS for part in path.parts):
            left_out[JUNK] += 1
        elif path.suffix.lower() in config.IMAGE_EXTENSIONS:
            yield csv_name(storage.redact(name)), fs.unstrip_protocol(address)
        elif is_video(path) or path.suffix.lower() in config.UNREAD_EXTENSIONS:
            left_out[VIDEO if is_video(path) else UNREAD_FORMAT] += 1


def write_manifest(store: Store, source: str, settings: dict[str, Any]) -> None:
    """List the photos, with the settings of the run. Raises UserError if there are none."""
    if store.names("predictions"):
        raise UserError(f"{store.address} has predictions but no {MANIFEST}; give another DESTINATION")
    left_out: Counter[str] = Counter()
    photos, content = list_source(source, left_out), io.BytesIO()
    with pq.ParquetWriter(content, MANIFEST_SCHEMA) as writer:
        while block := list(itertools.islice(photos, config.PHOTOS_PER_BLOCK)):
            # As bytes, because a file name need not be UTF-8.
            columns = [[name for name, _ in block], [os.fsencode(address) for _, address in block]]
            writer.write_table(pa.table(columns, schema=MANIFEST_SCHEMA))
        listed = {"left_out": left_out, "listed": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
        writer.add_key_value_metadata({SETTINGS: json.dumps(settings | listed).encode()})
    if not pq.read_metadata(content).num_rows:
        raise UserError(f"no photos in {settings['source']} (looked for {', '.join(config.IMAGE_EXTENSIONS)})")
    store.write(MANIFEST, content.getvalue())


def open_manifest(store: Store) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """The manifest, and the settings in it. Raises UserError when it is not one."""
    try:
        manifest = pq.ParquetFile(with_retries(store.fs.open, MANIFEST))
        return manifest, json.loads(manifest.metadata.metadata[SETTINGS])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{store.address}/{MANIFEST} is not from this command; give another DESTINATION") from error


def fetch(photo: Photo) -> Photo:
    """A row of the manifest with the photo's `content`, or with the `error` that says why it cannot be had."""
    try:
        return photo | {"content": with_retries(storage.read, os.fsdecode(photo["address"])), "error": None}
    except Exception as error:  # every storage raises types of its own
        return photo | {"error": storage.reason_of(error)}


class Worker:
    """Predicts blocks of the manifest, in this process or in one of Ray's; holds the model."""

    def __init__(self, destination: str, model: bytes) -> None:
        """`model` is the content of a .tflite file, so that nothing changes when the file does during a run."""
        self.store = Store(destination)
        self.manifest, settings = open_manifest(self.store)
        self.readable: list[Photo] = []  # the photo that was read last
        with tempfile.TemporaryDirectory() as folder:
            path, labels = Path(folder, "model.tflite"), Path(folder, "labels.txt")
            path.write_bytes(model)
            labels.write_text("\n".join(settings["labels"]), encoding="utf-8")
            self.predictor = Predictor(path, labels, settings["unknown_below"], settings["tta"])

    def work(self, blocks: Iterable[int], threads: int) -> Iterator[int]:
        """Write the part of each block; yields its number of photos. Raises UserError when storage fails."""
        photos = (photo for block in blocks for photo in self.photos(block))
        found = self.checked(map_in_order(fetch, photos, config.STORAGE_THREADS))  # many, because storage answers late
        for block, rows in itertools.groupby(map_in_order(self.row, found, threads), key=lambda row: row["block"]):
            part, content = pa.Table.from_pylist(list(rows), schema=PART_SCHEMA), io.BytesIO()
            pq.write_table(part, content)
            self.store.write(PART.format(block), content.getvalue(), is_new=True)
            yield len(part)

    def photos(self, block: int) -> list[Photo]:
        """The rows of a block in the manifest."""
        return [row | {"block": block} for row in with_retries(self.manifest.read_row_group, block).to_pylist()]

    def checked(self, photos: Iterable[Photo]) -> Iterator[Photo]:
        """Pass on what was read. What was not is read once more if another photo can be read again.

        That is the last one, or at first one of some from all over. Raises UserError when it is the storage.
        """
        for photo in photos:
            if photo["error"]:
                blocks = random.choices(range(self.manifest.num_row_groups), k=config.STORAGE_THREADS)
                others = self.readable or [random.choice(self.photos(block)) for block in blocks]
                again = list(map_in_order(fetch, others, config.STORAGE_THREADS))
                self.readable = [other for other in again if not other["error"]][:1]
                if not self.readable:
                    what = f"photos cannot be read: {photo['error']}"
                    raise UserError(f"{what}; check the storage, then run the same command again")
                photo = fetch(photo)
            else:
                self.readable = [photo]
            yield photo

    def row(self, photo: Photo) -> Photo:
        """The row of a photo in its part."""
        row = {name: photo[name] for name in ("block", "image_name", "error")}
        result = Result(error=photo["error"]) if photo["error"] else self.predictor(photo["content"])
        if result.error is not None:
            return row | {"error": result.error.removeprefix("cannot read the image: ")}
        row |= {name: getattr(result, name) for name in ("prediction", "score", "best_class")}
        return row | {"quality": "; ".join(result.quality)}


kept_worker = functools.lru_cache(maxsize=1)(Worker)


def work_on_block(destination: str, model: bytes, block: int) -> int:
    """Predict a block in a process that keeps the model for the next one; the number of photos."""
    return sum(kept_worker(destination, model).work([block], 1))


def read_part(store: Store, block: int) -> pa.Table | None:
    """The rows of a part; None when it is missing or damaged."""
    try:
        rows = with_retries(lambda: pq.read_table(store.fs.open(PART.format(block))))
    except (OSError, pa.ArrowException):
        return None
    return rows if rows.schema.equals(PART_SCHEMA) else None
