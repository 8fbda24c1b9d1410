"""What every command line needs: exit codes, option ranges, printable text, commands to paste.

Work in threads: in order, a few items ahead, errors where their result would be.
CSV files as spreadsheets save them.
Work in threads: in order, a few items ahead, errors where their result would be.
"""

import argparse
import math
import re
import threading
import time

import pytest

import config
from viewpoint.common import parallel
from viewpoint.common.cli import (
    COUNT,
    FRACTION,
    UserError,
    check_class_names,
    command,
    counted,
    make_parser,
    number,
    print_next,
    printable,
    resumable,
    run,
)
from viewpoint.common.parallel import cgroup_limit, cpu_count, map_in_order
from viewpoint.common.progress import progress
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


def test_ctrl_c_names_the_command_that_continues_only_when_there_is_something_to_continue(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["train.py", "--dataset", "my data"])

    def main():
        with resumable(tmp_path / "checkpoint"):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(SystemExit):
            run(main)
        (tmp_path / "checkpoint").touch()
    nothing, advice = capsys.readouterr().err.strip().split("\n\n")
    assert nothing == "train.py: interrupted; no output was left half written"
    assert advice == "train.py: interrupted; continue with: python train.py --dataset 'my data' --resume"


def test_the_sentence_of_an_error_can_be_written_to_any_file():
    assert str(UserError("cannot read a\r\udce9.jpg")) == r"cannot read a\r\udce9.jpg"


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


def test_the_help_shows_defaults_as_people_write_them_and_version_the_one_of_the_config(capsys):
    parser = make_parser("Does it.")
    parser.add_argument("photos", nargs="*", default=[], help="photos to look at")
    parser.add_argument("--data", help="folder of photos")
    parser.add_argument("--share", type=FRACTION, default=6 / 7, help="fraction to take")
    parser.add_argument("--mixup", type=float, default=0.0, help="alpha")
    parser.add_argument("--more", nargs="+", default=[], help="others")
    parser.add_argument("--views", default=("Front", "Rear"), help="with commas")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction, default=True, help="mirror half")
    parser.add_argument("--strict", action="store_true", help="complain")
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "--data DATA folder of photos" in lines
    assert "--share SHARE fraction to take (default: 0.8571)" in lines
    assert "--views VIEWS with commas (default: Front,Rear)" in lines
    assert "--mixup MIXUP alpha (default: 0)" in lines
    assert "--more MORE [MORE ...]" in lines
    assert "others" in lines
    assert "--flip, --no-flip mirror half (default: on)" in lines
    assert "--strict complain" in lines
    assert "photos photos to look at" in lines
    with pytest.raises(SystemExit):
        parser.parse_args(["--version"])
    assert capsys.readouterr().out.endswith(f" {config.VERSION}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("photos --dta lot", "there is no option --dta; did you mean --data?"),
        ("photos -data lot", "there is no option -data; did you mean --data?"),
        ("--imags photos", "there is no option --imags; did you mean --images?"),
        ("photos --zoom 2", "there is no option --zoom; --help lists them"),
        ("", "the following arguments are required: --images"),
        ("photos --views Front", "--views does nothing without --per-folder"),
        ("photos --count 0", "argument --count: 0 is not a whole number of at least 1"),
    ],
)
def test_a_mistake_in_a_command_is_one_sentence(words, said, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(words.split())
    assert exit_info.value.code == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.endswith(f": error: {said}")


def parse(words):
    parser = make_parser("Does it.")
    parser.add_main("--images", nargs="+")
    for option in ("--data", "--views"):
        parser.add_argument(option)
    parser.add_argument("--count", type=COUNT)
    parser.add_argument("--per-folder", action="store_true")
    args = parser.parse_args(words)
    parser.refuse_unused(args, ["views"], args.per_folder, "--per-folder")
    return args


def test_the_main_option_may_be_left_out():
    for words in ("a b --data lot", "--data lot a b", "--images a b --data lot"):
        args = parse(words.split())
        assert (args.images, args.data) == (["a", "b"], "lot")
    assert parse(["a", "--images", "b", "--per-folder", "--views", "Front"]).images == ["a", "b"]
    assert not [name for name in vars(parse(["a"])) if name.startswith(" ")]


def test_the_progress_of_a_step_is_a_line_in_a_log_and_a_bar_on_a_terminal(capsys, monkeypatch):
    assert list(progress(iter("abc"), "Reading", 3, "row")) == ["a", "b", "c"]
    assert re.fullmatch(r"Reading: 3 rows, \d+\.\d s\n", capsys.readouterr().err)
    assert list(progress("abc", "Reading", quiet=True)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    with monkeypatch.context() as patch:
        minutes = iter(range(0, 600, 30))  # every look at the clock is half a minute later
        patch.setattr("time.monotonic", lambda: next(minutes))
        assert list(progress("abcd", "Reading", unit="row")) == ["a", "b", "c", "d"]
    lines = ["Reading: 2 rows so far, 60 s", "Reading: 4 rows so far, 120 s", "Reading: 4 rows, 150.0 s"]
    assert capsys.readouterr().err.splitlines() == lines
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(progress("abc", "Reading")) == ["a", "b", "c"]
    assert "\rReading: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["Front, left", 'Front "left"', "Front\\left", "$front", "front/left", " Front", "0 Front", "a\nb", ""]
)
def test_a_class_name_that_files_and_code_cannot_hold_is_refused(name):
    with pytest.raises(UserError, match=r"config\.py has the class .* begin with a letter"):
        check_class_names(["Front", name])


def test_class_names_of_several_words_and_any_language_are_taken():
    check_class_names(["Front", "FrontLeft", "Vorne links", "Avant-côté 2", "rear_left", "後ろ", "सामने"])


def test_the_demo_does_not_name_the_commands_that_it_runs_itself(monkeypatch, capsys):
    print_next("python train.py")
    monkeypatch.setenv("VIEWPOINT_SAY_NEXT", "no")
    print_next("python train.py")
    assert capsys.readouterr().out == "Next: python train.py\n"


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


# --- Work in threads ---------------------------------------------------------------


def test_results_come_in_order_and_only_a_few_are_made_ahead():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = map_in_order(lambda item: item * item, items(), threads=2)
    assert [next(results) for _ in range(100)] == [item * item for item in range(100)]
    assert len(taken) <= 100 + 10
    assert list(results) == [item * item for item in range(100, 1000)]


def test_what_was_queued_is_dropped_when_nobody_wants_more():
    done = []

    def work(item: int) -> None:
        time.sleep(0.2 if item else 0)
        done.append(item)

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
