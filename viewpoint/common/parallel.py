"""Work in threads: Pillow, LiteRT and TensorFlow release the interpreter lock while they compute."""

import contextlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cpu_count() -> int:
    """The number of processor cores that this process may use, at least 1.

    It is smaller than that of the machine under taskset, in a batch job, or in a container with a limit.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cgroup_limit())))


def cgroup_limit(root: Path = Path("/")) -> float:
    """How many cores the control groups of this process grant it, in versions 1 and 2; infinite without a limit.

    `root` is the folder of proc/ and sys/. Sources: docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max) and
    docs.kernel.org/scheduler/sched-bwc.html (cpu.cfs_quota_us).
    """
    limits = [math.inf]
    with contextlib.suppress(OSError):  # no Linux
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            names = [name for name in path.split("/") if name]
            # A group also has the limits of the groups that it is in. A container may see only some of them.
            for depth in range(len(names) + 1):
                group = (root / "sys/fs/cgroup" / ("cpu" if controllers else "")).joinpath(*names[:depth])
                with contextlib.suppress(OSError, ValueError):  # no such file, or the limit "max"
                    files = ["cpu.cfs_quota_us", "cpu.cfs_period_us"] if controllers else ["cpu.max"]
                    quota, period = " ".join((group / file).read_text() for file in files).split()
                    if int(quota) > 0:
                        limits.append(int(quota) / int(period))
    return min(limits)


def map_in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Yield function(item) for each item, in order, computed in threads.

    Only a few items are computed ahead of the one that is yielded, so memory stays flat
    whatever their number.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
