"""The CSV files: read back with their photos, and never written over a file of the user's."""

from pathlib import Path

import pytest

from viewpoint.common.cli import UserError
from viewpoint.data.dataset import read_rows, read_split, refuse_to_overwrite


def test_read_split_finds_the_photos_again_and_checks_labels(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "summary.json").write_text('{"data_dir": "../photos"}')
    csv_path = tmp_path / "dataset" / "val.csv"
    csv_path.write_text("image_path,label\na/b.jpg,Rear\n")
    assert Path(read_split(csv_path)["file"][0]).resolve() == tmp_path / "photos" / "a" / "b.jpg"
    assert read_split(csv_path, "/elsewhere")["file"].tolist() == ["/elsewhere/a/b.jpg"]
    csv_path.write_text("image_path,label\na/b.jpg,Reer\n")
    with pytest.raises(UserError, match="unknown class 'Reer'"):
        read_split(csv_path)
    with pytest.raises(UserError, match=r"run data_preparation\.py first"):
        read_split(tmp_path / "dataset" / "nothing.csv")


def test_a_row_with_a_cell_too_few_is_a_sentence_with_its_line(tmp_path):
    (tmp_path / "val.csv").write_text("image_path,label\na.jpg,Rear\nb.jpg\n")
    with pytest.raises(UserError, match=r"line 3 of .*val\.csv does not have one cell for each of the columns"):
        read_rows(tmp_path / "val.csv")


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("train.csv", "image_path,label,front_votes\n", "name,price\n"),
        ("summary.json", '{"data_dir": ".", "annotation_files": 1}', '{"car.jpg1": {"filename": "car.jpg"}}'),
        ("review.html", "<!DOCTYPE html>\n", "my notes"),
    ],
)
def test_a_file_of_the_users_is_never_overwritten(tmp_path, name, own, other):
    (tmp_path / name).write_text(own)
    refuse_to_overwrite(tmp_path)
    (tmp_path / name).write_text(other)
    with pytest.raises(UserError, match="was not written by this project"):
        refuse_to_overwrite(tmp_path)
