"""Left, right, front and rear in other attributes than the part's name, and the view of a whole photo.

Standard library only. People write {"identity": "door", "side": "left"}, tick a flag "left", or sort their
categories into supercategories. What is plain is added to the part's name, "door left", which vocabulary.py reads.
What may be a side but is not plain is added as well, "door (side: driver)", which no list knows, so
that the photo is labelled only where it cannot matter and part_names.csv asks what it means.
"""

import functools
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import config
from viewpoint.annotations.vocabulary import DAMAGE, SEEN_FROM_BOTH_ENDS, part_of, tokens_of

MOST_TEXTS = 100_000  # texts are remembered, because most regions repeat them

Attributes = Mapping[str, object]

PLACES = {
    "left": "left lh lhs lt links linke linker linkes gauche izquierda izquierdo izq izqda esquerda esquerdo esq "
    "sinistra sinistro sx vänster venstre lewa lewy sol левый левая лево 左 左侧 左側 左边 左邊",
    "right": "right rh rhs rt rechts rechte rechter rechtes droite droit derecha derecho der dcha direita direito dir "
    "destra destro dx höger høyre højre prawa prawy sağ правый правая право 右 右侧 右側 右边 右邊",
    "front": "front forward fore vorn vorne vordere vorderer avant delantera delantero del dianteira dianteiro "
    "anteriore передний передняя 前 前面 前部",
    "rear": "rear back hinten hintere hinterer heck arrière arriere trasera trasero tras traseira traseiro posteriore "
    "задний задняя 后 後 后面 後面 后部",
}
PLACE_OF = {word: place for place, words in PLACES.items() for word in words.split()}
# Codes that say both; "LH" is the left hand.
CODES = {
    "front left": "fl lf vl avg frontleft leftfront",
    "front right": "fr rf vr avd frontright rightfront",
    "rear left": "rl lr bl hl arg rearleft leftrear",
    "rear right": "rr br rb hr ard rearright rightrear",
}
PLACE_OF |= {code: places for places, codes in CODES.items() for code in codes.split()}
# What single letters mean where an attribute has both of a pair, and no other.
LETTERS: list[dict[str, str]] = [
    {"l": "left", "r": "right"},
    {"g": "left", "d": "right"},
    {"i": "left", "d": "right"},
    {"e": "left", "d": "right"},
    {"s": "left", "d": "right"},
    {"f": "front", "r": "rear"},
    {"f": "front", "b": "rear"},
    {"v": "front", "h": "rear"},
    {"l": "left", "r": "right", "f": "front", "b": "rear"},
]
PAIRS = ({"left", "right"}, {"front", "rear"})
SIDE_WORDS = frozenset("side sides seite lado cote côté lato kant".split())
PLACE_WORDS = SIDE_WORDS | frozenset("position pos posición posição posizione posicion placement end axle lr".split())
POSE_WORDS = frozenset(
    "view views viewpoint viewangle perspective perspektive ansicht vista vue pose facing heading direction "
    "orientation angle camera".split()
)
VIEW_WORDS = frozenset("view views viewpoint viewangle perspective perspektive ansicht vista vue pose".split())
# The file attribute in which tools/select_photos.py writes a model's guess. It is never read, and neither are
# others that say so: a guess is not what a person says.
GUESS_KEY = "guess"
GUESS_WORDS = frozenset({GUESS_KEY, "predicted", "prediction", "model"})
# Sides that depend on the country, or on who looks.
UNCLEAR = frozenset(
    "driver drivers passenger passengers nearside offside near off kerb curb ns os fahrerseite beifahrerseite "
    "conductor pasajero copiloto acompañante conducteur passager".split()
)
MIDDLE = frozenset("both all center centre central middle mid mitte beide beides whole single any same".split())
FILLERS = frozenset("side hand the of on at seite lado côté cote lato parte part car vehicle".split())
VIEW_FILLERS = FILLERS | POSE_WORDS | frozenset("photo picture image shot corner quarter three from a is de".split())
# Views that are no class unless config.CLASSES has them, and other words for what a whole photo shows.
OTHER_VIEWS = frozenset("side profile interior inside cabin dashboard odometer top underbody closeup".split())

