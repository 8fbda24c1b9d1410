"""Figures of classes, folders and clear labels, on hand-worked cases."""

import pandas as pd
import pytest

import config
from viewpoint.common.metrics import wilson_interval
from viewpoint.training.figures import class_figures, class_table, clearness, folder_figures, label_figures


def test_figures_of_classes_and_what_was_not_measured():
    true = ["Front", "Front", "Rear"]
    predicted = ["Front", "RearLeft", "Rear"]
    figures = class_figures(true, predicted)
    assert list(figures) == config.CLASSES
    front = figures["Front"]
    assert (front["precision"], front["recall"], front["support"]) == (1, 0.5, 2)
    assert front["f1-score"] == pytest.approx(2 / 3)
    assert front["recall_interval_95"] == wilson_interval(1, 2)
    assert front["precision_interval_95"] == wilson_interval(1, 1)
    # A guess, but no photo: precision is measured, recall is not.
    assert figures["RearLeft"]["precision"] == 0
    assert figures["RearLeft"]["recall"] is figures["RearLeft"]["f1-score"] is None
    assert figures["RearRight"]["precision"] is figures["RearRight"]["precision_interval_95"] is None
    lines = class_table(figures).splitlines()
    assert lines[1].split() == ["Front", "1.000", "(0.21", "to", "1.00)", "0.500", "(0.09", "to", "0.91)", "0.667", "2"]
    assert lines[5].split()[:3] == ["RearLeft", "not", "measured"]


def test_the_worst_folder_comes_first():
    rows = folder_figures(["a/1.jpg", "a/2.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg", "top.jpg"], [1, 0, 1, 0, 0, 1])
    assert [(row["name"], row["right"], row["photos"]) for row in rows] == [
        ("c", 0, 2),
        ("a", 1, 2),
        (".", 1, 1),
        ("b", 1, 1),
    ]
    assert rows[1]["accuracy_interval_95"] == wilson_interval(1, 2)


@pytest.mark.parametrize(
    ("label", "votes", "expected"),
    [
        ("FrontLeft", (4, 0, 2, 0), "clear"),
        ("FrontLeft", (2, 0, 2, 1), "ambiguous"),
        ("FrontLeft", (2, 1, 3, 0), "ambiguous"),
        ("Front", (3, 0, 2, 2), "straight"),
        ("Front", (1, 1, 2, 2), "ambiguous"),
        ("Background", (1, 0, 0, 0), "Background"),
    ],
)
def test_a_label_is_clear_when_both_axes_have_a_margin_of_two_votes(label, votes, expected):
    assert clearness(label, *votes) == expected


def test_figures_of_clear_and_ambiguous_labels():
    columns = ["label", "front_votes", "rear_votes", "left_votes", "right_votes"]
    rows = [("FrontLeft", "4", "0", "2", "0"), ("FrontLeft", "4", "0", "2", "1"), ("RearLeft", "0", "3", "2", "0")]
    test = pd.DataFrame(rows, columns=columns)
    figures = label_figures(test, [True, False, True])
    assert [(row["name"], row["right"], row["photos"]) for row in figures] == [("clear", 2, 2), ("ambiguous", 0, 1)]
    assert label_figures(test.drop(columns="left_votes"), [True, False, True]) == []
    assert label_figures(test.assign(left_votes=""), [True, False, True]) == []
