"""Accuracy, macro F1 and thresholds on hand-worked cases, and as scikit-learn computes them.

McNemar's test on hand-worked cases, and tools/compare.py as a gate before a release.
"""

from dataclasses import replace
from pathlib import Path

import compare as compare_tool
import numpy as np
import pytest
from conftest import save_photo
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score

import config
from viewpoint.common.cli import run
from viewpoint.common.metrics import (
    accuracy_and_macro_f1,
    accuracy_lower_bound,
    answers_needed,
    compare,
    describe_comparison,
    suggest_threshold,
    threshold_effect,
    wilson_interval,
)
from viewpoint.data.provenance import describe_training, hash_photos
from viewpoint.inference.predictor import Result
from viewpoint.reports.summary import describe_effect, describe_suggestion


def test_a_hand_worked_case():
    true = ["Front", "Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Front", "Rear", "Rear", "RearLeft"]
    # Front: precision 2/2, recall 2/3, F1 4/5. Rear: 1/2, 1/2, 1/2. RearLeft has no photos, so it is not measured.
    assert accuracy_and_macro_f1(true, predicted) == (3 / 5, pytest.approx((4 / 5 + 1 / 2) / 2))


def test_all_right_and_all_wrong():
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Front", "Rear"]) == (1, 1)
    assert accuracy_and_macro_f1(["Front", "Rear"], ["Rear", "Front"]) == (0, 0)
    assert accuracy_and_macro_f1(["Front"], ["Front"]) == (1, 1)


@pytest.mark.parametrize("seed", range(20))
def test_random_labels_as_scikit_learn_counts_them(seed):
    random = np.random.default_rng(seed)
    classes = config.CLASSES[: random.integers(1, len(config.CLASSES), endpoint=True)]
    true, predicted = random.choice(classes, (2, random.integers(1, 40))).tolist()
    macro_f1 = f1_score(true, predicted, average="macro", labels=sorted(set(true)), zero_division=0)
    expected = (accuracy_score(true, predicted), macro_f1)
    assert accuracy_and_macro_f1(true, predicted) == pytest.approx(expected, abs=1e-12)


def test_intervals_are_those_of_scipy():
    for right, count in ((0, 1), (10, 10), (44, 47), (1, 3)):
        expected = binomtest(right, count).proportion_ci(method="wilson")
        assert wilson_interval(right, count) == pytest.approx([expected.low, expected.high])
    assert wilson_interval(0, 0) is None


# --- The suggested threshold -------------------------------------------------------


def test_the_bound_of_hand_worked_cases():
    # Without an error: 0.1 ** (1 / n).
    assert accuracy_lower_bound(10, 10, 0.9) == pytest.approx(0.1**0.1)
    assert accuracy_lower_bound(1, 2, 0.9) == pytest.approx(1 - 0.9**0.5)  # 1 - (1 - p) ** 2 = 0.1
    assert accuracy_lower_bound(0, 5, 0.9) == 0
    # The sample sizes of acceptance tests for 98 % with 90 % confidence.
    assert [answers_needed(wrong, 0.98, 0.9) for wrong in range(3)] == [114, 194, 265]


def test_the_lowest_threshold_with_enough_right_answers_is_suggested():
    scores = np.repeat([0.95, 0.85, 0.75, 0.65], [114, 5, 80, 10])
    right = np.repeat([True, False, True, False], [114, 5, 80, 10])
    suggestion = suggest_threshold(scores, right)
    assert suggestion == {
        "photos": 209,
        "threshold": 0.86,
        "answered": pytest.approx(114 / 209),
        "accuracy": 1,
        "lower_bound": pytest.approx(0.1 ** (1 / 114)),
        "missing": 0,
    }
    right[114:118] = True  # one error among 199 answers is few enough
    assert suggest_threshold(scores, right)["threshold"] == 0.66
    assert suggest_threshold(scores[:114], right[:114])["threshold"] == 0


def test_too_few_photos_suggest_nothing_and_say_how_many_are_missing():
    scores, right = np.repeat([0.9, 0.5], [40, 7]), np.repeat([True, False], [40, 7])
    suggestion = suggest_threshold(scores, right)
    assert suggestion["threshold"] is None
    assert suggestion["missing"] == 114 - 40
    assert describe_suggestion(suggestion) == (
        "No threshold for --unknown-below: 47 validation photos cannot show at least 98% accuracy with 90% "
        "confidence; 74 more answers, all right, would be needed"
    )
    assert suggest_threshold(scores, ~right)["missing"] == 114  # above all scores, nothing is wrong


def test_the_effect_of_a_threshold():
    scores, right = np.array([0.9, 0.8, 0.4, 0.3]), np.array([True, False, True, False])
    effect = threshold_effect(scores, right, 0.5)
    assert effect == {"threshold": 0.5, "photos": 4, "answered": 2, "right": 1, "right_without": 2}
    assert describe_effect(effect | {"right": 2}) == (
        "On the test split, the threshold 0.50 leaves an answer for 2 of 4 photos; 2 of these are right, which is "
        "100.0% instead of 50.0% without it"
    )


# --- Comparison --------------------------------------------------------------------


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
    models = photos.parent / "models"
    (models / "saved_model").mkdir(parents=True)
    assert f"{models / 'saved_model'}: accuracy 1.000" in call("good", models, photos)[1]
    (models / "model.tflite").touch()
    assert f"{models / 'model.tflite'}: accuracy 1.000" in call("good", models, photos)[1]
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
