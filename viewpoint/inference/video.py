"""Walk-arounds on video: which view each stretch shows, and the sharpest sure frame of each view.

Needs PyAV (pip install av), which is imported when the first video is read.

Who walks around a car passes its views in a circle, which makes the predictions steady. The frames
are observations of a hidden Markov model whose states are the classes. Between two frames the view
mostly stays; it changes to a neighbour on config.VIEW_CIRCLE much more often than to any other, and
the camera may turn away from the car, to config.BACKGROUND, and back at any time. The Viterbi
algorithm finds the most probable sequence of classes. Source: Rabiner, "A tutorial on hidden Markov
models and selected applications in speech recognition", 1989, section III.B.
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

import config
from viewpoint.common.cli import UserError, printable
from viewpoint.common.quality import sharpness
from viewpoint.common.writing import write_atomically
from viewpoint.inference.inputs import Input
from viewpoint.inference.outputs import Answer, Prediction
from viewpoint.inference.predictor import Predictor, Result

# FFmpeg reads hundreds of formats, and some of them, such as playlists, open other files.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpegts,mpeg,asf,flv"
OPTIONS = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}

# How a frame is turned upright, by the signs of the first four numbers of its display matrix: a, b, c, d
# show the stored pixel (x, y) at (a x + c y, b x + d y). Source: ISO/IEC 14496-12, track header box.
TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}

# A video is cut off when its last frame ends this many seconds before the length that the file states.
CUT_OFF_SECONDS = 1.0
NEAR_BEST = 0.9  # the frame to save has at least this fraction of its view's best score


class VideoError(UserError):
    """The video, or a part of it, cannot be decoded, or PyAV is not installed."""


class Frame(NamedTuple):
    """A frame of a video: its time in seconds from the start, its upright image in RGB, and how long the video is."""

    seconds: float
    image: Image.Image
    length: float  # in seconds, as the file states it; 0 where it does not


@dataclass
class Watched:
    """What was seen in a video: the time, result, sharpness and steady class of each frame that was looked at.

    Takes about a kilobyte a frame, 18 MB for an hour.
    """

    seconds: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    steady: list[str] = field(default_factory=list)
    end: float = 0.0  # where the last stretch ends
    damage: str = ""  # what could not be read


# --- Reading -----------------------------------------------------------------------


def read_frames(path: Path) -> Iterator[Frame]:
    """About config.FRAMES_A_SECOND frames of each second of a video, chosen by their times.

    One frame is held at a time. Raises VideoError when no frame can be read, and where only a part of
    them can, after these.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError(f"cannot read {path}: videos need PyAV (pip install av)") from error
    count, is_damaged, seconds, end, next_time, length = 0, False, 0.0, 0.0, 0.0, 0.0
    start: float | None = None
    try:
        with path.open("rb") as file, av.open(file, "r", options=OPTIONS) as container:
            stream, length = open_stream(container, av.time_base)
            for packet in container.demux(stream):
                try:
                    frames: list[Any] = packet.decode()
                except av.error.FFmpegError:  # what follows may be whole again
                    is_damaged = True
                    continue
                for frame in frames:
                    # Without times the frame rate is constant.
                    time = frame.time if frame.time is not None else count / float(stream.average_rate or 25)
                    start = time if start is None else start
                    count += 1
                    # Frames come in the order in which they are shown, but an AVI file may mix up their times.
                    seconds = max(seconds, time - start)
                    end = max(end, seconds + float((frame.duration or 0) * (frame.time_base or 0)))
                    # A little early counts, so that rounded times do not skip a frame.
                    if seconds >= next_time - 1e-3:
                        next_time = (math.floor(seconds * config.FRAMES_A_SECOND + 1e-3) + 1) / config.FRAMES_A_SECOND
                        yield Frame(seconds, upright(frame), length)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = f"{path} after {end:.1f} seconds" if count else path
        raise VideoError(f"cannot read {what}: {reason_of(error, path)}") from error
    if not count:
        raise VideoError(f"cannot read {path}: {'it is damaged' if is_damaged else 'it has no frames'}")
    if end < length - CUT_OFF_SECONDS:
        raise VideoError(f"{path} is cut off: it has {end:.1f} of {length:.1f} seconds")
    if is_damaged:
        raise VideoError(f"{path} is damaged: some of its frames could not be read")


