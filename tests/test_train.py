"""The network's shape, what trains in each phase, the batches, the report."""

import json
from argparse import Namespace

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import save_photo

import config
import train
from common import UserError


@pytest.fixture(scope="module")
def network() -> tuple[keras.Model, keras.Model]:
    return train.build_model(len(config.CLASSES))


@pytest.fixture
def split(tmp_path) -> pd.DataFrame:
    """Ten photos, each of its own colours, of all classes."""
    files = [str(save_photo(tmp_path / f"{index}.png", seed=index)) for index in range(10)]
    return pd.DataFrame({"image_path": files, "file": files, "label": (config.CLASSES * 2)[:10]})


def trainable_parameters(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


# --- The network -------------------------------------------------------------------


def test_the_network_has_the_agreed_shape(network):
    model, _ = network
    assert model.input_shape == (None, 224, 224, 3)
    assert model.input.dtype == "float32"
    assert model.output_shape == (None, 7)
    assert model.count_params() == 2_422_855
    probabilities = model.predict(np.zeros((2, 224, 224, 3), np.float32), verbose=0)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)


def test_phase_1_trains_the_head_and_phase_2_all_but_batchnorm(network):
    model, backbone = network
    assert trainable_parameters(model) == 164_871  # 1280 * 128 + 128, and 128 * 7 + 7
    assert not backbone.trainable_weights
    train.unfreeze(backbone)
    for layer in backbone.layers:
        is_batchnorm = isinstance(layer, keras.layers.BatchNormalization)
        assert bool(layer.trainable_weights) == (bool(layer.weights) and not is_batchnorm), layer.name
    # All parameters less BatchNorm's 4 (scale, offset, mean, variance) on its 17,056 channels.
    assert trainable_parameters(model) == 2_422_855 - 4 * 17_056


@pytest.mark.parametrize("train_batchnorm", [False, True])
def test_a_phase_2_step_moves_batchnorm_only_when_it_starts_from_random_weights(train_batchnorm):
    model, backbone = train.build_model(7, image_size=32, train_batchnorm=train_batchnorm)
    train.unfreeze(backbone, train_batchnorm)
    before = {weight.path: weight.numpy() for weight in backbone.weights}
    # Eagerly: tracing the whole network into a graph takes longer than the one step.
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(np.random.default_rng(0).normal(size=(4, 32, 32, 3)), np.arange(4), verbose=0)
    batchnorm, others = [], []
    for layer in backbone.layers:
        moved = [not np.array_equal(weight.numpy(), before[weight.path]) for weight in layer.weights]
        (batchnorm if isinstance(layer, keras.layers.BatchNormalization) else others).extend(moved)
    assert any(others)
    assert any(batchnorm) == train_batchnorm


def test_backbone_weights_come_back_from_a_file(tmp_path):
    _, trained = train.build_model(7, image_size=32)
    trained.save_weights(tmp_path / "backbone.weights.h5")
    _, fresh = train.build_model(7, image_size=32)
    train.load_backbone_weights(fresh, str(tmp_path / "backbone.weights.h5"))
    for loaded, saved in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        assert np.array_equal(loaded, saved)


def test_weights_that_cannot_be_had_are_one_sentence_with_the_other_choices(tmp_path, monkeypatch):
    _, backbone = train.build_model(7, image_size=32)
    with pytest.raises(UserError, match="not found; give --weights imagenet, none or a file"):
        train.load_backbone_weights(backbone, str(tmp_path / "missing.weights.h5"))
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not fit MobileNetV2"):
        train.load_backbone_weights(backbone, str(tmp_path / "other.weights.h5"))

    def no_network(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "MobileNetV2", no_network)
    with pytest.raises(UserError, match=r"--weights PATH.*--weights none"):
        train.load_backbone_weights(backbone, "imagenet")


# --- Data and training -------------------------------------------------------------


def test_batches_hold_every_photo_once_and_shuffle_by_seed(split):
    def epoch(seed: int | None) -> list[int]:
        batches = train.ImageBatches(split, batch_size=4, size=32, shuffle_seed=seed)
        assert [len(targets) for _, targets in (batches[i] for i in range(len(batches)))] == [4, 4, 2]
        return [int(row) for row in batches.order]

    assert epoch(None) == list(range(10))
    assert sorted(epoch(1)) == list(range(10))
    assert epoch(1) == epoch(1) != epoch(2)
    batches = train.ImageBatches(split, batch_size=10, size=32)
    assert batches[0][1].tolist() == [config.CLASSES.index(label) for label in split["label"]]


