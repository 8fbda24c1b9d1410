"""McNemar's test on hand-worked cases, and tools/compare.py as a gate before a release."""

from dataclasses import replace
from pathlib import Path

import compare as compare_tool
import pytest
from conftest import save_photo

from viewpoint.common.cli import run
from viewpoint.common.metrics import compare, describe_comparison
from viewpoint.data.provenance import describe_training, hash_photos
from viewpoint.inference.predictor import Result


def predictions(right: list[bool]) -> list[str]:
    return ["Rear" if hit else "Front" for hit in right]


@pytest.mark.parametrize(
    ("newly_right", "newly_wrong", "p", "words"),
    [
        (0, 0, 1, "no real difference"),
        (3, 1, 2 * (1 + 4) / 2**4, "no real difference"),
        (0, 5, 2 / 2**5, "no real difference"),
        (0, 6, 2 / 2**6, "significantly worse"),
        (6, 0, 2 / 2**6, "significantly better"),
        (8, 1, 2 * (1 + 9) / 2**9, "significantly better"),
    ],
)
def test_mcnemar_s_exact_test(newly_right, newly_wrong, p, words):
    old = [True] * 4 + [False] * newly_right + [True] * newly_wrong
    new = [True] * 4 + [True] * newly_right + [False] * newly_wrong
    found = compare(["Rear"] * len(old), predictions(old), predictions(new))
    assert found.p == pytest.approx(p)
    assert (found.old_right, found.new_right) == (4 + newly_wrong, 4 + newly_right)
    assert found.newly_right == list(range(4, 4 + newly_right))
    assert found.newly_wrong == list(range(4 + newly_right, len(old)))
    assert words in describe_comparison(found)
    assert found.worse == (words == "significantly worse")


def test_the_sentence():
    found = compare(["Rear"] * 3, ["Rear", "Rear", "Front"], ["Rear", "Front", "Rear"])
    assert describe_comparison(found) == (
        "3 photos, 2 right before and 2 now; 1 newly right, 1 newly wrong: no real difference "
        "(McNemar's exact test, p = 1.000)"
    )


# --- tools/compare.py --------------------------------------------------------------


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """A CSV of ten photos of a car's rear; the model "good" names all of them, "bad" says Front to the first seven."""
    names = [save_photo(tmp_path / f"{index}.png", seed=index).name for index in range(10)]
    (tmp_path / "test.csv").write_text("image_path,label\n" + "".join(f"{name},Rear\n" for name in names))

    class Predictor:
        def __init__(self, model):
            self.model = model.name

        def batch(self, files):
            for file in files:
                wrong = self.model == "bad" and int(file.stem) < 7
                name = "Front" if wrong else "Rear"
                yield Result(name, 1.0, name) if file.is_file() else Result(error="no such file")

    monkeypatch.setattr(compare_tool, "Predictor", Predictor)
    return tmp_path / "test.csv"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the tool as from a shell: (exit code, what it printed, its error message)."""

    def call_with(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["compare.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run(compare_tool.main)
        return exit_info.value.code, *capsys.readouterr()

    return call_with


def test_only_a_significantly_worse_model_fails_the_gate(photos, call):
    code, printed, _ = call("good", "bad", "--images", photos)
    assert code == 1
    assert "good: accuracy 1.000" in printed
    assert "bad: accuracy 0.300" in printed
    assert "newly wrong: 0.png, Rear: Rear before, Front now" in printed
    assert "7 newly wrong: significantly worse (McNemar's exact test, p = 0.016)" in printed
    code, printed, _ = call("bad", "good", "--images", photos)
    assert code == 0
    assert "significantly better" in printed
    assert call("good", "good", "--images", photos)[0] == 0
    for index in range(2):
        (photos.parent / f"{index}.png").unlink()
    code, printed, _ = call("good", "bad", "--images", photos)
    assert code == 0
    assert "2 photos could not be read" in printed
    assert "no real difference" in printed


def test_photos_that_a_model_was_trained_on_are_left_out(photos, call, monkeypatch):
    hashes = hash_photos(photos.parent / f"{index}.png" for index in range(10))
    splits = {"train": hashes[:4], "val": hashes[4:5]}
    data = describe_training([b""], splits, {name: ["Rear"] * len(part) for name, part in splits.items()})
    monkeypatch.setattr(compare_tool, "find_data", lambda model: data if model.name == "good" else None)
    code, printed, _ = call("good", "bad", "--images", photos)
    assert code == 0
    assert "Left out 4 of 10 photos: a model was trained on them" in printed
    assert "6 photos, 6 right before and 3 now" in printed
    everything = replace(data, photos={"train": hashes})
    monkeypatch.setattr(compare_tool, "find_data", lambda _: everything)
    code, _, error = call("good", "bad", "--images", photos)
    assert code == 2
    assert "trained on every one of these photos" in error


def test_photos_without_labels_are_one_sentence(photos, call):
    photos.write_text("image_path\n0.png\n")
    code, _, error = call("good", "bad", "--images", photos)
    assert code == 2
    assert f"{photos} has no labels to compare by" in error
