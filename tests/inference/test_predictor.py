"""Prediction from Python: every kind of photo gives the same answer, order and memory hold, threads share a model."""

import io
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import config
from viewpoint import Predictor
from viewpoint.common.cli import UserError
from viewpoint.inference import model as inference


def board(level: int, size: int = 240) -> np.ndarray:
    """A sharp chessboard of this level and a medium grey: uint8 (size, size, 3)."""
    rows, columns = np.indices((size, size)) // 12
    return np.repeat(np.where((rows + columns) % 2, level, 127).astype(np.uint8)[..., np.newaxis], 3, axis=2)


@pytest.fixture
def predictor(monkeypatch, tmp_path) -> Predictor:
    """A model to which dark photos are Front with 0.7 and bright ones Background with 0.9."""

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(batch), 7), np.float32)
        for row, image in zip(probabilities, batch, strict=True):
            row[:] = [0.7, 0.3, 0, 0, 0, 0, 0] if image.mean() < 0 else [0, 0, 0, 0, 0, 0.1, 0.9]
        return probabilities

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 32, 7))
    (tmp_path / "labels.txt").write_text("\n".join(config.CLASSES))
    return Predictor("any.tflite", tmp_path / "labels.txt", unknown_below=0.8)


def test_a_path_bytes_an_image_and_an_array_give_the_same_answer(predictor, tmp_path):
    pixels = board(20)
    path = tmp_path / "car.png"
    Image.fromarray(pixels).save(path)
    results = [predictor(photo) for photo in (path, str(path), path.read_bytes(), Image.open(path), pixels)]
    assert all(result == results[0] for result in results)
    assert (results[0].prediction, results[0].best_class, results[0].error) == ("Unknown", "Front", None)
    assert results[0].score == pytest.approx(0.7)
    assert list(results[0].probabilities) == config.CLASSES
    assert results[0].probabilities["FrontLeft"] == pytest.approx(0.3)


def test_a_photo_with_an_orientation_is_turned_from_every_source(predictor, tmp_path):
    seen = []
    predictor.runner = lambda batch: seen.append(batch[0]) or np.full((1, 7), 1 / 7, np.float32)
    pixels = board(20)
    pixels[:120] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(pixels).save(tmp_path / "car.png", exif=exif)
    for photo in (tmp_path / "car.png", (tmp_path / "car.png").read_bytes(), Image.open(tmp_path / "car.png")):
        predictor(photo)
    assert all(image[-1].mean() == 1 > image[0].mean() for image in seen)


@pytest.mark.parametrize(
    ("photo", "reason"),
    [
        ("gone.jpg", "cannot read gone.jpg: no such file"),
        (b"", "cannot read the image: an empty file"),
        (b"no image", "cannot read the image: not an image, or damaged at its beginning"),
        (np.zeros((8, 8), np.uint8), r"an array of uint8 (8, 8); give uint8 (height, width, 3), RGB, 0 to 255"),
        (np.zeros((8, 8, 3), np.float32), "an array of float32 (8, 8, 3); give uint8"),
        (np.zeros((0, 8, 3), np.uint8), "an array of uint8 (0, 8, 3); give uint8"),
    ],
)
def test_what_cannot_be_read_has_a_reason_and_no_class(predictor, photo, reason):
    result = predictor(photo)
    assert reason in result.error
    assert (result.prediction, result.best_class, result.score, result.probabilities) == ("", "", 0, {})


def test_a_batch_is_lazy_and_keeps_its_order(predictor):
    taken = []

    def photos():
        for index in itertools.count():
            taken.append(index)
            yield b"broken" if index == 3 else board(20 if index % 2 else 250)

    results = list(itertools.islice(predictor.batch(photos()), 8))
    classes = [result.best_class for result in results]
    assert classes == ["Background", "Front", "Background", "", "Background", "Front", "Background", "Front"]
    assert len(taken) < 8 + 4 * (inference.cpu_count() + 1)


@pytest.mark.parametrize("threshold", [60, -0.1, float("nan")])
def test_a_threshold_that_is_no_score_is_refused(predictor, tmp_path, threshold):
    with pytest.raises(UserError, match=f"unknown_below is {threshold}; give a score from 0 to 1"):
        Predictor("any.tflite", tmp_path / "labels.txt", unknown_below=threshold)


def test_threads_share_one_predictor(predictor):
    content = io.BytesIO()
    Image.fromarray(board(20)).save(content, "PNG")
    photos = [content.getvalue(), board(250)] * 20
    found = {}

    def work(number: int) -> None:
        found[number] = [predictor(photo).best_class for photo in photos]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [["Front", "Background"] * 20] * 4


@pytest.mark.parametrize(("level", "reason"), [(0, "too dark"), (255, "too bright")])
def test_an_image_that_shows_nothing_is_no_background(predictor, level, reason):
    predictor.runner = lambda batch: np.eye(7, dtype=np.float32)[[6]]
    result = predictor(np.full((50, 60, 3), level, np.uint8))
    assert (result.prediction, result.best_class, result.score) == ("Unknown", "Background", 1)
    assert result.quality == (reason,)
    assert predictor(board(20)).prediction == "Background"


def test_importing_the_package_loads_nothing_heavy():
    heavy = "{'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'jinja2', 'av'}"
    code = f"import sys; from viewpoint import Predictor; print(sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(config.__file__).parent, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
