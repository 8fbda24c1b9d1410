"""Walk-arounds on video: the demo's car turned through 360 degrees, encoded here. Skipped without PyAV.

Steady views: figures against frame by frame, on walks with noise and dropouts.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_demo_data import draw_car
from PIL import Image

import config
import test_predict
from viewpoint.inference import model as inference
from viewpoint.inference import outputs, video
from viewpoint.inference.predictor import Predictor
from viewpoint.inference.video import (
    AWAY_SHARE,
    JUMP_SHARE,
    TICK,
    VIEW_SECONDS,
    find_stretches,
    most_probable_path,
    transitions,
)

av = pytest.importorskip("av", reason="no PyAV here")

SIZE = (320, 240)
STRIP = 60  # pixels at the left whose grey says the azimuth, which the model of these tests reads
SPANS = {"Front": 20, "FrontLeft": 100, "RearLeft": 165, "Rear": 195, "RearRight": 260, "FrontRight": 340, "": 361}


def view_of(azimuth: float) -> str:
    """The view of a car from an azimuth in degrees."""
    return next(name for name, end in SPANS.items() if azimuth % 360 < end) or "Front"


def draw_frame(azimuth: float) -> Image.Image:
    """The demo's car, always the same one, with the strip at the left."""
    image = draw_car(azimuth, np.random.default_rng(7))[0].resize(SIZE)
    image.paste((round(20 + azimuth % 360 / 360 * 210),) * 3, (0, 0, STRIP, SIZE[1]))
    return image