# "missing" is not here: it may be a damage.
NO = frozenset(
    "0 0.0 0% false no non nein n nil null none nan na <na> n/a n\\a n.a nv n/v n.v - -- – — off nope not "
    "not_visible notvisible not_there not_present not_seen not_in_photo not_in_view not_applicable no_visible "
    "non_visible nicht_sichtbar nicht_vorhanden ausente out_of_view out_of_frame invisible hidden occluded absent "
    "unchecked unticked × ✗ ✘ ✕ ❌".split()
) | {""}
YES = frozenset("1 1.0 true yes y ja si sí oui sim x on ok present visible checked ✓ ✔ ☑ √".split())


# --- Texts and ticks ---------------------------------------------------------------


def says_no(value: object) -> bool:
    """Whether a value says that something is not there: nothing, zero, "NA", "not visible" and the like."""
    text = re.sub(r"[\s_]+|(?<=\w)-(?=\w)", "_", str(value).strip().lower()).strip(".")
    return not value or text in NO


def ticked(key: str, value: object) -> list[str]:
    """What a value says of the part or option that its key names: the key for yes or a damage, nothing for no.

    For any other value it is both together, "bonnet cracked", which no list knows, so that people are asked.
    """
    if says_no(value):
        return []
    text = str(value).strip()
    if value is True or text.lower() in YES or part_of(text) in DAMAGE - {"missing"}:
        return [key]
    return [f"{key} {text}" if tokens_of(text) else f"{key} (value: {text})"]


def texts_of(value: object) -> list[str]:
    """The texts in an attribute: a text, a list of texts, or the ticked keys of a checkbox, {"door": true}."""
    if isinstance(value, dict):
        return [text for key, tick in value.items() for text in ticked(key, tick)]
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]


# --- The place of a part -----------------------------------------------------------


@functools.lru_cache(MOST_TEXTS)
def places_of(text: str, fillers: frozenset[str] = FILLERS) -> frozenset[str]:
    """The places that a text names, such as {"left"} for "L.H. side"; empty when it says anything else."""
    found: set[str] = set()
    for token in tokens_of(re.sub(r"(?<=\b\w)\.", "", text)):
        if token in PLACE_OF:
            found.update(PLACE_OF[token].split())
        elif token not in fillers:
            return frozenset()
    return frozenset(found)


def place_finder(regions: Iterable[Attributes]) -> Callable[[str, Attributes], str]:
    """How to add to a part's name what other attributes say of its place.

    `regions` holds those attributes for every region of a file: what a single letter means depends
    on the others.
    """
    letters: dict[str, set[str]] = defaultdict(set)
    for attributes in regions:
        for key, value in attributes.items():
            letters[key].update(text.strip().lower() for text in texts_of(value) if len(text.strip()) == 1)
    meanings = {key: read_letters(key, seen) for key, seen in letters.items()}

    def add_place(name: str, attributes: Attributes) -> str:
        places: set[str] = set()
        unclear = []
        said: dict[str, set[str]] = defaultdict(set)  # by the attribute
        for key, value in attributes.items():
            numbers = [str(value)] if isinstance(value, (int, float)) and not isinstance(value, bool) else []
            for text in texts_of(value) or numbers:
                found = meanings.get(key, {}).get(text.strip().lower(), "").split() or places_of(text)
                if found and not POSE_WORDS.intersection(tokens_of(key)):
                    said[key].update(found)
                elif found or may_be_place(key, text):
                    unclear.append(f"{key}: {text.strip()}")
            if places_of(key) and ticked(key, value) == [key]:
                said[key].update(places_of(key))
        for words in said.values():
            places |= without_pairs(words)
        if without_pairs(places) != places:
            unclear.append(" and ".join(said))
        return named_place(name, places, unclear)

    return add_place


