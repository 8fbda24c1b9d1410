"""The network's shape, what trains in each phase, its weights, its backbones.

The calibration of a trained network, and the threshold that is suggested for it.

Figures of classes, folders and clear labels, on hand-worked cases.
"""

import zipfile

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import scale
from viewpoint.common.metrics import wilson_interval
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME, write_out_of_fold
from viewpoint.reports.summary import describe_suggestion
from viewpoint.training.evaluation import fit_temperature, fold_temperature, suggest
from viewpoint.training.figures import class_figures, class_table, clearness, folder_figures, label_figures
from viewpoint.training.network import (
    build_model,
    feature_extractor,
    head_of,
    load_backbone_weights,
    load_model,
    unfreeze,
)


@pytest.fixture(scope="module")
def network() -> tuple[keras.Model, keras.Model]:
    return build_model()


def trainable_parameters(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


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
    unfreeze(backbone)
    for layer in backbone.layers:
        is_batchnorm = isinstance(layer, keras.layers.BatchNormalization)
        assert bool(layer.trainable_weights) == (bool(layer.weights) and not is_batchnorm), layer.name
    # All parameters less BatchNorm's 4 (scale, offset, mean, variance) on its 17,056 channels.
    assert trainable_parameters(model) == 2_422_855 - 4 * 17_056


@pytest.mark.parametrize("train_batchnorm", [False, True])
def test_a_phase_2_step_moves_batchnorm_only_when_it_starts_from_random_weights(train_batchnorm):
    model, backbone = build_model(image_size=32, train_batchnorm=train_batchnorm)
    unfreeze(backbone, train_batchnorm)
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
    model, backbone = build_model(image_size=64, backbone_name=name)
    random = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    unfreeze(backbone)
    images = random.uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    features, gradients = [], []
    for fold in (False, True):
        extractor = feature_extractor(model, backbone, fold)
        with tf.GradientTape() as tape:
            features.append(extractor(images, training=False))
        kernels = [layer.kernel.value for layer in backbone.layers if hasattr(layer, "kernel")]
        gradients.append(tape.gradient(features[-1], kernels))
    assert np.ptp(features[0]) > 0
    assert features[1].numpy() == pytest.approx(features[0].numpy(), rel=1e-3, abs=1e-5)
    for plain, folded in zip(*gradients, strict=True):
        # Like pytest.approx(rel=0.01, abs=...), which takes half a minute for millions of numbers.
        expected = plain.numpy()
        tolerance = np.maximum(0.01 * np.abs(expected), 1e-3 * np.abs(expected).max())
        assert np.all(np.abs(folded.numpy() - expected) <= tolerance)


def test_backbone_weights_come_back_from_a_file(tmp_path):
    _, trained = build_model(image_size=32)
    trained.save_weights(tmp_path / "backbone.weights.h5")
    _, fresh = build_model(image_size=32)
    load_backbone_weights(fresh, str(tmp_path / "backbone.weights.h5"))
    for loaded, saved in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        assert np.array_equal(loaded, saved)


def test_weights_that_cannot_be_had_are_one_sentence_with_the_other_choices(tmp_path, monkeypatch):
    _, backbone = build_model(image_size=32)
    with pytest.raises(UserError, match="not found; give --weights imagenet, none or a file"):
        load_backbone_weights(backbone, str(tmp_path / "missing.weights.h5"))
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not fit MobileNetV2"):
        load_backbone_weights(backbone, str(tmp_path / "other.weights.h5"))

    def no_network(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.applications, "MobileNetV2", no_network)
    with pytest.raises(UserError, match=r"--weights PATH.*--weights none"):
        load_backbone_weights(backbone, "imagenet")


@pytest.mark.parametrize("name", config.BACKBONES)
def test_every_backbone_gets_the_scaling_it_was_trained_with(name):
    """From the same photo, the model feeds its backbone what keras.applications would."""
    model, backbone = build_model(image_size=64, backbone_name=name)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    module = {
        "MobileNetV2": keras.applications.mobilenet_v2,
        "MobileNetV3Small": keras.applications.mobilenet_v3,
        "EfficientNetV2B0": keras.applications.efficientnet_v2,
    }[name]
    before_backbone = model.layers[model.layers.index(backbone) - 1].output
    fed = keras.Model(model.input, before_backbone)(scale(pixels)).numpy()
    assert fed == pytest.approx(module.preprocess_input(pixels.astype(np.float32)), abs=1e-3)


def test_a_file_that_is_not_a_model_is_one_sentence(tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"is not a model of train\.py"):
        load_model(path)
    with zipfile.ZipFile(path, "w") as file:  # as a .keras file is one
        file.writestr("something", "else")
    with pytest.raises(UserError, match=r"is not a model of train\.py"):
        load_model(path)


# --- Calibration and threshold -----------------------------------------------------


def test_the_temperature_of_a_hand_worked_case():
    """Right in 3 of 4 cases at a score of 0.9: only 0.75 is honest, so the logits, ln 9,
    must shrink to ln 3, which is a temperature of 2."""
    probabilities = np.tile([[0.9, 0.1]], (4, 1))
    assert fit_temperature(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(2, abs=1e-3)
    # Without a mistake no score is too high; the search stays in its bounds.
    assert fit_temperature(probabilities, np.zeros(4, int)) == pytest.approx(0.25, rel=0.01)


def test_folding_a_temperature_divides_the_logits_and_changes_no_decision():
    model, _ = build_model(image_size=32)
    head = head_of(model)
    features = np.random.default_rng(0).normal(size=(200, 1280)).astype(np.float32)
    before = head.predict(features, verbose=0)
    assert len(set(before.argmax(axis=1))) > 3
    fold_temperature(model, 0.5)
    after = head.predict(features, verbose=0)
    assert np.array_equal(after.argmax(axis=1), before.argmax(axis=1))
    # Half the temperature squares the ratios of the probabilities.
    squared = before**2 / (before**2).sum(axis=1, keepdims=True)
    assert after == pytest.approx(squared, abs=1e-5)


def test_the_threshold_rests_on_validation_and_on_out_of_fold_predictions_of_training_photos_only(tmp_path):
    """Of 300 training photos, 4 were wrong with a score of 0.45 and 10 have changed; val and test are in the file."""
    numbers = {"train": range(300), "val": range(300, 310), "test": range(310, 320)}
    splits = {
        name: pd.DataFrame({"image_path": [f"{number}.jpg" for number in part], "label": "Rear"})
        for name, part in numbers.items()
    }
    path = tmp_path / OUT_OF_FOLD_NAME
    rear, front = [0.1, 0, 0, 0.9, 0, 0, 0], [0.45, 0.4, 0, 0.15, 0, 0, 0]
    certain, hashes = np.tile(rear, (10, 1)), [f"hash{number}" for number in numbers["train"]]

    alone = suggest(certain, splits, hashes, path)
    assert (alone["photos"], alone["out_of_fold"], alone["threshold"], alone["missing"]) == (10, 0, None, 104)
    assert describe_suggestion(alone).startswith("No threshold for --unknown-below: 10 validation photos cannot show")

    probabilities = {f"{number}.jpg": front if number < 4 else rear for number in range(320)}
    probabilities |= {f"{number}.jpg": front for number in range(300, 320)}  # not to be looked at
    contents = {f"{number}.jpg": f"hash{number}" for number in range(320)}
    write_out_of_fold(probabilities, contents, path)
    changed = [*hashes[:290], *["another"] * 10]
    pooled = suggest(certain, splits, changed, path)
    assert (pooled["photos"], pooled["out_of_fold"]) == (300, 290)
    # With two errors 265 answers are enough, with four 300 are not: the threshold leaves the four out.
    assert (pooled["threshold"], pooled["answered"]) == (0.46, 296 / 300)
    sentence = describe_suggestion(pooled)
    assert "On 10 validation photos and 290 training photos judged by models that did not learn them, " in sentence


# --- Figures -----------------------------------------------------------------------


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
