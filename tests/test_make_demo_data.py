"""The drawn cars: part names are right for the azimuth, left and right the car's own."""

import make_demo_data
import numpy as np
import pytest
from make_demo_data import draw_car, draw_close_up, draw_image

from annotations import KNOWN, extract_viewpoint_label, region_identities


def identities_seen_from(azimuth: float, seed: int) -> set[str]:
    return region_identities(draw_car(azimuth, np.random.default_rng(seed))[1])


@pytest.mark.parametrize(
    ("azimuth", "label"),
    [(0, "Front"), (45, "FrontLeft"), (-45, "FrontRight"), (180, "Rear"), (145, "RearLeft"), (215, "RearRight")],
)
def test_the_parts_give_the_label_of_the_azimuth(azimuth, label):
    for seed in range(20):
        assert extract_viewpoint_label(draw_car(azimuth, np.random.default_rng(seed))[1]) == label


@pytest.mark.parametrize(
    ("azimuth", "seen", "hidden"),
    [
        (0, {"frontbumper", "grille", "leftheadlamp", "rightheadlamp"}, {"rearbumper", "leftfrontdoor"}),
        (60, {"leftheadlamp", "leftfrontdoor", "leftfender"}, {"rightfrontdoor", "lefttaillamp", "rearws"}),
        (90, {"leftfrontdoor", "leftreardoor"}, {"frontbumper", "rearbumper", "rightfender", "rightorvm"}),
        (150, {"lefttaillamp", "rearbumper", "leftqpanel"}, {"frontws", "grille", "rightqpanel"}),
        (180, {"rearbumper", "lefttaillamp", "righttaillamp"}, {"frontbumper", "leftheadlamp"}),
        (300, {"rightheadlamp", "rightfrontdoor"}, {"leftfrontdoor", "righttaillamp"}),
    ],
)
def test_only_parts_that_can_be_seen_are_annotated(azimuth, seen, hidden):
    for seed in range(5):
        identities = identities_seen_from(azimuth, seed)
        assert seen <= identities
        assert not hidden & identities
        assert identities <= KNOWN


def test_left_and_right_are_the_cars_own():
    """Seen from its left side the nose points to the image's left edge; from the front,
    the left headlamp is in the image's right half."""

    def middle_x(azimuth: float, part: str) -> float:
        regions = draw_car(azimuth, np.random.default_rng(3))[1]
        [region] = [r for r in regions if r["region_attributes"]["identity"].endswith(part)]
        return np.mean(region["shape_attributes"]["all_points_x"])

    assert middle_x(90, "leftfrontdoor") < middle_x(90, "leftreardoor")
    assert middle_x(270, "rightfrontdoor") > middle_x(270, "rightreardoor")
    assert middle_x(0, "leftheadlamp") > middle_x(0, "rightheadlamp")
    assert middle_x(180, "lefttaillamp") < middle_x(180, "righttaillamp")


def test_polygons_lie_on_what_is_drawn():
    """The left headlamp's polygon holds the pale yellow of a lit lamp."""
    image, regions, part_map = draw_car(30, np.random.default_rng(5))
    index = [r["region_attributes"]["identity"] for r in regions].index("leftheadlamp") + 1
    red, _, blue = np.asarray(image)[part_map == index].mean(axis=0)
    assert red > blue + 20


def test_scenes_and_close_ups_are_background():
    for seed in range(5):
        random = np.random.default_rng(seed)
        assert draw_image("scene", random)[1] == []
        _, regions = draw_close_up(random)
        assert len(regions) >= 1
        assert extract_viewpoint_label(regions) == "Background"


def test_the_same_seed_draws_the_same_photo():
    first, again = (draw_image("RearLeft", np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(np.asarray(first[0]), np.asarray(again[0]))
    assert first[1] == again[1]
    assert make_demo_data.polygon_area([(0, 0), (4, 0), (4, 3), (0, 3)]) == 12
