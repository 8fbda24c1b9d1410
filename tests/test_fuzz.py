"""The fuzzer finds what a reader does not handle, and nothing in ours within a second each."""

import random

import fuzz
import pytest

from common import UserError


@pytest.mark.parametrize(
    ("seeds", "name", "read"),
    [
        (fuzz.annotation_seeds(), "via.json", fuzz.read_annotations),
        (fuzz.photo_seeds(), "photo.jpg", fuzz.read_photo),
    ],
)
def test_damaged_files_are_read_or_refused(tmp_path, seeds, name, read):
    data = tmp_path / "data"
    data.mkdir()
    for seed in seeds:
        (data / name).write_bytes(seed)
        assert read(data / name) == "read"
    outcomes = fuzz.fuzz(name, seeds, data / name, read, 1, tmp_path / "found", random.Random(1))
    assert outcomes["refused"] > 10
    assert outcomes["not handled"] == 0


def test_what_is_not_handled_is_kept_with_its_traceback(tmp_path):
    def read(path):
        if path.read_bytes().startswith(b"a"):
            raise UserError("refused")
        return 1 // len(path.read_bytes().removeprefix(b"b"))

    outcomes = fuzz.fuzz("texts", [b"a", b"b"], tmp_path / "x.txt", read, 0.2, tmp_path / "found", random.Random(1))
    assert outcomes["refused"] > 0
    assert outcomes["not handled"] > 0
    assert "ZeroDivisionError" in (tmp_path / "found" / "texts_000.txt").read_text()
