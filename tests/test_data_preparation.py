"""The script: its summary, exit codes and files, and what people import from it."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest
from conftest import regions, save_photo, write_via

import data_preparation
from viewpoint.cli import UserError
from viewpoint.dataset import SPLITS


def run_script(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, data_preparation.__file__, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_summarises_and_repeats_itself_to_the_byte(demo_photos, tmp_path):
    first = run_script("--data", demo_photos, "--output", tmp_path / "first")
    second = run_script("--data", demo_photos, "--output", tmp_path / "second")
    assert first.returncode == second.returncode == 0
    assert "3 annotation files read, 140 photos labelled" in first.stdout
    assert "Skipped: nothing" in first.stdout
    for name in ("train.csv", "val.csv", "test.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / "class_distribution.png").stat().st_size > 1000


def test_a_users_mistake_is_one_sentence_and_exit_code_2(tmp_path):
    nothing_there = run_script("--data", tmp_path / "nowhere")
    assert nothing_there.returncode == 2
    assert "nowhere is not a folder" in nothing_there.stderr
    assert "Traceback" not in nothing_there.stderr
    assert run_script("--datta", tmp_path).returncode == 2


def test_strict_makes_an_exit_code_of_what_was_skipped(demo_photos, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(demo_photos, photos)
    assert run_script("--data", photos, "--output", tmp_path / "dataset", "--strict").returncode == 0
    save_photo(photos / "forgotten.jpg")
    assert run_script("--data", photos, "--output", tmp_path / "dataset").returncode == 0
    assert run_script("--data", photos, "--output", tmp_path / "dataset", "--strict").returncode == 1


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


def test_without_options_the_folder_dataset_holds_photos_and_splits(demo_photos, tmp_path):
    """Lots are dropped into dataset/; what a first run writes there is not taken for photos by a second."""
    shutil.copytree(demo_photos, tmp_path / "dataset")
    first, second = run_script("--review"), run_script("--strict")
    assert first.returncode == second.returncode == 0, second.stdout + second.stderr
    assert "Skipped: nothing" in second.stdout
    assert "Next: python train.py\n" in second.stdout
    image_paths = pd.read_csv(tmp_path / "dataset" / "val.csv")["image_path"]
    assert all((tmp_path / "dataset" / path).is_file() for path in image_paths)


def test_annotations_that_are_named_like_an_output_are_read_and_never_overwritten(demo_photos, tmp_path):
    shutil.copytree(demo_photos, tmp_path / "dataset")
    save_photo(tmp_path / "dataset" / "car.jpg")
    write_via(tmp_path / "dataset" / "summary.json", {"car.jpg": regions("tailgate", "rearbumper")})
    before = (tmp_path / "dataset" / "summary.json").read_bytes()
    refused = run_script()
    assert refused.returncode == 2
    assert "summary.json was not written by this project" in refused.stderr
    assert (tmp_path / "dataset" / "summary.json").read_bytes() == before
    assert "4 annotation files read, 141 photos labelled" in run_script("--output", tmp_path / "splits").stdout
