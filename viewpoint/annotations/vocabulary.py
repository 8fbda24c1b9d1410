"""From the spellings in annotation files to the part names of config.py. Standard library only.

A name is normalized, cut into words, its synonyms are replaced, and the words are looked up,
whatever their order, among the names of config.py: "Back_Left-Light 2" has the words of
"leftrearlamp". Nothing is guessed beyond that: "FR" may mean front or front right, so it is unknown.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable

import config

DAMAGE = frozenset(config.DAMAGE_PARTS)
KNOWN = DAMAGE.union(config.FRONT_PARTS, config.REAR_PARTS, config.LEFT_PARTS, config.RIGHT_PARTS, config.NEUTRAL_PARTS)

# Words that the names of config.py are made of.
WORDS = frozenset(
    "alloy antenna apillar arch bar board bonnet boot bpillar brake bumper cap car cladding cover cpillar "
    "defogger dickey door dpillar drl fender fog front fuel glass grille handle head indicator lamp left lid "
    "logo lower mirror number orvm others panel plate qpanel quarter radiator rail rear reflector right rim "
    "rocker roof running screen side silencer skid skirt spoiler stop sun tail tailgate tow trunk tyre upper "
    "vent wa wheel window wiper ws".split()
)
# Other words for them.
OTHER_WORDS = {
    "orvm": "rear view mirror, side view mirror, side mirror, wing mirror, door mirror, mirror",
    "left": "left hand, lh, lhs",
    "right": "right hand, rh, rhs",
    "ws": "wind screen, wind shield, windscreen, windshield",
    "qpanel": "quarter panel",
    "wa": "wheel arch",
    "indicator": "turn signal, turn lamp, blinker",
    "stop lamp": "brake lamp",
    "number plate": "licence plate, license plate, registration plate",
    "trunk lid": "boot lid, deck lid",
    "running board": "foot board, side step",
    "apillar": "a pillar",
    "bpillar": "b pillar",
    "cpillar": "c pillar",
    "dpillar": "d pillar",
    "door glass": "door window",
    "left door glass": "left window",
    "right door glass": "right window",
    "window": "window glass",
    "rear": "back",
    "bonnet": "hood",
    "lamp": "light",
    "grille": "grill",
    "tyre": "tire",
    "tailgate": "tail gate, hatch, liftgate",
    "bumper": "bumper cover",
    "silencer": "muffler, exhaust",
    "logo": "emblem, badge",
}
# What each phrase or word is replaced by: phrases come before the single words in them.
SYNONYMS = {phrase: word for word, phrases in OTHER_WORDS.items() for phrase in phrases.split(", ")}
SYNONYMS = dict(sorted(SYNONYMS.items(), key=lambda item: -len(item[0].split())))
# Words that say nothing about which part it is.
FILLERS = frozenset(
    "the of a an car vehicle engine outer outside exterior partial partially part parts cls class visible ok".split()
)
# Words that may stand before a damage.
QUALIFIERS = frozenset("deep minor major small large big light heavy severe slight moderate long short surface".split())
# Words that lead to a name which has other words.
ALIASES = {
    "front glass": "frontws",
    "rear glass": "rearws",
    "front lamp": "headlamp",
    "front left lamp": "leftheadlamp",
    "front right lamp": "rightheadlamp",
    "rear lamp": "taillamp",
    "stop lamp": "taillamp",
    "ws wiper": "wiper",
    "ws glass": "windscreen",
    "rear window": "rearws",  # but see door_windows()
    "window": "doorglass",
    "door trunk": "bootdoor",
}
# Parts of a car that config.py lists under names with other words, and the name that stands for them.
SAME_PARTS = {
    "boot": "bootdoor bootlid dickey tailgate trunklid",
    "frontws": "windscreen",
    "grille": "frontgrille radiatorgrille",
    "lefttaillamp": "leftrearlamp",
    "righttaillamp": "rightrearlamp",
    "rearspoiler": "bootspoiler spoiler",
}
# Parts that are seen from both ends, so that "front" or "rear" before them says nothing about the view.
SEEN_FROM_BOTH_ENDS = frozenset(
    "door doorglass doorhandle fender orvm rim tyre wheel wheelrim leftorvm rightorvm".split()
)
ENDS = {"front": frozenset(config.FRONT_PARTS), "rear": frozenset(config.REAR_PARTS)}

# What annotators and tools write where nobody named the part.
PLACEHOLDERS = frozenset(
    "object other notdefined undefined unknown none na nan null nil noname unnamed unlabeled unlabelled untitled "
    "default tbd todo".split()
)
# A text with more characters is no name, but a file or a page that was pasted.
MAX_NAME = 1000


# --- From a text to a name ---------------------------------------------------------


def clean_name(text: str) -> str:
    """A part name normalized for comparison: one form of each character, trimmed, in lower case, without "partial_".

    Full-width letters become plain ones, invisible characters, quotes and trailing punctuation go.
    Unpaired surrogates, which JSON can hold and no file can, are escaped.
    """
    return normalize(text).lower().removeprefix(config.PARTIAL_PREFIX).strip()


def normalize(text: str) -> str:
    """clean_name() before lower case, for the words that capital letters separate."""
    text = unicodedata.normalize("NFKC", text.encode(errors="backslashreplace").decode())
    text = "".join(" " if character.isspace() else character for character in text)
    visible = (character for character in text if unicodedata.category(character) not in ("Cc", "Cf"))
    return " ".join("".join(visible).split()).strip(" \"'`´‘’“”«»„.,;:!?")


def is_placeholder(name: str) -> bool:
    """Whether a cleaned name names no part: empty, endless, a number, punctuation, or a word such as "unknown"."""
    letters = "".join(character for character in name if character.isalpha())
    return not letters or len(name) > MAX_NAME or re.sub(r"[\W_]", "", name) in PLACEHOLDERS


def is_plate(name: str) -> bool:
    """Whether a cleaned name looks like the text on a number plate, and not like a code for a part such as "LFD 01".

    It has at least two groups of at most three letters, and four digits or letters after two digits.
    """
    digits = sum(character.isdigit() for character in name)
    groups = re.findall(r"[^\W\d_]+", name)
    short = len(name) < 16 and len(groups) > 1 and all(len(group) <= 3 for group in groups)
    return short and digits + sum(map(len, groups)) > 6 and (digits > 3 or (digits > 1 and name[-1].isalpha()))


@functools.cache
def part_of(text: str) -> str | None:
    """The name in config.py that a text means, None when it means none of them."""
    if len(text) > MAX_NAME:
        return None
    cleaned = clean_name(text)
    if cleaned in KNOWN:
        return cleaned
    tokens = tokens_of(text)
    tokens = [token for token in tokens if token not in FILLERS] or tokens
    if (joined := "".join(tokens)) in KNOWN:
        return joined
    cut = [cut_into_words(token) for token in tokens]
    damage = [token for token in tokens if token in DAMAGE]
    if damage and set(tokens) <= {*damage, *QUALIFIERS}:  # but not "bumper scratch", which may be either
        return damage[0]
    if not tokens or None in cut:
        return None
    words = replace_synonyms(word for words in cut for word in words or ())
    names = known_by_words()
    if found := names.get(words):
        return found
    # "front door left side": the side is said again.
    if {"left", "right"} & words and (found := names.get(words - {"side"})):
        return found
    # "front bonnet" and "rear left taillamp": the end says again what the part says.
    for end, parts in ENDS.items():
        shorter = names.get(words - {end})
        if end in words and "window" not in words and shorter and (shorter in parts or shorter in SEEN_FROM_BOTH_ENDS):
            return shorter
    return None


def tokens_of(text: str) -> list[str]:
    """The runs of letters in a text, in lower case; capital letters begin a new one. Numbering is dropped."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", normalize(text))
    return re.findall(r"[^\W\d_]+", spaced.lower())


