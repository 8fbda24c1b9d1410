"""The whole road, as a user walks it: four scripts in a shell, on tiny drawn data."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PROJECT = Path(__file__).parents[1]
TESTS = Path(__file__).parent


def run_script(name: str, *arguments, folder: Path = PROJECT) -> str:
    command = [sys.executable, folder / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("train", "folder"),
    [("tiny_train.py", TESTS), pytest.param("train.py", PROJECT, marks=pytest.mark.stress)],
    ids=["tiny backbone", "MobileNetV2"],
)
def test_four_scripts_in_order(demo_photos, tmp_path, train, folder):
    dataset, models, predictions = tmp_path / "dataset", tmp_path / "models", tmp_path / "predictions.csv"

    prepared = run_script("data_preparation.py", "--data", demo_photos, "--output", dataset)
    assert f"Next: python train.py --dataset {dataset}" in prepared

    road = ["--dataset", dataset, "--models", models]
    small = ["--weights", "none", "--image-size", "32", "--phase2-epochs", "2"]
    trained = run_script(train, *road, *small, folder=folder)
    assert "Confusion matrix" in trained
    report = json.loads((models / "report" / "metrics.json").read_text())
    assert f"accuracy {report['test']['accuracy']:.3f}, macro F1 {report['test']['macro_f1']:.3f}" in trained

    # Two epochs leave the model unsure of every photo, so no agreement is asked for here.
    assert "Wrote" in run_script("convert_tflite.py", *road, "--min-agreement", "0")

    reported = pd.read_csv(models / "report" / "test_predictions.csv")
    test_csv = dataset / "test.csv"
    for model, tolerance in ((models / "model.tflite", 0.02), (models / "saved_model", 1e-4)):
        run_script("test_predict.py", "--model", model, "--images", test_csv, "--output", predictions)
        predicted = pd.read_csv(predictions)
        assert predicted["image_name"].tolist() == reported["image_name"].tolist()
        assert predicted["score"].tolist() == pytest.approx(reported["score"].tolist(), abs=tolerance)
    assert predicted["prediction"].tolist() == reported["prediction"].tolist()
