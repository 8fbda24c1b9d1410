"""Training and prediction killed at random moments end as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
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
from viewpoint.data.dataset import SPLITS
from viewpoint.data.scan import parse_dataset
from viewpoint.data.splits import create_stratified_splits
from viewpoint.handoff.quantization import convert
from viewpoint.training import checkpoint
from viewpoint.training.settings import Settings

PROJECT = Path(__file__).parents[2]

OPTIONS = {
    "default": "--phase1-epochs 4 --phase2-epochs 5 --phase1-views 2",
    # Little patience: early stopping must stop where it would have, and go back to the same epoch.
    "reference": "--recipe reference --phase1-epochs 6 --phase2-epochs 9 --early-stopping-patience 2 --lr-patience 1 "
    "--phase1-learning-rate 0.1",
}


def lines_of(folder: Path, pattern: str) -> int:
    """Lines of the fullest file of this pattern."""
    return max((file.read_bytes().count(b"\n") for file in folder.glob(pattern) if file.is_file()), default=0)


def kill_after(command: list, folder: Path, pattern: str, lines: int, delay: float = 0) -> bool:
    """Start a command, and kill it `delay` seconds after a file has so many lines; False if it was done before."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and lines_of(folder, pattern) < lines:
        time.sleep(0.005)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def training(demo_photos, tmp_path_factory) -> list:
    """The command of a training on splits in a folder, from a weights file for the tiny backbone."""
    folder = tmp_path_factory.mktemp("training")
    parts = create_stratified_splits(parse_dataset(demo_photos))
    for name, part in zip(SPLITS, parts, strict=True):
        part.to_csv(folder / f"{name}.csv", index=False)
    tiny_train.build_backbone("", None).save_weights(folder / "tiny.weights.h5")
    command = [sys.executable, tiny_train.__file__, "--dataset", folder, "--data", demo_photos, "--image-size", 32]
    return [*command, "--weights", folder / "tiny.weights.h5", "--quiet"]


@pytest.mark.stress
@pytest.mark.parametrize("recipe", ["default", "reference"])
def test_a_training_killed_twice_ends_with_the_same_weights(call, training, tmp_path, monkeypatch, recipe):
    """What is not killed runs in this process, which is faster; the others are processes of their own."""
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    command = [*training, *OPTIONS[recipe].split()]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    code, _, error = call(train, *command[2:], "--models", whole)
    assert code == 0, error
    history = json.loads((whole / "report" / "metrics.json").read_text())["history"]
    chance = random.Random(recipe)
    moments = sorted(chance.sample(range(1, len(history) - 1), 2))
    for moment, resume in zip(moments, ([], ["--resume"]), strict=True):
        assert kill_after(
            [*command, "--models", killed, *resume], killed, "report/log.jsonl", moment, chance.uniform(0, 0.05)
        )
        assert not (killed / "model.keras").exists()
    code, printed, error = call(train, *command[2:], "--models", killed, "--resume")
    assert code == 0, error
    assert "Continuing after phase" in printed
    resumed = json.loads((killed / "report" / "metrics.json").read_text())["history"]
    timeless = [[{k: v for k, v in row.items() if "seconds" not in k} for row in rows] for rows in (history, resumed)]
    assert timeless[1] == timeless[0]
    assert lines_of(killed, "report/log.jsonl") == len(history)
    weights = [keras.models.load_model(models / "model.keras").get_weights() for models in (whole, killed)]
    for one, other in zip(*weights, strict=True):
        assert np.array_equal(one, other)
    assert not list(killed.glob("checkpoint*"))


@pytest.fixture(scope="module")
def colour_model(tmp_path_factory) -> Path:
    """A .tflite model that decides by a photo's mean colour, with its labels."""
    folder = tmp_path_factory.mktemp("model")
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(7, activation="softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, outputs)
    model.layers[-1].set_weights([np.random.default_rng(1).normal(0, 3, (3, 7)), np.zeros(7)])
    model.export(folder / "saved_model", verbose=False)
    (folder / "model.tflite").write_bytes(convert(folder / "saved_model"))
    (folder / "labels.txt").write_text("\n".join(config.CLASSES) + "\n")
    return folder / "model.tflite"


def test_a_prediction_killed_twice_ends_with_the_same_rows(colour_model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    contents = [save_photo(tmp_path / "photo.png", seed, size=(90, 60)).read_bytes() for seed in range(20)]
    for index in range(1500):
        name = f"{index:04}\n\u2028{index % 7}.png" if index % 100 == 0 else f"{index:04} é.png"
        photos.joinpath(name).write_bytes(b"no image" if index % 50 == 7 else contents[index % 20])
    command = [sys.executable, PROJECT / "test_predict.py", "--model", colour_model, "--images", photos, "--output"]
    subprocess.run([*map(str, command), str(tmp_path / "whole.csv")], check=True, capture_output=True)
    chance = random.Random(5)
    for least, resume in ((100, []), (500, ["--resume"])):
        # Its rows so far lie in a hidden file.
        done = kill_after(
            [*command, tmp_path / "killed.csv", *resume], tmp_path, ".killed.*", least + chance.randrange(300)
        )
        assert done
        assert not (tmp_path / "killed.csv").exists()
    with (tmp_path / ".killed.csv.partial").open("ab") as file:
        file.write('"0999 é'.encode()[:-1])  # as if killed while writing a character
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "killed.csv"), "--resume"], check=True, capture_output=True
    )
    assert b"had been predicted before the interruption" in done.stdout
    assert b"1500 photos found: 1470 predicted, 30 failed" in done.stdout
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not list(tmp_path.glob(".killed*"))


