"""Prediction: what goes in, what comes out, what is skipped, and what it needs not import."""

import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import config
import test_predict
from viewpoint.common.cli import UserError, run
from viewpoint.common.metrics import accuracy_and_macro_f1
from viewpoint.common.writing import lock
from viewpoint.inference import model as inference
from viewpoint.inference.outputs import COLUMNS, Outcome, Prediction
from viewpoint.inference.predictor import Result
from viewpoint.reports import folders
from viewpoint.reports.folders import LeastCertain, draw_predictions
from viewpoint.reports.pictures import contact_sheet


@pytest.fixture
def brightness_model(monkeypatch) -> None:
    """Replaces every model by one to which dark photos are Front and bright ones Background."""

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = np.full((len(batch), 7), 0.02, np.float32)
        probabilities[range(len(batch)), [0 if image.mean() < 0 else 6 for image in batch]] = 0.88
        return probabilities

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 16, 7))


@pytest.fixture
def labels(tmp_path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(config.CLASSES) + "\n")
    return path


def save_grey(path: Path, level: int) -> Path:
    """Save a chessboard of this level and a medium grey, sharp and neither too dark nor too bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices((240, 240)) // 12
    board = np.where((rows + columns) % 2, level, 127).astype(np.uint8)
    Image.fromarray(board).convert("RGB").save(path)
    return path


# The columns besides image_name of a photo that the brightness model is sure of.
ANSWERS = {
    name: {"prediction": name, "score": 0.88, "best_class": name, "quality": ""} for name in ("Front", "Background")
}


def predict(images: Path, labels: Path, **options) -> tuple[Outcome, list[dict]]:
    output = labels.parent / "predictions.csv"
    outcome = test_predict.predict_images("any.tflite", labels, images, output, test_predict.Options(**options))
    return outcome, pd.read_csv(output, keep_default_na=False).to_dict("records")


def test_a_folder_keeps_equal_names_apart_and_reports_unreadable_files(brightness_model, labels, tmp_path):
    photos = tmp_path / "photos"
    save_grey(photos / "b" / "car.jpg", 20)
    save_grey(photos / "a é [1]" / "car.JPG", 230)
    (photos / "broken.png").write_bytes(b"no image")
    (photos / "notes.txt").write_text("no photo")
    outcome, rows = predict(photos, labels)
    assert rows == [
        {"image_name": "a é [1]/car.JPG", **ANSWERS["Background"]},
        {"image_name": "b/car.jpg", **ANSWERS["Front"]},
    ]
    assert (outcome.predicted, outcome.failed) == (2, 1)
    failed = pd.read_csv(tmp_path / "predictions_failed.csv").to_dict("records")
    reason = f"cannot read {photos / 'broken.png'}: not an image, or damaged at its beginning"
    assert failed == [{"image_name": "broken.png", "reason": reason}]
    (photos / "broken.png").unlink()
    predict(photos, labels)
    assert not (tmp_path / "predictions_failed.csv").exists()


def test_a_single_image_and_its_exact_csv(brightness_model, labels, tmp_path):
    predict(save_grey(tmp_path / "car.png", 10), labels)
    assert (tmp_path / "predictions.csv").read_bytes() == (
        b"image_name,prediction,score,best_class,quality\ncar.png,Front,0.8800,Front,\n"
    )


def test_a_csv_with_labels_is_scored(brightness_model, labels, tmp_path):
    for name, level in (("1.png", 10), ("2.png", 20), ("3.png", 240)):
        save_grey(tmp_path / name, level)
    (tmp_path / "some.csv").write_text("image_path,label\n3.png,Background\n1.png,Front\n2.png,Background\n")
    outcome, rows = predict(tmp_path / "some.csv", labels)
    assert [row["image_name"] for row in rows] == ["3.png", "1.png", "2.png"]
    accuracy, macro_f1 = accuracy_and_macro_f1(*zip(*outcome.labelled.elements(), strict=True))
    # Front: precision 1/2, recall 1; Background: precision 1, recall 1/2. Both F1 2/3.
    assert accuracy == pytest.approx(2 / 3)
    assert macro_f1 == pytest.approx(2 / 3)


def test_a_spelled_column_and_rows_without_a_label_are_scored_by_the_others(brightness_model, labels, tmp_path):
    for name, level in (("a.png", 10), ("b.png", 10), ("c.png", 200)):
        save_grey(tmp_path / name, level)
    (tmp_path / "some.csv").write_text("image_path, label\na.png,Front\nb.png,\nc.png,Front\na.png,Front\n")
    outcome, rows = predict(tmp_path / "some.csv", labels)
    assert [row["prediction"] for row in rows] == ["Front", "Front", "Background", "Front"]
    assert outcome.labelled == {("Front", "Front"): 2, ("Front", "Background"): 1}


def test_a_photo_with_two_labels_is_refused(brightness_model, labels, tmp_path):
    save_grey(tmp_path / "a.png", 10)
    (tmp_path / "some.csv").write_text("image_path,label\na.png,Front\na.png,\na.png,Rear\n")
    with pytest.raises(UserError, match=r"some\.csv names a\.png twice, as Front and as Rear; keep the row"):
        predict(tmp_path / "some.csv", labels)


def test_many_photos_in_many_threads_keep_their_order(brightness_model, labels, tmp_path):
    levels = [10 if index % 3 else 240 for index in range(40)]
    for index, level in enumerate(levels):
        # The first ones take longest to decode.
        path = save_grey(tmp_path / "photos" / f"{index:02}.png", level)
        Image.open(path).resize((2000 - 40 * index,) * 2).save(path)
    _, rows = predict(tmp_path / "photos", labels, threads=4)
    assert [row["image_name"] for row in rows] == [f"{index:02}.png" for index in range(40)]
    assert [row["prediction"] for row in rows] == ["Front" if level == 10 else "Background" for level in levels]


def test_a_score_below_the_threshold_is_unknown_and_is_not_scored(brightness_model, labels, tmp_path):
    for name, level in (("1.png", 10), ("2.png", 240)):
        save_grey(tmp_path / name, level)
    (tmp_path / "some.csv").write_text("image_path,label\n1.png,Front\n2.png,Front\n")
    for threshold, expected in ((0.88, ["Front", "Background"]), (0.881, ["Unknown", "Unknown"])):
        outcome, rows = predict(tmp_path / "some.csv", labels, unknown_below=threshold)
        assert [row["prediction"] for row in rows] == expected
        assert [row["score"] for row in rows] == [0.88, 0.88]
        assert [row["best_class"] for row in rows] == ["Front", "Background"]
    assert not outcome.labelled


def test_a_column_for_each_class(brightness_model, labels, tmp_path):
    _, [row] = predict(save_grey(tmp_path / "car.png", 10), labels, all_probabilities=True)
    assert list(row) == [*COLUMNS, *config.CLASSES]
    assert [row[name] for name in config.CLASSES] == [0.88, *[0.02] * 6]


def test_tta_averages_an_image_with_its_mirror_whose_classes_are_mirrored_back():
    def runner(batch):
        # Sees a car from its front left when the image's left half is bright, from its front right otherwise.
        sure = np.array([[0, 0.8, 0, 0, 0, 0.2, 0]] if batch[0, :, :8].mean() > 0 else [[0.1, 0, 0.6, 0.3, 0, 0, 0]])
        return sure.astype(np.float32)

    image = np.full((1, 16, 16, 3), -1, np.float32)
    image[:, :, :8] = 1
    averaged = inference.with_mirror(runner, config.CLASSES)(image)
    # Front 0.1, FrontLeft from FrontRight 0.6, Rear 0.3 of the mirror image.
    assert averaged[0] == pytest.approx([0.05, (0.8 + 0.6) / 2, 0, 0.15, 0, 0.1, 0])
    with pytest.raises(UserError, match="cannot mirror the classes cat, dog"):
        inference.with_mirror(runner, ["cat", "dog"])


def test_the_contact_sheet_shows_the_lowest_scores_first(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CONTACT_SHEET_IMAGES", 3)
    colours = {"a.png": (255, 0, 0), "b.png": (0, 255, 0), "c.png": (0, 0, 255), "d.png": (9, 9, 9)}
    for name, colour in colours.items():
        Image.new("RGB", (160, 160), colour).save(tmp_path / name)
    scores = {"a.png": 0.9, "b.png": 0.4, "c.png": 0.6, "d.png": 0.95}
    labels = {"b.png": "Front", "c.png": "Rear"}
    photos = LeastCertain()
    for name, score in scores.items():
        photos.add(Prediction(name, tmp_path / name, Result("Front", score, "Front"), labels.get(name)))
    drawn = []
    monkeypatch.setattr(folders, "contact_sheet", lambda *values: drawn.append(values) or contact_sheet(*values))
    draw_predictions(photos, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        sheet = sheet.convert("RGB")
        # Three tiles side by side: green, blue, red; the one in the middle is wrong and has a red frame.
        places = [8 + index * 168 for index in range(3)]
        assert [sheet.getpixel((left + 80, 120)) for left in places] == [
            colours[name] for name in ("b.png", "c.png", "a.png")
        ]
        assert [sheet.getpixel((left + 2, 120)) for left in places] == [(0, 255, 0), (192, 0, 0), (255, 0, 0)]
    [(tiles, _, title)] = drawn
    assert title == "The least certain 3 of 4 predictions, the lowest score first; 1 of them wrong, in red"
    assert [tile.lines for tile in tiles] == [
        ["Front 0.40", "true: Front", "b.png"],
        ["Front 0.60", "wrong, true: Rear", "c.png"],
        ["Front 0.90", "a.png"],
    ]


def test_without_a_readable_photo_earlier_predictions_stay(brightness_model, labels, tmp_path):
    (tmp_path / "predictions.csv").write_text("earlier")
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 photo could be read"):
        test_predict.predict_images("any.tflite", labels, tmp_path / "broken.jpg", tmp_path / "predictions.csv")
    assert (tmp_path / "predictions.csv").read_text() == "earlier"


def test_mistakes_are_one_sentence(brightness_model, labels, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="names no file to write"):
        test_predict.predict_images("any.tflite", labels, save_grey(tmp_path / "car.png", 10), tmp_path / "folder.csv")
    with pytest.raises(UserError, match="names no file to write"):
        test_predict.predict_images("any.tflite", labels, save_grey(tmp_path / "car.png", 10), ".")
    with pytest.raises(UserError, match="nowhere not found"):
        predict(tmp_path / "nowhere", labels)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no photos in"):
        predict(tmp_path / "empty", labels)
    (tmp_path / "empty.csv").write_text("image_path,label\n")
    with pytest.raises(UserError, match=r"empty\.csv: it has no rows"):
        predict(tmp_path / "empty.csv", labels)
    labels.write_text("Front\nRear\n")
    with pytest.raises(UserError, match="names 2 classes, but the model has 7"):
        predict(save_grey(tmp_path / "car.png", 10), labels)


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model")
    with pytest.raises(UserError, match="is not a TFLite file"):
        inference.load_runner(tmp_path / "model.tflite")
    with pytest.raises(UserError, match=r"run train\.py and convert_tflite\.py"):
        inference.load_runner(tmp_path / "missing.tflite")


def test_importing_the_script_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'imagehash', 'jinja2'}"
    code = f"import sys, test_predict, ai_edge_litert.interpreter; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(test_predict.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# --- The script --------------------------------------------------------------------


@pytest.fixture
def run_script(brightness_model, labels, monkeypatch, capsys):
    """Run the script as from a shell: (exit code, what it printed, its error message)."""
    (labels.parent / "any.tflite").write_bytes(b"a model")

    def run_with(*arguments) -> tuple[int, str, str]:
        options = ["--model", labels.parent / "any.tflite", "--output", labels.parent / "predictions.csv"]
        monkeypatch.setattr("sys.argv", ["test_predict.py", *map(str, [*options, *arguments])])
        with pytest.raises(SystemExit) as exit_info:
            run(test_predict.main)
        return exit_info.value.code, *capsys.readouterr()

    return run_with


def test_exit_codes_tell_what_was_skipped(run_script, tmp_path):
    photos = tmp_path / "photos"
    save_grey(photos / "a.png", 10)
    (photos / "bad\x1b.png").write_bytes(b"no image")
    (tmp_path / "list.csv").write_text("image_path\nphotos/a.png\nphotos/gone.png\n")
    code, printed, _ = run_script("--images", photos)
    assert code == 0  # nobody asked for the bad one by name
    assert "2 photos found: 1 predicted, 1 failed\n  bad\\x1b.png: cannot read" in printed
    assert "Not read" not in printed
    assert run_script("--images", photos, "--strict")[0] == 1
    assert run_script("--images", photos / "a.png")[0] == 0
    code, printed, _ = run_script("--images", tmp_path / "list.csv")
    assert code == 1
    assert "photos/gone.png: no such file" in printed
    code, _, error = run_script("--images", photos / "bad\x1b.png")
    assert code == 2
    assert "none of 1 photo could be read" in error
    for mistake in (["--unknown-below", "60"], ["--contact-sheet", "sheet.txt"], ["--images", tmp_path / "nowhere"]):
        assert run_script("--images", photos, *mistake)[0] == 2


def test_every_photo_of_a_folder_is_in_the_summary(run_script, tmp_path):
    photos = tmp_path / "photos"
    for name in ("a.png", "b.jfif", "c.TIF", "lot/a.png"):
        save_grey(photos / name, 10)
    for number in range(7):
        save_grey(photos / f"._{number}.png", 10)
    (photos / "._notes.json").write_text("{}")
    (photos / "bad.jpg").write_bytes(b"no image")
    (photos / "raw.CR2").write_bytes(b"")
    outside = save_grey(tmp_path / "outside" / "d.png", 10)
    (photos / "linked lot").symlink_to(outside.parent)
    (photos / "same lot").symlink_to("lot")
    code, printed, _ = run_script("--images", photos)
    assert code == 0
    assert "5 photos found: 4 predicted, 1 failed\n  bad.jpg: " in printed
    assert printed.partition("Not read:\n")[2].startswith(
        "  link that leaves the folder; --follow-links reads it: 1\n    linked lot\n"
        "  made by the system or another program: 7\n"
        "    ._0.png\n    ._1.png\n    ._2.png\n    ._3.png\n    ._4.png\n    ... and 2 more\n"
        "  photo or video in a format that is not read: 1\n    raw.CR2\n"
        "Photos of each class:\n       4  Front\nPredictions are in"
    )
    names = pd.read_csv(tmp_path / "predictions.csv")["image_name"].tolist()
    assert names == ["a.png", "b.jfif", "c.TIF", "lot/a.png"]
    _, printed, _ = run_script("--images", photos, "--follow-links")
    assert "6 photos found: 5 predicted, 1 failed\n" in printed
    assert "--follow-links" not in printed
    assert "linked lot/d.png" in pd.read_csv(tmp_path / "predictions.csv")["image_name"].tolist()


@pytest.mark.parametrize("left_out", ["._a.png", "link.png", "linked lot", "broken.png", "a.NEF"])
def test_strict_means_nothing_was_left_out(run_script, tmp_path, left_out):
    photos = save_grey(tmp_path / "photos" / "a.png", 10).parent
    outside = save_grey(tmp_path / "outside" / "b.png", 10)
    assert run_script("--images", photos, "--strict")[0] == 0
    targets = {"link.png": outside, "linked lot": outside.parent, "broken.png": "gone.png"}
    if left_out in targets:
        (photos / left_out).symlink_to(targets[left_out])
    else:
        (photos / left_out).write_bytes(b"")
    assert run_script("--images", photos)[0] == 0
    code, printed, _ = run_script("--images", photos, "--strict")
    assert code == 1
    assert f"    {left_out}\n" in printed


def test_a_path_that_is_given_is_always_read(run_script, tmp_path):
    outside = save_grey(tmp_path / "outside" / "._a.png", 10)
    (tmp_path / "link.png").symlink_to(outside)
    (tmp_path / "folder").symlink_to(save_grey(tmp_path / "@eaDir" / "a.png", 10).parent)
    (tmp_path / "list.csv").write_text("image_path\noutside/._a.png\nlink.png\n")
    for images, count in (
        (outside, 1),
        (tmp_path / "link.png", 1),
        (tmp_path / "folder", 1),
        (tmp_path / "list.csv", 2),
    ):
        assert run_script("--images", images, "--strict")[0] == 0
        assert len(pd.read_csv(tmp_path / "predictions.csv")) == count


def test_a_folder_without_photos_says_what_was_not_read(run_script, tmp_path):
    save_grey(tmp_path / "photos" / "._a.png", 10)
    code, _, error = run_script("--images", tmp_path / "photos")
    assert code == 2
    assert "; not read: made by the system or another program: ._a.png" in error


def test_the_options_write_what_they_say(run_script, tmp_path):
    for folder, level in (("car 1", 10), ("car 2", 240)):
        save_grey(tmp_path / "photos" / folder / "a.png", level)
    sheet = tmp_path / "sheet.jpg"
    code, printed, _ = run_script("--images", tmp_path / "photos", "--per-folder", "--contact-sheet", sheet, "--tta")
    assert code == 0
    folders = pd.read_csv(tmp_path / "predictions_per_folder.csv", keep_default_na=False)
    assert folders[["folder", "covered", "Front"]].values.tolist() == [["car 1", 1, "car 1/a.png"], ["car 2", 0, ""]]
    assert "show all 6 viewpoints: 0 of 2" in printed
    assert "car 1" in (tmp_path / "predictions_per_folder.html").read_text()
    with Image.open(sheet) as picture:
        assert picture.width > 2 * 160  # two photos side by side


def test_a_terminal_without_the_letters_of_a_name_stops_nothing():
    code = "from viewpoint.common.cli import run; run(lambda: print('車'))"
    command = [sys.executable, "-c", code]
    options = {"cwd": Path(test_predict.__file__).parent, "env": {**os.environ, "PYTHONIOENCODING": "ascii"}}
    assert subprocess.run(command, capture_output=True, check=True, **options).stdout.strip() == rb"\u8eca"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_names_that_are_not_utf_8_are_escaped(brightness_model, labels, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    photo = save_grey(folder / os.fsdecode(b"\xe9.png"), 10)
    for images in (photo, folder):
        _, rows = predict(images, labels)
        assert [row["image_name"] for row in rows] == [r"\udce9.png"]


def test_names_that_are_hard_on_a_csv_file_come_back(brightness_model, labels, tmp_path):
    names = ["=1+1.png", "+a.png", "-b.png", "@c.png", 'q"u,o\nte.png', "車 é.png"]
    for name in names:
        save_grey(tmp_path / "photos" / name, 10)
    _, rows = predict(tmp_path / "photos", labels)
    assert sorted(row["image_name"] for row in rows) == sorted(names)


@pytest.fixture
def interrupted(run_script, tmp_path, monkeypatch):
    """Interrupts a run on a folder of three photos by Ctrl-C after the first; gives the folder and what was printed."""
    photos = tmp_path / "photos"
    for number in range(3):
        save_grey(photos / f"{number}.png", 10)
    add = Outcome.add

    def interrupt(outcome, answer):
        add(outcome, answer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Outcome, "add", interrupt)
        code, _, error = run_script("--images", photos, "--unknown-below", "0.5")
    assert code == 130
    return photos, error


def hidden_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_ctrl_c_names_the_command_that_continues(interrupted, run_script, tmp_path):
    _, error = interrupted
    assert hidden_files(tmp_path) == [".predictions.csv.partial", ".predictions.csv.settings"]
    command = shlex.split(error.partition("interrupted; continue with: ")[2])
    assert command[:2] == ["python", "test_predict.py"]
    code, printed, _ = run_script(*command[2:])
    assert code == 0
    assert "1 of them had been predicted before the interruption" in printed
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 3
    assert hidden_files(tmp_path) == []
    # Now there is nothing that an option --resume could continue.
    code, _, error = run_script(*command[2:])
    assert (code, "predictions.csv is complete; predict without --resume" in error) == (2, True)


def test_ctrl_c_before_there_are_rows_advises_nothing(run_script, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(test_predict, "list_inputs", interrupt)
    code, _, error = run_script("--images", tmp_path)
    assert (code, "--resume" in error) == (130, False)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--unknown-below", "0.6"], r"unknown-below \(0\.5, now 0\.6\)"),
        (["--unknown-below", "0.5", "--tta"], "tta"),
        (["--unknown-below", "0.5", "--probabilities"], "columns"),
        (["--unknown-below", "0.5", "--images", "photos/0.png"], "images"),
    ],
)
def test_other_options_do_not_continue_a_run_and_lose_none_of_it(interrupted, run_script, tmp_path, options, name):
    photos, _ = interrupted
    code, _, error = run_script("--images", photos, "--resume", *options)
    assert code == 2
    assert re.search(rf"partial belongs to a run with another {name}.*or start over without --resume", error)
    assert hidden_files(tmp_path) == [".predictions.csv.partial", ".predictions.csv.settings"]
    code, printed, _ = run_script("--images", photos, *options)
    assert code == 0
    assert "of an interrupted run, which --resume would have continued" in printed
    assert hidden_files(tmp_path) == []


def test_another_model_does_not_continue_a_run(interrupted, run_script, tmp_path):
    (tmp_path / "any.tflite").write_bytes(b"another model")
    code, _, error = run_script("--images", interrupted[0], "--unknown-below", "0.5", "--resume")
    assert code == 2
    assert "with another model" in error


def test_two_runs_do_not_write_one_file(run_script, tmp_path):
    photo = save_grey(tmp_path / "car.png", 10)
    (tmp_path / "predictions.csv").write_text("earlier")
    with lock(tmp_path, "--output", "predictions.csv"):
        code, _, error = run_script("--images", photo)
        assert (code, f"{tmp_path / 'predictions.csv'} is in use by process {os.getpid()}" in error) == (2, True)
        assert (tmp_path / "predictions.csv").read_text() == "earlier"
        assert run_script("--images", photo, "--output", tmp_path / "other.csv")[0] == 0
    assert run_script("--images", photo)[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_name_that_is_not_utf_8_of_a_photo_that_cannot_be_read_loses_nothing(run_script, tmp_path):
    photos = tmp_path / os.fsdecode(b"caf\xe9")
    save_grey(photos / "a.png", 10)
    bad = photos / os.fsdecode(b"lot\r1 \xe9.jpg")
    bad.write_bytes(b"no image")
    for options in ([], ["--per-folder"], ["--format", "jsonl", "--contact-sheet", tmp_path / "sheet.png"]):
        code, printed, _ = run_script("--images", photos, *options)
        assert code == 0
        assert "2 photos found: 1 predicted, 1 failed" in printed
        [row] = pd.read_csv(tmp_path / "predictions_failed.csv").to_dict("records")
        assert row["image_name"] == r"lot\r1 \udce9.jpg"
        assert row["reason"].endswith(r"caf\udce9/lot\r1 \udce9.jpg: not an image, or damaged at its beginning")
    (tmp_path / "list.csv").write_text("image_path\na.png\n")
    assert run_script("--images", tmp_path / "list.csv", "--data", photos)[0] == 0


def test_labels_that_are_not_those_inside_the_model_are_refused(brightness_model, labels, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.tflite", "w") as file:
        file.writestr("labels.txt", "\n".join(config.CLASSES))
    photo = save_grey(tmp_path / "car.png", 10)
    test_predict.predict_images(tmp_path / "model.tflite", labels, photo, tmp_path / "predictions.csv")
    labels.write_text("\n".join(sorted(config.CLASSES)))
    with pytest.raises(UserError, match="does not name the classes inside"):
        test_predict.predict_images(tmp_path / "model.tflite", labels, photo, tmp_path / "predictions.csv")


def pack_labels(model: Path, text: bytes) -> None:
    """Write a file with the archive of labels.txt that convert_tflite.py appends to a model."""
    with zipfile.ZipFile(model, "w") as file:
        file.writestr("labels.txt", text)


def test_the_labels_inside_the_model_do_when_labels_txt_is_missing(brightness_model, tmp_path):
    model, photo = tmp_path / "model.tflite", save_grey(tmp_path / "car.png", 10)
    pack_labels(model, "\n".join(config.CLASSES).encode())
    outcome = test_predict.predict_images(model, None, photo, tmp_path / "predictions.csv")
    assert outcome.last.result.prediction == "Front"
    with pytest.raises(UserError, match=r"mine\.txt not found; use the labels\.txt"):  # asked for by name
        test_predict.predict_images(model, tmp_path / "mine.txt", photo, tmp_path / "predictions.csv")
    pack_labels(model, b"Front\nRear\n")
    with pytest.raises(UserError, match=r"labels\.txt inside .* names 2 classes, but the model has 7"):
        test_predict.predict_images(model, None, photo, tmp_path / "predictions.csv")


def test_labels_that_cannot_be_read_are_one_sentence(brightness_model, tmp_path):
    model, photo = tmp_path / "model.tflite", save_grey(tmp_path / "car.png", 10)
    model.write_bytes(b"no labels inside")
    with pytest.raises(UserError, match=r"labels\.txt not found; use the labels\.txt that was written with"):
        test_predict.predict_images(model, None, photo, tmp_path / "predictions.csv")
    (tmp_path / "labels.txt").mkdir()
    with pytest.raises(UserError, match="Is a directory; use" if os.name != "nt" else "cannot read the class names"):
        test_predict.predict_images(model, None, photo, tmp_path / "predictions.csv")
    pack_labels(model, b"\xff")
    with pytest.raises(UserError, match="is damaged"):
        test_predict.predict_images(model, None, photo, tmp_path / "predictions.csv")
