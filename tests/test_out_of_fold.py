"""out_of_fold.csv: what is written is read again, and rows that no longer fit are not."""

import pytest

import config
from viewpoint.cli import UserError
from viewpoint.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold, write_out_of_fold

VALUES = [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


@pytest.fixture
def written(tmp_path):
    for name in ("a, b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(name.encode())
    path = tmp_path / OUT_OF_FOLD_NAME
    write_out_of_fold({"c.jpg": VALUES, "a, b.jpg": VALUES[::-1], "gone.jpg": VALUES}, tmp_path, path)
    return path


def test_photos_that_are_still_the_same_keep_their_probabilities(written):
    found = read_out_of_fold(written, written.parent)
    assert list(found) == ["a, b.jpg", "c.jpg"]
    assert found["c.jpg"] == dict(zip(config.CLASSES, VALUES, strict=True))


def test_changed_photos_and_other_classes_are_ignored(written, monkeypatch):
    (written.parent / "c.jpg").write_bytes(b"another photo")
    assert list(read_out_of_fold(written, written.parent)) == ["a, b.jpg"]
    monkeypatch.setattr(config, "CLASSES", [*config.CLASSES, "Left", "Right"])
    assert read_out_of_fold(written, written.parent) == {}


def test_a_missing_or_damaged_file_has_no_probabilities(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    assert read_out_of_fold(path, tmp_path) == {}
    path.write_bytes(b"\xff\x00")
    assert read_out_of_fold(path, tmp_path) == {}
    path.write_text("")
    assert read_out_of_fold(path, tmp_path) == {}


def test_a_number_that_is_none_or_a_cut_row_makes_the_file_damaged(written):
    text = written.read_text()
    for damaged in (text.replace("0.400000", "much"), text[:-20]):
        written.write_text(damaged)
        assert read_out_of_fold(written, written.parent) == {}


def test_another_file_of_that_name_is_not_overwritten(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    path.write_text("photo;score\n")
    with pytest.raises(UserError, match="was not written by this project"):
        write_out_of_fold({}, tmp_path, path)
