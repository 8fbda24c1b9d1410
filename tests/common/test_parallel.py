"""Work in threads: in order, a few items ahead, errors where their result would be."""

import threading
import time

import pytest

from viewpoint.common.parallel import map_in_order


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
