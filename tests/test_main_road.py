"""The whole road, as a user walks it: four scripts in a shell, on tiny drawn data.

Two more classes by two lines of config.py: pure side views, from the labels to the hand-off.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny_train
from conftest import regions, save_photo, write_via

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


# --- Two more classes --------------------------------------------------------------


PARTS = {
    "Front": ["bonnet", "frontbumper"],
    "FrontLeft": ["bonnet", "leftheadlamp"],
    "FrontRight": ["bonnet", "rightheadlamp"],
    "Rear": ["tailgate", "rearbumper"],
    "RearLeft": ["tailgate", "lefttaillamp"],
    "RearRight": ["tailgate", "righttaillamp"],
    "Left": ["leftfrontdoor", "leftreardoor"],
    "Right": ["rightheadlamp", "righttaillamp", "rightfrontdoor"],
    "Background": [],
}


# The four scripts in one process, because each takes seconds to start; the backbone is a tiny one.
ROAD = """
import sys
import convert_tflite, data_preparation, test_predict, tiny_train, train
from viewpoint.training import network

network.build_backbone = tiny_train.build_backbone
for line in COMMANDS.splitlines():
    script, *options = line.split()
    sys.argv = [script + ".py", *options]
    assert not globals()[script].main(), line
"""

COMMANDS = """\
data_preparation --val-share 0.2 --test-share 0.2 --review
train --weights none --image-size 32 --phase2-epochs 1
convert_tflite --min-agreement 0
test_predict --images dataset --per-folder --tta
"""


@pytest.mark.stress
def test_left_and_right_in_config_are_all_it_takes(tmp_path):
    """A copy of the project with "Left" and "Right" in CLASSES and MIRRORED_CLASS, and the four scripts."""
    copy = tmp_path / "project"
    names = ["config.py", "data_preparation.py", "train.py", "convert_tflite.py", "test_predict.py"]
    for name in names:
        copy.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, copy / name)
    without_downloads = shutil.ignore_patterns("node_modules", "runtime")
    shutil.copytree(PROJECT / "viewpoint", copy / "viewpoint", ignore=without_downloads)
    shutil.copytree(PROJECT / "tools", copy / "tools")
    settings = (copy / "config.py").read_text(encoding="utf-8")
    settings = settings.replace('"RearRight", "Background"]', '"RearRight", "Left", "Right", "Background"]', 1)
    settings = settings.replace(
        '"Background": "Background",', '"Background": "Background", "Left": "Right", "Right": "Left",'
    )
    (copy / "config.py").write_text(settings, encoding="utf-8")

    annotated = {}
    for number, (label, parts) in enumerate(PARTS.items()):
        for index in range(5):
            name = f"{label}_{index}.jpg"
            save_photo(copy / "dataset" / label / name, seed=10 * number + index)
            annotated.setdefault(label, {})[name] = regions(*parts)
    for label, photos in annotated.items():
        write_via(copy / "dataset" / label / "via.json", photos)

    shutil.copy(tiny_train.__file__, copy / "tiny_train.py")
    (copy / "road.py").write_text(ROAD.replace("COMMANDS", repr(COMMANDS)))
    done = subprocess.run([sys.executable, "road.py"], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    splits = pd.concat(pd.read_csv(copy / "dataset" / f"{name}.csv") for name in ("train", "val", "test"))
    assert all(row.image_path.startswith(f"{row.label}/") for row in splits.itertuples())
    assert set(splits["label"]) == set(PARTS)

    classes = ["Front", "FrontLeft", "FrontRight", "Rear", "RearLeft", "RearRight", "Left", "Right", "Background"]
    assert json.loads((copy / "models" / "report" / "metrics.json").read_text())["test"]["classes"] == classes

    assert (copy / "models" / "labels.txt").read_text().split() == classes
    assert "(1, 9)" in (copy / "models" / "handoff" / "README.md").read_text()
    for name in ("Left", "Right"):
        assert f"![{name}](examples/{name}.jpg)" in (copy / "models" / "handoff" / "MODEL_CARD.md").read_text()

    assert "45 photos found: 45 predicted, 0 failed" in done.stdout
    assert "show all 8 viewpoints" in done.stdout
    per_folder = pd.read_csv(copy / "predictions_per_folder.csv")
    assert {"Left", "Left_score", "Right", "Right_score"} <= set(per_folder)
