"""From part names to votes and a label, or to the reason why there is none. Standard library only."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import config
from viewpoint.annotations import via
from viewpoint.annotations.photo import Part
from viewpoint.annotations.places import class_of
from viewpoint.annotations.vocabulary import DAMAGE, KNOWN, clean_name, is_placeholder, is_plate, one_part, part_of

VOTES = {
    "front": frozenset(config.FRONT_PARTS),
    "rear": frozenset(config.REAR_PARTS),
    "left": frozenset(config.LEFT_PARTS),
    "right": frozenset(config.RIGHT_PARTS),
}
VIEWPOINTS = tuple(name for name in config.CLASSES if name != config.BACKGROUND)


# A photo may have this fraction of regions without a name, such as stray clicks, and still be labelled.
STRAY_FRACTION = 1 / 6

NAMELESS = "regions without a part name"
UNKNOWN_PARTS = "part names that no list knows"
CAR_ONLY = "a car without parts that say from where it is seen"
ONE_NAME = "three or more regions that all have one name"
NO_CLASS = "the view written for the whole photo is none of the classes"
CONTRADICTED = "the view written for the whole photo is not what its parts say"

PLATE = "numberplate"
# Names that only say that there is something.
VAGUE = frozenset({"car", "others"})

# --- Names -------------------------------------------------------------------------


def read_names(
    parts: Iterable[Part], meanings: Mapping[str, str], spellings: Counter[tuple[str, str]]
) -> tuple[Part, ...]:
    """The parts under the names of config.py; names that mean none of them stay, cleaned.

    `meanings` says what further cleaned names mean (see part_names.py). Placeholders such as
    "undefined" and numbers are no names. The text of a number plate is read as one, when it is the
    only such text in the photo. Counts in `spellings` each name that is not spelled as in config.py.
    """
    parts = list(parts)
    texts = {clean_name(text) for part in parts for text in part.names}
    plates = {text for text in texts if is_plate(text) and not part_of(text)}
    understood = []
    for part in parts:
        names = []
        for text in part.names:
            cleaned = clean_name(text)
            # What a person wrote into part_names.csv counts before every list of ours.
            if cleaned in meanings:
                spellings[(cleaned, meanings[cleaned])] += 1
                names.append(meanings[cleaned])
            elif known := parts_of(text):
                spellings.update([(cleaned, name) for name in known if name != cleaned])
                names += known
            elif is_plate(cleaned):
                if len(texts) > 1 == len(plates):
                    spellings[("(the text on a plate)", PLATE)] += 1
                    names.append(PLATE)
            elif not is_placeholder(cleaned):
                names.append(cleaned)
        understood.append(Part(tuple(dict.fromkeys(names)), part.outlines))
    return tuple(understood)


def parts_of(text: str) -> list[str]:
    """The names in config.py that a text means: one, or all of a list such as "bonnet, grille"; [] when unclear.

    "Boot/Dickey" is one part named twice; "headlight/taillight" is either, so nobody knows which.
    """
    if known := part_of(text):
        return [known]
    found = []
    for piece in re.split(r"[,;|+&]", text):
        either = [part_of(name) for name in re.split(r"/|\bor\b", piece)]
        names = [name for name in either if name]
        is_one = len(set(map(one_part, names))) == 1 or votes_of_names(names) == "nothing"
        if len(names) < len(either) or not is_one:
            return []
        found.append(names[0])
    return found


def part_names(parts: Iterable[Part]) -> set[str]:
    """The distinct names of a photo's parts; a part that two people call bonnet and hood is one."""
    return {one_part(name) for part in parts for name in part.names}


