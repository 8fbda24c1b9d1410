"""Training and prediction killed at random moments end as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from data_preparation import SPLITS, create_stratified_splits, parse_dataset

PROJECT = Path(__file__).parents[1]

# train.py with a backbone of one convolution in the place of MobileNetV2, which takes long to build.
TRAIN = f"""
import sys
sys.path.insert(0, {str(PROJECT)!r})
import keras, network

def build(name, weights):
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, kernel_initializer="he_normal", name="conv")(inputs)
    return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(x)))

network.build_backbone = build
import train
from common import run
if __name__ == "__main__":
    run(train.main)
"""

OPTIONS = {
    "default": "--phase1-epochs 4 --phase2-epochs 5 --phase1-views 2",
    # Little patience: early stopping must stop where it would have, and go back to the same epoch.
    "reference": "--recipe reference --phase1-epochs 6 --phase2-epochs 9 --early-stopping-patience 2 --lr-patience 1 "
    "--phase1-learning-rate 0.1",
}


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.is_file() else 0


def kill_after(command: list, log: Path, lines: int, delay: float) -> bool:
    """Start a command, and kill it `delay` seconds after a file has so many lines; False if it was done before."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and lines_of(log) < lines:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def training(demo_photos, tmp_path_factory) -> tuple[Path, Path]:
    """A folder of splits with a weights file for the tiny backbone, and the script."""
    folder = tmp_path_factory.mktemp("training")
    parts = create_stratified_splits(parse_dataset(demo_photos))
    for name, part in zip(SPLITS, parts, strict=True):
        part.to_csv(folder / f"{name}.csv", index=False)
    (folder / "tiny_train.py").write_text(TRAIN)
    code = f"exec(open({str(folder / 'tiny_train.py')!r}).read().split('import train')[0]); "
    code += f"build(0, 0).save_weights({str(folder / 'tiny.weights.h5')!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return folder, folder / "tiny_train.py"


@pytest.mark.parametrize("recipe", OPTIONS)
def test_a_training_killed_twice_ends_with_the_same_weights(training, demo_photos, tmp_path, recipe):
    folder, script = training
    command = [sys.executable, script, "--dataset", folder, "--data", demo_photos, "--image-size", 32]
    command += ["--weights", folder / "tiny.weights.h5", *OPTIONS[recipe].split(), "--robustness-images", 2, "--quiet"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = subprocess.run([*map(str, command), "--models", str(whole)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    history = json.loads((whole / "report" / "metrics.json").read_text())["history"]
    log = killed / "report" / "log.jsonl"
    chance = random.Random(recipe)
    moments = sorted(chance.sample(range(1, len(history) - 1), 2))
    for moment, resume in zip(moments, ([], ["--resume"]), strict=True):
        assert kill_after([*command, "--models", killed, *resume], log, moment, chance.uniform(0, 0.05))
        assert not (killed / "model.keras").exists()
    done = subprocess.run(
        [*map(str, command), "--models", str(killed), "--resume"], check=True, capture_output=True, text=True
    )
    assert "Going on after phase" in done.stdout
    resumed = json.loads((killed / "report" / "metrics.json").read_text())["history"]
    timeless = [[{k: v for k, v in row.items() if "seconds" not in k} for row in rows] for rows in (history, resumed)]
    assert timeless[1] == timeless[0]
    assert lines_of(log) == len(history)
    weights = [keras.models.load_model(models / "model.keras").get_weights() for models in (whole, killed)]
    for one, other in zip(*weights, strict=True):
        assert np.array_equal(one, other)
    assert not list(killed.glob("checkpoint*"))
