"""The network's shape, what trains in each phase, the recipes, the calibration."""

import json
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from conftest import arguments, save_photo

import config
import evaluation
import train
from augmentation import CORRUPTIONS
from checkpoint import State
from common import UserError
from images import scale
from training_data import ImageBatches, Photos, TrainingBatches, one_hot


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


@pytest.fixture
def tiny_backbone(monkeypatch) -> None:
    """A backbone of one convolution and one BatchNorm in the place of every real one.

    The real ones give features of about nothing before they are trained.
    """

    def build(name, weights):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(6, 3, strides=2, kernel_initializer="he_normal", name="conv")(inputs)
        return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(x)))

    monkeypatch.setattr("network.build_backbone", build)


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


@pytest.mark.parametrize("name", config.BACKBONES)
def test_folding_batchnorm_changes_neither_features_nor_gradients(name):
    """Also at another size than the model's, and with statistics and scales unlike a fresh BatchNorm's."""
    model, backbone = train.build_model(7, image_size=64, backbone_name=name)
    random = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    train.unfreeze(backbone)
    images = random.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    features, gradients = [], []
    for fold in (False, True):
        extractor = train.feature_extractor(model, backbone, fold)
        with tf.GradientTape() as tape:
            features.append(extractor(images, training=False))
        kernels = [layer.kernel.value for layer in backbone.layers if hasattr(layer, "kernel")]
        gradients.append(tape.gradient(features[-1], kernels))
    assert np.ptp(features[0]) > 0
    assert features[1].numpy() == pytest.approx(features[0].numpy(), rel=1e-3, abs=1e-5)
    for plain, folded in zip(*gradients, strict=True):
        assert folded.numpy() == pytest.approx(plain.numpy(), rel=0.01, abs=1e-3 * np.abs(plain).max())


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


# --- Training ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase2", "phase_kept"),
    [([(0.5, 1.0), (0.7, 1.0)], 1), ([(0.8, 1.0)], 1), ([(0.8, 0.9)], 2), ([(0.6, 1.0), (0.9, 1.0)], 2)],
)
def test_the_better_phase_is_kept(split, monkeypatch, phase2, phase_kept):
    """Phase 1's best epoch has accuracy 0.8 and loss 1; phase 2 must beat that."""
    model, backbone = train.build_model(7, image_size=32)
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
    args = arguments("--recipe", "reference", "--image-size", 32)
    photos = Photos(split["file"], 32)
    history = train.train(model, backbone, {"train": split, "val": split}, photos, args, State({}))
    assert last.get_weights()[1][0] == phase_kept
    [kept] = [log for log in history if log["kept"]]
    assert kept["phase"] == phase_kept
    assert [log["phase"] for log in history] == [1, 1] + [2] * len(phase2)


def test_phase_1_on_features_equals_phase_1_on_images(split, tiny_backbone):
    """Without random changes and dropout both ways take the same steps."""
    weights = []
    for views in (0, 1):
        keras.utils.set_random_seed(3)
        model, backbone = train.build_model(7, image_size=32, backbone_dropout=0, head_dropout=0)
        args = arguments("--recipe", "reference", "--phase1-views", views, "--image-size", 32, "--phase1-epochs", 1)
        photos, targets = Photos(split["file"], 32), one_hot(split["label"])
        batches = TrainingBatches(photos, targets, 32, args)
        untrained = model.get_weights()
        extractor, head = train.feature_extractor(model, backbone, fold=bool(views)), train.head_of(model)
        train.train_phase(1, extractor, head, batches, ImageBatches(photos, targets, 32), args, State({}))
        weights.append(model.get_weights())
    assert max(np.abs(after - before).max() for after, before in zip(weights[0], untrained, strict=True)) > 5e-4
    for on_images, on_features in zip(*weights, strict=True):
        assert on_features == pytest.approx(on_images, abs=1e-5)


@pytest.mark.parametrize(("share", "steps_kept"), [(1, 1), (0, 6)])
def test_averaged_weights_are_kept_at_the_end_of_phase_2(split, tiny_backbone, share, steps_kept):
    """An average that keeps all of itself stays where the first of six steps put it.

    With one class only, each step of Adam moves its bias by nearly the learning rate.
    """
    model, backbone = train.build_model(7, image_size=32)
    options = ["--schedule", "plateau", "--phase2-learning-rate", 1e-3, "--phase2-epochs", 3, "--batch-size", 5]
    args = arguments("--ema", share, "--image-size", 32, "--no-augment", "--no-flip", *options)
    photos, targets = Photos(split["file"], 32), one_hot(["Rear"] * len(split))
    batches = TrainingBatches(photos, targets, 32, args)
    extractor, head = train.feature_extractor(model, backbone, fold=True), train.head_of(model)
    logs = train.train_phase(2, extractor, head, batches, ImageBatches(photos, targets, 32), args, State({}))
    assert [log["kept"] for log in logs] == [False, False, True]
    moved = np.abs(model.get_layer("probabilities").get_weights()[1]).max()
    assert moved == pytest.approx(steps_kept * 1e-3, rel=0.1)


