"""Walk-arounds on video: the demo's car turned through 360 degrees, encoded here. Skipped without PyAV."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from make_demo_data import draw_car
from PIL import Image

import config
import test_predict
from viewpoint import inference, video
from viewpoint.cli import run
from viewpoint.predictor import Predictor
from viewpoint.steady import find_stretches

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


def set_rotation(path: Path, degrees: int) -> None:
    """Write a phone's rotation flag: the matrix in the track header of an MP4 file (ISO/IEC 14496-12, tkhd)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    numbers = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
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


def predictor_runner(batch: np.ndarray) -> np.ndarray:
    """A model that reads the azimuth from the strip, and is confidently wrong on some of the frames."""
    level = float(127.5 + 127.5 * batch[0, :, : batch.shape[2] * STRIP // SIZE[0] - 2].mean())
    name = view_of((level - 20) / 210 * 360)
    if round(10 * level) % 7 == 0:
        name = config.CLASSES[round(100 * level) % 7]
    return (0.86 * np.eye(7)[[config.CLASSES.index(name)]] + 0.02).astype(np.float32)


@pytest.fixture
def predictor(monkeypatch, tmp_path) -> Predictor:
    """A Predictor of that model."""
    monkeypatch.setattr(inference, "load_runner", lambda _: (predictor_runner, 64, 7))
    (tmp_path / "labels.txt").write_text("\n".join(config.CLASSES))
    (tmp_path / "any.tflite").write_bytes(b"a model")
    return Predictor(tmp_path / "any.tflite")


# --- Reading -----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".mkv"])
def test_frames_are_chosen_by_their_times(tmp_path, suffix):
    frames = [Image.new("RGB", SIZE, (10 * index, 0, 0)) for index in range(20)]
    path = encode(tmp_path / f"a{suffix}", frames, [index / 10 for index in range(20)])
    found = list(video.read_frames(path))
    assert [frame.seconds for frame in found] == pytest.approx([index / 5 for index in range(10)], abs=0.02)
    assert [frame.image.getpixel((9, 9))[0] for frame in found] == pytest.approx(range(0, 200, 20), abs=8)


def test_a_variable_frame_rate_is_sampled_by_time_not_by_count(tmp_path):
    # Half a second with 20 frames, then a pause, then one frame a second.
    times = [*(index / 40 for index in range(20)), 2.0, 3.0, 4.0]
    path = encode(tmp_path / "a.mkv", [Image.new("RGB", SIZE)] * 23, times)
    seconds = [frame.seconds for frame in video.read_frames(path)]
    assert seconds == pytest.approx([0, 0.2, 0.4, 2, 3, 4], abs=0.01)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_the_rotation_flag_of_a_phone_is_honoured(tmp_path, degrees):
    upright = Image.new("RGB", (240, 320), "white")
    upright.paste("red", (0, 0, 240, 60))  # red is up
    # The flag says how many degrees clockwise the stored frame is turned for display.
    stored = upright.rotate(degrees, expand=True)
    path = encode(tmp_path / "a.mp4", [stored] * 5, [index / 5 for index in range(5)])
    set_rotation(path, degrees)
    image = next(video.read_frames(path)).image
    assert image.size == (240, 320)
    (red, green, _), (_, below, _) = image.getpixel((120, 30)), image.getpixel((120, 250))
    assert red > 200 > 60 > green
    assert below > 200


def test_videos_that_cannot_be_read_are_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    for name, reason in (("bad.mp4", "Invalid data"), ("gone.mp4", "No such file"), ("sound.mkv", "it has no video")):
        with pytest.raises(video.VideoError, match=rf"cannot read .*{name}: .*{reason}"):
            next(video.read_frames(tmp_path / name))
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(video.VideoError, match=r"videos need PyAV \(pip install av\)"):
        next(video.read_frames(tmp_path / "bad.mp4"))


# --- Predicting --------------------------------------------------------------------


def test_a_walk_is_steadier_than_frame_by_frame(walk, predictor):
    watched = video.watch(predictor, walk)
    true = [view_of(seconds / 18 * 360) for seconds in watched.seconds]
    plain = [answer.best_class for answer in watched.results]
    right = [sum(a == b for a, b in zip(path, true, strict=True)) / len(true) for path in (plain, watched.steady)]
    changes = [len(find_stretches(path)) for path in (plain, watched.steady, true)]
    print(right, changes)
    assert right[0] < 0.8
    assert right[1] > 0.95
    assert changes[0] > 3 * changes[2]
    assert changes[1] == changes[2] == 7


def test_stretches_follow_each_other_and_say_unknown_below_the_threshold(walk, predictor):
    watched = video.watch(predictor, walk)
    rows = video.summarize(watched, predictor)
    assert [row.prediction for row in rows] == [*list(SPANS)[:-1], "Front"]
    assert [row.start for row in rows[1:]] == [row.end for row in rows[:-1]]
    assert (rows[0].start, rows[-1].end) == (0.0, pytest.approx(18.0, abs=0.1))
    predictor.unknown_below = 0.99
    unsure = video.summarize(watched, predictor)
    assert {row.prediction for row in unsure} == {config.UNKNOWN}
    assert [row.best_class for row in unsure] == [row.prediction for row in rows]


def test_the_sharpest_sure_frame_of_each_view_is_taken(walk, predictor):
    watched = video.watch(predictor, walk)
    watched.sharpness = [0.1] * len(watched.sharpness)
    index = watched.steady.index("Rear") + 1
    watched.sharpness[index] = 0.2
    black = next(i for i, answer in enumerate(watched.results) if answer.quality)
    watched.sharpness[black] = 0.9
    best = video.best_frames(watched)
    assert set(best) == set(SPANS) - {""}
    assert black not in best.values()
    if watched.results[index].prediction == "Rear":
        assert best["Rear"] == index
    for name, index in best.items():
        assert watched.results[index].prediction == name


# --- The script --------------------------------------------------------------------


def run_script(monkeypatch, capsys, tmp_path, *arguments) -> tuple[int, str, str]:
    options = ["--model", tmp_path / "any.tflite", "--output", tmp_path / "p.csv", *arguments]
    monkeypatch.setattr("sys.argv", ["test_predict.py", *map(str, options)])
    with pytest.raises(SystemExit) as exit_info:
        run(test_predict.main)
    return exit_info.value.code, *capsys.readouterr()


def test_a_video_alone(walk, predictor, monkeypatch, capsys, tmp_path):
    best = tmp_path / "frames"
    code, printed, _ = run_script(monkeypatch, capsys, tmp_path, "--images", walk, "--best-frames", best)
    assert code == 0
    rows = pd.read_csv(tmp_path / "p.csv")
    assert list(rows.columns) == ["image_name", "prediction", "score", "best_class", "quality", "start", "end"]
    assert rows["prediction"].tolist()[:3] == ["Front", "FrontLeft", "RearLeft"]
    assert "1 video found: 1 predicted, 0 failed" in printed
    assert "The videos have 7 stretches, each of one class." in printed
    saved = sorted(path.name for path in (best / "walk.mp4").iterdir())
    assert len(saved) == 6
    name = next(name for name in saved if name.startswith("RearLeft_"))
    level = 20 + float(name.removeprefix("RearLeft_").removesuffix("s.jpg")) / 18 * 210
    with Image.open(best / "walk.mp4" / name) as image:
        assert image.size == SIZE
        assert image.getpixel((10, 100))[0] == pytest.approx(level, abs=8)  # the frame of that time


def test_json_lines_and_standard_output(walk, predictor, monkeypatch, capsys, tmp_path):
    options = ["--images", walk, "--output", "-", "--format", "jsonl"]
    code, printed, error = run_script(monkeypatch, capsys, tmp_path, *options)
    assert code == 0
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [row["prediction"] for row in rows][:2] == ["Front", "FrontLeft"]
    assert rows[1]["start"] == rows[0]["end"] > 0
    assert "1 video found" in error


def test_photos_and_videos_are_vehicles_together(walk, predictor, monkeypatch, capsys, tmp_path):
    folder = tmp_path / "vehicles"
    (folder / "car 1").mkdir(parents=True)
    draw_frame(0).save(folder / "car 1" / "front.jpg", quality=95)
    (folder / "car 2.mp4").write_bytes(walk.read_bytes())
    (folder / "bad.mov").write_bytes(b"no video")
    code, printed, _ = run_script(monkeypatch, capsys, tmp_path, "--images", folder, "--per-folder")
    assert code == 0
    assert "1 photo and 2 videos found: 2 predicted, 1 failed\n  bad.mov: cannot read" in printed
    rows = pd.read_csv(tmp_path / "p.csv")
    assert rows["image_name"].value_counts().to_dict() == {"car 1/front.jpg": 1, "car 2.mp4": 7}
    assert rows[rows["image_name"] == "car 1/front.jpg"][["start", "end"]].isna().all(axis=None)
    failed = pd.read_csv(tmp_path / "p_failed.csv")
    assert failed["image_name"].tolist() == ["bad.mov"]
    with (tmp_path / "p_per_folder.csv").open() as file:
        complete = {row["folder"]: row["complete"] for row in csv.DictReader(file)}
    assert complete == {"bad.mov": "no", "car 1": "no", "car 2.mp4": "yes"}
    content = json.loads((tmp_path / "p_per_folder.json").read_text())
    [rear] = [vehicle["views"]["Rear"] for vehicle in content["vehicles"] if vehicle["folder"] == "car 2.mp4"]
    assert (tmp_path / "p_frames" / rear["photo"]).is_file()
    assert (tmp_path / "p_per_folder.html").read_text().count("data:image/webp") >= 6


def test_a_run_is_resumed_with_its_videos(walk, predictor, monkeypatch, capsys, tmp_path):
    """The photo of an interrupted run is kept, and its video watched again, each once."""
    folder = tmp_path / "vehicles"
    folder.mkdir()
    draw_frame(0).save(folder / "a.png")
    (folder / "b.mp4").write_bytes(walk.read_bytes())
    whole = run_script(monkeypatch, capsys, tmp_path, "--images", folder)
    expected = (tmp_path / "p.csv").read_text()
    monkeypatch.setattr(video, "summarize", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run_script(monkeypatch, capsys, tmp_path, "--images", folder)[0] not in (0, whole[0])
    monkeypatch.undo()
    monkeypatch.setattr(inference, "load_runner", lambda _: (predictor_runner, 64, 7))
    code, printed, _ = run_script(monkeypatch, capsys, tmp_path, "--images", folder, "--resume")
    assert code == 0
    assert "1 of them had been predicted before the interruption" in printed
    assert (tmp_path / "p.csv").read_text() == expected


def test_videos_of_which_none_can_be_read_end_with_2(predictor, monkeypatch, capsys, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    code, _, error = run_script(monkeypatch, capsys, tmp_path, "--images", tmp_path / "bad.mp4")
    assert code == 2
    assert "none of 1 video could be read" in error
    assert not (tmp_path / "p.csv").exists()


def test_the_frames_before_a_damaged_place_count(walk, predictor, monkeypatch, capsys, tmp_path):
    damaged = tmp_path / "cut.mkv"
    # The index of an MP4 file is at its end, so a cut one cannot be read at all; an MKV file can.
    frames = [frame.image for frame in video.read_frames(walk)]
    encode(damaged, frames, [index / 5 for index in range(len(frames))])
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    watched = video.watch(predictor, damaged)
    assert 20 < len(watched.seconds) < 80
    code, printed, _ = run_script(monkeypatch, capsys, tmp_path, "--images", damaged)
    assert code == 0
    assert "cut.mkv: only the part that could be read was predicted" in printed
