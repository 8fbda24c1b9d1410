"""What changed since the hand-over, in plain words, and the page of tools/drift.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import config
from viewpoint.reports.pages import write_page
from viewpoint.training.drift import FINE, Change, PhotoStatistics

# How photos of a name are called in a sentence, by what is compared.
PHOTOS_OF = {
    "classes": "{} photos",
    "quality": "photos that are {}",
    "sizes": "photos of {}",
    "shapes": "{} photos",
    "formats": "{} photos",
}
TIMES = {2: "twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times", 7: "seven times"}
SENTENCES = 3  # at most this many about one kind of change,
NOTABLE = 0.2  # of names whose share changed by at least this fraction of the largest change
NEARLY = 0.1  # "twice" is 2, give or take this fraction of it
QUANTILES = (0.1, 0.25, 0.5, 0.75)


class Unusual(NamedTuple):
    """A photo that is hardly like the earlier ones, for the page."""

    name: str
    prediction: str
    score: float
    distance: float
    picture: str  # as a data: URL


def describe(changes: Sequence[Change], before: PhotoStatistics, now: PhotoStatistics) -> list[str]:
    """What changed, in sentences; [] when nothing did."""
    earlier, later = before.counts(), now.counts()
    sentences = []
    for change in changes:
        if not change.is_drift:
            continue
        if change.what in earlier:
            sentences += describe_shares(change.what, earlier[change.what], later[change.what])
        elif change.kind == "scores":
            name = change.what.removeprefix("scores of ")
            sentences.append(describe_scores(name, before.scores[name], now.scores[name]))
        else:
            sentences.append(
                "The photos look different to the model: of an earlier and a new photo, a classifier finds the new one "
                f"in {percent(change.size)} % of the cases, and would in 50 % if they were alike."
            )
    return sentences


def describe_shares(what: str, before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """A sentence for each of the names whose share of the photos changed most."""
    shares = {name: (share_of(name, before), share_of(name, now)) for name in before.keys() | now.keys()}
    if what == "quality":
        shares.pop(FINE, None)
    sizes = {name: abs(later - earlier) for name, (earlier, later) in shares.items()}
    changed = sorted(sizes, key=lambda name: (-sizes[name], name))[:SENTENCES]
    notable = [name for name in changed if sizes[name] >= NOTABLE * sizes[changed[0]]]
    return [describe_share(PHOTOS_OF[what].format(name), *shares[name]) for name in notable]


def describe_share(photos: str, before: float, now: float) -> str:
    """How the share of some photos, 0 to 1, changed, in a sentence."""
    ratio = now / before if before else 0
    times = round(ratio)
    if not before:
        return f"There were no {photos}; now they are {percent(now)} %."
    if not now:
        return f"There are no {photos} any more; they were {percent(before)} %."
    if times in TIMES and abs(ratio - times) <= NEARLY * times:
        return f"{TIMES[times].capitalize()} as many {photos}: {percent(now)} % instead of {percent(before)} %."
    direction = "rose" if now > before else "fell"
    return f"{photos[0].upper()}{photos[1:]} {direction} from {percent(before)} to {percent(now)} %."


def describe_scores(name: str, before: Sequence[float], now: Sequence[float]) -> str:
    """How the scores of a class changed, in a sentence, at the quantile where they changed most."""
    pairs = [(quantile, *(float(np.quantile(scores, quantile)) for scores in (before, now))) for quantile in QUANTILES]
    quantile, earlier, later = max(pairs, key=lambda pair: abs(pair[2] - pair[1]))
    direction = "Lower" if later < earlier else "Higher"
    return f"{direction} scores of {name}: {percent(quantile)} % are below {later:.2f}, earlier below {earlier:.2f}."


def share_of(name: str, counts: Mapping[str, int]) -> float:
    """The share of a name among all counts."""
    return counts.get(name, 0) / max(sum(counts.values()), 1)


def percent(share: float) -> str:
    """A share, 0 to 1, in per cent; with a decimal where it is below 1 %."""
    return f"{100 * share:.0f}" if share >= 0.0095 or not share else f"{100 * share:.1f}"


def write_drift_page(
    path: Path,
    changes: Sequence[Change],
    before: PhotoStatistics,
    now: PhotoStatistics,
    unusual: Sequence[Unusual],
    far: float,
) -> None:
    """Write the page: what changed in words, every test, the shares, and the photos least like the earlier ones.

    `far` is the fraction of the new photos that are less like the earlier ones than 95 % of these are.
    """
    tables = {}
    later = now.counts()
    for what, counts in before.counts().items():
        names = [name for name in config.CLASSES if name in counts | later[what]] if what == "classes" else []
        names += sorted((counts | later[what]).keys() - set(names), key=lambda name: -share_of(name, counts))
        tables[what] = [(name, percent(share_of(name, counts)), percent(share_of(name, later[what]))) for name in names]
    write_page(
        path,
        "drift.html",
        sentences=describe(changes, before, now),
        changes=changes,
        before=len(before),
        now=len(now),
        opened=len(now.files),
        tables=tables,
        unusual=unusual,
        far=percent(far),
        alarms=percent(config.DRIFT_FALSE_ALARMS),
    )
