"""The report's figures on hand-worked cases, and that all of it is written."""

import json

import numpy as np
import pandas as pd
import pytest

import config
from reports import training as report


def test_metrics_of_a_hand_worked_case():
    true = ["Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Rear", "Rear", "Rear"]
    metrics = report.compute_metrics(true, predicted)
    # Front: precision 1, recall 1/2, F1 2/3. Rear: precision 2/3, recall 1, F1 4/5.
    assert metrics["accuracy"] == 0.75
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    matrix = np.array(metrics["confusion_matrix"])
    assert matrix.shape == (7, 7)
    assert matrix[0, 0] == 1  # a true Front predicted as Front
    assert matrix[0, 3] == 1  # a true Front predicted as Rear
    assert matrix[3, 3] == 2


def test_calibration_error_of_a_hand_worked_case():
    scores, right = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55]), np.array([1, 1, 1, 0, 0, 1], bool)
    table = report.reliability(scores, right, bins=10)
    assert table["images"].tolist() == [2, 4]
    assert table["accuracy"].tolist() == [0.5, 0.75]
    # (4 * |0.95 - 0.75| + 2 * |0.55 - 0.5|) / 6
    assert report.expected_calibration_error(scores, right, bins=10) == pytest.approx(0.15)
    assert report.expected_calibration_error(np.ones(3), np.ones(3)) == 0


def test_scaling_logits_by_two_squares_the_ratios_of_probabilities():
    scaled = report.scale_logits(np.array([[0.6, 0.3, 0.1]]), 2)
    assert scaled[0] == pytest.approx([0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46])


def test_the_report_is_written_in_full(tmp_path):
    labels = (config.CLASSES * 2)[:10]
    split = pd.DataFrame({"image_path": [f"{index}.jpg" for index in range(10)], "label": labels})
    probabilities = np.eye(7, dtype=np.float32)[[config.CLASSES.index(label) for label in labels]]
    log = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}
    history = [{"phase": 1, "epoch": 1, **log, "kept": False}, {"phase": 2, "epoch": 1, **log, "kept": True}]
    # 0.9 and six times 1/60: a temperature of 0.5 had squared ratios of 9 ** 0.5 * 6 ** 0.5.
    probabilities = probabilities * (0.9 - 1 / 60) + np.float32(1 / 60)
    robustness = {"clean": 1.0, "blur": 0.5}
    report.write_report(split, probabilities, history, {"temperature": 0.5}, tmp_path, robustness)
    test = json.loads((tmp_path / "metrics.json").read_text())["test"]
    assert test["accuracy"] == 1
    assert test["classes"] == config.CLASSES
    assert test["calibration_error"] == pytest.approx(0.1)
    before = 54**0.5 / (54**0.5 + 6)
    assert test["calibration_error_before"] == pytest.approx(1 - before)
    assert test["robustness"] == robustness
    rows = pd.read_csv(tmp_path / "test_predictions.csv")
    assert rows["prediction"].tolist() == labels
    for picture in ("confusion_matrix", "learning_curves", "reliability", "robustness"):
        assert (tmp_path / f"{picture}.png").stat().st_size > 1000
