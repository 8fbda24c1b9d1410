"""The network: a backbone of keras.applications with a small head, its variants for training, its files."""

import json
import re
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import PIXEL_MEAN, PIXEL_STD
from viewpoint.common.writing import remove, write_atomically
from viewpoint.data.provenance import DATA_NAME, PACKED_NAME, ModelData, as_text, write_data
from viewpoint.inference.model import LABELS_NAME, read_labels
from viewpoint.training.settings import Settings

DEFAULTS = Settings()
# The fraction of BatchNorm's running statistics that a step keeps, where it trains. Its own default,
# 0.999, needs thousands of steps to forget its random start.
BATCHNORM_MOMENTUM = 0.9


def build_model(
    num_classes: int = len(config.CLASSES),
    image_size: int = DEFAULTS.image_size,
    hidden_units: int = DEFAULTS.hidden_units,
    backbone_dropout: float = DEFAULTS.backbone_dropout,
    head_dropout: float = DEFAULTS.head_dropout,
    train_batchnorm: bool = False,
    backbone_name: str = DEFAULTS.backbone,
) -> tuple[keras.Model, keras.Model]:
    """A backbone with a small head, random weights, backbone frozen: (model, backbone).

    The model maps float32 (n, image_size, image_size, 3), RGB, -1 to 1, to float32
    probabilities (n, num_classes). The backbone's BatchNorm layers stay in inference mode, also
    when the backbone is unfrozen, unless `train_batchnorm` is set: ImageNet's statistics are
    better than those of a small batch, but random weights have no statistics to keep.
    Source: Sandler et al., MobileNetV2 (2018), https://arxiv.org/abs/1801.04381.
    """
    backbone = build_backbone(backbone_name, weights=None)
    backbone.trainable = False
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = inputs
    if backbone_name != "MobileNetV2":
        # The others have a scaling layer of their own and expect 0 to 255.
        x = keras.layers.Rescaling(PIXEL_STD, offset=PIXEL_MEAN)(x)
    x = backbone(x, training=None if train_batchnorm else False)
    # The mean over the image, so that the head works for images of any size and has few weights.
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    x = keras.layers.Dropout(backbone_dropout)(x)
    x = keras.layers.Dense(hidden_units, activation="relu")(x)
    x = keras.layers.Dropout(head_dropout)(x)
    # Probabilities of float16 would be too coarse for the loss when --mixed-precision is on.
    outputs = keras.layers.Dense(num_classes, activation="softmax", name="probabilities", dtype="float32")(x)
    return keras.Model(inputs, outputs, name="vehicle_viewpoint"), backbone


def build_backbone(name: str, weights: str | None) -> keras.Model:
    """A network of keras.applications without its top, one of config.BACKBONES, for images of any size."""
    with warnings.catch_warnings():
        # Keras warns that it loads the weights of the default size, which fit any size.
        warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
        return getattr(keras.applications, name)(input_shape=(None, None, 3), include_top=False, weights=weights)


def load_backbone_weights(backbone: keras.Model, weights: str, backbone_name: str = DEFAULTS.backbone) -> None:
    """Load ImageNet weights into the backbone: Keras's download ("imagenet") or a file.

    Raises UserError when the download or the file fails.
    """
    if weights == "imagenet":
        try:
            source = build_backbone(backbone_name, weights="imagenet")
        # Keras wraps network failures in a bare Exception.
        except Exception as error:
            raise UserError(
                "cannot download the ImageNet weights; give a weights file with --weights PATH, "
                "or start from random weights with --weights none"
            ) from error
        backbone.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise UserError(f"weights file {weights} not found; give --weights imagenet, none or a file")
    try:
        backbone.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{weights} does not fit {backbone_name} without top: {first_line(error)}; "
            "give --weights imagenet, none or another file"
        ) from error


def load_trained(model: keras.Model, path: Path) -> None:
    """Load all weights of an earlier training's model.keras into a model of the same structure.

    Raises UserError as load_model, and when the structure is another one.
    """
    try:
        model.set_weights(load_model(path).get_weights())
    except ValueError as error:
        raise UserError(
            f"{path} cannot be continued from ({first_line(error)}); "
            "give the model.keras of a training with the same --backbone and --hidden-units"
        ) from error


def unfreeze(
    backbone: keras.Model,
    train_batchnorm: bool = False,
    frozen_share: float = 0.0,
) -> None:
    """Make the backbone trainable, except the first `frozen_share` (a fraction, 0 to 1) of its layers.

    Its BatchNorm layers train only with `train_batchnorm`, and then keep the fraction
    BATCHNORM_MOMENTUM of their running statistics in each step. Compile the model again after this.
    """
    backbone.trainable = True
    for index, layer in enumerate(backbone.layers):
        # trainable=False also keeps the running statistics still. Those of a few hundred photos in small
        # batches are noise, and with them the activations that the later layers learned from would drift.
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = train_batchnorm
            layer.momentum = BATCHNORM_MOMENTUM if train_batchnorm else layer.momentum
        elif index < frozen_share * len(backbone.layers):
            layer.trainable = False


# --- Variants for training ---------------------------------------------------------


