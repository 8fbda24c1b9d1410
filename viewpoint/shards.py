"""Very many photos, cut into shards: what tools/predict_many.py does on one machine and on a cluster.

A destination, a folder or an object store, holds

    manifest.parquet                  every photo, listed once; one row group is one shard
    predictions/part-00000.parquet    the rows of shard 0: complete, or not there
    claims/, copies/                  who works on what, while the work goes on

Needs fsspec and pyarrow (requirements-cluster.txt).
"""

import contextlib
import functools
import glob
import hashlib
import json
import os
import random
import re
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

import config
from viewpoint.cli import UserError
from viewpoint.dataset import recorded_data_dir
from viewpoint.files import JUNK, JUNK_FOLDERS, UNREAD_FORMAT, csv_name, is_junk_name, write_atomically
from viewpoint.inputs import NAME_COLUMNS, list_inputs
from viewpoint.parallel import map_in_order
from viewpoint.predictor import Predictor, Result
from viewpoint.tables import stream_table

MANIFEST = "manifest.parquet"
FACTS = b"viewpoint"  # the key in the manifest's metadata: what this run is, and what was not listed
MANIFEST_SCHEMA = pa.schema([("image_name", pa.string()), ("address", pa.binary())])
# The columns of test_predict.py's CSV. Of a photo that failed, only `error` says something.
PART_COLUMNS = ["prediction", "score", "best_class", "quality", "error"]

# Object stores show an object only when it is whole, so they need no temporary name.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")

# When none of the first photos of a shard can be fetched, it is the storage, not the photos.
FIRST_PHOTOS = 50

Returned = TypeVar("Returned")

# --- Storage -----------------------------------------------------------------------


def shown(text: str) -> str:
    """A text without the credentials that addresses in it may hold: user:password@ and ?token=..."""
    text = re.sub(r"(\w://)[^/\s@]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", text)


def reason_of(error: Exception) -> str:
    """Why something could not be read from or written to storage, without names and credentials."""
    for kind, reason in ((FileNotFoundError, "no such file"), (PermissionError, "permission denied")):
        if isinstance(error, kind):
            return reason
    return shown(f"{type(error).__name__}: {error}")


def is_final(error: Exception) -> bool:
    """Whether an error would be the same at a second try. Throttling and lost connections are not."""
    status = getattr(error, "status", 0)  # of HTTP
    is_refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429)
    kinds = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)
    return is_refused or isinstance(error, kinds)


def patiently(action: Callable[[], Returned]) -> Returned:
    """The result of an action on storage, tried several times, each time after a longer pause."""
    for attempt in range(config.STORAGE_ATTEMPTS):
        try:
            return action()
        except Exception as error:  # every storage raises types of its own
            if is_final(error) or attempt + 1 == config.STORAGE_ATTEMPTS:
                raise
        # At random, so that many workers do not come back at the same moment.
        time.sleep(config.STORAGE_PAUSE * 2**attempt * random.uniform(0.5, 1))
    raise AssertionError


