"""The script: its summary, exit codes and files, and what people import from it."""

import errno
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import regions, save_photo, write_via

import convert_tflite
import data_preparation
from viewpoint.common.cli import UserError
from viewpoint.common.writing import lock
from viewpoint.data.dataset import SPLITS, read_split
from viewpoint.data.duplicates import perceptual_hash
from viewpoint.data.splits import remember_learned


@pytest.fixture
def prepare(call) -> Callable[..., tuple[int, str, str]]:
    """Runs data_preparation.py: (exit code, output, error)."""
    return functools.partial(call, data_preparation)


def test_the_script_summarises_and_repeats_itself_to_the_byte(prepare, demo_photos, tmp_path):
    command = [sys.executable, data_preparation.__file__, "--data", demo_photos, "--output", tmp_path / "first"]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    code, second, _ = prepare("--data", demo_photos, "--output", tmp_path / "second")
    assert code == 0
    for printed in (first, second):
        assert "3 annotation files read, 140 photos labelled" in printed
        assert "Skipped: nothing" in printed
    for name in ("train.csv", "val.csv", "test.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / "class_distribution.png").stat().st_size > 1000


def test_a_users_mistake_is_one_sentence_and_exit_code_2(prepare, tmp_path):
    command = [sys.executable, data_preparation.__file__, "--data", tmp_path / "nowhere"]
    nothing_there = subprocess.run(command, capture_output=True, text=True, check=False)
    assert nothing_there.returncode == 2
    assert "nowhere is not a folder" in nothing_there.stderr
    assert "Traceback" not in nothing_there.stderr
    assert prepare("--datta", tmp_path)[0] == 2


def test_two_commands_do_not_write_one_folder(prepare, call, demo_photos, tmp_path):
    for command, folder, option in (
        (functools.partial(prepare, "--data", demo_photos), "dataset", "--output"),
        (functools.partial(call, convert_tflite), "models", "--models"),
    ):
        with lock(tmp_path / folder, option):
            code, _, error = command(option, tmp_path / folder)
            assert code == 2
            assert f"{folder} is in use by process {os.getpid()} on " in error
            assert [path.name for path in (tmp_path / folder).iterdir()] == [".lock"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_names_that_are_not_utf_8_stop_nothing(prepare, demo_photos, tmp_path):
    photos, dataset = tmp_path / "photos", tmp_path / os.fsdecode(b"donn\xe9es")
    shutil.copytree(demo_photos, photos)
    (photos / os.fsdecode(b"\xe9.jpg")).write_bytes(b"no image")
    code, printed, _ = prepare("--data", photos, "--output", dataset, "--review")
    assert code == 0
    assert "    \\udce9.jpg\n" in printed
    assert json.loads((dataset / "summary.json").read_text())["skipped"] == {"never annotated": [r"\udce9.jpg"]}
    assert (dataset / "review.html").is_file()


def test_strict_makes_an_exit_code_of_what_was_skipped(prepare, demo_photos, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(demo_photos, photos)
    assert prepare("--data", photos, "--output", tmp_path / "dataset", "--strict")[0] == 0
    save_photo(photos / "forgotten.jpg")
    assert prepare("--data", photos, "--output", tmp_path / "dataset")[0] == 0
    assert prepare("--data", photos, "--output", tmp_path / "dataset", "--strict")[0] == 1


def test_a_refusal_does_not_point_to_a_summary_that_was_not_written(prepare, tmp_path):
    for index in range(8):
        save_photo(tmp_path / "photos" / f"{index}.jpg", seed=index)
    write_via(tmp_path / "photos" / "via.json", {"0.jpg": regions("bonnet", "frontbumper")})
    code, printed, error = prepare("--data", tmp_path / "photos", "--output", tmp_path / "dataset")
    assert code == 2
    assert "too few photos to split" in error
    assert "never annotated: 7" in printed
    assert "    ... and 2 more\n" in printed
    assert "summary.json" not in printed
    code, printed, _ = prepare("--data", tmp_path / "photos", "--output", tmp_path / "dataset", "--split", "none")
    assert code == 0
    assert f"... the rest is in {tmp_path / 'dataset' / 'summary.json'}" in printed
    assert len(json.loads((tmp_path / "dataset" / "summary.json").read_text())["skipped"]["never annotated"]) == 7


def test_photos_on_another_windows_drive_are_found_by_their_absolute_path(prepare, demo_photos, tmp_path, monkeypatch):
    def other_drive(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    code, _, error = prepare("--data", demo_photos, "--output", tmp_path / "dataset", "--review", 3)
    assert code == 0, error
    assert json.loads((tmp_path / "dataset" / "summary.json").read_text())["data_dir"] == demo_photos.as_posix()
    assert all(Path(file).is_file() for file in read_split(tmp_path / "dataset" / "val.csv")["file"])


def test_an_earlier_dataset_survives_an_error_while_it_is_replaced(prepare, demo_photos, tmp_path, monkeypatch):
    dataset = tmp_path / "dataset"
    assert prepare("--data", demo_photos, "--output", dataset)[0] == 0
    earlier = {path.name: path.read_bytes() for path in dataset.iterdir()}
    names, replace = [], Path.replace

    def fail_at_the_fourth(path, target):
        names.append(Path(target).name)
        if len(names) == 4:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail_at_the_fourth)
        code, _, error = prepare("--data", demo_photos, "--output", dataset, "--resplit", "--seed", 5)
    assert code == 2
    assert f"cannot write {dataset / 'train.csv'}: Input/output error" in error
    assert names[:4] == ["train.csv", "val.csv", "test.csv", "splits.csv"]
    assert {path.name: path.read_bytes() for path in dataset.iterdir()} == earlier
    assert prepare("--data", demo_photos, "--output", dataset, "--resplit", "--seed", 5)[0] == 0
    assert (dataset / "train.csv").read_bytes() != earlier["train.csv"]


def test_splits_are_written_together_or_not_at_all(tmp_path, monkeypatch):
    """A new train.csv beside an old test.csv would share photos with it."""
    splits = dict.fromkeys(SPLITS, pd.DataFrame({"image_path": ["a.jpg"], "label": ["Front"]}))
    for name in SPLITS:
        (tmp_path / f"{name}.csv").write_text("earlier")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data_preparation, "draw_class_distribution", fail)
    with pytest.raises(UserError, match="No space left on device"):
        data_preparation.write_dataset(splits, None, {}, {}, tmp_path)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"earlier"}


def test_what_people_import_from_the_scripts():
    """The imports that users write into their own code."""
    from data_preparation import (
        DAMAGE_PARTS,
        FRONT_PARTS,
        LEFT_PARTS,
        REAR_PARTS,
        RIGHT_PARTS,
        create_stratified_splits,
        extract_viewpoint_label,
        parse_dataset,
    )
    from test_predict import predict_images

    assert "bonnet" in FRONT_PARTS and "tailgate" in REAR_PARTS and "scratch" in DAMAGE_PARTS
    assert [name.replace("left", "right", 1) for name in LEFT_PARTS] == RIGHT_PARTS
    assert extract_viewpoint_label(regions("bonnet", "leftheadlamp")) == "FrontLeft"
    assert all(map(callable, (parse_dataset, create_stratified_splits, predict_images)))


def test_what_looks_like_a_photo_learned_without_labels_is_in_train(prepare, demo_photos, tmp_path):
    prepare("--data", demo_photos, "--output", tmp_path)
    photo = read_split(tmp_path / "test.csv").iloc[0]
    # Another photo, of which two bits are others.
    remember_learned(tmp_path, {"0123456789abcdef": perceptual_hash(Path(photo["file"])) ^ 0b101})
    assert prepare("--data", demo_photos, "--output", tmp_path)[0] == 0
    assert photo["image_path"] in read_split(tmp_path / "train.csv")["image_path"].tolist()
    assert ",train,0123456789abcdef," in (tmp_path / "splits.csv").read_text()  # for the next photos


def test_without_options_the_folder_dataset_holds_photos_and_splits(prepare, demo_photos, tmp_path):
    """Lots are dropped into dataset/; what a first run writes there is not taken for photos by a second."""
    shutil.copytree(demo_photos, tmp_path / "dataset")
    assert prepare("--review")[0] == 0
    code, printed, error = prepare("--strict")
    assert code == 0, printed + error
    assert "Skipped: nothing" in printed
    assert "Next: python train.py\n" in printed
    image_paths = pd.read_csv(tmp_path / "dataset" / "val.csv")["image_path"]
    assert all((tmp_path / "dataset" / path).is_file() for path in image_paths)


def test_annotations_that_are_named_like_an_output_are_read_and_never_overwritten(prepare, demo_photos, tmp_path):
    shutil.copytree(demo_photos, tmp_path / "dataset")
    save_photo(tmp_path / "dataset" / "car.jpg")
    write_via(tmp_path / "dataset" / "summary.json", {"car.jpg": regions("tailgate", "rearbumper")})
    before = (tmp_path / "dataset" / "summary.json").read_bytes()
    code, _, error = prepare()
    assert code == 2
    assert "summary.json was not written by this project" in error
    assert (tmp_path / "dataset" / "summary.json").read_bytes() == before
    assert "4 annotation files read, 141 photos labelled" in prepare("--output", tmp_path / "splits")[1]
