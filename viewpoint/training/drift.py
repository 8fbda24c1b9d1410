"""Do new photos differ from those that a model was handed over with? The record that train.py keeps, and the tests.

A change counts when it is both certain (a two-sample test, corrected for the number of tests) and large
(config.DRIFT_LIMITS): among a million photos every test is certain of something, and among thirty
photos chance makes large changes. The earlier photos are a sample as well, often a small one, and every
test treats them so.

Source: Rabanser et al., Failing Loudly (2019), https://arxiv.org/abs/1810.11953, in which tests of what a
trained classifier makes of the photos found drift best.

Needs TensorFlow.
"""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from scipy.stats import ks_2samp, random_table, rankdata

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import ImageError, open_header, open_image, upright_size
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.common.quality import quality_reasons
from viewpoint.common.writing import write_atomically
from viewpoint.training.features import backbone_features
from viewpoint.training.network import head_of

REFERENCE_NAME = "reference.npz"  # beside model.keras
FINE = "usable"  # the quality of a photo without a reason against it
DRAWS = 1999  # random tables or permutations behind a p-value, which is therefore at least 0.0005
EXACT_PAIRS = 100_000  # of scores, up to which their test is exact
RIDGE = 0.01  # how much the classifier of compare_features is regularized, relative to the features' variance
MIN_SCORES = 10  # scores of a class are compared when it has this many photos before and now
MEGAPIXELS = [0.1, 0.3, 1, 3, 10]  # sizes of photos are compared in these steps


@dataclass
class PhotoStatistics:
    """What is compared of a set of photos; `files` and `features` may be those of a part of them."""

    scores: dict[str, list[float]] = field(default_factory=dict)  # the best scores, 0 to 1, by best class
    quality: Counter[str] = field(default_factory=Counter)  # photos by reason to be hardly usable, or FINE
    files: list[tuple[int, int, str]] = field(default_factory=list)  # width and height upright, in pixels, and format
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))  # (n, channels)

    def add(self, best_class: str, score: float, quality: str) -> None:
        """Count a prediction."""
        self.scores.setdefault(best_class, []).append(round(score, 4))  # as test_predict.py writes it
        self.quality[quality or FINE] += 1

    def __len__(self) -> int:
        return sum(self.quality.values())

    def counts(self) -> dict[str, Counter[str]]:
        """Photos by class, quality, size, shape and file format: {what: {name: photos}}."""
        return {
            "classes": Counter({name: len(scores) for name, scores in self.scores.items()}),
            "quality": self.quality,
            "sizes": Counter(size_step(width * height / 1e6) for width, height, _ in self.files),
            "shapes": Counter(
                "wide" if width > height else "high" if width < height else "square" for width, height, _ in self.files
            ),
            "formats": Counter(file_format for _, _, file_format in self.files),
        }


def open_photos(
    photos: PhotoStatistics, model: keras.Model, files: Sequence[Path | str], quiet: bool = False
) -> tuple[list[int], np.ndarray]:
    """Add the features, sizes and formats of files to `photos`; says which files cannot be read.

    Returns the positions of the others, and the model's probabilities (n, classes) for them.
    """
    features = backbone_features(model, files, quiet)
    readable = np.flatnonzero(np.isfinite(features).all(axis=1)).tolist()
    photos.features = features[readable]
    photos.files = list(map_in_order(size_and_format, [files[row] for row in readable], cpu_count()))
    return readable, np.asarray(head_of(model)(photos.features))


def size_step(megapixels: float) -> str:
    """The step of MEGAPIXELS that a photo's size is in."""
    for low, high in itertools.pairwise([0, *MEGAPIXELS]):
        if megapixels < high:
            return f"{low:g} to {high:g} megapixels" if low else f"under {high:g} megapixels"
    return f"{MEGAPIXELS[-1]:g} megapixels or more"


def size_and_format(file: Path | str) -> tuple[int, int, str]:
    """Width and height of the upright photo, and the format of its file. Raises ImageError when it cannot be read."""
    width, height = upright_size(file)
    with open_header(file) as image:
        return width, height, str(image.format)


# --- The record --------------------------------------------------------------------


