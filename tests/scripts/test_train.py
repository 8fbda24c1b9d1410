"""Training: which phase is kept, what the recipes do, what is written, what stops it.

Training on several devices, and in mixed precision.
"""

import json
import shutil
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
from viewpoint.common.cli import UserError
from viewpoint.data.provenance import read_data
from viewpoint.training.augmentation import CORRUPTIONS
from viewpoint.training.batches import DecodedPhotos, ImageBatches, TrainingBatches, load_photos, one_hot
from viewpoint.training.checkpoint import State
from viewpoint.training.drift import read_reference
from viewpoint.training.history import read_history
from viewpoint.training.network import build_model, feature_extractor, head_of
from viewpoint.training.optimization import make_callbacks, make_optimizer
from viewpoint.training.settings import Settings


@pytest.fixture
def split(tmp_path) -> pd.DataFrame:
    """Ten photos, each of its own colours, of all classes."""
    files = [str(save_photo(tmp_path / f"{index}.png", seed=index)) for index in range(10)]
    return pd.DataFrame({"image_path": files, "file": files, "label": (config.CLASSES * 2)[:10]})


@pytest.fixture
def tiny_backbone(monkeypatch) -> None:
    """A backbone of one convolution and one BatchNorm in the place of every real one."""
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)


# --- Training ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase2", "phase_kept"),
    [([(0.5, 1.0), (0.7, 1.0)], 1), ([(0.8, 1.0)], 1), ([(0.8, 0.9)], 2), ([(0.6, 1.0), (0.9, 1.0)], 2)],
)
def test_the_better_phase_is_kept(split, tiny_backbone, monkeypatch, phase2, phase_kept):
    """Phase 1's best epoch has accuracy 0.8 and loss 1; phase 2 must beat that."""
    model, backbone = build_model(image_size=32)
    last = model.get_layer("probabilities")

    def scripted_phase(phase, *_):
        last.set_weights([np.full_like(weight, phase) for weight in last.get_weights()])
        results = [(0.3, 1.0), (0.8, 1.0)] if phase == 1 else phase2
        best = max(range(len(results)), key=lambda index: results[index][0])
        return [
            {"phase": phase, "epoch": i + 1, "val_accuracy": accuracy, "val_loss": loss, "kept": i == best}
            for i, (accuracy, loss) in enumerate(results)
        ]

    monkeypatch.setattr(train, "train_phase", scripted_phase)
    settings = Settings("reference", image_size=32)
    images = DecodedPhotos(split["file"], 32)
    history = train.train(model, backbone, {"train": split, "val": split}, images, settings, State({}))
    assert last.get_weights()[1][0] == phase_kept
    [kept] = [log for log in history if log["kept"]]
    assert kept["phase"] == phase_kept
    assert [log["phase"] for log in history] == [1, 1] + [2] * len(phase2)


def test_phase_1_on_features_equals_phase_1_on_images(split, tiny_backbone):
    """Without random changes and dropout both ways take the same steps."""
    weights = []
    for views in (0, 1):
        keras.utils.set_random_seed(3)
        model, backbone = build_model(image_size=32, backbone_dropout=0, head_dropout=0)
        settings = Settings("reference", phase1_views=views, image_size=32, phase1_epochs=1)
        images, targets = DecodedPhotos(split["file"], 32), one_hot(split["label"])
        batches = TrainingBatches(images, targets, settings.batch_size, 32, settings.seed)
        untrained = model.get_weights()
        extractor, head = feature_extractor(model, backbone, fold=bool(views)), head_of(model)
        train.train_phase(1, extractor, head, batches, ImageBatches(images, targets, 32), settings, State({}))
        weights.append(model.get_weights())
    assert max(np.abs(after - before).max() for after, before in zip(weights[0], untrained, strict=True)) > 5e-4
    for on_images, on_features in zip(*weights, strict=True):
        assert on_features == pytest.approx(on_images, abs=1e-5)


@pytest.mark.parametrize(("momentum", "steps_kept"), [(1, 5.400), (0.3, 5.575), (0, 6)])
def test_averaged_weights_are_kept_at_the_end_of_phase_2(split, tiny_backbone, momentum, steps_kept):
    """The average covers more and more steps, but never more than `ema` allows.

    With one class only, each step of Adam moves its bias by nearly the learning rate, so after six steps it is
    at 1, 2, ... 6 learning rates. Step 1 starts the average, and step n + 1 keeps (1 + n) / (10 + n) of it:
    2/11 * 1 + 9/11 * 2 = 1.818, 3/12 * 1.818 + 9/12 * 3 = 2.705, 3.601, 4.501, 6/15 * 4.501 + 9/15 * 6 = 5.400.
    With at most 0.3: 1.818, 2.705, 0.3 * 2.705 + 0.7 * 4 = 3.611, 4.583, 5.575.
    """
    model, backbone = build_model(image_size=32)
    settings = Settings(schedule="plateau", phase2_learning_rate=1e-3, phase2_epochs=3, ema=momentum)
    images, targets = DecodedPhotos(split["file"], 32), one_hot(["Rear"] * len(split))
    batches = TrainingBatches(images, targets, batch_size=5, size=32, seed=0)
    extractor, head = feature_extractor(model, backbone, fold=True), head_of(model)
    logs = train.train_phase(2, extractor, head, batches, ImageBatches(images, targets, 32), settings, State({}))
    assert [log["kept"] for log in logs] == [False, False, True]
    moved = np.abs(model.get_layer("probabilities").get_weights()[1]).max()
    assert moved == pytest.approx(steps_kept * 1e-3, rel=0.02)


