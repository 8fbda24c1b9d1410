"""Files in folders and in object stores: read with patience, written as a whole, and no credentials in messages.

Needs fsspec (requirements-cluster.txt).
"""

import contextlib
import functools
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.core import strip_protocol
from fsspec.implementations.dirfs import DirFileSystem

import config
from viewpoint.common.cli import UserError, printable
from viewpoint.common.files import write_atomically

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
MISSING = "no such file"
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)

Returned = TypeVar("Returned")


def shown(text: str) -> str:
    """A text without the credentials that addresses in it may hold: user:password@ and ?token=..."""
    text = re.sub(r"(\w://)[^/\s@]*@", r"\1", text)
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", text)


def reason_of(error: Exception) -> str:
    """Why something could not be read or written, without names and credentials."""
    if isinstance(error, PermissionError):
        return "permission denied"
    return MISSING if isinstance(error, FileNotFoundError) else shown(printable(f"{type(error).__name__}: {error}"))


def is_final(error: Exception) -> bool:
    """Whether an error would be the same at a second try. Throttling and lost connections are not."""
    is_refused = getattr(error, "status", 0) in {*range(400, 500)} - {408, 425, 429}  # of HTTP
    return is_refused or isinstance(error, FINAL)


def patiently(action: Callable[..., Returned], *arguments: object, **options: object) -> Returned:
    """The result of an action on storage, tried several times, each time after a longer pause."""
    for attempt in range(config.STORAGE_ATTEMPTS):
        try:
            return action(*arguments, **options)
        except Exception as error:  # every storage raises types of its own
            if is_final(error) or attempt + 1 == config.STORAGE_ATTEMPTS:
                raise
        # At random, so that many workers do not come back at the same moment.
        time.sleep(config.STORAGE_PAUSE * 2**attempt * random.uniform(0.5, 1))
    raise AssertionError


@functools.cache
def filesystem(protocol: str) -> Any:
    """The fsspec file system of a protocol, which finds its credentials itself. Raises UserError if there is none."""
    # S3's would ask for the size of each photo first, to read parts of it at the same time.
    options = {"max_concurrency": 1} if protocol in ("s3", "s3a") else {}
    try:
        # Without a cache of listings, because other copies write at the same time.
        return fsspec.filesystem(protocol, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {protocol}:// addresses: {error}") from error


def protocol_of(address: str) -> str:
    """The protocol of an address, "file" for a path on this computer."""
    return address.split("://")[0] if "://" in address else "file"


def local_path(address: str) -> Path:
    """The absolute path of a file:// address or a path; links in it stay."""
    return Path(strip_protocol(address) if "://" in address else address).absolute()


def read(address: str) -> bytes:
    """The content of the file at an address."""
    if protocol_of(address) == "file":
        return local_path(address).read_bytes()
    return filesystem(protocol_of(address)).cat_file(address)


class Store:
    """A folder on this computer or in an object store; names are relative to it, with "/"."""

    def __init__(self, address: str) -> None:
        """Raises UserError when whole files cannot be written there."""
        protocol = protocol_of(address)
        if protocol not in (*OBJECT_STORES, "file"):
            raise UserError(f"cannot write to {shown(address)}; give a folder, or an address in s3://, gs:// or az://")
        self.is_local = protocol == "file"
        if self.is_local:
            address = str(local_path(address))
            try:
                Path(address, "claims").mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"cannot write to {address}: {error.strerror}; give a folder") from error
        self.fs = DirFileSystem(address, filesystem(protocol))
        self.address = shown(address).rstrip("/")

    def exists(self, name: str) -> bool:
        return patiently(self.fs.exists, name)

    def names(self, folder: str) -> list[str]:
        """The names in a folder; [] when there is none."""
        try:
            return [path.rsplit("/", 1)[-1] for path in patiently(self.fs.ls, folder, detail=False)]
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[Path]:
        """Yield a temporary path on this computer. When the block succeeds, it becomes the file `name`, as a whole."""
        if self.is_local:
            with write_atomically(Path(self.address, name)) as path:
                yield path
        else:  # the store shows an object only when its upload is complete
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder, "file")
                patiently(self.fs.put_file, str(Path(folder, "file")), name)

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file unless it exists. Of several copies that try, one gets True."""
        try:
            if self.is_local:  # fsspec's own way would not be exclusive
                with self.fs.open(name, "xb") as file:
                    file.write(content)
            else:
                self.fs.pipe_file(name, content, mode="create")
        except FileExistsError:
            return False
        except Exception as error:
            if is_final(error):
                raise
            if self.exists(name):
                return False
            # Some object stores refuse conditional uploads. Then two copies may do one shard, which does no harm.
            patiently(self.fs.pipe_file, name, content)
        return True