@pytest.mark.parametrize(
    ("image_size", "scale", "size"), [(224, 6 / 7, 192), (224, 1, 224), (100, 1, 100), (32, 6 / 7, 32)]
)
def test_training_images_are_smaller_but_of_a_size_that_halves_five_times(image_size, scale, size):
    assert train.training_size(image_size, scale) == size


def test_every_number_of_the_training_can_be_set_on_the_command_line():
    defaults = vars(arguments())
    numbers = ["hidden_units", "backbone_dropout", "head_dropout", "phase1_epochs", "image_size"]
    numbers += ["phase1_learning_rate", "lr_factor", "lr_patience", "min_learning_rate", "batchnorm_momentum", "seed"]
    numbers += ["warmup_share", "robustness_images", "calibration_bins", "mixup"]
    for name in numbers:
        assert defaults[name] == getattr(config, name.upper())
        value = 0.25 if isinstance(defaults[name], float) else 64
        assert vars(arguments(f"--{name.replace('_', '-')}", value))[name] == value


def test_every_strength_of_the_augmentation_can_be_set_on_the_command_line():
    for name, (value, low, high, _) in config.AUGMENTATION.items():
        assert vars(arguments())[name] == value
        assert vars(arguments(f"--{name.replace('_', '-')}", low))[name] == low
        with pytest.raises(SystemExit):
            arguments(f"--{name.replace('_', '-')}", high + 1)


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_a_training_from_a_weights_file(split, tiny_backbone, tmp_path, monkeypatch, capsys, recipe):
    """Both phases of each recipe, from weights to report; the BatchNorm of the file stays."""
    _, backbone = train.build_model(7, image_size=32)
    backbone.get_layer("norm").set_weights([np.full(6, value, np.float32) for value in (1, 2, 3, 4)])
    backbone.save_weights(tmp_path / "backbone.weights.h5")
    for name in ("train", "val", "test"):
        split.to_csv(tmp_path / f"{name}.csv", index=False)
    options = ["--recipe", recipe, "--phase1-epochs", "1", "--phase2-epochs", "1", "--image-size", "32"]
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
    assert f"Next: python convert_tflite.py --models {tmp_path}/models --dataset {tmp_path}" in capsys.readouterr().out


def test_the_reference_recipe_has_the_callbacks_it_always_had():
    args = arguments("--recipe", "reference")
    _, stopping, plateau = train.make_callbacks(2, args)
    assert (stopping.monitor, stopping.patience, stopping.restore_best_weights) == ("val_accuracy", 7, True)
    assert (plateau.monitor, plateau.factor, plateau.patience, plateau.min_lr) == ("val_loss", 0.5, 3, 1e-7)
    for phase, rate in ((1, 1e-3), (2, 1e-4)):
        assert float(train.make_optimizer(phase, 100, args).learning_rate) == pytest.approx(rate)


def test_a_line_of_the_log_for_each_epoch_bars_or_lines_and_tensorboard(split, tiny_backbone, tmp_path, capsys):
    options = ["--image-size", 32, "--phase1-views", 1, "--phase1-epochs", 2, "--phase2-epochs", 1, "--no-augment"]
    for quiet in (["--quiet", "--tensorboard"], []):
        args = arguments(*options, "--no-cache", "--models", tmp_path / "models", *quiet)
        model, backbone = train.build_model(7, image_size=32)
        train.train(model, backbone, {"train": split, "val": split}, Photos(split["file"], 32), args, State({}))
        printed = capsys.readouterr()
        if quiet:
            assert "val_accuracy" in printed.out
            assert printed.err == ""
        else:
            assert "val_accuracy" not in printed.out
            assert "Phase 1: 100%" in printed.err
            assert "2/2" in printed.err
            assert "val_accuracy" in printed.err
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
    assert list((tmp_path / "models" / "report" / "tensorboard" / "phase2").rglob("events.*"))