def encode(path: Path, frames: list[Image.Image], times: list[float], codec: str = "mpeg4") -> Path:
    """Encode frames to be shown at these times in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write what a phone says of how it was held: the matrix in the track header of an MP4 file (ISO/IEC 14496-12)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    numbers = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    content[start : start + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def walk(tmp_path_factory) -> Path:
    """A walk of 18 seconds around the car, with 10 frames a second, in one of which nothing can be seen every 2 s."""
    azimuths = np.linspace(0, 360, 180, endpoint=False)
    frames = [draw_frame(azimuth) for azimuth in azimuths]
    for index in range(10, 180, 20):
        frames[index] = Image.new("RGB", SIZE)
    return encode(tmp_path_factory.mktemp("walk") / "walk.mp4", frames, [index / 10 for index in range(180)])


@pytest.fixture
def predictor(monkeypatch, tmp_path) -> Predictor:
    """A model that reads the azimuth from the strip, and is confidently wrong on some of the frames."""

    def runner(batch: np.ndarray) -> np.ndarray:
        level = float(127.5 + 127.5 * batch[0, :, : batch.shape[2] * STRIP // SIZE[0] - 2].mean())
        name = view_of((level - 20) / 210 * 360)
        if round(10 * level) % 7 == 0:
            name = config.CLASSES[round(100 * level) % 7]
        return (0.86 * np.eye(7)[[config.CLASSES.index(name)]] + 0.02).astype(np.float32)

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 64, 7))
    (tmp_path / "labels.txt").write_text("\n".join(config.CLASSES))
    (tmp_path / "any.tflite").write_bytes(b"a model")
    return Predictor(tmp_path / "any.tflite")


# --- Reading -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv", ".m4v", ".webm", ".ts", ".wmv"])
def test_frames_are_chosen_by_their_times(tmp_path, suffix):
    frames = [Image.new("RGB", SIZE, (10 * index, 0, 0)) for index in range(20)]
    codec = "libvpx" if suffix == ".webm" else "mpeg4"
    path = encode(tmp_path / f"a{suffix}", frames, [index / 10 for index in range(20)], codec)
    found = list(video.read_frames(path))
    assert [frame.seconds for frame in found] == pytest.approx([index / 5 for index in range(10)], abs=0.02)
    assert [frame.image.getpixel((9, 9))[0] for frame in found] == pytest.approx(range(0, 200, 20), abs=8)


def test_a_variable_frame_rate_is_sampled_by_time_not_by_count(tmp_path):
    # Half a second with 20 frames, then a pause, then one frame a second.
    times = [*(index / 40 for index in range(20)), 2.0, 3.0, 4.0]
    path = encode(tmp_path / "a.mkv", [Image.new("RGB", SIZE)] * 23, times)
    seconds = [frame.seconds for frame in video.read_frames(path)]
    assert seconds == pytest.approx([0, 0.2, 0.4, 2, 3, 4], abs=0.01)


@pytest.mark.parametrize(
    ("stored", "matrix"),
    [  # how the upright frame was changed before it was stored, and the matrix that changes it back
        (Image.Transpose.ROTATE_90, (0, 1, -1, 0)),
        (Image.Transpose.ROTATE_180, (-1, 0, 0, -1)),
        (Image.Transpose.ROTATE_270, (0, -1, 1, 0)),
        (Image.Transpose.FLIP_LEFT_RIGHT, (-1, 0, 0, 1)),
    ],
)
def test_frames_are_turned_and_mirrored_as_the_phone_says(tmp_path, stored, matrix):
    upright = Image.new("RGB", (240, 320), "white")
    upright.paste("red", (0, 0, 240, 60))  # red is up
    upright.paste("black", (0, 60, 60, 320))  # black is left
    path = encode(tmp_path / "a.mp4", [upright.transpose(stored)] * 5, [index / 5 for index in range(5)])
    set_matrix(path, *matrix)
    image = next(video.read_frames(path)).image
    assert image.size == (240, 320)
    (red, green, _), (left, *_), (right, *_) = (image.getpixel(point) for point in ((120, 30), (30, 200), (200, 200)))
    assert red > 200 > 60 > green
    assert right > 200 > 60 > left


def test_videos_that_cannot_be_read_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\nbad.mp4\n#EXT-X-ENDLIST\n")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    (tmp_path / "empty.webm").write_bytes(b"")
    reasons = {"bad.mp4": "not a video", "list.mp4": "not a video", "empty.webm": "an empty file"}
    reasons |= {"gone.mp4": "No such file", "sound.mkv": "it has no video"}
    for name, reason in reasons.items():
        with pytest.raises(video.VideoError, match=rf"cannot read .*{name}: .*{reason}"):
            next(video.read_frames(tmp_path / name))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(video.VideoError, match=r"videos need PyAV \(pip install av\)"):
        next(video.read_frames(tmp_path / "bad.mp4"))


def test_what_is_cut_off_or_damaged_is_said_after_the_frames_that_are_whole(tmp_path):
    # The index of an MP4 file is at its end, so a cut one cannot be read at all; an MKV file can.
    frames = [draw_frame(2 * index) for index in range(180)]
    whole = encode(tmp_path / "whole.mkv", frames, [index / 10 for index in range(180)]).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(video.VideoError, match=r"cut\.mkv is cut off: it has \d\.\d of 17\.9 seconds"):
        seen = 0
        for _ in video.read_frames(tmp_path / "cut.mkv"):
            seen += 1
    assert 30 < seen < 60


# --- Predicting --------------------------------------------------------------------


def test_a_walk_is_steadier_than_frame_by_frame(walk, predictor):
    watched = video.watch(predictor, walk)
    true = [view_of(seconds / 18 * 360) for seconds in watched.seconds]
    plain = [result.best_class for result in watched.results]
    right = [sum(a == b for a, b in zip(path, true, strict=True)) / len(true) for path in (plain, watched.steady)]
    changes = [len(find_stretches(path)) for path in (plain, watched.steady, true)]
    assert right[0] < 0.8
    assert right[1] > 0.95
    assert changes[0] > 3 * changes[2]
    assert changes[1] == changes[2] == 7


def test_stretches_follow_each_other_and_are_unknown_below_the_threshold(walk, predictor):
    watched = video.watch(predictor, walk)
    rows = video.summarize(watched, predictor)
    assert [row.prediction for row in rows] == [*list(SPANS)[:-1], "Front"]
    assert [row.start for row in rows[1:]] == [row.end for row in rows[:-1]]
    assert (rows[0].start, rows[-1].end) == (0.0, pytest.approx(18.0, abs=0.2))
    predictor.unknown_below = 0.99
    unsure = video.summarize(watched, predictor)
    assert {row.prediction for row in unsure} == {config.UNKNOWN}
    assert [row.best_class for row in unsure] == [row.best_class for row in rows]


def test_a_video_in_which_nothing_can_be_seen_is_unknown(predictor, tmp_path):
    path = encode(tmp_path / "night.mp4", [Image.new("RGB", SIZE)] * 20, [index / 5 for index in range(20)])
    watched = video.watch(predictor, path)
    [row] = video.summarize(watched, predictor)
    assert (row.prediction, row.quality) == (config.UNKNOWN, ("too dark",))


def test_the_sharpest_sure_frame_of_each_view_is_taken(walk, predictor):
    watched = video.watch(predictor, walk)
    good = [index for index, result in enumerate(watched.results) if result.best_class == "Rear" and result.is_good]
    watched.sharpness = [0.1] * len(watched.sharpness)
    watched.sharpness[good[1]] = 0.2
    black = [index for index, result in enumerate(watched.results) if result.quality]
    for index in black:
        watched.sharpness[index] = 0.9
    best = video.best_frames(watched)
    assert best["Rear"] == good[1]
    assert set(best) == set(SPANS) - {""}
    assert not set(black) & set(best.values())


# --- The script --------------------------------------------------------------------


@pytest.fixture
def predict(call, predictor, tmp_path):
    """Runs test_predict.py with the model of these tests."""
    return lambda *arguments: call(test_predict, "--model", tmp_path / "any.tflite", *arguments)


def test_a_video_alone(walk, predict):
    code, printed, _ = predict("--images", walk, "--best-frames", "frames")
    assert code == 0
    rows = pd.read_csv("predictions.csv")
    assert list(rows.columns) == [*outputs.COLUMNS, "start", "end"]
    assert rows["prediction"].tolist() == [*list(SPANS)[:-1], "Front"]
    assert "1 video found: 1 predicted, 0 failed\nThe videos show 7 stretches of one class each" in printed
    saved = sorted(Path("frames/walk.mp4").iterdir())
    assert {path.name.split("_")[0] for path in saved} == set(SPANS) - {""}
    for path in saved:
        seconds = float(path.stem.split("_")[1].removesuffix("s"))
        with Image.open(path) as image:
            assert image.size == SIZE
            assert image.getpixel((10, 100))[0] == pytest.approx(20 + seconds / 18 * 210, abs=8)  # of that time


def test_a_bad_video_does_not_cost_the_photos_and_videos_beside_it(walk, predict):
    folder = Path("vehicles")
    (folder / "car 1").mkdir(parents=True)
    draw_frame(0).save(folder / "car 1" / "front.jpg", quality=95)
    (folder / "car 2.mp4").write_bytes(walk.read_bytes())
    (folder / "bad.mov").write_bytes(b"no video")
    code, printed, _ = predict("--images", folder, "--per-folder")
    assert code == 0
    assert "1 photo and 2 videos found: 2 predicted, 1 failed\n" in printed
    assert pd.read_csv("predictions_failed.csv")["image_name"].tolist() == ["bad.mov"]
    rows = pd.read_csv("predictions.csv")
    assert rows["image_name"].tolist() == ["car 1/front.jpg", *["car 2.mp4"] * 7]
    vehicles = pd.read_csv("predictions_per_folder.csv").set_index("folder")
    assert vehicles["complete"].to_dict() == {"bad.mov": "no", "car 1": "no", "car 2.mp4": "yes"}
    rear = vehicles.loc["car 2.mp4", "Rear"]
    assert (Path("predictions_frames") / rear).is_file()
    assert Path("predictions_per_folder.html").read_text().count("data:image/webp") == 7
    assert predict("--images", folder, "--strict")[0] == 1
    code, _, error = predict("--images", folder / "bad.mov")
    assert (code, "none of 1 video could be read: cannot read" in error) == (2, True)


def test_names_of_videos_and_json_lines(walk, predict, tmp_path):
    (tmp_path / "list.csv").write_text(f"image_path\n{walk}\n../gone.mp4\n")
    code, printed, error = predict(
        "--images", "list.csv", "--format", "jsonl", "--output", "-", "--best-frames", "frames"
    )
    assert code == 1
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [(row["prediction"], row["start"]) for row in rows][:1] == [("Front", 0)]
    assert len(rows) == 7
    assert "2 videos found: 1 predicted, 1 failed" in error
    # Frames stay inside the folder, whatever the name of the video.
    assert len(list(Path("frames").rglob("*.jpg"))) == 6


# --- Steady views ------------------------------------------------------------------


LABELS = config.CLASSES
WALK = ["Front", "FrontLeft", "RearLeft", "Rear", "RearRight", "FrontRight", "Front"]


def watch_walk(walk: list[str], seed: int, wrong: float, frames: int = 12) -> tuple[list[str], np.ndarray]:
    """The true class of each frame of a walk, and probabilities of which a fraction is confidently wrong."""
    random = np.random.default_rng(seed)
    true = [name for name in walk for _ in range(frames)]
    probabilities = np.full((len(true), len(LABELS)), 0.0)
    for row, name in zip(probabilities, true, strict=True):
        seen = random.choice(LABELS) if random.random() < wrong else name
        row[:] = random.dirichlet(np.full(len(LABELS), 0.3)) * 0.3
        row[LABELS.index(seen)] += 0.7
    return true, probabilities


def steady(probabilities: np.ndarray, usable=None, a_second: float = 5) -> list[str]:
    count = len(probabilities)
    seconds = np.arange(count) / a_second
    return most_probable_path(probabilities, [True] * count if usable is None else usable, LABELS, seconds)


def test_steady_views_are_right_more_often_and_change_less():
    plain_right, steady_right, plain_changes, steady_changes, true_changes = 0, 0, 0, 0, 0
    for seed in range(10):
        true, probabilities = watch_walk(WALK, seed, wrong=0.3)
        plain = [LABELS[index] for index in probabilities.argmax(axis=1)]
        path = steady(probabilities)
        plain_right += sum(a == b for a, b in zip(plain, true, strict=True))
        steady_right += sum(a == b for a, b in zip(path, true, strict=True))
        plain_changes += len(find_stretches(plain))
        steady_changes += len(find_stretches(path))
        true_changes += len(WALK)
    print(plain_right / 840, steady_right / 840, plain_changes, steady_changes, true_changes)
    assert plain_right / 840 < 0.8
    assert steady_right / 840 > 0.92
    assert plain_changes > 4 * true_changes
    assert steady_changes <= 1.1 * true_changes


def test_a_walk_in_either_direction_with_a_look_away_is_followed():
    for walk in (WALK, WALK[::-1], ["Front", "FrontLeft", "Background", "FrontLeft", "RearLeft"]):
        true, probabilities = watch_walk(walk, 1, wrong=0.0)
        assert steady(probabilities) == true


def test_frames_on_which_nothing_can_be_seen_take_the_view_around_them():
    true, probabilities = watch_walk(["Front", "FrontLeft"], 2, wrong=0.0)
    usable = [True] * 24
    for index in (4, 5, 6, 15):
        usable[index] = False
        probabilities[index] = np.eye(7)[LABELS.index("Background")]
    assert steady(probabilities, usable) == true
    assert steady(probabilities[:1], [False]) == [LABELS[0]]  # nothing at all to go by


def test_one_frame_of_the_opposite_view_is_an_error_and_a_neighbour_for_long_is_not():
    confident = 0.94 * np.eye(7) + 0.06 / 7
    front, rear, left = (confident[LABELS.index(name)] for name in ("Front", "Rear", "FrontLeft"))
    assert steady(np.array([front] * 5 + [rear] + [front] * 5)) == ["Front"] * 11
    assert steady(np.array([front] * 5 + [left] * 6)) == ["Front"] * 5 + ["FrontLeft"] * 6


def test_the_probabilities_of_a_step_worked_out_by_hand():
    matrix = transitions(tuple(LABELS), 1)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(7))
    stay = np.exp(-TICK / VIEW_SECONDS)
    assert np.diag(matrix) == pytest.approx(np.full(7, stay))
    front = dict(zip(LABELS, matrix[LABELS.index("Front")], strict=True))
    jump = JUMP_SHARE / 7
    weights = {"FrontLeft": (1 - JUMP_SHARE - AWAY_SHARE) / 2 + jump, "Rear": jump}
    # The weight of staying is not a change, so it is left out of the sum.
    total = 1 - jump
    for name, weight in weights.items():
        assert front[name] == pytest.approx((1 - stay) * weight / total)
    assert front["FrontLeft"] == pytest.approx(front["FrontRight"])
    background = matrix[LABELS.index("Background")]
    assert background[:6] == pytest.approx(np.full(6, (1 - stay) / 6))
    assert transitions(tuple(LABELS), 30) == pytest.approx(np.linalg.matrix_power(matrix, 30))


def test_a_long_gap_between_two_frames_makes_any_change_likelier():
    confident = 0.94 * np.eye(7) + 0.06 / 7
    front, rear = (confident[LABELS.index(name)] for name in ("Front", "Rear"))
    frames = np.array([front] * 3 + [rear] * 2)
    close = most_probable_path(frames, [True] * 5, LABELS, [0, 0.02, 0.04, 0.06, 0.08])
    apart = most_probable_path(frames, [True] * 5, LABELS, [0, 0.02, 0.04, 30.0, 30.02])
    assert close == ["Front"] * 5
    assert apart == ["Front"] * 3 + ["Rear"] * 2


def test_classes_that_are_missing_are_passed_over():
    labels = ["Rear", "Front", "Side"]
    matrix = transitions(tuple(labels), 100)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(3))
    assert matrix[1, 0] > matrix[1, 2] > 0


def test_stretches():
    assert find_stretches(["a", "a", "b", "a"]) == [(0, 2, "a"), (2, 3, "b"), (3, 4, "a")]
