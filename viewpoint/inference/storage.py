"""Files in folders and object stores: read with patience, write whole files, show no credentials. Needs fsspec."""

import contextlib
import functools
import itertools
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import strip_protocol
from fsspec.implementations.dirfs import DirFileSystem

import config
from viewpoint.common.cli import UserError, printable
from viewpoint.common.writing import lock, write_atomically

OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError, ValueError)


def redact(text: str) -> str:
    """A text without the credentials that addresses in it may hold: user:password@ and ?token=..."""
    return re.sub(r"(https?://[^\s?]*)\?\S*", r"\1", re.sub(r"(\w://)[^/\s@]*@", r"\1", text))


def reason_of(error: Exception) -> str:
    """Why something could not be read or written, without names and credentials."""
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return redact(printable(f"{type(error).__name__}: {error}"))


def with_retries(action: Callable[..., Any], *arguments: object, **options: object) -> Any:
    """The result of an action on storage; after throttling or a lost connection it is tried again, ever later."""
    for attempt in itertools.count(1):
        try:
            return action(*arguments, **options)
        except Exception as error:  # every storage raises types of its own
            is_refused = getattr(error, "status", 0) in {*range(400, 500)} - {408, 425, 429}  # of HTTP
            if is_refused or isinstance(error, FINAL) or attempt == config.STORAGE_ATTEMPTS:
                raise
        # At random, so that many workers do not come back at the same moment.
        time.sleep(config.STORAGE_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1))


@functools.cache
def filesystem(protocol: str) -> Any:
    """The fsspec file system of a protocol, which finds its credentials itself. Raises UserError if there is none."""
    # S3's would ask for the size of each photo first, and repeat what failed up to 25 times, below with_retries().
    s3 = {"max_concurrency": 1, "config_kwargs": {"retries": {"total_max_attempts": 1}}}
    try:
        # Without a cache of listings, because other machines write at the same time.
        fs = fsspec.filesystem(protocol, use_listings_cache=False, **s3 if protocol in ("s3", "s3a") else {})
    except (ImportError, ValueError) as error:
        raise UserError(f"cannot open {protocol}:// addresses: {error}") from error
    fs.retries = 1
    return fs


def protocol_of(address: str) -> str:
    """The protocol of an address, "file" for a path on this computer."""
    return address.split("://")[0] if "://" in address else "file"


def full_address(address: str) -> str:
    """The absolute path of a file:// address or a path, with the links in it; other addresses as they are."""
    if protocol_of(address) != "file":
        return address
    return str(Path(strip_protocol(address) if "://" in address else address).absolute())


def read(address: str) -> bytes:
    """The content of the file at an address or an absolute path."""
    return filesystem(protocol_of(address)).cat_file(address)


class Store:
    """A folder on this computer or in an object store; names are relative to it, with "/"."""

    def __init__(self, address: str) -> None:
        """Raises UserError when whole files cannot be written there."""
        protocol = protocol_of(address)
        if protocol not in (*OBJECT_STORES, "file"):
            raise UserError(f"cannot write to {redact(address)}; give a folder, or an address in s3://, gs:// or az://")
        self.is_local = protocol == "file"
        self.address = redact(full_address(address)).rstrip("/")
        self.fs = DirFileSystem(full_address(address), filesystem(protocol))

    def names(self, folder: str) -> list[str]:
        """The names in a folder; [] when there is none."""
        try:
            return [path.rsplit("/", 1)[-1] for path in with_retries(self.fs.ls, folder, detail=False)]
        except FileNotFoundError:
            return []

    def write(self, name: str, content: bytes, is_new: bool = False) -> None:
        """Write a whole file or nothing; an object store shows an object only when its upload is complete.

        Raises UserError when it cannot be written, or when a file that `is_new` exists: another copy wrote it.
        """
        if is_new and with_retries(self.fs.exists, name):
            raise UserError(f"another copy writes to {self.address}; start one copy, or give each a --shard of its own")
        if self.is_local:
            with write_atomically(Path(self.address, name)) as path:
                path.write_bytes(content)
            return
        try:
            with_retries(self.fs.pipe_file, name, content)
        except FileNotFoundError as error:
            raise UserError(f"cannot write to {self.address}: no such bucket; create it first") from error

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Keep other copies that write `name` out during the block. Raises UserError when one works.

        An object store has no locks.
        """
        return lock(Path(self.address), "DESTINATION or --shard", name) if self.is_local else contextlib.nullcontext()
