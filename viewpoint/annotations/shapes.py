"""From the shapes that annotation tools draw to outlines, in pixels of the photo, and which regions count.

Standard library only.
"""

import contextlib
import math
from dataclasses import replace

from viewpoint.annotations.photo import AnnotationFile, Outline, Part

ELLIPSE_POINTS = 24
# The shapes of VIA and LabelMe that mark an area; others mark a point or a line.
AREAS = ("rect", "polygon", "circle", "ellipse", "rectangle", "mask", "rotation")

# Detectors also write down what they hardly believe; half is where most of them draw the line.
MIN_SCORE = 0.5
SCORE_KEYS = ("score", "confidence")
# Where annotators tell the cars of a photo apart.
GROUP_KEYS = ("group_id", "car_id", "vehicle_id", "instance_id")

NO_AREA = "without an area"
UNSURE = f"with a score below {MIN_SCORE}"
NOTHING_LEFT = "regions without an area or with a low score only"
SEVERAL_CARS = "parts of several cars, told apart by a group id"


# --- Outlines ----------------------------------------------------------------------


def has_area(points: Outline) -> bool:
    """Whether an outline has a width, a height and three different points."""
    return len(set(points)) > 2 and all(len(set(values)) > 1 for values in zip(*points, strict=True))


def is_drawn(kind: object, outline: Outline, points: object) -> bool:
    """Whether a shape of VIA or LabelMe marks anything: no empty list of `points`, and no area of size zero.

    A shape whose numbers are missing or damaged counts, because something was drawn.
    """
    if points is not None and not points:
        return False
    return kind not in AREAS or not outline or has_area(outline)


def via_outline(shape: dict) -> Outline:
    """The points around a VIA shape; () when its numbers are missing, infinite or not numbers.

    Source: VIA 2, https://www.robots.ox.ac.uk/~vgg/software/via/.
    """
    points: list[tuple[float, float]] = []
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        match shape.get("name"):
            case "polygon" | "polyline":
                points = list(zip(map(float, shape["all_points_x"]), map(float, shape["all_points_y"]), strict=True))
            case "rect":
                points = box_points(*(float(shape[key]) for key in ("x", "y", "width", "height")))
            case "point":
                points = [(float(shape["cx"]), float(shape["cy"]))]
            case "circle":
                radius = float(shape["r"])
                points = ellipse_points(float(shape["cx"]), float(shape["cy"]), radius, radius)
            case "ellipse":
                radii = float(shape["rx"]), float(shape["ry"])
                points = ellipse_points(float(shape["cx"]), float(shape["cy"]), *radii, float(shape.get("theta", 0)))
    return finite(points)


def coco_outlines(segmentation: object, box: object) -> tuple[Outline, ...]:
    """The polygons of a COCO annotation, or else its box; () when it has neither.

    Source: https://cocodataset.org/#format-data. Run-length masks are not decoded: their box is used.
    """
    outlines = []
    polygons = segmentation if isinstance(segmentation, list) else []
    if polygons and isinstance(polygons[0], (int, float)):
        polygons = [polygons]  # VIA 2.0 writes one polygon without the list around it
    for flat in polygons:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            numbers = [float(value) for value in flat]
            outlines.append(finite(list(zip(numbers[::2], numbers[1::2], strict=True))))
    outlines = [outline for outline in outlines if has_area(outline)] or outlines[:1]
    if not any(map(has_area, outlines)) and isinstance(box, list) and len(box) == 4:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            outlines = [finite(box_points(*map(float, box)))]
    return tuple(outline for outline in outlines if outline)


def is_drawn_in_coco(segmentation: object, box: object) -> bool:
    """Whether a COCO annotation marks anything: neither only empty lists, nor only outlines and boxes of size zero.

    One that has neither, or whose numbers are damaged, counts, and so does a run-length mask.
    """
    if isinstance(segmentation, dict) and segmentation.get("counts"):
        return True
    if outlines := coco_outlines(segmentation, box):
        return any(map(has_area, outlines))
    has_numbers = bool(box) or (any(segmentation) if isinstance(segmentation, list) else bool(segmentation))
    return has_numbers or not (isinstance(segmentation, list) or isinstance(box, list))


def box_points(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    """The four corners of a box, clockwise from the top left."""
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def ellipse_points(x: float, y: float, rx: float, ry: float, theta: float = 0) -> list[tuple[float, float]]:
    """Points around an ellipse with the radii `rx` and `ry`, rotated by `theta` radians."""
    cos, sin = math.cos(theta), math.sin(theta)
    angles = [2 * math.pi * step / ELLIPSE_POINTS for step in range(ELLIPSE_POINTS)]
    around = [(rx * math.cos(angle), ry * math.sin(angle)) for angle in angles]
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in around]


def finite(points: list[tuple[float, float]]) -> Outline:
    """The points as an outline; () when a coordinate is infinite or not a number."""
    return tuple(points) if all(math.isfinite(value) for point in points for value in point) else ()


def labelme_outline(shape: dict) -> Outline:
    """The points around a LabelMe shape; () when its points are missing, infinite or not pairs of numbers.

    A rectangle has two opposite corners in any order, X-AnyLabeling writes all four; a mask has the
    corners of its box; a circle has its centre and a point on its rim. Every other shape, and those
    of old files that do not name their kind, are their points.
    Source: https://github.com/wkentaro/labelme, shape_to_mask().
    """
    points: list[tuple[float, float]] = []
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        points = list(finite([(float(x), float(y)) for x, y in shape["points"]]))
    kind = shape.get("shape_type")
    if points and kind in ("rectangle", "mask"):
        (left, right), (top, bottom) = ((min(values), max(values)) for values in zip(*points, strict=True))
        points = box_points(left, top, right - left, bottom - top)
    elif kind == "circle":
        radius = math.dist(*points) if len(points) == 2 else math.nan
        points = ellipse_points(*points[0], radius, radius) if points else []
    return finite(points)


# --- Regions that count, and the cars that they belong to ---------------------------


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