# --- Votes and labels --------------------------------------------------------------


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
    names = frozenset(names)
    votes = count_votes(names)
    # A close-up of one part shows no view, whatever side the part is on.
    if len(names - DAMAGE) < 2 or not any(votes.values()):
        return config.BACKGROUND
    # Equal votes for both sides are a view from the very front or rear, which is a class of its own.
    side = ""
    if votes["left"] != votes["right"]:
        side = "Left" if votes["left"] > votes["right"] else "Right"
    # From the very side as much of the front is seen as of the rear; without such a class Front is the rule.
    if votes["front"] == votes["rear"] and side in config.CLASSES:
        return side
    end = "Rear" if votes["rear"] > votes["front"] else "Front"
    return end + side


def decide(parts: tuple[Part, ...], strict: bool = False, views: tuple[str, ...] = ()) -> tuple[str | None, str]:
    """The label of a photo and "", or None and the reason when its parts do not decide safely.

    Takes parts as read_names gives them. A view that somebody wrote for the whole photo counts, unless
    the parts contradict it. Regions without a name and unknown names could vote for
    anything. So with some of them, the named parts must decide by a larger majority than their
    number. A stray region without a name among many named ones is passed over, unless `strict`.
    """
    names = part_names(parts)
    known, unknown = names & KNOWN, names - KNOWN
    nameless = sum(not part.names for part in parts)
    votes = count_votes(known)
    # What a person wrote for the whole photo comes first: it is meant as the answer, parts only imply it.
    if views:
        return check_view(class_of(views), votes)
    if parts and names <= VAGUE:
        return None, NAMELESS
    if len(parts) > 2 and len(names) == 1 and any(votes.values()):
        return None, ONE_NAME  # the value that a tool gives every new region
    if not unknown and (not nameless or (nameless <= STRAY_FRACTION * len(parts) and not strict)):
        label = label_parts(known)
        return (None, CAR_ONLY) if label == config.BACKGROUND and "car" in names else (label, "")
    # Each region that is not understood could be one vote for the other end or side.
    margins = abs(votes["front"] - votes["rear"]), abs(votes["left"] - votes["right"])
    if len(known - DAMAGE) >= 2 and min(margins) > nameless + len(unknown):
        return label_parts(known), ""
    return None, UNKNOWN_PARTS if unknown else NAMELESS


def check_view(label: str | None, votes: Mapping[str, int]) -> tuple[str | None, str]:
    """The class that somebody wrote for a whole photo and "", or None and why it cannot be used.

    The parts contradict it when a majority of them votes for another end or side, or as many for the
    left as for the right although it names one.
    """
    if label is None:
        return None, NO_CLASS
    if label == config.BACKGROUND and any(votes.values()):
        return None, CONTRADICTED
    ends, sides = votes["rear"] - votes["front"], votes["right"] - votes["left"]
    end, side = "rear" in label.lower(), ("right" in label.lower()) - ("left" in label.lower())
    wrong_end = ends != 0 and end != (ends > 0)
    wrong_side = (votes["left"] or votes["right"]) and side != (sides > 0) - (sides < 0)
    return (None, CONTRADICTED) if wrong_end or wrong_side else (label, "")


def extract_viewpoint_label(regions: list | dict) -> str:
    """The class of a photo, one of config.CLASSES, from its VIA regions: VIA 2's list or VIA 1's dict.

    The part names are read from region_attributes[config.IDENTITY_KEY]; see label_parts for the rule.
    A list may also hold the part names themselves. Regions without a name and unknown names are passed
    over, so the label may be wrong when there are such; data_preparation.py leaves out a photo whose
    label they could change. Raises ValueError when regions and names are mixed, or for another type.
    """
    if not isinstance(regions, (list, dict)):
        raise ValueError(f"regions are a list or a dict, not {type(regions).__name__}")
    names = [name for name in regions if isinstance(name, str)] if isinstance(regions, list) else []
    if names and len(names) < len(regions):
        raise ValueError(f"regions and part names are mixed; give either {names[0]!r} and other names, or regions")
    parts = [Part((name,)) for name in names] or via.read_regions(regions)
    return label_parts(part_names(read_names(parts, {}, Counter())))
