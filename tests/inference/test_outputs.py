"""What test_predict.py reads and writes besides a folder and a CSV: names, globs, JSON lines, pipes, links."""

import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import config
import test_predict
from viewpoint.inference import model as inference
from viewpoint.inference.inputs import list_inputs
from viewpoint.inference.outputs import COLUMNS, RowFormat
from viewpoint.inference.predictor import Result


def save_board(path: Path, level: int) -> Path:
    """Save a sharp chessboard of this level and a medium grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices((240, 240)) // 12
    Image.fromarray(np.where((rows + columns) % 2, level, 127).astype(np.uint8)).convert("RGB").save(path)
    return path


@pytest.fixture
def predict(call, monkeypatch, tmp_path):
    """Runs test_predict.py with a model to which dark photos are Front, 0.7, and bright ones Rear, 0.9."""

    def runner(batch: np.ndarray) -> np.ndarray:
        rows = [[0.7, 0.3, 0, 0, 0, 0, 0] if image.mean() < 0 else [0, 0.1, 0, 0.9, 0, 0, 0] for image in batch]
        return np.array(rows, np.float32)

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 32, 7))
    (tmp_path / "labels.txt").write_text("\n".join(config.CLASSES))
    (tmp_path / "model.tflite").write_bytes(b"a model")
    for name, level in (("a.png", 20), ("lot/b.png", 250), ("lot/c.png", 20)):
        save_board(tmp_path / "photos" / name, level)
    return lambda *arguments: call(test_predict, "--model", tmp_path / "model.tflite", *arguments)


def names(path: Path | str = "predictions.csv") -> list[str]:
    return pd.read_csv(path)["image_name"].tolist()


def test_several_files_folders_and_globs(predict, tmp_path):
    every = ["a.png", "lot/b.png", "lot/c.png"]
    (tmp_path / "photos" / "list.csv").write_text("image_path\n" + "\n".join(every))
    # Photos keep their names however they are given, with the option or without it.
    for given in (
        ["photos"],
        ["photos/a.png", "photos/lot"],
        ["photos/lot/../a.png", tmp_path / "photos" / "lot" / "b.png", "photos/lot/c.png"],
        ["photos/**/*.png"],
        ["photos/list.csv"],
        ["photos/*.png", tmp_path / "photos" / "lot" / "[bc]*"],
    ):
        assert predict("--images", *given)[0] == 0
        assert names() == every, given
        assert predict(*given)[0] == 0
        assert names() == every, given
    save_board(tmp_path / "new" / "a.png", 20)
    assert predict("new", "photos")[0] == 0
    assert names() == ["new/a.png", *(f"photos/{name}" for name in every)]
    save_board(tmp_path / "photos" / "[1].png", 20)  # a name, not a glob
    assert predict("--images", "photos/[1].png")[0] == 0
    assert names() == ["[1].png"]
    code, _, error = predict("--images", "photos/*.tif")
    assert (code, "no photos match photos/*.tif" in error) == (2, True)


def test_another_run_is_replaced_with_a_word_and_labels_are_not(predict, tmp_path):
    assert "Replacing" not in predict("photos")[1]
    _, printed, _ = predict("photos", "--unknown-below", 0.8)
    assert "Replacing predictions.csv of an earlier run\n" in printed
    assert "Photos of each class:\n       1  Rear\n       2  Unknown; best_class says what" in printed
    labels = "image_path,label\nphotos/a.png,Front\n"
    (tmp_path / "list.csv").write_text(labels)
    code, _, error = predict("list.csv", "--output", "list.csv")
    assert (code, "list.csv has labels, which predictions must not replace" in error) == (2, True)
    assert (tmp_path / "list.csv").read_text() == labels


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--views Front", "--views does nothing without --per-folder"),
        ("--data lot", "--data does nothing without a CSV file, or - for standard input"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(predict, options, said):
    code, _, error = predict("photos", *options.split())
    assert (code, said in error) == (2, True)


def test_names_on_standard_input(predict, monkeypatch):
    content = "photos/a.png\n\nphotos/gone.png\r\nphotos/lot/b.png"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    code, printed, _ = predict("--images", "-")
    assert code == 1  # the one that is gone was asked for
    assert "3 photos found: 2 predicted, 1 failed\n  photos/gone.png: " in printed
    assert names() == ["photos/a.png", "photos/lot/b.png"]
    assert names("predictions_failed.csv") == ["photos/gone.png"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    code, _, error = predict("--images", "-")
    assert (code, "no names of photos on standard input" in error) == (2, True)


def test_its_own_output_is_its_input(predict, tmp_path):
    assert predict("--images", "photos")[0] == 0
    first = Path("predictions.csv").read_bytes()
    assert predict("--images", "predictions.csv", "--data", "photos", "--output", "again.csv")[0] == 0
    assert Path("again.csv").read_bytes() == first


def test_json_lines(predict):
    assert predict("--images", "photos", "--format", "jsonl", "--output", "p.jsonl", "--unknown-below", 0.8)[0] == 0
    rows = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert rows[0] == dict(zip(COLUMNS, ["a.png", "Unknown", 0.7, "Front", []], strict=True))
    assert [row["prediction"] for row in rows] == ["Unknown", "Rear", "Unknown"]
    predict("--images", "photos/a.png", "--format", "jsonl", "--output", "p.jsonl", "--probabilities")
    [row] = [json.loads(line) for line in Path("p.jsonl").read_text().splitlines()]
    assert row["probabilities"] == dict(zip(config.CLASSES, [0.7, 0.3, 0, 0, 0, 0, 0], strict=True))


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_written_rows_come_back_without_the_one_that_was_cut_off(name):
    rows = RowFormat(name, ["Front", "Rear"])
    results = [
        Result("Unknown", 0.5, "Rear", {"Front": 0.25, "Rear": 0.5}, ("too dark", "blurred")),
        Result("Front", 0.75, "Front", {"Front": 0.75, "Rear": 0.25}),
    ]
    text = rows.header + rows.line('a "b",\nc.png', results[0]) + rows.line("d.png", results[1])
    assert list(rows.read(io.StringIO(text))) == [('a "b",\nc.png', results[0]), ("d.png", results[1])]
    assert list(rows.read(io.StringIO(text[:-12]))) == [('a "b",\nc.png', results[0])]


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_rows_of_videos_have_times_and_are_predicted_again(name):
    rows = RowFormat(name, has_videos=True)
    photo, stretch = Result("Front", 0.75, "Front"), Result("Rear", 0.5, "Rear", start=1.234, end=12)
    text = rows.header + rows.line("a.mp4", stretch) + rows.line("b.png", photo)
    assert (
        text
        == {
            "csv": "image_name,prediction,score,best_class,quality,start,end\n"
            "a.mp4,Rear,0.5000,Rear,,1.23,12.00\nb.png,Front,0.7500,Front,,,\n",
            "jsonl": '{"image_name": "a.mp4", "prediction": "Rear", "score": 0.5, "best_class": "Rear", "quality": [], '
            '"start": 1.23, "end": 12}\n'
            '{"image_name": "b.png", "prediction": "Front", "score": 0.75, "best_class": "Front", "quality": []}\n',
        }[name]
    )
    assert list(rows.read(io.StringIO(text))) == [("b.png", photo)]


def test_rows_on_standard_output_and_the_summary_elsewhere(predict):
    Path("photos/bad.png").write_bytes(b"")
    code, printed, error = predict("--images", "photos", "--output", "-")
    assert code == 0
    assert [line.split(",")[:2] for line in printed.splitlines()] == [
        ["image_name", "prediction"], ["a.png", "Front"], ["lot/b.png", "Rear"], ["lot/c.png", "Front"]
    ]  # fmt: skip
    assert "4 photos found: 3 predicted, 1 failed\n  bad.png: cannot read" in error
    assert not list(Path().glob("*_failed.csv"))
    assert predict("--images", "photos", "--output", "-", "--resume")[0] == 2
    assert predict("--images", "photos", "--output", "-", "--per-folder")[0] == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_written_through_and_stays(predict, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert predict("--images", "photos", "--output", "pipe")[0] == 0
    reader.join(timeout=20)
    assert len(read[0].splitlines()) == 4
    assert (tmp_path / "pipe").is_fifo()


def test_a_device_is_never_replaced(predict, tmp_path, monkeypatch):
    """A file stands in for the device, because a mistake would replace a real one."""
    device = tmp_path / "device"
    device.write_text("")
    before = device.stat().st_ino
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda self: self.name != "device" and is_file(self))
    assert predict("--images", "photos", "--output", "device")[0] == 0
    assert device.stat().st_ino == before
    assert len(device.read_text().splitlines()) == 4
    assert not list(tmp_path.glob(".device*"))


def test_a_link_stays_a_link(predict, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "elsewhere" / "real.csv")
    assert predict("--images", "photos", "--output", "link.csv")[0] == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert names("elsewhere/real.csv") == ["a.png", "lot/b.png", "lot/c.png"]
    assert not list((tmp_path / "elsewhere").glob(".*"))


def test_one_photo_is_a_sentence(predict, tmp_path):
    assert (
        "a.png is Front with a score of 0.70; next comes FrontLeft with 0.30." in predict("--images", "photos/a.png")[1]
    )
    printed = predict("--images", "photos/a.png", "--unknown-below", 0.8)[1]
    assert (
        "a.png is Unknown, because the best class, Front with a score of 0.70, is below 0.80; "
        "next comes FrontLeft with 0.30." in printed
    )
    Image.new("RGB", (50, 50)).save(tmp_path / "night.png")
    assert "next comes FrontLeft with 0.30. The photo is too dark." in predict("--images", "night.png")[1]


def test_every_photo_that_is_found_is_predicted_or_failed(predict, tmp_path):
    for index in range(20):
        (tmp_path / "photos" / f"bad {index}.png").write_bytes(b"")
    (tmp_path / "list.csv").write_text("image_name\n" + "\n".join(f"photos/{index}.png" for index in range(30)))
    code, printed, _ = predict("--images", "photos", "list.csv", "photos/a.png")
    assert code == 1
    assert len(list_inputs(["photos", "list.csv", "photos/a.png"])) == 23 + 30 + 1
    assert "54 photos found: 4 predicted, 50 failed" in printed
    assert len(names()) == 4
    assert len(names("predictions_failed.csv")) == 50