def without_pairs(places: set[str]) -> set[str]:
    """The places without left and right, or front and rear, where they have both: that is no place."""
    return places - {place for pair in PAIRS if pair <= places for place in pair}


def read_letters(key: str, seen: Collection[str]) -> dict[str, str]:
    """What the single letters among the values of an attribute mean, {} when that is not plain."""
    for pair in LETTERS:
        if set(seen) == pair.keys() or (seen and set(seen) < pair.keys() and SIDE_WORDS.intersection(tokens_of(key))):
            return pair
    return {}


@functools.lru_cache(MOST_TEXTS)
def may_be_place(key: str, text: str) -> bool:
    """Whether the value of an attribute may say where a part is, although it is not plain where."""
    words = set(tokens_of(text)) - FILLERS
    if PLACE_WORDS.intersection(tokens_of(key)):
        return not says_no(text) and not (words and words <= MIDDLE)
    return bool(words) and words <= UNCLEAR


def named_place(name: str, places: Collection[str], unclear: list[str]) -> str:
    """A part's name with its place, unless the part is in that place anyway, or has no other (a bonnet's left half)."""
    known, places = part_of(name), set(places)
    if known in DAMAGE or not (places or unclear):
        return name
    placed = " ".join([name, *sorted(places)])
    part = part_of(placed)
    if not part and known and known not in SEEN_FROM_BOTH_ENDS and not known.startswith(("left", "right")):
        end = " ".join([name, *sorted(places & {"front", "rear"})])
        part = part_of(end) or (known if known in config.NEUTRAL_PARTS else None)
        placed = name if part else placed
    if not part:
        return placed
    has_sides = part in SEEN_FROM_BOTH_ENDS or part_of(f"{name} left") not in (None, part)
    if unclear and has_sides and not places & {"left", "right"} and not part.startswith(("left", "right")):
        return f"{placed} ({', '.join(unclear)})"
    return name if part == known else placed


# --- The view of a whole photo -----------------------------------------------------


def views_of(attributes: object) -> tuple[str, ...]:
    """What the attributes, flags or tags of a whole photo say of the view: texts, whether they are classes or not."""
    found = []
    for key, value in attributes.items() if isinstance(attributes, dict) else ():
        if GUESS_WORDS.intersection(tokens_of(key)):
            continue
        about_view = VIEW_WORDS.intersection(tokens_of(key))
        # "0" may be the number of an option, so that it says something.
        found += [t for t in texts_of(value) if is_view(t) or (about_view and (t.strip().isdigit() or not says_no(t)))]
        if is_view(key) and not isinstance(value, (dict, list)) and ticked(key, value) == [key]:
            found.append(key)
    return tuple(dict.fromkeys(found))


@functools.lru_cache(MOST_TEXTS)
def is_view(text: str) -> bool:
    """Whether a text says from where a photo was taken, also if that is no class."""
    words = set(tokens_of(text))
    other = words & OTHER_VIEWS and words <= OTHER_VIEWS | VIEW_FILLERS
    return bool(other or places_of(text, VIEW_FILLERS)) or class_of([text]) is not None


def class_of(texts: Iterable[str]) -> str | None:
    """The class of config.CLASSES that all texts name, or a flag "front" and a flag "left" together; else None."""
    texts = list(texts)
    classes = {name.lower(): name for name in config.CLASSES}
    named = {classes.get("".join(tokens_of(text))) or class_of_places(places_of(text, VIEW_FILLERS)) for text in texts}
    if len(named) == 1:
        return named.pop()
    places = [places_of(text, VIEW_FILLERS) for text in texts]
    return class_of_places(frozenset[str]().union(*places)) if all(len(some) == 1 for some in places) else None


def class_of_places(places: Collection[str]) -> str | None:
    """The class of config.CLASSES that lies in these places."""
    name = "".join(place.title() for place in ("front", "rear", "left", "right") if place in places)
    return name if name in config.CLASSES else None
