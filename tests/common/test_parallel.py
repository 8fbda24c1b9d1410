"""Work in threads: in order, a few items ahead, errors where their result would be."""

import math
import threading
import time

import pytest

from viewpoint.common import parallel
from viewpoint.common.parallel import cgroup_limit, cpu_count, map_in_order


def test_results_come_in_order_and_only_a_few_are_made_ahead():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = map_in_order(lambda number: number * number, items(), threads=2)
    assert [next(results) for _ in range(100)] == [number * number for number in range(100)]
    assert len(taken) <= 100 + 10
    assert list(results) == [number * number for number in range(100, 1000)]


def test_what_was_queued_is_dropped_when_nobody_wants_more():
    done = []

    def work(number: int) -> None:
        time.sleep(0.2 if number else 0)
        done.append(number)

    results = map_in_order(work, range(1000), threads=1)
    next(results)
    results.close()
    # 1 may have been under way; 2 was queued behind it.
    assert done in ([0], [0, 1])


def test_several_threads_work_at_once():
    """Each of two calls waits for the other, which one thread alone could not answer."""
    both = threading.Barrier(2, timeout=20)
    assert sorted(map_in_order(lambda _: both.wait(), range(2), threads=2)) == [0, 1]


def test_an_error_comes_where_its_result_would():
    results = map_in_order(lambda number: 1 // number, [1, 0, 1], threads=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "250000 100000"}, 2.5),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf),
        # The group above has the smaller limit.
        ("0::/pod/app\n", {"pod/cpu.max": "50000 100000", "pod/app/cpu.max": "300000 100000"}, 0.5),
        # A container of version 1 sees only its own group, at the top.
        (
            "4:memory:/docker/1\n3:cpu,cpuacct:/docker/1\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("3:cpuset:/\n", {}, math.inf),
    ],
)
def test_the_cpu_limit_of_a_container_counts(tmp_path, groups, files, cores):
    written = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in (written | {"proc/self/cgroup": groups}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_limit(tmp_path) == cores


def test_a_limit_below_one_core_leaves_one_thread(monkeypatch):
    for limit, threads in ((0.5, 1), (1.5, 2)):
        monkeypatch.setattr(parallel, "cgroup_limit", lambda limit=limit: limit)
        monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
        assert cpu_count() == threads
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)  # as under taskset -c 3
    assert cpu_count() == 1
