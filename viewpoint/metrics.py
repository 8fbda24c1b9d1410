"""Figures that say how good predictions are: accuracy, calibration, coverage. Free of Keras."""

from collections import Counter
from collections.abc import Sequence


def accuracy_and_macro_f1(true: Sequence[str], predicted: Sequence[str]) -> tuple[float, float]:
    """Accuracy and macro F1, 0 to 1, over the classes that occur in either list.

    Written out because scikit-learn takes longer to import than a photo takes to predict.
    Source: sklearn.metrics.f1_score, average="macro", zero_division=0.
    """
    right = Counter(name for name, guess in zip(true, predicted, strict=True) if name == guess)
    occurrences = Counter(true) + Counter(predicted)
    # F1 = 2 * true positives / (true photos + predicted photos).
    f1_scores = [2 * right[name] / count for name, count in occurrences.items()]
    return right.total() / len(true), sum(f1_scores) / len(f1_scores)