@pytest.mark.parametrize(
    ("image_size", "scale", "size"), [(224, 6 / 7, 192), (224, 1, 224), (100, 1, 100), (32, 6 / 7, 32)]
)
def test_training_images_are_smaller_but_of_a_size_that_halves_five_times(image_size, scale, size):
    assert train.training_size(image_size, scale) == size


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_a_training_from_a_weights_file(split, tiny_backbone, tmp_path, monkeypatch, capsys, recipe):
    """Both phases of each recipe, from weights to report; the BatchNorm of the file stays."""
    _, backbone = build_model(image_size=32)
    backbone.get_layer("norm").set_weights([np.full(6, value, np.float32) for value in (1, 2, 3, 4)])
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    for name in ("train", "val", "test"):
        split.to_csv(tmp_path / f"{name}.csv", index=False)
    options = ["--recipe", recipe, "--phase1-epochs", "1", "--image-size", "32"]
    options += ["--phase2-epochs", "1"] if recipe == "reference" else []
    monkeypatch.setattr(config, "PHASE2_EPOCHS", 0.25)  # a quarter, times the cube root of 1000 / 10, is 1.2
    folders = ["--dataset", tmp_path, "--models", tmp_path / "models", "--weights", tmp_path / "backbone.weights.h5"]
    monkeypatch.setattr("sys.argv", ["train.py", *options, *map(str, folders)])
    train.main()
    model = keras.models.load_model(tmp_path / "models" / "model.keras")
    norm = model.get_layer(index=1).get_layer("norm")
    assert [weight[0] for weight in norm.get_weights()] == [1, 2, 3, 4]
    content = json.loads((tmp_path / "models" / "report" / "metrics.json").read_text())
    assert [log["phase"] for log in content["history"]] == [1, 2]
    assert set(content["test"]["robustness"]) == {"clean", *CORRUPTIONS}
    assert (content["settings"]["temperature"] is None) == (recipe == "reference")
    assert (tmp_path / "models" / "report" / "index.html").is_file()
    [run] = read_history(tmp_path / "models")
    data = read_data(tmp_path / "models")
    assert run["training"] == content["training"] == data.training
    assert data.splits["train"].photos == len(data.photos["train"]) == 10
    recorded = read_reference(tmp_path / "models", data.training)
    assert len(recorded) == len(recorded.files) == len(recorded.features) == 20  # of validation and test
    printed = capsys.readouterr().out
    assert f"Next: python convert_tflite.py --models {tmp_path}/models --dataset {tmp_path}" in printed
    said = "Phase 2: 1 epoch for 10 photos; --phase2-epochs sets another number"
    assert (said in printed) == (recipe == "default")


def test_the_reference_recipe_has_the_callbacks_it_always_had():
    settings = Settings("reference")
    _, stopping, plateau = make_callbacks(2, settings)
    assert (stopping.monitor, stopping.patience, stopping.restore_best_weights) == ("val_accuracy", 7, True)
    assert (plateau.monitor, plateau.factor, plateau.patience, plateau.min_lr) == ("val_loss", 0.5, 3, 1e-7)
    for phase, rate in ((1, 1e-3), (2, 1e-4)):
        assert float(make_optimizer(phase, 100, settings).learning_rate) == pytest.approx(rate)


def test_a_line_for_each_epoch_and_no_progress_bar_without_a_terminal(split, tiny_backbone, tmp_path, capsys):
    options = {"image_size": 32, "phase1_views": 1, "phase1_epochs": 2, "phase2_epochs": 1, "augment": False}
    for quiet in (True, False):
        folder = {"cache": False, "models": tmp_path / "models"}
        settings = Settings(**options, **folder, quiet=quiet)
        model, backbone = build_model(image_size=32)
        train.train(
            model, backbone, {"train": split, "val": split}, DecodedPhotos(split["file"], 32), settings, State({})
        )
        printed = capsys.readouterr()
        lines = [line.partition(":")[0] for line in printed.out.splitlines() if "val_accuracy" in line]
        assert lines == ["Epoch 1 of 2", "Epoch 2 of 2", "Epoch 1 of 1"]
        assert "\r" not in printed.out + printed.err
        assert "Phase 2: backbone and head\n" in printed.out
        steps = [line.partition(",")[0] for line in printed.err.splitlines()]
        assert steps == ([] if quiet else ["Computing features: 1 step"] * 2)
    log = tmp_path / "models" / "report" / "log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["phase"], line["epoch"]) for line in lines] == [(1, 1), (1, 2), (2, 1)]
    assert set(lines[0]) == {
        "phase",
        "epoch",
        "seconds",
        "learning_rate",
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
    }


