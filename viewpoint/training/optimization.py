"""Optimizer, loss, callbacks and devices of a training phase, from the settings of train.py. Needs TensorFlow."""

import time

import keras
import tensorflow as tf
from tqdm import tqdm

from viewpoint.common.cli import counted
from viewpoint.training.settings import Settings


def make_optimizer(phase: int, steps: int, settings: Settings) -> keras.optimizers.Optimizer:
    """Adam with the learning rate schedule over `steps` steps and, in phase 2, weight averaging."""
    rate = settings.phase1_learning_rate if phase == 1 else settings.phase2_learning_rate
    if settings.schedule == "cosine":
        warmup = round(settings.warmup_share * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, decay_steps=steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    if settings.ema and phase == 2:
        return AveragingAdam(rate, use_ema=True, ema_momentum=settings.ema)
    return keras.optimizers.Adam(rate)


class AveragingAdam(keras.optimizers.Adam):
    """Adam whose moving average of the weights covers few steps at first and more and more later.

    After n steps its momentum is (1 + n) / (10 + n), but never above `ema_momentum`. With a constant 0.995,
    a short training would end with an average that still contains the weights that it started from.
    Source: tf.train.ExponentialMovingAverage with num_updates.
    """

    @property
    def ema_momentum(self):
        steps = keras.ops.cast(self.iterations, "float32")
        return keras.ops.minimum(self.longest_momentum, (1 + steps) / (10 + steps))

    @ema_momentum.setter
    def ema_momentum(self, momentum: float):
        self.longest_momentum = momentum


def make_loss(settings: Settings) -> keras.losses.Loss:
    """Cross-entropy, or focal loss, on target rows.

    Source: Lin et al., Focal Loss (2017), https://arxiv.org/abs/1708.02002.
    """
    if settings.loss == "focal":
        # alpha=1 weighs all classes equally, because the class weights balance them already.
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, label_smoothing=settings.label_smoothing)
    return keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)


def make_callbacks(phase: int, settings: Settings) -> list[keras.callbacks.Callback]:
    """New callbacks for one phase: a reused EarlyStopping would remember the other phase."""
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN()]
    if settings.early_stopping_patience:
        patience = settings.early_stopping_patience
        callbacks.append(
            keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=patience, restore_best_weights=True)
        )
    if settings.ema and phase == 2:
        # Validates with the averaged weights; Keras leaves them in the model at the end.
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if settings.schedule == "plateau":
        limits = {"patience": settings.lr_patience, "min_lr": settings.min_learning_rate}
        callbacks.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=settings.lr_factor, **limits))
    return callbacks


class EpochLines(keras.callbacks.Callback):
    """Prints a line after each epoch; on a terminal shows a bar while it runs, unless `quiet`."""

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self.quiet = quiet

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()
        # Disabled by None where standard error is no terminal.
        hidden = True if self.quiet else None
        self.bar = tqdm(desc=f"Epoch {epoch + 1}", total=self.params["steps"], unit="step", leave=False, disable=hidden)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        figures = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
        print(f"Epoch {epoch + 1} of {self.params['epochs']}: {figures}, {time.monotonic() - self.started:.1f} s")


def share_batches() -> None:
    """Share every batch among all GPUs; without one, among the logical CPU devices.

    Each device computes the gradients of its part, and all apply the same sum.
    Source: https://www.tensorflow.org/api_docs/python/tf/distribute/MirroredStrategy.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    print(f"Computing on {counted(len(devices), 'device')}: {', '.join(device.name for device in devices)}")
    tf.distribute.experimental_set_strategy(tf.distribute.MirroredStrategy([device.name for device in devices]))