@functools.cache
def cut_into_words(token: str) -> tuple[str, ...] | None:
    """A token as the fewest known words that it is made of ("frontleftdoor", "wheels"); None if it is not."""
    vocabulary = known_words()
    longest = max(map(len, vocabulary)) + 1  # one more letter for the plural
    best: list[tuple[str, ...] | None] = [()] + [None] * len(token)
    for end in range(1, len(token) + 1):
        for start in range(max(0, end - longest), end):
            before, piece = best[start], token[start:end]
            word = piece if piece in vocabulary else piece.removesuffix("s")
            if before is not None and word in vocabulary and (len(piece) > 1 or piece == token):
                candidate = (*before, word)
                current = best[end]
                if current is None or len(candidate) < len(current):
                    best[end] = candidate
    return best[-1]


@functools.cache
def known_words() -> frozenset[str]:
    """Every single word that a name may contain."""
    return WORDS | FILLERS | set(" ".join([*SYNONYMS, *SYNONYMS.values()]).split())


def replace_synonyms(words: Iterable[str]) -> frozenset[str]:
    """The set of words with every synonym replaced, until nothing changes any more."""
    found, before = frozenset(words), frozenset[str]()
    while found != before:
        before = found
        for phrase, replacement in SYNONYMS.items():
            if found.issuperset(phrase.split()):
                found = found.difference(phrase.split()).union(replacement.split())
    return found


@functools.cache
def known_by_words() -> dict[frozenset[str], str]:
    """The names of config.py by their words; of several with the same words, the one without synonyms."""
    names: dict[frozenset[str], str] = {}
    cut = {name: cut_into_words(name) or (name,) for name in sorted(KNOWN - DAMAGE)}
    for name, words in sorted(cut.items(), key=lambda item: frozenset(item[1]) != replace_synonyms(item[1])):
        names.setdefault(replace_synonyms(words), name)
    return names | {frozenset(words.split()): name for words, name in ALIASES.items()}


@functools.cache
def without_synonyms(name: str) -> str:
    """The name of config.py with the same words, synonyms replaced: bonnet for hood; any other name stays."""
    return known_by_words().get(replace_synonyms(cut_into_words(name) or ()), name) if name in KNOWN - DAMAGE else name


@functools.cache
def one_part(name: str) -> str:
    """The name that stands for a part of config.py: bonnet for hood, boot for dickey; any other name stays."""
    name = without_synonyms(name)
    return next((part for part, others in SAME_PARTS.items() if name in others.split()), name)


def door_windows(texts: Iterable[str]) -> dict[str, str]:
    """What "rear window" and "front window" mean beside the windscreen of that end: the glass of a door.

    `texts` are all part names of one source. Returns {cleaned name: "doorglass"}, often {}.
    """
    ends: dict[str, set[str]] = {"rear": set(), "front": set()}
    windscreens = set()
    for text in texts:
        if len(text) > MAX_NAME:
            continue
        words = replace_synonyms(word for token in tokens_of(text) for word in cut_into_words(token) or ()) - FILLERS
        end = next((end for end in ends if words == {end, "window"}), "")
        if end:
            ends[end].add(clean_name(text))
        elif part := part_of(text):
            windscreens.add(one_part(part))
    return {name: "doorglass" for end, names in ends.items() if f"{end}ws" in windscreens for name in names}