def open_stream(container: Any, time_base: int) -> tuple[Any, float]:
    """The video in an opened file, and its length in seconds, 0 where that is not known.

    `time_base` is PyAV's, in which the container counts. Raises ValueError when there is no video, or one too large.
    """
    stream = container.streams.best("video")
    if stream is None:
        raise ValueError("it has no video")
    if stream.width * stream.height > config.MAX_MEGAPIXELS * 1e6:
        raise ValueError(f"{stream.width}x{stream.height} pixels are too many (MAX_MEGAPIXELS)")
    stream.thread_type = "AUTO"
    if stream.duration:
        return stream, float(stream.duration * stream.time_base)
    return stream, container.duration / time_base if container.duration else 0.0


def reason_of(error: Exception, path: Path) -> str:
    """Why a video cannot be read; FFmpeg says "Invalid argument" of an empty file and of one that is no video."""
    reason = str(getattr(error, "strerror", None) or error)
    if not reason.startswith("Invalid"):
        return reason
    return "not a video, or damaged at its beginning" if path.stat().st_size else "an empty file"


def upright(frame) -> Image.Image:
    """The image of a frame of PyAV, turned and mirrored as the phone that filmed it says."""
    image = frame.to_image()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = np.sign(np.frombuffer(matrix, np.int32)[:5]).tolist()
    return image.transpose(TURNS[a, b, c, d]) if (a, b, c, d) in TURNS else image


# --- Predicting --------------------------------------------------------------------


def watch(predictor: Predictor, path: Path) -> Watched:
    """Predict the frames of a video and make them steady, with a progress bar. Raises VideoError when it has none."""
    watched = Watched()
    with tqdm(desc=printable(path.name), unit="frame", leave=False, disable=None) as bar:

        def images() -> Iterator[Image.Image]:
            try:
                for frame in read_frames(path):
                    bar.total = math.ceil(frame.length * config.FRAMES_A_SECOND) or None
                    watched.end = frame.length
                    watched.seconds.append(frame.seconds)
                    watched.sharpness.append(sharpness(frame.image))
                    yield frame.image
            except VideoError as error:
                if not watched.seconds:
                    raise
                watched.damage = str(error)

        for result in predictor.batch(images()):
            watched.results.append(result)
            bar.update()
    last = watched.seconds[-1] + 1 / config.FRAMES_A_SECOND
    watched.end = last if watched.damage else max(last, watched.end)
    usable = [not result.quality for result in watched.results]
    probabilities = np.array([list(result.probabilities.values()) for result in watched.results])
    watched.steady = most_probable_path(probabilities, usable, predictor.labels, watched.seconds)
    return watched


def summarize(watched: Watched, predictor: Predictor) -> list[Result]:
    """The stretches of a video that show one class, in order.

    Probabilities are means over the usable frames of the stretch; where there are none, the
    prediction is config.UNKNOWN and `quality` has the reasons.
    """
    stretches = []
    for first, after, name in find_stretches(watched.steady):
        results = watched.results[first:after]
        usable = [result for result in results if not result.quality]
        probabilities = {
            label: float(np.mean([result.probabilities[label] for result in usable or results]))
            for label in predictor.labels
        }
        is_sure = bool(usable) and probabilities[name] >= predictor.unknown_below
        stretches.append(
            Result(
                prediction=name if is_sure else config.UNKNOWN,
                score=probabilities[name],
                best_class=name,
                probabilities=probabilities,
                quality=() if usable else tuple(sorted({reason for result in results for reason in result.quality})),
                start=watched.seconds[first],
                end=watched.seconds[after] if after < len(watched.seconds) else watched.end,
            )
        )
    return stretches


def best_frames(watched: Watched) -> dict[str, int]:
    """The index of the frame that shows each class best, where a frame and the steady sequence agree on it.

    That is the sharpest of the sure and usable ones whose score is at least NEAR_BEST of
    their best one. Where there is none, it is the frame that comes closest.
    """
    best = {}
    for name in dict.fromkeys(watched.steady):
        frames = [
            index
            for index, (result, steady) in enumerate(zip(watched.results, watched.steady, strict=True))
            if result.best_class == steady == name
        ]
        sure = [index for index in frames if watched.results[index].is_good]
        if sure:
            least = NEAR_BEST * max(watched.results[index].score for index in sure)
            near = [index for index in sure if watched.results[index].score >= least]
            best[name] = max(near, key=lambda index: watched.sharpness[index])
        elif frames:
            best[name] = max(frames, key=lambda index: watched.results[index].rank)
    return best


def save_frames(path: Path, names: dict[float, str], folder: Path) -> None:
    """Save the frames at these times, from read_frames, as JPEG files of these names.

    They are decoded again, so that never more than one is in memory.
    """
    with contextlib.suppress(VideoError):  # a part of it is damaged, which watch() said
        for frame in read_frames(path) if names else ():
            if frame.seconds in names:
                with write_atomically(folder / names.pop(frame.seconds)) as temporary:
                    frame.image.save(temporary, "JPEG", quality=95)
                if not names:
                    break


