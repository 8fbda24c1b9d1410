"""Very many photos, cut into shards: what tools/predict_many.py does on one machine and on a cluster.

A destination, a folder or an object store, holds

    manifest.parquet                  every photo, listed once; one row group is one shard
    predictions/part-00000.parquet    the rows of shard 0: complete, or not there
    claims/00000                      one of the copies works on shard 0

Needs fsspec and pyarrow (requirements-cluster.txt).
"""

import contextlib
import glob
import itertools
import json
import os
import random
import re
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import strip_protocol
from tqdm import tqdm

import config
from viewpoint.common.cli import UserError
from viewpoint.common.files import JUNK, JUNK_FOLDERS, UNREAD_FORMAT, csv_name, is_junk_name
from viewpoint.common.parallel import map_in_order
from viewpoint.common.tables import stream_table
from viewpoint.data.dataset import recorded_data_dir
from viewpoint.inference.inputs import NAME_COLUMNS, is_video, list_inputs
from viewpoint.inference.predictor import Predictor, Result
from viewpoint.inference.storage import Store, filesystem, local_path, patiently, protocol_of, read, reason_of, shown

MANIFEST = "manifest.parquet"
MANIFEST_SCHEMA = pa.schema([("image_name", pa.string()), ("address", pa.binary())])
SETTINGS = b"viewpoint"  # the key in the manifest's metadata: what this run is, and what was not listed

# The columns of test_predict.py's CSV. Of a photo that failed, only `error` says something.
RESULT_COLUMNS = [("prediction", pa.string()), ("score", pa.float32()), ("best_class", pa.string())]
PART_SCHEMA = pa.schema(
    [("image_name", pa.string()), *RESULT_COLUMNS, ("quality", pa.string()), ("error", pa.string())]
)

VIDEO = "video, which test_predict.py reads"

# --- The photos --------------------------------------------------------------------