def observe(model: keras.Model, files: Sequence[Path | str], seed: int, quiet: bool = False) -> PhotoStatistics:
    """What the model makes of photos: at most config.DRIFT_PHOTOS of them, drawn with `seed`.

    Raises ImageError when a photo vanishes meanwhile.
    """
    drawn = [files[row] for row in np.random.default_rng(seed).permutation(len(files))[: config.DRIFT_PHOTOS]]
    photos, size = PhotoStatistics(), model.input_shape[1]
    readable, probabilities = open_photos(photos, model, drawn, quiet)
    reasons = map_in_order(lambda row: quality_reasons(open_image(drawn[row], size)), readable, cpu_count())
    for scores, quality in zip(probabilities, reasons, strict=True):
        photos.add(config.CLASSES[scores.argmax()], float(scores.max()), "; ".join(quality))
    return photos


def write_reference(photos: PhotoStatistics, training: str, models: Path) -> None:
    """Write what the photos of a model's hand-over look like into its models folder, with the id of its training."""
    text = json.dumps({"training": training, "scores": photos.scores, "quality": photos.quality, "files": photos.files})
    with write_atomically(models / REFERENCE_NAME) as path, path.open("wb") as file:
        np.savez_compressed(file, text=np.array(text), features=photos.features.astype(np.float16))


def record_photos(
    model: keras.Model, files: Sequence[str], training: str, models: Path, seed: int, quiet: bool
) -> None:
    """Write what these photos look like into the models folder; say so when one of them has vanished."""
    try:
        write_reference(observe(model, files, seed, quiet), training, models)
    except ImageError as error:
        print(f"No {REFERENCE_NAME}: {error}")


def read_reference(models: Path, training: str | None) -> PhotoStatistics:
    """What write_reference wrote. Raises UserError when it is missing, damaged, or of another training."""
    if models.is_file():
        raise UserError(f"{models} is a file; give the models folder that train.py wrote, with {REFERENCE_NAME} in it")
    path = models / REFERENCE_NAME
    try:
        with np.load(path, allow_pickle=False) as content:
            text = json.loads(str(content["text"]))
            features = content["features"].astype(np.float32)
        files = [(width, height, name) for width, height, name in text["files"]]
        photos = PhotoStatistics(text["scores"], Counter(text["quality"]), files, features)
    except FileNotFoundError as error:
        raise UserError(f"{path} not found; train again, because train.py writes it since there is drift.py") from error
    # A damaged file may raise almost any type.
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); train again") from error
    if text["training"] != training:
        raise UserError(f"{path} is of another training than model.keras; train again")
    return photos


# --- Tests -------------------------------------------------------------------------


def compare_shares(before: Mapping[str, int], now: Mapping[str, int]) -> tuple[float, float]:
    """How far two sets of counts are apart: (total variation distance of their shares, 0 to 1; p).

    The distance is the fraction of photos that would have to change. p is that of Pearson's
    chi-squared statistic among random tables with the same sums, so that small counts need no rule.
    Source: Hope, A simplified Monte Carlo significance test procedure (1968).
    """
    table = np.array([[counts.get(name, 0) for name in before.keys() | now.keys()] for counts in (before, now)])
    table = table[:, table.any(axis=0)]
    if table.shape[1] < 2 or not table.any(axis=1).all():
        return 0.0, 1.0
    sums, total = table.sum(axis=1), table.sum(axis=0)
    expected = np.outer(sums, total) / total.sum()
    drawn = random_table(sums, total).rvs(DRAWS, random_state=config.SEED)
    statistics = [((tables - expected) ** 2 / expected).sum(axis=(-2, -1)) for tables in (drawn, table)]
    shares = table / sums[:, np.newaxis]
    return float(np.abs(shares[0] - shares[1]).sum() / 2), p_value(*statistics)


def compare_scores(before: Sequence[float], now: Sequence[float]) -> tuple[float, float]:
    """The two-sample Kolmogorov-Smirnov test: (largest difference of the cumulative shares, 0 to 1; p)."""
    # Exact where that is fast: the approximation calls too many small samples different.
    method = "exact" if len(before) * len(now) <= EXACT_PAIRS else "asymp"
    found = ks_2samp(before, now, method=method)
    return float(found.statistic), float(found.pvalue)


