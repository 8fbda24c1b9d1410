"""Training on several devices, and in mixed precision."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tiny_train
from conftest import save_photo

import config
import train

# Logical devices have to be made before TensorFlow computes anything, so this needs a process of its own.
ON_TWO_DEVICES = """
import tensorflow as tf
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tiny_train, train
from viewpoint.training import network
network.build_backbone = tiny_train.build_backbone
train.main()
"""
SHORT = ["--image-size", "32", "--phase1-epochs", "2", "--phase2-epochs", "3", "--batch-size", "4", "--no-cache"]


@pytest.fixture
def dataset(tmp_path) -> Path:
    """Three splits of the same ten photos, and a weights file of the tiny backbone."""
    files = [str(save_photo(tmp_path / f"{index}.png", seed=index)) for index in range(10)]
    split = pd.DataFrame({"image_path": files, "label": (config.CLASSES * 2)[:10]})
    for name in ("train", "val", "test"):
        split.to_csv(tmp_path / f"{name}.csv", index=False)
    keras.utils.set_random_seed(5)
    tiny_train.build_backbone("", None).save_weights(tmp_path / "backbone.weights.h5")
    return tmp_path


def options(dataset: Path, models: str, *more: str) -> list[str]:
    """Those of a short training without dropout, whose random numbers would differ from device to device."""
    files = {"--dataset": dataset, "--models": dataset / models, "--weights": dataset / "backbone.weights.h5"}
    without = ["--backbone-dropout", "0", "--head-dropout", "0"]
    return [*SHORT, *without, *(str(value) for pair in files.items() for value in pair), *more]


def trained_weights(dataset: Path, models: str) -> list[np.ndarray]:
    return keras.models.load_model(dataset / models / "model.keras").get_weights()


def losses(dataset: Path, models: str) -> list[float]:
    """The loss of every epoch of both phases."""
    content = json.loads((dataset / models / "report" / "metrics.json").read_text(encoding="utf-8"))
    return [epoch["loss"] for epoch in content["history"]]


@pytest.fixture
def on_one_device(dataset, monkeypatch) -> list[np.ndarray]:
    """The weights after a training in float32 on one device."""
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    monkeypatch.setattr("sys.argv", ["train.py", *options(dataset, "one")])
    train.main()
    return trained_weights(dataset, "one")


def farthest(weights: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(weights, others, strict=True))


def test_two_devices_train_the_same_model_as_one(dataset, on_one_device):
    """Each batch of 4, 4 and 2 photos is cut in halves, whose gradients add up to those of the whole."""
    folders = [Path(__file__).parents[1], Path(__file__).parents[2]]
    command = [sys.executable, "-c", ON_TWO_DEVICES, *options(dataset, "two", "--devices", "all")]
    environment = {"PYTHONPATH": ":".join(map(str, folders)), "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "Computing on 2 devices" in result.stdout
    assert farthest(trained_weights(dataset, "two"), on_one_device) < 1e-5
    assert losses(dataset, "two") == pytest.approx(losses(dataset, "one"), abs=1e-5)


def test_mixed_precision_trains_nearly_the_same_model_and_saves_it_in_float32(dataset, on_one_device, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", *options(dataset, "mixed", "--mixed-precision")])
    try:
        train.main()
    finally:
        keras.config.set_dtype_policy("float32")
    model = keras.models.load_model(dataset / "mixed" / "model.keras")
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert 0 < farthest(model.get_weights(), on_one_device) < 2e-3