def test_class_weights_balance_the_classes():
    labels = pd.Series(["Front"] * 6 + ["Rear"] * 2)
    weights = train.balanced_class_weights(labels)
    # 8 images, 2 classes: 8 / (2 * 6) and 8 / (2 * 2).
    assert weights[config.CLASSES.index("Front")] == pytest.approx(2 / 3)
    assert weights[config.CLASSES.index("Rear")] == pytest.approx(2)
    assert weights[config.CLASSES.index("RearLeft")] == 1


class ScriptedModel:
    """Stands in for a Keras model: each fit() plays given validation accuracies."""

    def __init__(self, *accuracies_of_phases: list[float]):
        self.phases, self.weights = list(accuracies_of_phases), "untrained"

    def compile(self, **_):
        pass

    def fit(self, *_, **__):
        accuracies = self.phases.pop(0)
        self.weights = f"best of the phase with {max(accuracies)}"  # as EarlyStopping restores it
        ones = [1.0] * len(accuracies)
        return Namespace(history={"loss": ones, "val_loss": ones, "val_accuracy": accuracies})

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


@pytest.mark.parametrize(("phase2", "kept"), [([0.5, 0.7], 0.8), ([0.8], 0.8), ([0.6, 0.9], 0.9)])
def test_the_better_phase_is_kept(split, monkeypatch, phase2, kept):
    monkeypatch.setattr("sys.argv", ["train.py"])
    model, (_, backbone) = ScriptedModel([0.3, 0.8], phase2), train.build_model(7, image_size=32)
    history = train.train(model, backbone, {"train": split, "val": split}, train.parse_arguments())
    assert model.weights == f"best of the phase with {kept}"
    assert history[train.best_epoch(history)]["val_accuracy"] == kept
    assert [log["phase"] for log in history] == [1, 1] + [2] * len(phase2)


def test_every_number_of_the_training_can_be_set_on_the_command_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    defaults = vars(train.parse_arguments())
    numbers = ["batch_size", "hidden_units", "backbone_dropout", "head_dropout", "phase1_epochs", "phase2_epochs"]
    numbers += ["phase1_learning_rate", "phase2_learning_rate", "early_stopping_patience", "lr_factor", "lr_patience"]
    for name in [*numbers, "min_learning_rate", "batchnorm_momentum", "seed", "image_size"]:
        assert defaults[name] == getattr(config, name.upper())
        monkeypatch.setattr("sys.argv", ["train.py", f"--{name.replace('_', '-')}", "3"])
        assert vars(train.parse_arguments())[name] == 3


def test_missing_photos_are_one_sentence(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text("image_path,label\ngone.jpg,Rear\n")
    with pytest.raises(UserError, match=r"1 of 1 photos of .*train.csv are missing.*give their folder with --data"):
        train.load_splits(tmp_path, None)


# --- The report --------------------------------------------------------------------


def test_metrics_of_a_hand_worked_case():
    true = ["Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Rear", "Rear", "Rear"]
    metrics = train.compute_metrics(true, predicted)
    # Front: precision 1, recall 1/2, F1 2/3. Rear: precision 2/3, recall 1, F1 4/5.
    assert metrics["accuracy"] == 0.75
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    matrix = np.array(metrics["confusion_matrix"])
    assert matrix.shape == (7, 7)
    assert matrix[0, 0] == 1  # a true Front predicted as Front
    assert matrix[0, 3] == 1  # a true Front predicted as Rear
    assert matrix[3, 3] == 2


def test_the_report_is_written_in_full(split, tmp_path):
    probabilities = np.eye(7, dtype=np.float32)[train.class_indices(split["label"])]
    log = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}
    history = [{"phase": 1, "epoch": 1, **log}, {"phase": 2, "epoch": 1, **log}]
    train.write_report(split, probabilities, history, Namespace(seed=1), tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["test"]["accuracy"] == 1
    assert content["test"]["classes"] == config.CLASSES
    rows = pd.read_csv(tmp_path / "test_predictions.csv")
    assert rows["prediction"].tolist() == split["label"].tolist()
    for picture in ("confusion_matrix.png", "learning_curves.png"):
        assert (tmp_path / picture).stat().st_size > 1000
