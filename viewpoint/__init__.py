"""The library under the four scripts; `from viewpoint import Predictor` predicts from Python."""

from viewpoint.inference.predictor import Predictor

__all__ = ["Predictor"]