def describe(settings: Settings, splits: dict[str, pd.DataFrame]) -> dict[str, str]:
    return checkpoint.describe(vars(settings), splits)


@pytest.mark.parametrize("change", [{"seed": 1}, {"phase2_epochs": 6}, {"flip": False}])
def test_a_checkpoint_of_other_settings_is_refused_by_their_name(tmp_path, change):
    splits = dict.fromkeys(("train", "val"), pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    before = describe(Settings(), splits)
    checkpoint.save_state(checkpoint.State(before, variables=[np.arange(3.0), np.array(2)]), tmp_path / "c.npz")
    state = checkpoint.load_state(tmp_path / "c.npz", describe(Settings(quiet=True, resume=True), splits))
    assert [array.tolist() for array in state.variables] == [[0, 1, 2], 2]
    [name] = change
    with pytest.raises(UserError, match=f"belongs to a training with another {name} .*start over without --resume"):
        checkpoint.load_state(tmp_path / "c.npz", describe(Settings(**change), splits))
    corrected = {name: split.assign(label="Rear") for name, split in splits.items()}
    with pytest.raises(UserError, match=r"another train\.csv"):
        checkpoint.load_state(tmp_path / "c.npz", describe(Settings(), corrected))
    for damaged in ((tmp_path / "c.npz").read_bytes()[:-30], b""):
        (tmp_path / "c.npz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"c\.npz is damaged"):
            checkpoint.load_state(tmp_path / "c.npz", before)


def test_another_weights_file_of_the_same_name_is_another_training(tmp_path):
    splits = dict.fromkeys(("train", "val"), pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    weights = tmp_path / "w.h5"
    found = []
    for content in (b"a", b"b", b"b"):
        weights.write_bytes(content)
        found.append(describe(Settings(weights=str(weights)), splits)["weights"])
    assert found[0] != found[1] == found[2]


def test_callbacks_go_on_where_they_were_and_not_with_a_turned_sign():
    """Keras turns the sign of min_delta at a callback's first use; a restored one would have it turned twice."""
    plateau = keras.callbacks.ReduceLROnPlateau(min_delta=1e-4)
    plateau.set_model(keras.Sequential([keras.layers.Dense(1)]))
    plateau.model.compile("adam")
    plateau.on_train_begin()
    plateau.on_epoch_end(0, {"val_loss": 1.0})
    plateau.on_epoch_end(1, {"val_loss": 1.0})
    assert checkpoint.counters_of(plateau) == {"wait": 1, "cooldown_counter": 0, "best": 1.0}


def test_a_folder_that_cannot_be_written_is_known_before_the_training(tmp_path):
    splits = dict.fromkeys(("train", "val"), pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    (tmp_path / "models").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*models"):
        train.begin(Settings(models=tmp_path / "models"), splits)


def test_a_finished_training_is_not_resumed_but_said_to_be_finished(tmp_path):
    splits = dict.fromkeys(("train", "val"), pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    (tmp_path / "model.keras").write_bytes(b"finished")
    with pytest.raises(UserError, match=r"nothing to resume: the training of .*model\.keras is finished"):
        train.refuse_finished(tmp_path)
    train.begin(Settings(models=tmp_path), splits)
    train.refuse_finished(tmp_path)
    assert train.begin(Settings(models=tmp_path, resume=True), splits).phase == 0  # killed before its first epoch


@pytest.mark.stress
def test_deterministic_trainings_give_the_same_file_to_the_bit(training, tmp_path):
    command = [*training, "--phase1-epochs", 1, "--phase2-epochs", 2, "--deterministic"]
    # At the same time, because most of it is starting TensorFlow.
    runs = [
        subprocess.Popen([*map(str, command), "--models", str(tmp_path / name)], stdout=subprocess.DEVNULL)
        for name in ("first", "second")
    ]
    assert [run.wait() for run in runs] == [0, 0]
    files = [(tmp_path / name / "model.keras").read_bytes() for name in ("first", "second")]
    assert files[0] == files[1]
