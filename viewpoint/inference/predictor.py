"""Predict photos from Python, one after the other or very many, with a model that stays loaded.

    from viewpoint import Predictor

    predictor = Predictor("models/model.tflite")
    result = predictor("car.jpg")
    print(result.prediction, result.score)

Starts without TensorFlow, as test_predict.py does, which stands on it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import ImageError, Source, open_image, resize, scale
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.quality import TOO_BRIGHT, TOO_DARK, quality_reasons
from viewpoint.inference.model import load_model, with_mirror


@dataclass(frozen=True)
class Result:
    """The answer for one photo, or for a stretch of a video; of what could not be read, only `error` says something."""

    prediction: str = ""  # a class, or config.UNKNOWN
    score: float = 0.0  # the probability of the best class, 0 to 1
    best_class: str = ""  # the class with that probability, also where the prediction is Unknown
    probabilities: dict[str, float] = field(default_factory=dict)  # of each class, in the model's order
    quality: tuple[str, ...] = ()  # why the photo is hardly usable, such as "too dark"; () when it is
    error: str | None = None  # why the photo could not be read
    start: float | None = None  # of a stretch: its times in seconds from the start of the video
    end: float | None = None

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """What makes a photo the better one of its viewpoint: that it is usable, that the model is sure, the score."""
        return not self.quality, self.prediction != config.UNKNOWN, self.score

    @property
    def is_good(self) -> bool:
        """Whether a photo is usable and the model is sure of it."""
        return self.rank[0] and self.rank[1]


class Predictor:
    """A loaded model. Any number of threads can share one.

    A photo is a path, the bytes of an image file, a Pillow image, or a uint8 array (height, width, 3)
    in RGB, 0 to 255. Paths and bytes are fastest, because JPEG is decoded at reduced scale.
    """

    def __init__(
        self,
        model_path: Path | str = f"{config.MODELS_DIR}/model.tflite",
        labels_path: Path | str | None = None,
        unknown_below: float = 0.0,
        tta: bool = False,
    ) -> None:
        """Load a .tflite file or a SavedModel folder and its classes, as inference.load_model does.

        A best score (0 to 1) lower than `unknown_below` makes the prediction config.UNKNOWN; `tta`
        averages each image with its mirror image. Raises UserError when the model or its labels are
        missing or damaged, or `unknown_below` is no score.
        """
        if not 0 <= unknown_below <= 1:
            raise UserError(f"unknown_below is {unknown_below}; give a score from 0 to 1")
        self.runner, self.size, labels = load_model(model_path, labels_path)
        self.labels = tuple(labels)
        self.unknown_below = unknown_below
        if tta:
            self.runner = with_mirror(self.runner, labels)

    def __call__(self, photo: Source) -> Result:
        """Predict one photo. One that cannot be read gives a result with an `error` and no prediction."""
        try:
            image = open_image(photo, self.size)
        except ImageError as error:
            return Result(error=str(error))
        pixels = np.asarray(resize(image, self.size), dtype=np.uint8)
        return self.decide(self.runner(scale(pixels[np.newaxis]))[0], quality_reasons(image))

    def batch(self, photos: Iterable[Source]) -> Iterator[Result]:
        """Predict many photos, in all processor cores: a result for each, in their order.

        Photos are taken from `photos` as results are asked for, only a few ahead, so it may be endless.
        """
        return map_in_order(self, photos, cpu_count())

    def decide(self, probabilities: np.ndarray, quality: tuple[str, ...]) -> Result:
        """The result for a photo with these probabilities (classes,), float32, and this quality.

        In the dark or in glare there may be a vehicle: such a Background is config.UNKNOWN.
        """
        best = int(probabilities.argmax())
        is_sure = probabilities[best] >= self.unknown_below
        if self.labels[best] == config.BACKGROUND and {TOO_DARK, TOO_BRIGHT} & set(quality):
            is_sure = False
        return Result(
            prediction=self.labels[best] if is_sure else config.UNKNOWN,
            score=float(probabilities[best]),
            best_class=self.labels[best],
            probabilities=dict(zip(self.labels, map(float, probabilities), strict=True)),
            quality=quality,
        )