@functools.cache
def filesystem(protocol: str) -> Any:
    """The fsspec file system of a protocol, which finds its credentials itself. Raises UserError if there is none."""
    try:
        # Without a cache of listings, because other copies write at the same time.
        return fsspec.filesystem(protocol, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {protocol}:// addresses: {error}") from error


def protocol_of(address: str) -> str:
    """The protocol of an address, "file" for a path on this computer."""
    return address.split("://")[0] if "://" in address else "file"


def fetch(address: str) -> bytes | Result:
    """The content of a photo, or a result with the reason why it cannot be had."""
    try:
        if protocol_of(address) == "file":
            return patiently(Path(address.removeprefix("file://")).read_bytes)
        return patiently(lambda: filesystem(protocol_of(address)).cat_file(address))
    except Exception as error:  # every storage raises types of its own
        return Result(error=reason_of(error))


class Store:
    """A folder on this computer, or in an object store."""

    def __init__(self, address: str) -> None:
        """Raises UserError when there is no way to write whole files there."""
        self.protocol = protocol_of(address)
        if self.protocol not in (*OBJECT_STORES, "file"):
            raise UserError(f"cannot write to {shown(address)}; give a folder, or an address in s3://, gs:// or az://")
        self.fs = filesystem(self.protocol)
        self.address = shown(address)
        self.root = self.fs._strip_protocol(address).rstrip("/")

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def names(self, folder: str) -> list[str]:
        """The sorted names of the files in a folder; [] when there is none."""
        try:
            found = patiently(lambda: self.fs.ls(self.path(folder), detail=False))
        except FileNotFoundError:
            return []
        return sorted(path.rsplit("/", 1)[-1] for path in found if not path.endswith("/"))

    def exists(self, name: str) -> bool:
        return patiently(lambda: self.fs.exists(self.path(name)))

    def open(self, name: str) -> Any:
        """A binary file to read."""
        return patiently(lambda: self.fs.open(self.path(name), "rb"))

    def read(self, name: str) -> bytes:
        """The content of a small file; b"" when there is none."""
        try:
            return patiently(lambda: self.fs.cat_file(self.path(name)))
        except FileNotFoundError:
            return b""

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """Yield the path of a temporary file on this computer; when the block succeeds, it becomes the file `name`.

        It is there as a whole or not at all: a file is renamed, an upload to an object store counts
        only when it is complete.
        """
        if self.protocol == "file":
            with write_atomically(self.path(name)) as path:
                yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "file")
            yield path
            patiently(lambda: self.fs.put_file(str(path), self.path(name)))

    def put(self, name: str, content: bytes, mode: str = "overwrite") -> None:
        """Write a small file; with mode "create" raises FileExistsError when it is already there."""
        if self.protocol == "file":
            Path(self.path(name)).parent.mkdir(parents=True, exist_ok=True)
        self.fs.pipe_file(self.path(name), content, mode=mode)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless it exists; of several copies that try, one gets True."""
        try:
            self.put(name, content, "create")
        except FileExistsError:
            return False
        except PermissionError:
            raise
        except Exception:
            # Some object stores refuse conditional uploads. Then two copies may do one shard, which does no harm.
            if self.exists(name):
                return False
            patiently(lambda: self.put(name, content))
        return True

    def remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))


# --- The photos --------------------------------------------------------------------


@dataclass
class Listing:
    """Photos as (name, address), listed while one iterates, and how many files were left out for each reason."""

    photos: Iterable[tuple[str, str]]
    left_out: Counter[str] = field(default_factory=Counter)


def is_manifest(source: str) -> bool:
    return Path(shown(source)).suffix.lower() in (".csv", ".parquet")


def list_source(source: str, data: str | None = None) -> Listing:
    """The photos of a folder, a glob, an address, or a CSV or Parquet file with the column image_path or image_name.

    `data` is the folder or address that names in such a file start from; without it, its own folder.
    Raises UserError when there are none.
    """
    is_local = protocol_of(source) == "file"
    if is_manifest(source):
        return Listing(read_names(source, data))
    if is_local:
        inputs = list_inputs([source.removeprefix("file://")])
        left_out = Counter({reason: len(names) for reason, names in inputs.left_out.items()})
        return Listing(((item.name, os.path.abspath(item.file)) for item in inputs), left_out)  # noqa: PTH100
    listing = Listing(())
    listing.photos = list_store(source, listing.left_out)
    return listing


def read_names(source: str, data: str | None) -> Iterator[tuple[str, str]]:
    """The photos that a CSV or Parquet file names."""
    is_local = protocol_of(source) == "file"
    with contextlib.ExitStack() as stack:
        path = Path(source.removeprefix("file://"))
        folder = str(recorded_data_dir(path.parent)) if is_local else source.rpartition("/")[0]
        if not is_local:
            copy = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(copy, "names" + Path(shown(source)).suffix)
            patiently(lambda: filesystem(protocol_of(source)).get_file(source, str(path)))
        for name in names_in(path, shown(source)):
            if "://" in name:
                yield csv_name(shown(name)), name
            elif "://" in (start := data or folder):
                yield csv_name(name), f"{start.rstrip('/')}/{name}"
            else:
                yield csv_name(name), os.path.abspath(Path(start, name))  # noqa: PTH100  (keeps links)


def names_in(path: Path, source: str) -> Iterator[str]:
    """The names in a CSV or Parquet file on this computer, which people know as `source`."""
    try:
        if path.suffix.lower() == ".csv":
            columns, rows = stream_table(path)
        else:
            file = pq.ParquetFile(path)
            columns = file.schema_arrow.names
            column = next((name for name in NAME_COLUMNS if name in columns), None)
            rows = (row for batch in file.iter_batches(columns=[column] if column else []) for row in batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read {source}: {error}") from error
    column = next((name for name in NAME_COLUMNS if name in columns), None)
    if column is None:
        raise UserError(f"{source} has no column {' or '.join(NAME_COLUMNS)}; it has {', '.join(columns)}")
    for row in rows:
        if row[column]:
            yield row[column]


def list_store(source: str, left_out: Counter[str]) -> Iterator[tuple[str, str]]:
    """The photos below an address, or that match it as a glob; its folders are listed at the same time."""
    fs = filesystem(protocol_of(source))
    root = fs._strip_protocol(source).rstrip("/")
    if glob.has_magic(root) and not fs.exists(root):
        names: Iterable[str] = fs.glob(root)
        root = re.split(r"/[^/]*[*?[]", root)[0]
    else:
        names = list_below(fs, root)
    for name in names:
        relative = name.removeprefix(root).lstrip("/") or name.rpartition("/")[2]
        suffix = Path(relative).suffix.lower()
        *folders, last = relative.split("/")
        if suffix in config.UNREAD_EXTENSIONS:
            left_out[UNREAD_FORMAT] += 1
        elif suffix in config.IMAGE_EXTENSIONS:
            if is_junk_name(last) or any(is_junk_name(part) or part.lower() in JUNK_FOLDERS for part in folders):
                left_out[JUNK] += 1
            else:
                yield csv_name(shown(relative)), fs.unstrip_protocol(name)


def list_below(fs: Any, root: str) -> Iterator[str]:
    """The files below a folder of an object store, folder by folder, many folders at the same time."""
    folders: list[str] = [root]
    files: list[str] = []
    for _ in range(config.LISTING_DEPTH):
        if len(folders) >= config.STORAGE_THREADS:
            break
        below: list[str] = []
        for entries in map_in_order(
            lambda folder: patiently(lambda: fs.ls(folder, detail=True)), folders, config.STORAGE_THREADS
        ):
            for entry in entries:
                (below if entry["type"] == "directory" else files).append(entry["name"].rstrip("/"))
        folders = sorted(below)
    yield from sorted(set(files))
    for found in map_in_order(lambda folder: patiently(lambda: fs.find(folder)), folders, config.STORAGE_THREADS):
        yield from found


# --- The manifest ------------------------------------------------------------------


def write_manifest(store: Store, listing: Listing, facts: dict[str, Any], shard_size: int) -> None:
    """List the photos into the manifest, a row group for each shard. Raises UserError when there are none."""
    with store.write(MANIFEST) as path:
        with pq.ParquetWriter(path, MANIFEST_SCHEMA) as writer:
            names: list[str] = []
            addresses: list[bytes] = []
            count = 0

            def flush() -> None:
                if names:
                    writer.write_table(pa.table([names, addresses], schema=MANIFEST_SCHEMA))
                    names.clear()
                    addresses.clear()

            for name, address in listing.photos:
                names.append(name)
                addresses.append(os.fsencode(address))  # a file name need not be UTF-8
                count += 1
                if len(names) == shard_size:
                    flush()
            flush()
            listed = {"left_out": dict(listing.left_out), "listed": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())}
            writer.add_key_value_metadata({FACTS: json.dumps(facts | listed).encode()})
        if not count:
            raise UserError(f"no photos in {facts['source']} (looked for {', '.join(config.IMAGE_EXTENSIONS)})")


def open_manifest(store: Store) -> pq.ParquetFile:
    return pq.ParquetFile(store.open(MANIFEST))


def facts_of(manifest: pq.ParquetFile) -> dict[str, Any]:
    """What the run of a manifest is: model, labels, options, source; and what was left out."""
    return json.loads(manifest.metadata.metadata[FACTS])


def refuse_another(store: Store, facts: dict[str, Any]) -> None:
    """Raise UserError when the destination belongs to a run with another model, source or option."""
    there = facts_of(open_manifest(store))
    if others := [name.replace("_", " ") for name in facts if there.get(name) != facts[name]]:
        raise UserError(
            f"{store.address} holds a run with another {', another '.join(others)}; give another DESTINATION"
        )


# --- Claims ------------------------------------------------------------------------


class Claims:
    """Which copy works on which shard, so that copies started on one destination share the work.

    claims/NAME.0 holds the name of the copy that could create it. While a copy lives, it writes
    copies/COPY again and again. A claim whose copy was silent for config.CLAIM_SECONDS is dead, and
    one of the others creates NAME.1, and so on. Silence is measured by the clock of who listens, so
    clocks need not agree.
    """

    def __init__(self, store: Store, copy: str = "") -> None:
        self.store, self.copy = store, copy or secrets.token_hex(8)
        self.dead: set[str] = set()
        self.seen: dict[str, tuple[object, float]] = {}

    def claim(self, name: str) -> bool:
        """Claim a piece of work; False when a living copy has it."""
        for generation in range(1000):
            claim = f"{name}.{generation}"
            if self.store.create(f"claims/{claim}", self.copy.encode()):
                return True
            if self.store.read(f"claims/{claim}").decode() == self.copy:  # from an attempt that an engine repeats
                return True
            if claim not in self.dead:
                return False
        return False

    def release(self, name: str) -> None:
        """Remove the claims on a piece of work that is done."""
        for claim in self.store.names("claims"):
            if claim.rpartition(".")[0] == name:
                self.store.remove(f"claims/{claim}")

    def held(self) -> set[str]:
        """What living copies work on."""
        return {claim.rpartition(".")[0] for claim in self.store.names("claims") if claim not in self.dead}

    def listen(self) -> None:
        """Give a sign of life, and find out which claims are dead."""
        self.store.put(f"copies/{self.copy}", secrets.token_bytes(8))
        signs: dict[str, object] = {}
        for claim in self.store.names("claims"):
            holder = self.store.read(f"claims/{claim}").decode()
            if holder != self.copy:
                signs[claim] = (holder, self.store.read(f"copies/{holder}") if holder else b"")
        now = time.monotonic()
        for claim, sign in signs.items():
            if self.seen.get(claim, (None, now))[0] != sign:
                self.seen[claim] = (sign, now)
        self.dead |= {claim for claim in signs if now - self.seen[claim][1] > config.CLAIM_SECONDS}

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """Give signs of life during the block; afterwards remove what this copy still claims."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(config.CLAIM_SECONDS / 6):
                with contextlib.suppress(Exception):  # the next sign may arrive
                    self.listen()

        self.listen()
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            with contextlib.suppress(Exception):  # what stays is dead after a while
                for claim in self.store.names("claims"):
                    if self.store.read(f"claims/{claim}").decode() == self.copy:
                        self.store.remove(f"claims/{claim}")
                self.store.remove(f"copies/{self.copy}")