def list_source(source: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The (name, address) of each photo of a folder, a glob, an address, or a CSV or Parquet file that names them.

    `left_out` counts what was not listed, by reason. Raises FileNotFoundError or UserError when there is nothing.
    """
    if Path(shown(source)).suffix.lower() in (".csv", ".parquet"):
        yield from list_names(source)
    elif protocol_of(source) == "file":
        path = local_path(source) if "://" in source else Path(source)
        if not path.exists() and not glob.has_magic(str(path)):
            raise FileNotFoundError
        inputs = list_inputs([path])
        left_out.update({reason.partition(";")[0]: len(names) for reason, names in inputs.left_out.items()})
        left_out.update({VIDEO: inputs.videos} if inputs.videos else {})
        yield from ((item.name, str(item.file.absolute())) for item in inputs if not is_video(item.file))
    else:
        yield from list_store(source, left_out)


def list_names(source: str) -> Iterator[tuple[str, str]]:
    """The photos that a CSV or Parquet file names. Names start from its folder, or are addresses themselves."""
    with tempfile.TemporaryDirectory() as copy:
        if protocol_of(source) == "file":
            path = local_path(source)
            folder = str(recorded_data_dir(path.parent))
        else:
            path, folder = Path(copy, Path(shown(source)).name), source.rpartition("/")[0]
            patiently(filesystem(protocol_of(source)).get_file, source, str(path))
        for name in read_names(path):
            if "://" in name:
                yield csv_name(shown(name)), name
            else:
                yield csv_name(name), f"{folder}/{name}" if "://" in folder else str(Path(folder, name))


def read_names(path: Path) -> Iterator[str]:
    """The names in the column image_path or image_name of a CSV or Parquet file."""
    is_csv = path.suffix.lower() == ".csv"
    try:
        columns, rows = stream_table(path) if is_csv else (pq.read_schema(path).names, iter(()))
    except pa.ArrowInvalid as error:
        raise UserError(f"cannot read {path.name}: {error}") from error
    column = next((name for name in NAME_COLUMNS if name in columns), None)
    if column is None:
        raise UserError(f"{path.name} has no column {' or '.join(NAME_COLUMNS)}; it has {', '.join(columns)}")
    yield from (row[column] for row in rows if row[column])
    if not is_csv:
        for batch in pq.ParquetFile(path).iter_batches(columns=[column]):
            yield from filter(None, batch.column(0).cast(pa.string()).to_pylist())


def list_store(source: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The photos below an address, or that match it as a glob."""
    fs, root = filesystem(protocol_of(source)), strip_protocol(source).rstrip("/")
    names: Iterable[str] = list_below(fs, root)
    if glob.has_magic(root) and not fs.exists(root):
        names, root = patiently(fs.glob, root), re.split(r"/[^/]*[*?[]", root)[0]
    for name in names:
        path = Path(name.removeprefix(root).lstrip("/") or name.rpartition("/")[2])
        if any(is_junk_name(part) or part.lower() in JUNK_FOLDERS for part in path.parts):
            left_out[JUNK] += 1
        elif path.suffix.lower() in config.IMAGE_EXTENSIONS:
            yield csv_name(shown(path.as_posix())), fs.unstrip_protocol(name)
        elif is_video(path) or path.suffix.lower() in config.UNREAD_EXTENSIONS:
            left_out[VIDEO if is_video(path) else UNREAD_FORMAT] += 1


def list_below(fs: Any, root: str) -> Iterator[str]:
    """The files below a folder of an object store; what is below its folders is listed at the same time."""
    entries = patiently(fs.ls, root, detail=True)
    yield from (entry["name"] for entry in entries if entry["type"] != "directory")
    folders = [entry["name"] for entry in entries if entry["type"] == "directory"]
    for found in map_in_order(lambda folder: patiently(fs.find, folder), folders, config.STORAGE_THREADS):
        yield from found


# --- The manifest ------------------------------------------------------------------


def write_manifest(store: Store, source: str, settings: dict[str, Any]) -> None:
    """List the photos, a row group for each shard, with the settings of the run. Raises UserError if there are none."""
    if store.names("predictions"):
        raise UserError(f"{store.address} has predictions but no {MANIFEST}; give another DESTINATION")
    left_out: Counter[str] = Counter()
    photos = iter(tqdm(list_source(source, left_out), "Listing", unit="photo"))
    try:
        shard = list(itertools.islice(photos, config.PHOTOS_PER_SHARD))
    except FileNotFoundError as error:
        raise UserError(f"{shown(source)} not found; check the address") from error
    if not shard:
        raise UserError(f"no photos in {settings['source']} (looked for {', '.join(config.IMAGE_EXTENSIONS)})")
    with store.write(MANIFEST) as path, pq.ParquetWriter(path, MANIFEST_SCHEMA) as writer:
        while shard:
            # As bytes, because a file name need not be UTF-8.
            columns = [[name for name, _ in shard], [os.fsencode(address) for _, address in shard]]
            writer.write_table(pa.table(columns, schema=MANIFEST_SCHEMA))
            shard = list(itertools.islice(photos, config.PHOTOS_PER_SHARD))
        listed = {"left_out": left_out, "listed": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
        writer.add_key_value_metadata({SETTINGS: json.dumps(settings | listed).encode()})


def open_manifest(store: Store) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """The manifest, and the settings in it. Raises UserError when it is not one."""
    try:
        manifest = pq.ParquetFile(patiently(store.fs.open, MANIFEST))
        return manifest, json.loads(manifest.metadata.metadata[SETTINGS])
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{store.address}/{MANIFEST} is not from this command; give another DESTINATION") from error


def part_name(shard: int) -> str:
    return f"part-{shard:05}.parquet"


def read_parts(store: Store) -> Iterator[tuple[str, pa.Table | None]]:
    """The name and the rows of each part; None for one that is missing or not about the manifest's photos."""
    manifest, _ = open_manifest(store)

    def read_part(shard: int) -> pa.Table | None:
        try:
            return patiently(lambda: pq.read_table(store.fs.open(f"predictions/{part_name(shard)}")))
        except (OSError, pa.ArrowException):
            return None

    for shard, rows in enumerate(map_in_order(read_part, range(manifest.num_row_groups), config.STORAGE_THREADS)):
        names = manifest.read_row_group(shard, columns=["image_name"])["image_name"]
        is_right = rows is not None and rows.schema.equals(PART_SCHEMA) and rows["image_name"].equals(names)
        yield part_name(shard), rows if is_right else None


# --- Claims ------------------------------------------------------------------------


class Claims:
    """Which copy works on what: a claim is a file that one copy could create, claims/NAME.

    Its content changes again and again, as a sign of life. A claim that does not change for config.CLAIM_SECONDS, by
    the clock of who looks, is removed.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.signs: dict[str, tuple[bytes, float]] = {}  # of each claim: its content, and since when

    def held(self) -> set[str]:
        """What living copies work on."""
        now, signs = time.monotonic(), {}
        for path in map("claims/{}".format, self.store.names("claims")):
            with contextlib.suppress(FileNotFoundError):  # just released
                sign = patiently(self.store.fs.cat_file, path)
                seen = self.signs.get(path, (b"", now))
                signs[path] = seen if seen[0] == sign else (sign, now)
                if now - signs[path][1] > config.CLAIM_SECONDS:
                    del signs[path]
                    self.store.fs.rm_file(path)
        self.signs = signs
        return {path.rpartition("/")[2] for path in signs}

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a claim during the block; yields False when another copy has it."""
        claim, stop = f"claims/{name}", threading.Event()
        if not self.store.create(claim, secrets.token_bytes(8)):
            yield False
            return

        def give_signs() -> None:
            while not stop.wait(config.CLAIM_SECONDS / 6):
                with contextlib.suppress(Exception):  # the next sign may arrive
                    self.store.fs.pipe_file(claim, secrets.token_bytes(8))

        thread = threading.Thread(target=give_signs, daemon=True)
        thread.start()
        try:
            yield True
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(Exception):  # what stays is removed later
                self.store.fs.rm_file(claim)


# --- The work ----------------------------------------------------------------------


def fetch(address: str) -> bytes | Result:
    """The content of a photo, or a result with the reason why it cannot be had."""
    try:
        return patiently(read, address)
    except Exception as error:  # every storage raises types of its own
        return Result(error=reason_of(error))


class Worker:
    """Predicts one shard after the other, here or as an actor of Ray Data; holds the model."""

    def __init__(
        self, destination: str, model: bytes, threads: int, progress: Callable[[int], object] = lambda count: None
    ) -> None:
        """`model` is the content of a .tflite file, so that nothing changes when the file does during a run."""
        self.store, self.threads, self.progress = Store(destination), threads, progress
        self.manifest, settings = open_manifest(self.store)
        self.readable = ""  # the address of a photo that could be read
        with tempfile.TemporaryDirectory() as folder:
            path, labels = Path(folder, "model.tflite"), Path(folder, "labels.txt")
            path.write_bytes(model)
            labels.write_text("\n".join(settings["labels"]), encoding="utf-8")
            self.predictor = Predictor(path, labels, settings["unknown_below"], settings["tta"])

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """What Ray Data calls: a batch holds numbers of shards, never photos."""
        return {"photos": [self.work(int(shard)) for shard in batch["shard"]]}

    def work(self, shard: int) -> int:
        """Predict a shard and write its part, unless that exists or another copy does it: the number of photos."""
        part = f"predictions/{part_name(shard)}"
        with Claims(self.store).claim(f"{shard:05}") as is_mine:
            # The copy that had the claim before may have written the part.
            if not is_mine or self.store.exists(part):
                return 0
            rows = self.predict(shard)
            with self.store.write(part) as path:
                pq.write_table(rows, path)
            return len(rows)

    def predict(self, shard: int) -> pa.Table:
        """The rows of a shard, with the columns of PART_SCHEMA. Raises UserError when storage fails."""
        photos = patiently(self.manifest.read_row_group, shard).to_pylist()
        contents = self.contents([os.fsdecode(photo["address"]) for photo in photos])
        rows = []
        for photo, result in zip(photos, map_in_order(self.answer, contents, self.threads), strict=True):
            row = {"image_name": photo["image_name"]}
            if result.error is None:
                row |= {name: getattr(result, name) for name, _ in RESULT_COLUMNS}
                row["quality"] = "; ".join(result.quality)
            else:
                row["error"] = result.error.removeprefix("cannot read the image: ")
            rows.append(row)
            self.progress(1)
        return pa.Table.from_pylist(rows, schema=PART_SCHEMA)

    def answer(self, content: bytes | Result) -> Result:
        return content if isinstance(content, Result) else self.predictor(content)

    def contents(self, addresses: list[str]) -> Iterator[bytes | Result]:
        """The photos, read ahead in many threads, because storage answers late.

        Raises UserError when no other photo can be read either: then it is the storage, and the photo is not lost.
        """
        for address, content in zip(addresses, map_in_order(fetch, addresses, config.STORAGE_THREADS), strict=True):
            if isinstance(content, Result):
                if not self.storage_works():
                    what = f"photos cannot be read: {content.error}"
                    raise UserError(f"{what}; check the storage, then run the same command again")
                with contextlib.suppress(Exception):  # it may have been the storage, for a while
                    content = read(address)
            self.readable = address if isinstance(content, bytes) else self.readable
            yield content

    def storage_works(self) -> bool:
        """Whether the photo that was read last can be read once more, or at first one of some from all over."""
        others = [self.readable]
        if not self.readable:
            shards = random.choices(range(self.manifest.num_row_groups), k=config.STORAGE_THREADS)
            groups = [self.manifest.read_row_group(shard, columns=["address"])["address"] for shard in shards]
            others = [os.fsdecode(random.choice(group).as_py()) for group in groups]
        contents = zip(others, map_in_order(fetch, others, config.STORAGE_THREADS), strict=True)
        self.readable = next((address for address, content in contents if isinstance(content, bytes)), "")
        return bool(self.readable)