def test_the_default_schedule_rises_and_falls_to_zero():
    optimizer = train.make_optimizer(2, 100, arguments("--phase2-learning-rate", 0.01, "--warmup-share", 0.1))
    rates = [float(optimizer._learning_rate(step)) for step in (0, 5, 10, 55, 100)]
    # Half-way up, at the top, half-way down the cosine, and at its end.
    assert rates == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-6)


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_a_recipe_sets_the_defaults_and_options_win_over_it(recipe):
    args = vars(arguments("--recipe", recipe))
    for name, value in config.RECIPES[recipe].items():
        assert args[name] == value
    assert arguments("--recipe", recipe, "--phase2-epochs", 3, "--no-flip").phase2_epochs == 3
    assert not arguments("--recipe", recipe, "--no-flip").flip


def test_the_recipes_hold_the_same_settings_and_only_those_that_differ():
    default, reference = config.RECIPES["default"], config.RECIPES["reference"]
    assert default.keys() == reference.keys()
    assert all(default[name] != reference[name] for name in default)


def test_a_loss_that_is_no_number_is_one_sentence(split, tiny_backbone, tmp_path):
    args = arguments(
        "--image-size", 32, "--phase1-views", 1, "--phase1-learning-rate", 1e30, "--no-augment", "--no-cache"
    )
    model, backbone = train.build_model(7, image_size=32)
    with pytest.raises(UserError, match="the loss of phase 1 is no number any more; lower --phase1-learning-rate"):
        train.train(model, backbone, {"train": split, "val": split}, Photos(split["file"], 32), args, State({}))


def test_a_photo_that_vanishes_midway_is_one_sentence(split, tiny_backbone, tmp_path):
    args = arguments("--image-size", 32, "--phase1-epochs", 0, "--phase2-epochs", 2, "--no-augment", "--no-cache")
    model, backbone = train.build_model(7, image_size=32)
    Path(split["file"].iloc[3]).unlink()
    with pytest.raises(UserError, match=r"cannot read .*3\.png: no such file"):
        train.train(model, backbone, {"train": split, "val": split}, Photos(split["file"][:3], 32), args, State({}))


def test_missing_photos_are_one_sentence(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.csv").write_text("image_path,label\ngone.jpg,Rear\n")
    with pytest.raises(UserError, match=r"1 of 1 photos of .*train.csv are missing.*give their folder with --data"):
        train.load_splits(tmp_path, None)


# --- Other backbones ---------------------------------------------------------------


@pytest.mark.parametrize("name", config.BACKBONES)
def test_every_backbone_gets_the_scaling_it_was_trained_with(name):
    """From the same photo, the model feeds its backbone what keras.applications would."""
    model, backbone = train.build_model(7, image_size=64, backbone_name=name)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    module = {
        "MobileNetV2": keras.applications.mobilenet_v2,
        "MobileNetV3Small": keras.applications.mobilenet_v3,
        "EfficientNetV2B0": keras.applications.efficientnet_v2,
    }[name]
    before_backbone = model.layers[model.layers.index(backbone) - 1].output
    fed = keras.Model(model.input, before_backbone)(scale(pixels)).numpy()
    assert fed == pytest.approx(module.preprocess_input(pixels.astype(np.float32)), abs=1e-3)


# --- Calibration -------------------------------------------------------------------


def test_the_temperature_of_a_hand_worked_case():
    """Right in 3 of 4 cases at a score of 0.9: only 0.75 is honest, so the logits, ln 9,
    must shrink to ln 3, which is a temperature of 2."""
    probabilities = np.tile([[0.9, 0.1]], (4, 1))
    assert evaluation.fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(2, abs=1e-3)
    # Without a mistake no score is too high; the search stays in its bounds.
    assert evaluation.fit_temperature(probabilities, np.zeros(4, int)) == pytest.approx(0.25, rel=0.01)


def test_folding_a_temperature_divides_the_logits_and_changes_no_decision():
    model, _ = train.build_model(7, image_size=32)
    head = train.head_of(model)
    features = np.random.default_rng(0).normal(size=(200, 1280)).astype(np.float32)
    before = head.predict(features, verbose=0)
    assert len(set(before.argmax(axis=1))) > 3
    evaluation.fold_temperature(model, 0.5)
    after = head.predict(features, verbose=0)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))
    # Half the temperature squares the ratios of the probabilities.
    squared = before**2 / (before**2).sum(axis=1, keepdims=True)
    assert after == pytest.approx(squared, abs=1e-5)
