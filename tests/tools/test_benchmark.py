"""The benchmark: ratios computed by hand, and the photos and annotations that it makes."""

import sys

import benchmark
import pytest
from conftest import save_photo

from viewpoint.common.cli import UserError
from viewpoint.common.images import open_image
from viewpoint.data.scan import parse_dataset


def test_the_ratio_is_the_median_of_the_rounds_with_its_range(capsys):
    # Ratios 2, 4 and 3; medians 6 and 2 seconds.
    benchmark.print_comparison("decoding", [(2.0, 1.0), (8.0, 2.0), (6.0, 2.0)])
    line = capsys.readouterr().out
    assert line.split() == "decoding 6.00 s 2.00 s 3.00 times faster (2.00 to 4.00)".split()


def test_the_two_run_alternately(capsys):
    calls = []
    benchmark.compare("calls", lambda: calls.append("plain"), lambda: calls.append("project"), rounds=3)
    assert calls == ["plain", "project"] * 3


def test_copies_have_the_pixels_asked_for_keep_their_shape_and_leave_out_what_cannot_be_read(tmp_path):
    files = [save_photo(tmp_path / "wide.png", size=(60, 40)), save_photo(tmp_path / "tall.png", size=(20, 80))]
    (tmp_path / "broken.jpg").write_bytes(b"not a photo")
    benchmark.copy_photos([*files, tmp_path / "broken.jpg"], tmp_path / "copies", 9600)
    copies = sorted((tmp_path / "copies").iterdir())
    assert [open_image(copy).size for copy in copies] == [(120, 80), (49, 196)]


@pytest.mark.parametrize("count", [1, 30])
def test_the_annotations_that_it_makes_are_read(tmp_path, count):
    benchmark.write_annotated_photos(count, tmp_path / "annotated")
    labels = parse_dataset(tmp_path / "annotated")["label"].value_counts()
    assert labels.sum() == count
    if count == 30:
        assert dict(labels) == {"FrontLeft": 10, "RearRight": 10, "Background": 10}


def test_a_script_that_fails_is_reported_with_its_last_line(tmp_path):
    (tmp_path / "script.py").write_text("print('first')\nraise SystemExit('the reason')")
    with pytest.raises(UserError, match="a script failed: the reason"):
        benchmark.run_script(tmp_path / "script.py")


def test_a_number_of_rounds_must_be_positive(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--rounds", "0"])
    with pytest.raises(SystemExit):
        benchmark.parse_arguments()
    assert "0 is not a whole number of at least 1" in capsys.readouterr().err
