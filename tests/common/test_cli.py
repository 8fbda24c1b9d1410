"""What every command line needs: exit codes, option ranges, printable text, commands to paste."""

import argparse

import pytest

from viewpoint.common.cli import COUNT, FRACTION, UserError, command, counted, number, printable, resumable, run


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
