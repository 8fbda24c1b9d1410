"""What all scripts share: whole outputs, exit codes, and work in threads, in order and a few steps ahead."""

import argparse
import errno
import os
import threading
import time

import pytest

import common
from common import UserError, map_in_order, run, write_atomically


@pytest.mark.parametrize("folder", [False, True])
def test_an_output_is_whole_or_the_earlier_one_stays(tmp_path, folder):
    def write(path, text):
        path.mkdir() if folder else None
        (path / "x" if folder else path).write_text(text)

    def read(path):
        return (path / "x" if folder else path).read_text()

    output = tmp_path / "new" / "model.bin"
    with write_atomically(output) as path:
        write(path, "first")
        assert not output.exists()
    with pytest.raises(UserError, match=r"cannot write .*model\.bin: No space left on device"):
        with write_atomically(output) as path:
            write(path, "half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert read(output) == "first"
    with write_atomically(output) as path:
        write(path, "second")
    assert read(output) == "second"
    assert [path.name for path in output.parent.iterdir()] == ["model.bin"]


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "real.txt").write_text("first")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with write_atomically(tmp_path / "link.txt") as path:
        path.write_text("second")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "second"


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path):
    for name, age in ((".model.1.tmp.bin", 25), (".model.2.tmp.bin", 1), (".other.1.tmp.bin", 25)):
        (tmp_path / name).write_text("left")
        os.utime(tmp_path / name, (time.time() - age * 3600,) * 2)
    with write_atomically(tmp_path / "model.bin") as path:
        path.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.2.tmp.bin", ".other.1.tmp.bin", "model.bin"]


@pytest.mark.parametrize(
    ("outcome", "code"), [(None, 0), (0, 0), (1, 1), (UserError("no such file"), 2), (KeyboardInterrupt(), 130)]
)
def test_exit_codes_mean_something(outcome, code, capsys):
    def main():
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    with pytest.raises(SystemExit) as exit_info:
        run(main)
    assert exit_info.value.code == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_option_out_of_range_is_refused():
    assert common.COUNT("3") == 3
    assert common.SHARE("0.5") == 0.5
    for parse, text in (
        (common.COUNT, "0"),
        (common.COUNT, "1.5"),
        (common.SHARE, "nan"),
        (common.number(float, 0), "inf"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a"):
            parse(text)


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