# --- The work ----------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know, here or on another machine."""

    destination: str
    model: bytes  # the .tflite file itself: replacing it during a run changes nothing
    labels: tuple[str, ...]
    unknown_below: float
    tta: bool
    probabilities: bool
    copy: str
    threads: int

    def facts(self, source: str, data: str | None) -> dict[str, Any]:
        """What must not change between the runs on one destination."""
        if protocol_of(source) == "file":
            source = os.path.abspath(source.removeprefix("file://"))  # noqa: PTH100
        return {
            "model": hashlib.sha256(self.model).hexdigest(),
            "labels": list(self.labels),
            "source": shown(source),
            "data": shown(data or ""),
            "unknown_below": self.unknown_below,
            "tta": self.tta,
            "probabilities": self.probabilities,
        }


def part_name(shard: int) -> str:
    return f"part-{shard:05}.parquet"


def missing_shards(store: Store, count: int) -> set[int]:
    """The shards whose part does not exist."""
    parts = set(store.names("predictions"))
    return {shard for shard in range(count) if part_name(shard) not in parts}


class Worker:
    """Predicts one shard after the other; holds the model."""

    def __init__(
        self, job: Job, dead: Collection[str] = (), progress: Callable[[int], object] = lambda count: None
    ) -> None:
        self.job, self.progress = job, progress
        self.store = Store(job.destination)
        self.claims = Claims(self.store, job.copy)
        self.claims.dead = dead if isinstance(dead, set) else set(dead)
        self.manifest = open_manifest(self.store)
        with tempfile.TemporaryDirectory() as folder:
            model, labels = Path(folder, "model.tflite"), Path(folder, "labels.txt")
            model.write_bytes(job.model)
            labels.write_text("\n".join(job.labels), encoding="utf-8")
            self.predictor = Predictor(model, labels, job.unknown_below, job.tta)

    def work(self, shard: int) -> int:
        """Predict a shard and write its part, unless that exists or another copy does it: the number of photos."""
        name, part = f"{shard:05}", f"predictions/{part_name(shard)}"
        if not self.claims.claim(name):
            return 0
        count = 0
        # Only now: the copy that had the claim may just have written the part.
        if not self.store.exists(part):
            rows = self.predict(shard)
            with self.store.write(part) as path:
                pq.write_table(rows, path)
            count = len(rows)
        self.claims.release(name)
        return count

    def predict(self, shard: int) -> pa.Table:
        """The rows of a shard. Raises UserError when its storage cannot be read at all."""
        rows = patiently(lambda: self.manifest.read_row_group(shard))
        names = rows["image_name"].to_pylist()
        addresses = map(os.fsdecode, rows["address"].to_pylist())
        # Photos are read ahead in many threads, because storage answers late, and predicted in a few.
        contents = map_in_order(fetch, addresses, config.STORAGE_THREADS)
        results: list[Result] = []
        for result in map_in_order(self.predict_content, self.check(contents, len(names)), self.job.threads):
            results.append(result)
            self.progress(1)
        return self.table(names, results)

    def check(self, contents: Iterable[bytes | Result], count: int) -> Iterator[bytes | Result]:
        """The contents. Raises UserError when none of the first can be read, though they are said to exist."""
        unread: list[str] = []
        for number, content in enumerate(contents, 1):
            if isinstance(content, Result):
                unread.append(str(content.error))
            if len(unread) == min(count, FIRST_PHOTOS) == number and set(unread) != {"no such file"}:
                raise UserError(f"no photo could be read: {unread[0]}; check the storage and the credentials")
            yield content

    def predict_content(self, content: bytes | Result) -> Result:
        return content if isinstance(content, Result) else self.predictor(content)

    def table(self, names: list[str], results: list[Result]) -> pa.Table:
        """The rows of a part."""
        columns: dict[str, tuple[pa.DataType, list]] = {
            "image_name": (pa.string(), names),
            "prediction": (pa.string(), [result.prediction for result in results]),
            "score": (pa.float32(), [result.score for result in results]),
            "best_class": (pa.string(), [result.best_class for result in results]),
            "quality": (pa.string(), ["; ".join(result.quality) for result in results]),
        }
        if self.job.probabilities:
            for label in self.job.labels:
                columns[label] = (pa.float32(), [result.probabilities.get(label) for result in results])
        failed = [result.error is not None for result in results]
        arrays = {}
        for name, (kind, values) in columns.items():
            if name != "image_name":
                values = [None if bad else value for value, bad in zip(values, failed, strict=True)]
            arrays[name] = pa.array(values, kind)
        errors = [result.error and result.error.removeprefix("cannot read the image: ") for result in results]
        return pa.table(arrays | {"error": pa.array(errors, pa.string())})


