"""The network's shape, what trains in each phase, its weights, its backbones."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import scale
from viewpoint.training.network import build_model, feature_extractor, load_backbone_weights, load_model, unfreeze


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