def test_the_default_schedule_rises_and_falls_to_zero():
    optimizer = make_optimizer(2, 100, Settings(phase2_learning_rate=0.01, warmup_share=0.1))
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
    # Half-way up, at the top, half-way down the cosine, and at its end.
    assert rates == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-6)


def test_a_loss_that_is_no_number_is_one_sentence(split, tiny_backbone, tmp_path):
    rate = {"phase1_views": 1, "phase1_learning_rate": 1e30}
    settings = Settings(**rate, image_size=32, augment=False, cache=False, models=tmp_path)
    model, backbone = build_model(image_size=32)
    with pytest.raises(UserError, match="the loss of phase 1 became NaN or infinite; lower --phase1-learning-rate"):
        train.train(
            model, backbone, {"train": split, "val": split}, DecodedPhotos(split["file"], 32), settings, State({})
        )


def test_a_photo_that_vanishes_midway_is_one_sentence(split, tiny_backbone, tmp_path):
    epochs = {"phase1_epochs": 0, "phase2_epochs": 2}
    settings = Settings(**epochs, image_size=32, augment=False, cache=False, models=tmp_path)
    model, backbone = build_model(image_size=32)
    Path(split["file"].iloc[3]).unlink()
    with pytest.raises(UserError, match=r"cannot read .*3\.png: no such file"):
        train.train(
            model, backbone, {"train": split, "val": split}, DecodedPhotos(split["file"][:3], 32), settings, State({})
        )


def test_a_second_training_in_one_models_folder_is_refused_and_the_first_goes_on(tmp_path, monkeypatch):
    trained = []

    def train_meanwhile(settings):
        trained.append(settings.models)
        with pytest.raises(
            UserError, match=r"models is in use by process \d+ on .*; wait .* another one with --models"
        ):
            train.main()

    monkeypatch.setattr("sys.argv", ["train.py", "--models", str(tmp_path / "models")])
    monkeypatch.setattr(train, "train_and_report", train_meanwhile)
    for _ in range(2):  # one after the other
        train.main()
    assert trained == [tmp_path / "models"] * 2


def test_a_training_whose_cache_is_deleted_meanwhile_ends_as_if_it_was_not(split, tiny_backbone, tmp_path, monkeypatch):
    make_batches, weights = train.make_batches, []
    for delete in (False, True):

        def make_and_delete(*arguments, delete=delete):
            batches = make_batches(*arguments)
            assert list((tmp_path / "cache").iterdir())
            if delete:
                shutil.rmtree(tmp_path / "cache")
            return batches

        monkeypatch.setattr(train, "make_batches", make_and_delete)
        keras.utils.set_random_seed(3)
        model, backbone = build_model(image_size=32)
        settings = Settings(phase1_epochs=0, phase2_epochs=2, image_size=32, dataset=tmp_path, models=tmp_path)
        val_images = load_photos("val", split["file"], 32, tmp_path / "cache")
        train.train(model, backbone, {"train": split, "val": split}, val_images, settings, State({}))
        weights.append(model.get_weights())
    for with_cache, without in zip(*weights, strict=True):
        assert without == pytest.approx(with_cache, abs=1e-6)


def test_missing_photos_are_one_sentence(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text("image_path,label\ngone.jpg,Rear\n")
    with pytest.raises(UserError, match=r"1 of 1 photos of .*train.csv are missing.*give their folder with --data"):
        train.load_splits(tmp_path, None)


# --- Training on several devices, and in mixed precision ---------------------------


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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Three splits of the same ten photos, and a weights file of the tiny backbone."""
    folder = tmp_path_factory.mktemp("devices")
    files = [str(save_photo(folder / f"{index}.png", seed=index)) for index in range(10)]
    split = pd.DataFrame({"image_path": files, "label": (config.CLASSES * 2)[:10]})
    for name in ("train", "val", "test"):
        split.to_csv(folder / f"{name}.csv", index=False)
    keras.utils.set_random_seed(5)
    tiny_train.build_backbone("", None).save_weights(folder / "backbone.weights.h5")
    return folder


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


@pytest.fixture(scope="module")
def on_one_device(dataset) -> list[np.ndarray]:
    """The weights after a training in float32 on one device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
        patch.setattr("sys.argv", ["train.py", *options(dataset, "one")])
        train.main()
    return trained_weights(dataset, "one")


def farthest(weights: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(weights, others, strict=True))


@pytest.mark.stress
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


@pytest.mark.stress
def test_mixed_precision_trains_nearly_the_same_model_and_saves_it_in_float32(
    dataset, on_one_device, tiny_backbone, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["train.py", *options(dataset, "mixed", "--mixed-precision")])
    try:
        train.main()
    finally:
        keras.config.set_dtype_policy("float32")
    model = keras.models.load_model(dataset / "mixed" / "model.keras")
    assert {layer.dtype_policy.name for layer in model._flatten_layers()} == {"float32"}
    assert 0 < farthest(model.get_weights(), on_one_device) < 2e-3
