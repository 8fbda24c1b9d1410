"""train.py with a backbone of one convolution in the place of MobileNetV2, which takes long to build.

Run it like train.py, or give build_backbone to viewpoint.training.network.
"""

import sys
from pathlib import Path


def build_backbone(name: str, weights: str | None):
    """A convolution and a BatchNorm, in the place of viewpoint.training.network.build_backbone.

    The real backbones give features of about nothing before they are trained.
    """
    import keras

    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(6, 3, strides=2, kernel_initializer="he_normal", name="conv")(inputs)
    return keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization(name="norm")(x)))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import train
    from viewpoint.common.cli import run
    from viewpoint.training import network

    network.build_backbone = build_backbone
    run(train.main)