class RayWorker(Worker):
    """A worker as an actor of Ray Data: a batch holds numbers of shards, never photos."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        return {"photos": [self.work(int(shard)) for shard in batch["shard"]]}


# --- The check ---------------------------------------------------------------------


@dataclass
class Counts:
    """What all parts say together, and which of them are not as the manifest says."""

    found: int
    predictions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    quality: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def count_rows(store: Store, each_failure: Callable[[str, str], object]) -> Counts:
    """Count the rows of all parts, and compare them with the manifest; `each_failure` gets (name, reason)."""
    manifest = open_manifest(store).metadata
    counts = Counts(manifest.num_rows)
    columns = ["image_name", "prediction", "quality", "error"]

    def read(shard: int) -> pa.Table | None:
        try:
            return patiently(lambda: pq.read_table(store.open(f"predictions/{part_name(shard)}"), columns=columns))
        except (OSError, pa.ArrowException):
            return None

    for shard, rows in enumerate(map_in_order(read, range(manifest.num_row_groups), 4)):
        if rows is None or len(rows) != manifest.row_group(shard).num_rows:
            counts.wrong.append(part_name(shard))
            continue
        for row in rows.to_pylist():
            if row["error"] is None:
                counts.predictions[row["prediction"]] += 1
                counts.quality.update(reason for reason in row["quality"].split("; ") if reason)
            else:
                # Without numbers, which differ for each photo.
                counts.errors[re.sub(r"\d+", "N", row["error"])] += 1
                each_failure(row["image_name"], row["error"])
    return counts


def remove_parts_with_failures(store: Store) -> int:
    """Remove the parts in which photos failed, so that they are made again; how many they were."""
    removed = 0
    for name in store.names("predictions"):
        if pq.read_table(store.open(f"predictions/{name}"), columns=["error"])["error"].drop_null():
            store.remove(f"predictions/{name}")
            removed += 1
    return removed