def compare_features(before: np.ndarray, now: np.ndarray) -> tuple[float, float]:
    """Can a classifier tell new photos from earlier ones by their features (n, channels)? Returns (AUC, p).

    The AUC is how often it finds the new one of two photos, without having learned from these: 0.5 is
    guessing. p is that of the AUC when the photos are dealt to both sides at random. The classifier is
    a ridge regression on the side, because its answer on a photo left out has a closed form, so that
    nothing is fitted again for thousands of deals. On photos, it found more than the maximum mean
    discrepancy of Gretton et al., A kernel two-sample test (2012).
    Sources: Lopez-Paz and Oquab, Revisiting classifier two-sample tests (2017),
    https://arxiv.org/abs/1610.06545; Hastie et al., The elements of statistical learning (2009), 7.10.
    """
    features = np.concatenate([before, now]).astype(np.float64)
    count, new = len(features), len(now)
    features -= features.mean(axis=0)
    products = features @ features.T
    ridge = RIDGE * np.trace(products) / count
    if not new or not len(before) or not ridge:
        return 0.5, 1.0
    # The ridge regression's answers are `smoother` times the sides that it learns.
    smoother = np.linalg.solve(products + ridge * np.eye(count), products) + 1 / count
    random, side = np.random.default_rng(config.SEED), np.repeat([0.0, 1.0], [len(before), new])
    sides = np.stack([side, *(random.permutation(side) for _ in range(DRAWS))])
    answers = sides - (sides - sides @ smoother.T) / (1 - np.diag(smoother))  # on each photo, learned from the others
    ranks = (rankdata(answers, axis=1) * sides).sum(axis=1)
    aucs = (ranks - new * (new + 1) / 2) / (new * len(before))
    return float(aucs[0]), p_value(aucs[1:], aucs[0])


def p_value(drawn: np.ndarray, found: float) -> float:
    """The fraction of random draws with at least this statistic, counting the photos as they are as one more draw."""
    return float((1 + np.count_nonzero(drawn >= found * (1 - 1e-9))) / (1 + len(drawn)))


def holm(ps: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that any false alarm is as rare as for one test.

    Source: Holm, A simple sequentially rejective multiple test procedure (1979).
    """
    order = np.argsort(ps)
    corrected = np.asarray(ps, float)[order] * np.arange(len(ps), 0, -1)
    result = np.empty(len(ps))
    result[order] = np.minimum(np.maximum.accumulate(corrected), 1)
    return result.tolist()


@dataclass(frozen=True)
class Change:
    """How far new photos differ from earlier ones in one respect."""

    what: str  # "classes", "scores of Rear" ...
    kind: str  # the limit of config.DRIFT_LIMITS that applies
    size: float  # in the terms of that limit
    p: float  # how often chance makes such a change, corrected for the number of tests

    @property
    def limit(self) -> float:
        """The size from which on it counts."""
        return config.DRIFT_LIMITS[self.kind]

    @property
    def is_drift(self) -> bool:
        """Whether the change is both certain and large."""
        return self.p <= config.DRIFT_FALSE_ALARMS and self.size >= self.limit


def compare(before: PhotoStatistics, now: PhotoStatistics) -> list[Change]:
    """How new photos differ from earlier ones, in every respect that can be compared."""
    later = now.counts()
    found = [
        (what, what if what in config.DRIFT_LIMITS else "sizes", compare_shares(counts, later[what]))
        for what, counts in before.counts().items()
    ]
    for name in config.CLASSES:
        pair = before.scores.get(name, []), now.scores.get(name, [])
        if min(map(len, pair)) >= MIN_SCORES:
            found.append((f"scores of {name}", "scores", compare_scores(*pair)))
    found.append(("features", "features", compare_features(before.features, now.features)))
    corrected = holm([p for _, _, (_, p) in found])
    return [Change(what, kind, size, p) for (what, kind, (size, _)), p in zip(found, corrected, strict=True)]


def distances(features: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How little each photo is like its most similar one of `others`: 1 minus the cosine of their features, (n,).

    Where both are the same photos, a photo is not compared with itself.
    Source: Sun et al., Out-of-distribution detection with deep nearest neighbors (2022).
    """
    units = [values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12) for values in (features, others)]
    similarities = units[0] @ units[1].T
    if features is others:
        np.fill_diagonal(similarities, -1)
    return 1 - similarities.max(axis=1)
