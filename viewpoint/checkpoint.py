"""Training that survives being killed: its whole state, written after every epoch, read by train.py --resume."""

import argparse
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from common import UserError, write_atomically
from training_data import FeatureBatches, TrainingBatches

CHECKPOINT_NAME = "checkpoint.npz"
LOG_NAME = "log.jsonl"
# Options that change nothing of what is trained.
FREE_OPTIONS = ("models", "dataset", "data", "cache", "quiet", "tensorboard", "resume", "robustness_images")


@dataclass
class State:
    """Where a training stands: all that its next epoch depends on, and all that its epochs gave.

    `history` are the epochs of finished phases and `kept_weights` the model's after the better
    of them; the rest is of the phase in progress. `best_weights` are those that early stopping
    would go back to.
    """

    settings: dict[str, str]
    history: list[dict] = field(default_factory=list)
    kept_weights: list[np.ndarray] = field(default_factory=list)
    phase: int = 0
    epochs: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    data_epoch: int = 0
    stopped: bool = False
    callbacks: dict[str, dict] = field(default_factory=dict)
    variables: list[np.ndarray] = field(default_factory=list)
    best_weights: list[np.ndarray] = field(default_factory=list)


ARRAYS = ("kept_weights", "variables", "best_weights")


def describe(args: argparse.Namespace, splits: dict[str, pd.DataFrame]) -> dict[str, str]:
    """What a training depends on: its options, and which photos have which labels."""
    settings = {name: str(value) for name, value in vars(args).items() if name not in FREE_OPTIONS}
    if Path(args.weights).is_file():  # another file of this name would be another training
        settings["weights"] = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()[:12]
    for name in ("train", "val"):
        content = splits[name][["image_path", "label"]].to_csv(index=False)
        settings[f"{name}.csv"] = hashlib.sha256(content.encode()).hexdigest()[:12]
    return settings


def save_state(state: State, path: Path) -> None:
    """Write a state to an .npz file: its arrays, and the rest as JSON. Raises UserError when there is no room."""
    arrays = {f"{name}/{number}": array for name in ARRAYS for number, array in enumerate(getattr(state, name))}
    rest = {item.name: getattr(state, item.name) for item in dataclasses.fields(state) if item.name not in ARRAYS}
    with write_atomically(path) as temporary:
        np.savez(temporary, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8), **arrays)


def load_state(path: Path, settings: dict[str, str]) -> State | None:
    """Read the state of an interrupted training with these settings, None if there is none.

    Raises UserError when the file is damaged or of a training with other settings.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            state = State(**json.loads(file["rest"].tobytes()))
            for name in ARRAYS:
                count = sum(key.startswith(f"{name}/") for key in file.files)
                setattr(state, name, [file[f"{name}/{number}"] for number in range(count)])
        before_settings = dict(state.settings)
    except Exception as error:  # as many types as there are ways to damage a file
        raise UserError(f"{path} is damaged ({error}); train without --resume to begin anew") from error
    for name in sorted(settings.keys() | before_settings.keys()):
        before, now = before_settings.get(name), settings.get(name)
        if before != now:
            raise UserError(
                f"{path} is of a training with another {name} ({before}, now {now}); "
                "train with the same, or without --resume to begin anew"
            )
    return state


class Checkpoint(keras.callbacks.Callback):
    """Restores a phase in progress, and after each epoch writes the log and the state.

    Must be the last callback: it takes in what the others (`callbacks`) made of the epoch, and
    gives it back to them after they have begun afresh.
    """

    def __init__(
        self,
        state: State,
        models: Path,
        batches: TrainingBatches | FeatureBatches,
        callbacks: Sequence[keras.callbacks.Callback],
    ):
        super().__init__()
        self.state, self.models, self.batches, self.callbacks = state, models, batches, callbacks
        self.started = time.monotonic() - state.seconds

    def list_variables(self) -> list[keras.Variable]:
        """The network's, with the states of its random generators, and the optimizer's."""
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *optimizer.variables]

    def on_train_begin(self, logs=None):
        if not self.state.epochs:
            return
        # Here and not before fit(), which ends an epoch of the batches before its first one.
        self.batches.go_to(self.state.data_epoch)
        for variable, value in zip(self.list_variables(), self.state.variables, strict=True):
            variable.assign(value)
        for callback in self.callbacks:
            vars(callback).update(self.state.callbacks[type(callback).__name__])
            if self.state.best_weights and isinstance(callback, keras.callbacks.EarlyStopping):
                callback.best_weights = self.state.best_weights

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        state = self.state
        row = {"phase": state.phase, "epoch": epoch + 1, "seconds": round(time.monotonic() - self.epoch_started, 2)}
        row["learning_rate"] = float(self.model.optimizer.learning_rate)
        state.epochs.append(row | {name: float(value) for name, value in logs.items()})
        state.seconds, state.data_epoch = time.monotonic() - self.started, self.batches.epoch
        state.stopped = self.model.stop_training
        # Their counters and best results; Keras's own restoring leaves these out.
        state.callbacks = {type(callback).__name__: counters_of(callback) for callback in self.callbacks}
        state.variables = [keras.ops.convert_to_numpy(variable) for variable in self.list_variables()]
        for callback in self.callbacks:
            if isinstance(callback, keras.callbacks.EarlyStopping):
                state.best_weights = callback.best_weights or []
        try:
            write_log([*state.history, *state.epochs], self.models / "report" / LOG_NAME)
            if np.isfinite(logs["loss"]):
                save_state(state, self.models / CHECKPOINT_NAME)
        except UserError as error:  # no reason to lose the training that goes on
            print(f"\nThis epoch could not be resumed from: {error}")


def counters_of(callback: keras.callbacks.Callback) -> dict[str, float | None]:
    """What EarlyStopping and ReduceLROnPlateau remember of earlier epochs."""
    # Not min_delta, whose sign Keras turns at the first use of a callback.
    names = ("wait", "cooldown_counter", "best", "best_epoch", "stopped_epoch")
    values = {name: value for name, value in vars(callback).items() if name in names}
    return {name: None if value is None else float(value) for name, value in values.items()}


def write_log(epochs: list[dict], path: Path) -> None:
    """Write a line of JSON for each epoch: phase, epoch, seconds, learning_rate and the metrics."""
    with write_atomically(path) as temporary:
        lines = [{name: value for name, value in row.items() if name not in ("kept", "mean_seconds")} for row in epochs]
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
