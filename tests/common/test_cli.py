"""What every command line needs: exit codes, option ranges, printable text, commands to paste.

Work in threads: in order, a few items ahead, errors where their result would be.
CSV files as spreadsheets save them.
"""

import argparse
import threading
import time

import pytest

from viewpoint.common.cli import COUNT, FRACTION, UserError, command, counted, number, printable, run
from viewpoint.common.parallel import map_in_order
from viewpoint.common.tables import read_table


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
    assert COUNT("3") == 3
    assert FRACTION("0.5") == 0.5
    for parse, text in (
        (COUNT, "0"),
        (COUNT, "1.5"),
        (FRACTION, "nan"),
        (number(float, 0), "inf"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a"):
            parse(text)


def test_a_count_agrees_with_its_noun():
    assert [counted(n, "photo") for n in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_a_command_can_be_pasted_into_a_shell():
    assert command("train.py", [("--dataset", "dataset", "dataset"), ("--data", None, None)]) == "python train.py"
    assert command("train.py", [("--dataset", "my data", "dataset")]) == "python train.py --dataset 'my data'"


def test_control_characters_are_printed_escaped():
    assert printable("été 車 \r\udce9") == "été 車 \\r\\udce9"
    # A photo in an address.
    assert len(printable("data:image/jpeg;base64," + "A" * 40_000)) < 500


# --- Work in threads ---------------------------------------------------------------


def test_results_come_in_order_and_only_a_few_are_made_ahead():
    taken = []

    def items():
        for index in range(1000):
            taken.append(index)
            yield index

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


# --- CSV files as spreadsheets save them -------------------------------------------


ROWS = [{"name": "Tür", "means": "door, left"}, {"name": "Dach", "means": ""}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        'name,means\nTür,"door, left"\nDach,\n',
        "name;means\r\nTür;door, left\r\nDach;\r\n",
        'name\tmeans\nTür\tdoor, left\n\t\n\nDach\t""\n',
        'name,means\n,\nTür,"door, left"\n\n\nDach,',
    ],
)
def test_every_usual_encoding_and_delimiter_is_read_without_blank_rows(tmp_path, encoding, text):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "a.csv") == (["name", "means"], ROWS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name,means\na,b,c\n", 'line 2 .* one cell for each of the columns name, means; put .* contains ","'),
        (b"name;means\na\n", "line 2 .* one cell for each"),
        (b"name,means\na,\0\n", "it holds NUL characters"),
        (b'name,means\na,"b\n', "is not a readable CSV file"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, content, reason):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_table(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_table(tmp_path)
