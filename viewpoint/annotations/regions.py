"""Which regions count, and whether they belong to one car. Standard library only."""

import contextlib
from dataclasses import replace

from viewpoint.annotations.photo import AnnotationFile, Part

# Detectors also write down what they hardly believe; half is where most of them draw the line.
MIN_SCORE = 0.5
SCORE_KEYS = ("score", "confidence")
# Where annotators tell the cars of a photo apart.
GROUP_KEYS = ("group_id", "car_id", "vehicle_id", "instance_id")

NO_AREA = "without an area"
UNSURE = f"with a score below {MIN_SCORE}"
NOTHING_LEFT = "regions without an area or with a low score only"
SEVERAL_CARS = "parts of several cars, told apart by a group id"


def why_ignored(fields: dict, has_area: bool) -> str:
    """Why a region does not count, "" when it does; `fields` may hold the score of a detector, 0 to 1 or in percent."""
    if not has_area:
        return NO_AREA
    for key in SCORE_KEYS:
        with contextlib.suppress(TypeError, ValueError):
            score = float(fields[key]) if key in fields else 1.0
            if (score / 100 if score > 1 else score) < MIN_SCORE:
                return UNSURE
    return ""


def group_of(fields: dict) -> str:
    """The id of the car that a region belongs to, "" where nobody told cars apart."""
    given = (fields.get(key) for key in GROUP_KEYS)
    return next((str(value) for value in given if value is not None and value != ""), "")


def settle(file: AnnotationFile) -> AnnotationFile:
    """The file without the regions that do not count, which it counts; photos of several cars get a problem."""
    for index, entry in enumerate(file.entries):
        kept = tuple(part for part in entry.parts if not part.ignored)
        file.passed_over.update(part.ignored for part in entry.parts if part.ignored)
        problem = NOTHING_LEFT if entry.parts and not kept else SEVERAL_CARS if has_several_cars(kept) else ""
        if problem or len(kept) < len(entry.parts):
            file.entries[index] = replace(entry, parts=kept, problem=entry.problem or problem)
    return file


def has_several_cars(parts: tuple[Part, ...]) -> bool:
    """Whether two groups of regions have several part names each; pieces of one part may share a group, too."""
    if not any(part.group for part in parts):
        return False
    names: dict[str, set[str]] = {}
    for part in parts:
        names.setdefault(part.group, set()).update(part.names)
    return sum(len(group) > 1 for group in names.values()) > 1