def feature_extractor(model: keras.Model, backbone: keras.Model, fold: bool) -> keras.Model:
    """The layers up to the pooled features, for images of any size, sharing the weights of `model`.

    `fold` applies the backbone's BatchNorm to the kernels instead of to every activation: the
    features are the same, and a training step takes a fifth less time. BatchNorm must be frozen.
    """
    inner = fold_batchnorm(backbone) if fold else backbone
    return keras.models.clone_model(
        keras.Model(model.input, model.get_layer("features").output),
        input_tensors=keras.Input((None, None, 3)),
        clone_function=lambda layer: inner if layer is backbone else layer,
    )


def head_of(model: keras.Model) -> keras.Model:
    """The layers after the backbone as a model of their own that shares their weights."""
    first = model.layers.index(model.get_layer("features")) + 1
    return keras.Sequential([keras.Input(model.layers[first].input.shape[1:]), *model.layers[first:]])


def fold_batchnorm(backbone: keras.Model) -> keras.Model:
    """The backbone with each convolution and the BatchNorm after it replaced by one FoldedConvolution."""
    # The BatchNorm goes into the convolution before it; where it was, the activation passes unchanged.
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    norm_after = {id(norm.input): norm for norm in norms}

    def fold(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.BatchNormalization):
            return keras.layers.Identity()
        norm = norm_after.get(id(layer.output))
        return FoldedConvolution(layer, norm) if norm else layer

    return keras.models.clone_model(
        backbone,
        clone_function=fold,
        # BatchNorm takes a mask, and Identity does not.
        call_function=lambda layer, *inputs, mask=None, **options: layer(*inputs, **options),
    )


class FoldedConvolution(keras.layers.Layer):
    """A convolution and a BatchNorm in inference mode, sharing the weights of both.

    norm(convolve(x, kernel)) = convolve(x, kernel * scale) + offset, with one scale and one offset
    for each channel. So only the small kernel is multiplied, in the forward and the backward pass.
    """

    def __init__(self, convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization):
        super().__init__()
        self.convolution, self.norm = convolution, norm

    def call(self, x):
        convolution, norm = self.convolution, self.norm
        scale = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
        bias = convolution.bias if convolution.use_bias else 0.0
        offset = ops.cast(norm.beta + (bias - norm.moving_mean) * scale, x.dtype)
        if isinstance(convolution, keras.layers.DepthwiseConv2D):
            kernel = ops.cast(convolution.kernel * scale[:, np.newaxis], x.dtype)  # (height, width, channels, 1)
            return ops.depthwise_conv(x, kernel, convolution.strides, convolution.padding) + offset
        kernel = ops.cast(convolution.kernel * scale, x.dtype)
        return ops.conv(x, kernel, convolution.strides, convolution.padding) + offset


# --- Files -------------------------------------------------------------------------


def save_model(model: keras.Model, models_dir: Path, data: ModelData | None = None) -> None:
    """Write model.keras, saved_model/ with labels.txt in class order, and data.json if `data` is given."""
    # Removed first, because data.json must never describe another model than model.keras.
    remove(models_dir / DATA_NAME)
    with write_atomically(models_dir / "model.keras") as path:
        model.save(path)
        make_reproducible(path)
    with write_atomically(models_dir / "saved_model") as path:
        try:
            model.export(path, verbose=False)
        except tf.errors.OpError as error:  # how TensorFlow reports a full disk, at the end of a long message
            raise OSError(error.message.rpartition("; ")[2]) from error
        (path / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n", encoding="utf-8")
        if data:
            (path / PACKED_NAME).write_text(as_text(data, with_photos=False), encoding="utf-8")
    if data:
        write_data(data, models_dir)


def load_model(path: Path) -> keras.Model:
    """Read a model.keras. Raises UserError when it is not a model of this project with the classes of config.py."""
    if not path.is_file():
        problem = "is not a file" if path.exists() else "not found"
        raise UserError(f"{path} {problem}; run train.py, or give the model.keras of another training")
    try:
        model = keras.models.load_model(path)
        # Asked for by name, because any .keras file can be loaded and most are other networks.
        model.get_layer("features")
        if model.get_layer("probabilities").units != len(config.CLASSES):
            raise ValueError(f"it does not have the {len(config.CLASSES)} classes of config.py")
    except Exception as error:  # a damaged file can raise almost any type
        raise UserError(
            f"{path} is not a model of train.py ({first_line(error)}); run train.py, or give another one"
        ) from error
    names = path.parent / "saved_model" / LABELS_NAME
    if names.is_file() and read_labels(names, len(config.CLASSES)) != config.CLASSES:
        raise UserError(f"{path} has other classes, or in another order ({names}), than config.py; train again")
    return model


def first_line(error: Exception) -> str:
    """The first line of an error's text; its type when it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def make_reproducible(path: Path) -> None:
    """Remove times and memory addresses from a .keras file, so that equal models are equal files."""
    with zipfile.ZipFile(path) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    metadata = json.loads(contents["metadata.json"])
    contents["metadata.json"] = json.dumps(metadata | {"date_saved": "not recorded"}).encode()
    # Keras numbers objects that several layers share by their memory address; any number will do.
    numbers: dict[bytes, int] = {}
    contents["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda match: str(numbers.setdefault(match[0], len(numbers))).encode(),
        contents["config.json"],
    )
    with zipfile.ZipFile(path, "w") as file:
        for name, content in contents.items():
            file.writestr(zipfile.ZipInfo(name), content)
