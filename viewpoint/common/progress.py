"""The progress of a long step: a bar on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from viewpoint.common.cli import counted

SECONDS_BETWEEN_LINES = 60

Item = TypeVar("Item")


def progress(
    items: Iterable[Item], title: str, total: int | None = None, unit: str = "photo", quiet: bool = False
) -> Iterator[Item]:
    """Yield the items, and show on standard error how many have been worked on; nothing with `quiet`.

    `total` is their number where `items` has no length. A terminal shows a bar; a file gets a line a minute
    and one in the end.
    """
    if quiet:
        yield from items
    elif sys.stderr.isatty():
        yield from tqdm(items, title, total, unit=unit, dynamic_ncols=True)
    else:
        count, started = 0, time.monotonic()
        said = started
        for item in items:
            yield item
            count += 1
            now = time.monotonic()
            if now - said >= SECONDS_BETWEEN_LINES:
                print(f"{title}: {counted(count, unit)} so far, {now - started:.0f} s", file=sys.stderr, flush=True)
                said = now
        print(f"{title}: {counted(count, unit)}, {time.monotonic() - started:.1f} s", file=sys.stderr)
