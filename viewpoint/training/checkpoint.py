"""The state of a training, written after every epoch, so that train.py --resume can continue a killed one.

Needs TensorFlow.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from viewpoint.common.cli import UserError, refuse_other_settings
from viewpoint.common.writing import write_atomically
from viewpoint.training.batches import FeatureBatches, TrainingBatches

CHECKPOINT_NAME = "checkpoint.npz"
LOG_NAME = "log.jsonl"
SECONDS_BETWEEN_PAGES = 10  # a page takes about 0.2 seconds
# Options that do not change what is trained.
FREE_OPTIONS = ("models", "dataset", "data", "cache", "quiet", "resume")


@dataclass
class State:
    """Everything needed to resume: progress, variables, callback state, history.

    `history` has the epochs of finished phases, and `kept_weights` the model's weights after the
    better of them; all other fields belong to the phase in progress. `best_weights` are the
    weights that early stopping would restore.
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


def describe(options: Mapping[str, object], splits: dict[str, pd.DataFrame]) -> dict[str, str]:
    """What the result of a training depends on: its options, and which photos have which labels."""
    settings = {name: str(value) for name, value in options.items() if name not in FREE_OPTIONS}
    # A training that was interrupted while it made its report has already replaced this model.
    replaced = (Path(str(options["models"])) / "model.keras").absolute()
    for name in ("weights", "start_from"):
        path = Path(settings[name])
        if path.is_file() and path.absolute() != replaced:  # the same file name with other weights is another training
            settings[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    for name in ("train", "val"):
        content = splits[name][["image_path", "label"]].to_csv(index=False)
        settings[f"{name}.csv"] = hashlib.sha256(content.encode()).hexdigest()[:12]
    return settings


def save_state(state: State, path: Path) -> None:
    """Write a state to an .npz file: the arrays as they are, the rest as JSON. Raises UserError on a full disk."""
    arrays = {f"{name}/{number}": array for name in ARRAYS for number, array in enumerate(getattr(state, name))}
    rest = {item.name: getattr(state, item.name) for item in dataclasses.fields(state) if item.name not in ARRAYS}
    with write_atomically(path) as temporary:
        np.savez(temporary, rest=np.frombuffer(json.dumps(rest).encode(), np.uint8), **arrays)


def load_state(path: Path, settings: dict[str, str]) -> State | None:
    """Read the state of an interrupted training with these settings; None when there is no such file.

    Raises UserError when the file is damaged, or when its training had other settings.
    """
    if not path.is_file():
        return None
    try:
        # Opened here, because np.load leaves a damaged file open.
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            state = State(**json.loads(file["rest"].tobytes()))
            for name in ARRAYS:
                count = sum(key.startswith(f"{name}/") for key in file.files)
                setattr(state, name, [file[f"{name}/{number}"] for number in range(count)])
        before_settings = dict(state.settings)
    except Exception as error:  # a damaged file can raise almost any type
        raise UserError(f"{path} is damaged ({error}); train without --resume to start over") from error
    refuse_other_settings(path, "training", before_settings, settings)
    return state


class Checkpoint(keras.callbacks.Callback):
    """Restores a phase in progress, and writes the log and the state after each epoch.

    Calls `show_progress` with all epochs so far, but not more often than every SECONDS_BETWEEN_PAGES.
    Must be the last callback, because it saves the state of the others (`callbacks`) after an
    epoch, and restores it after their on_train_begin has reset it.
    """

    def __init__(
        self,
        state: State,
        models: Path,
        batches: TrainingBatches | FeatureBatches,
        callbacks: Sequence[keras.callbacks.Callback],
        show_progress: Callable[..., None],
    ):
        super().__init__()
        self.show_progress, self.shown = show_progress, -math.inf
        self.state, self.models, self.batches, self.callbacks = state, models, batches, callbacks
        self.started = time.monotonic() - state.seconds

    def list_variables(self) -> list[keras.Variable]:
        """The variables of the network, including its random generators, and of the optimizer."""
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        return [*self.model.variables, *optimizer.variables]

    def on_train_begin(self, logs=None):
        if not self.state.epochs:
            return
        # Not before fit(), because fit() calls the batches' on_epoch_end before the first epoch.
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
        # Keras's own BackupAndRestore would lose these counters and best results.
        state.callbacks = {type(callback).__name__: counters_of(callback) for callback in self.callbacks}
        state.variables = [keras.ops.convert_to_numpy(variable) for variable in self.list_variables()]
        for callback in self.callbacks:
            if isinstance(callback, keras.callbacks.EarlyStopping):
                state.best_weights = callback.best_weights or []
        try:
            epochs = [*state.history, *state.epochs]
            write_log(epochs, self.models / "report" / LOG_NAME)
            if time.monotonic() - self.shown >= SECONDS_BETWEEN_PAGES:
                self.show_progress(epochs, folder=self.models / "report")
                self.shown = time.monotonic()
            if np.isfinite(logs["loss"]):
                save_state(state, self.models / CHECKPOINT_NAME)
        except UserError as error:  # the training itself can continue
            print(f"\nThis epoch was not saved, so --resume cannot continue from it: {error}")


def counters_of(callback: keras.callbacks.Callback) -> dict[str, float | None]:
    """The state of EarlyStopping and ReduceLROnPlateau after an epoch."""
    # Without min_delta, because Keras changes its sign when a callback is first used.
    names = ("wait", "cooldown_counter", "best", "best_epoch", "stopped_epoch")
    values = {name: value for name, value in vars(callback).items() if name in names}
    return {name: None if value is None else float(value) for name, value in values.items()}


def write_log(epochs: list[dict], path: Path) -> None:
    """Write one JSON line an epoch: phase, epoch, seconds, learning_rate and the metrics."""
    with write_atomically(path) as temporary:
        lines = [{name: value for name, value in row.items() if name not in ("kept", "mean_seconds")} for row in epochs]
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
