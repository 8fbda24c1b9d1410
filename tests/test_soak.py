"""The soak test on a few hundred images, and that each of its checks can fail."""

import sys
from pathlib import Path

import keras
import pytest
import soak

import config
import convert_tflite
from common import UserError
from images import ImageError, is_photo, open_image

GOOD, BAD = ["a/1.jpg", "a/2.JPG", "b/汽车 3.png"], ["a/4.jpg", "b/авто 5.PNG"]
SUMMARY = """
3 images predicted, 2 skipped
  a/4.jpg: cannot read photos/a/4.jpg: an empty file
  b/авто 5.PNG: cannot read photos/b/авто 5.PNG: not an image
Predictions are in predictions.csv.
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with its labels beside it."""
    folder = tmp_path_factory.mktemp("model")
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(7, activation="softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    keras.Model(inputs, outputs).export(folder / "saved_model", verbose=False)
    (folder / "model.tflite").write_bytes(convert_tflite.convert(folder / "saved_model"))
    (folder / "labels.txt").write_text("\n".join(config.CLASSES) + "\n")
    return folder / "model.tflite"


@pytest.fixture(scope="module")
def contents():
    return soak.draw_contents(config.SEED)


@pytest.fixture
def drawn_once(contents, monkeypatch) -> None:
    """Spares a test the drawing."""
    monkeypatch.setattr(soak, "draw_contents", lambda _: contents)


def run_soak(monkeypatch, *options) -> int:
    monkeypatch.setattr(sys, "argv", ["soak.py", *map(str, options)])
    return soak.main()


def test_test_predict_passes(model, drawn_once, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(soak, "READING_INTERVAL", 0.02)
    folder = tmp_path / "kept"
    assert run_soak(monkeypatch, "--model", model, "--images", 600, "--bad-share", 0.1, "--folder", folder) == 0
    printed = capsys.readouterr().out
    assert "Images   600, 60 of them bad\nRows     540\nSkipped  60\n" in printed
    assert ("MiB after a tenth of the run" in printed) == Path("/proc/self/status").is_file()
    assert "All as it should be." in printed
    assert len((folder / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 541
    assert [len(list(part.iterdir())) for part in sorted((folder / "images").iterdir())] == [500, 100]
    with pytest.raises(UserError, match="kept is not an empty folder"):
        run_soak(monkeypatch, "--model", model, "--images", 600, "--folder", folder)


@pytest.mark.parametrize("exit_code", [0, 1])
def test_what_is_wrong_is_printed_and_the_exit_code_is_1(model, drawn_once, monkeypatch, capsys, exit_code):
    def lose_all_rows(_, folder):
        (folder / "predictions.csv").write_text("image_name,prediction,score\n")
        (folder / "summary.txt").write_text("\n57 images predicted, 3 skipped\n")
        return exit_code, 1.0, []

    monkeypatch.setattr(soak, "run_prediction", lose_all_rows)
    assert run_soak(monkeypatch, "--model", model, "--images", 60) == 1
    printed = capsys.readouterr().out
    assert ("Wrong: good images without a row: 57, such as part 000/" in printed) == (exit_code == 0)
    assert ("Wrong: bad images that the summary does not name: 3, such as" in printed) == (exit_code == 0)
    assert ("Wrong: test_predict.py ended with exit code 1" in printed) == (exit_code == 1)
    assert "All as it should be" not in printed


def test_mistakes_of_the_user_are_one_sentence(model, drawn_once, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.tflite not found"):
        run_soak(monkeypatch, "--model", tmp_path / "none.tflite")
    with pytest.raises(UserError, match="--bad-share 1 of 9 images leaves no good one"):
        run_soak(monkeypatch, "--model", model, "--images", 9, "--bad-share", 1)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the images to .*file"):
        run_soak(monkeypatch, "--model", model, "--images", 9, "--folder", tmp_path / "file" / "below")


def test_good_images_are_distinct_and_readable_and_bad_ones_of_every_kind_are_not(contents, tmp_path):
    assert len(set(contents)) == soak.CONTENTS
    # Draws them once more, which must give the same.
    good, bad = soak.write_images(tmp_path, 50, 0.14, config.SEED)
    assert {(tmp_path / name).read_bytes() for name in good} == {content for _, content in contents}
    for name in good:
        open_image(tmp_path / name)
    damaged = soak.damage(contents[0][1], contents[1][1])
    assert len(bad) == len(damaged) + 1
    assert {(tmp_path / name).read_bytes() for name in bad} == {content for _, content in damaged.values()}
    for name in bad:
        assert is_photo(tmp_path / name)  # by its name, so that it is not just overlooked
        with pytest.raises(ImageError):
            open_image(tmp_path / name)


def test_the_bomb_is_refused_for_its_size(tmp_path):
    (tmp_path / "bomb.png").write_bytes(soak.make_bomb(60_000))
    with pytest.raises(ImageError, match="60000x60000 pixels are more than"):
        open_image(tmp_path / "bomb.png")
    # A small one is a whole PNG: it is the size alone that is wrong with it.
    (tmp_path / "small.png").write_bytes(soak.make_bomb(3))
    assert open_image(tmp_path / "small.png").size == (3, 3)


def test_rows_for_every_good_image_are_well_in_any_order():
    assert soak.check_rows(GOOD[::-1], GOOD, BAD) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (GOOD[1:], "good images without a row: 1, such as a/1.jpg"),
        ([*GOOD, GOOD[2]], "images with more than one row: 1, such as b/汽车 3.png"),
        ([*GOOD, BAD[1]], "bad images with a row: 1, such as b/авто 5.PNG"),
        ([*GOOD, "a/1.jp"], "rows of no image: 1, such as a/1.jp"),
    ],
)
def test_a_wrong_row_is_reported(rows, problem):
    assert soak.check_rows(rows, GOOD, BAD) == [problem]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("3 images", "4 images", 'the summary does not say "3 images predicted, 2 skipped"'),
        ("  a/4", "a/4", "bad images that the summary does not name: 1, such as a/4.jpg"),
        ("Predictions", "  a/1.jpg: twice\nPredictions", "images that the summary names without need: 1, such as a/1"),
        ("Predictions", "  a/4.jpg: twice\nPredictions", "images that the summary names without need: 1, such as a/4"),
    ],
)
def test_a_wrong_summary_is_reported(old, new, problem):
    problems = soak.check_summary(SUMMARY.replace(old, new), GOOD, BAD)
    assert len(problems) == (problem is not None)
    assert not problem or problems[0].startswith(problem)


def test_memory_that_grows_is_reported_and_warm_up_and_a_short_run_are_not():
    growing = [100.0 + minute for minute in range(100)]
    assert soak.check_memory(growing) == [
        "the memory grew by 89 MiB, from 110 after a tenth of the run to 199 in its second half; "
        f"less than {soak.MAX_GROWTH_MIB} are expected"
    ]
    # Given back before the end, it has still been there.
    assert soak.check_memory([*growing, 100.0]) != []
    warm_up = [10.0 * reading for reading in range(10)]
    assert soak.check_memory([*warm_up, *[100.0, 100 + 0.9 * soak.MAX_GROWTH_MIB] * 45]) == []
    assert soak.check_memory(growing[: soak.MIN_READINGS - 1]) == []
    assert "too short a run to judge" in soak.describe_memory(growing[: soak.MIN_READINGS - 1])


def test_without_proc_the_memory_is_not_measured():
    assert soak.read_memory(2**31 - 1) is None  # no such process
    assert soak.check_memory([]) == []
    assert soak.describe_memory([]).startswith("not measured: no /proc here")
