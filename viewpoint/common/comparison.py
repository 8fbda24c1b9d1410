"""Whether one model is really better than another on the same photos: McNemar's exact test."""

from collections.abc import Sequence
from dataclasses import dataclass

from viewpoint.common.cli import counted

SIGNIFICANT = 0.05  # a difference that chance makes less often than this is called real


@dataclass(frozen=True)
class Comparison:
    """Two models on the same photos; newly_right and newly_wrong are the photos' positions."""

    photos: int
    old_right: int
    new_right: int
    newly_right: list[int]
    newly_wrong: list[int]
    p: float

    @property
    def worse(self) -> bool:
        """Whether the new model is significantly worse."""
        return self.p < SIGNIFICANT and len(self.newly_wrong) > len(self.newly_right)


def compare(true: Sequence[str], old: Sequence[str], new: Sequence[str]) -> Comparison:
    """Compare two models' predictions of the same photos with their labels. Needs SciPy.

    p is the probability that two equally good models differ at least as much, from the photos on
    which only one of them is right: each of the two is that one with probability 1/2.
    Source: McNemar, Note on the sampling error of the difference between correlated proportions (1947).
    """
    from scipy.stats import binomtest

    pairs = [(a == label, b == label) for label, a, b in zip(true, old, new, strict=True)]
    newly_right = [index for index, pair in enumerate(pairs) if pair == (False, True)]
    newly_wrong = [index for index, pair in enumerate(pairs) if pair == (True, False)]
    changed = len(newly_right) + len(newly_wrong)
    p = float(binomtest(len(newly_right), changed).pvalue) if changed else 1.0
    old_right, new_right = (sum(pair[model] for pair in pairs) for model in (0, 1))
    return Comparison(len(pairs), old_right, new_right, newly_right, newly_wrong, p)


def describe_comparison(found: Comparison) -> str:
    """A comparison in a sentence, with "no real difference" where that is so."""
    verdict = "no real difference"
    if found.p < SIGNIFICANT:
        verdict = "significantly worse" if found.worse else "significantly better"
    p = f"p = {found.p:.3f}" if found.p >= 0.001 else "p < 0.001"
    return (
        f"{counted(found.photos, 'photo')}, {found.old_right} right before and {found.new_right} now; "
        f"{len(found.newly_right)} newly right, {len(found.newly_wrong)} newly wrong: "
        f"{verdict} (McNemar's exact test, {p})"
    )