def predict_video(predictor: Predictor, item: Input, frames_folder: Path | None) -> Answer:
    """The stretches of a video, or why it cannot be read; saves its best frames to `frames_folder`, if given.

    The answer shows these as photos of a folder that is named after the video.
    """
    try:
        watched = watch(predictor, item.file)
    except VideoError as error:
        return Answer.of_photo(item, Result(error=str(error)))
    shown: list[Prediction] = []
    if frames_folder:
        name = Path(item.name)
        # A name may be a path to anywhere.
        folder = frames_folder.joinpath(*(part for part in name.parts if part not in (name.anchor, "..")))
        to_save: dict[float, str] = {}
        for view, index in best_frames(watched).items():
            result, seconds = watched.results[index], watched.seconds[index]
            frame = f"{view}_{seconds:.2f}s.jpg"
            if result.is_good and view != config.BACKGROUND:
                to_save[seconds] = frame
            shown.append(Prediction(f"{item.name}/{frame}", folder / frame, result))
        save_frames(item.file, to_save, folder)
        shown = shown or [Prediction(item.name, item.file, Result())]
    return Answer(item, summarize(watched, predictor), shown, watched.damage)


# --- Steady views -------------------------------------------------------------------


# No frame may rule a class out altogether.
LOWEST = 1e-3

TICK = 0.01  # seconds; times are rounded to it

VIEW_SECONDS = 3.0  # for how long a view is seen on average
AWAY_SHARE = 0.1  # fraction of the changes of view that turn away from the car, to Background
JUMP_SHARE = 0.01  # fraction of the changes to a view that is no neighbour on VIEW_CIRCLE
FRAME_WEIGHT = 0.5  # what a frame counts, because frames in a row repeat each other's mistakes


class Stretch(NamedTuple):
    """Frames in a row that show one class: index of the first, index after the last, the class."""

    start: int
    end: int
    name: str


@functools.lru_cache(maxsize=1000)
def transitions(labels: tuple[str, ...], ticks: int) -> np.ndarray:
    """The probability (from, to) that a class follows another one after some ticks of TICK seconds; rows sum to 1."""
    count = len(labels)
    circle = [name for name in config.VIEW_CIRCLE if name in labels]
    weights = np.full((count, count), JUMP_SHARE / count)
    for position, name in enumerate(circle):
        for neighbour in (circle[position - 1], circle[(position + 1) % len(circle)]):
            weights[labels.index(name), labels.index(neighbour)] += (1 - JUMP_SHARE - AWAY_SHARE) / 2
    if config.BACKGROUND in labels:
        background = labels.index(config.BACKGROUND)
        weights[:, background] += AWAY_SHARE
        weights[background] = 1.0  # the camera may turn back to any view
    np.fill_diagonal(weights, 0)
    leave = 1 - np.exp(-TICK / VIEW_SECONDS)
    one_tick = leave * weights / weights.sum(axis=1, keepdims=True)
    np.fill_diagonal(one_tick, 1 - leave)
    # In a long time the view may change more than once.
    return np.linalg.matrix_power(one_tick, ticks)


def most_probable_path(
    probabilities: np.ndarray, usable: Sequence[bool], labels: Sequence[str], seconds: Sequence[float]
) -> list[str]:
    """The class of each frame on the most probable path (Viterbi).

    `probabilities` (frames, classes) are a classifier's, `seconds` the times of the frames. Frames that
    are not `usable` say nothing, unless none is.
    """
    # A classifier gives P(class | frame); with all classes equally likely before, P(frame | class) is proportional.
    # Frames in a row repeat each other's mistakes, so each counts for less than an independent one.
    scores = FRAME_WEIGHT * np.log(np.maximum(probabilities, LOWEST))
    if any(usable):
        scores[~np.asarray(usable, dtype=bool)] = 0
    best = scores[0]
    origins = []
    for frame, step in zip(scores[1:], np.diff(seconds), strict=True):
        ways = best[:, np.newaxis] + np.log(transitions(tuple(labels), max(1, round(step / TICK))))
        origins.append(ways.argmax(axis=0))
        best = ways.max(axis=0) + frame
    path = [int(best.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return [labels[index] for index in reversed(path)]


def find_stretches(path: Sequence[str]) -> list[Stretch]:
    """The stretches of a path, in order."""
    starts = [index for index, name in enumerate(path) if index == 0 or name != path[index - 1]]
    return [Stretch(start, end, path[start]) for start, end in zip(starts, [*starts[1:], len(path)], strict=True)]
