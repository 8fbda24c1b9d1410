"""From part names to votes and a label. Standard library only."""

from collections.abc import Iterable

import config
from viewpoint.annotations import via
from viewpoint.annotations.photo import Part
from viewpoint.vocabulary import DAMAGE, KNOWN

VOTES = {
    "front": frozenset(config.FRONT_PARTS),
    "rear": frozenset(config.REAR_PARTS),
    "left": frozenset(config.LEFT_PARTS),
    "right": frozenset(config.RIGHT_PARTS),
}
VIEWPOINTS = tuple(name for name in config.CLASSES if name != config.BACKGROUND)


def part_names(parts: Iterable[Part]) -> set[str]:
    """The distinct names of a photo's parts."""
    return {name for part in parts for name in part.names}


def count_votes(names: Iterable[str]) -> dict[str, int]:
    """How many of the distinct part names vote for front, rear, left and right."""
    return {vote: len(parts.intersection(names)) for vote, parts in VOTES.items()}


def votes_of_names(names: Iterable[str]) -> str:
    """What a region's names vote for, for example "front left"; else "damage", "nothing" or "unknown"."""
    votes = [vote for vote, parts in VOTES.items() if parts.intersection(names)]
    if votes:
        return " ".join(votes)
    if DAMAGE.intersection(names):
        return "damage"
    return "nothing" if KNOWN.intersection(names) else "unknown"


def label_parts(names: Iterable[str]) -> str:
    """The class of a photo, one of config.CLASSES, from its distinct part names.

    Fewer than two parts besides damage, or parts without a vote, make a Background. Otherwise
    the majority of front and rear votes decides the end and the majority of left and right
    votes the side. When the ends are tied or have no vote, the end is Front, unless
    config.CLASSES has the pure side views "Left" and "Right".
    """
    names = set(names)
    votes = count_votes(names)
    if len(names - DAMAGE) < 2 or not any(votes.values()):
        return config.BACKGROUND
    side = ""
    if votes["left"] != votes["right"]:
        side = "Left" if votes["left"] > votes["right"] else "Right"
    if votes["front"] == votes["rear"] and side in config.CLASSES:
        return side
    end = "Rear" if votes["rear"] > votes["front"] else "Front"
    return end + side


def extract_viewpoint_label(regions: list | dict) -> str:
    """The class of a photo, one of config.CLASSES, from its VIA regions: VIA 2's list or VIA 1's dict.

    The part names are read from region_attributes[config.IDENTITY_KEY]; see label_parts for the rule.
    """
    return label_parts(part_names(via.read_regions(regions)))
