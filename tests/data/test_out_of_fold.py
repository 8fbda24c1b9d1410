"""out_of_fold.csv: what is written is read again, and rows that no longer fit are not."""

import pytest

import config
from viewpoint.common.cli import UserError
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, read_out_of_fold, write_out_of_fold

VALUES = [0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


CONTENTS = {"a, b.jpg": "hash1", "c.jpg": "hash2"}


@pytest.fixture
def written(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    contents = CONTENTS | {"a gone.jpg": "hash3", "b unreadable.jpg": ""}
    probabilities = {"c.jpg": VALUES, "a, b.jpg": VALUES[::-1], "a gone.jpg": VALUES, "b unreadable.jpg": VALUES}
    write_out_of_fold(probabilities, contents, path)
    return path


def test_photos_that_are_still_the_same_keep_their_probabilities(written):
    found = read_out_of_fold(written, CONTENTS | {"b unreadable.jpg": ""})
    assert list(found) == ["a, b.jpg", "c.jpg"]
    assert found["c.jpg"] == dict(zip(config.CLASSES, VALUES, strict=True))


def test_changed_photos_and_other_classes_are_ignored(written, monkeypatch):
    assert list(read_out_of_fold(written, CONTENTS | {"c.jpg": "another"})) == ["a, b.jpg"]
    monkeypatch.setattr(config, "CLASSES", [*config.CLASSES, "Left", "Right"])
    assert read_out_of_fold(written, CONTENTS) == {}


def test_a_missing_or_damaged_file_has_no_probabilities(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    assert read_out_of_fold(path, CONTENTS) == {}
    path.write_bytes(b"\xff\x00")
    assert read_out_of_fold(path, CONTENTS) == {}
    path.write_text("")
    assert read_out_of_fold(path, CONTENTS) == {}


def test_a_number_that_is_none_or_a_cut_row_makes_the_file_damaged(written):
    text = written.read_text()
    for damaged in (text.replace("0.400000", "much"), text[:-20]):
        written.write_text(damaged)
        assert read_out_of_fold(written, CONTENTS) == {}


def test_another_file_of_that_name_is_not_overwritten(tmp_path):
    path = tmp_path / OUT_OF_FOLD_NAME
    path.write_text("photo;score\n")
    with pytest.raises(UserError, match="was not written by this project"):
        write_out_of_fold({}, {}, path)
