"""Sides and views in other attributes: the plain ones are understood, the others asked for, the rest ignored."""

import pytest

from viewpoint.annotations.places import class_of, place_finder, ticked, views_of
from viewpoint.annotations.vocabulary import part_of


def place(name: str, **attributes) -> str | None:
    """The part that a name means beside these attributes, in a file where they have no other value."""
    return part_of(place_finder([attributes])(name, attributes))


@pytest.mark.parametrize(
    ("name", "attributes", "part"),
    [
        ("door", {"side": "left"}, "leftdoor"),
        ("door", {"side": "L.H.S."}, "leftdoor"),
        ("tyre", {"Seite": "rechts"}, "righttyre"),
        ("mirror", {"lado": "izq."}, "leftorvm"),
        ("headlamp", {"description": "right-hand side"}, "rightheadlamp"),
        ("wheel", {"left": True, "right": False}, "leftwheel"),
        ("door", {"side": {"right": True}}, "rightdoor"),
        ("door", {"any key": "rear left"}, "leftreardoor"),
        ("fender", {"position": "FL"}, "leftfrontfender"),
        ("bumper", {"end": "hinten"}, "rearbumper"),
        ("light", {"end": "rear", "side": "right"}, "rightrearlamp"),
        # The part says it already, or has no side.
        ("leftfrontdoor", {"side": "left", "end": "front"}, "leftfrontdoor"),
        ("bonnet", {"position": "front left"}, "bonnet"),
        ("roof", {"side": "left"}, "roof"),
        ("dent", {"side": "left"}, "dent"),
        # Nobody says a side.
        ("door", {"side": "NA"}, "door"),
        ("door", {"side": "both"}, "door"),
        ("door", {"severity": "L", "colour": "red", "yard": "Pune 3"}, "door"),
        # Contradictions, and what is not plain.
        ("leftfrontdoor", {"side": "right"}, None),
        ("bonnet", {"end": "rear"}, None),
        ("door", {"side": "left", "note": "right"}, None),
        ("door", {"side": "driver"}, None),
        ("door", {"note": "passenger side"}, None),
        ("door", {"side": 1}, None),
        ("door", {"side": "?"}, None),
        ("rim", {"side": "left"}, None),
        ("door", {"view": "left"}, None),  # of the photo, or of the part?
        ("leftdoor", {"view": "front", "side": "driver"}, "leftdoor"),
    ],
)
def test_the_place_in_another_attribute_is_understood_or_asked_for(name, attributes, part):
    assert place(name, **attributes) == part


@pytest.mark.parametrize(
    ("values", "key", "parts"),
    [
        (["L", "R"], "any", ["leftdoor", "rightdoor"]),
        (["G", "D"], "any", ["leftdoor", "rightdoor"]),
        (["F", "R"], "end", ["door", "door"]),  # front and rear doors show no side
        (["L"], "side", ["leftdoor"]),
        (["L", "M", "H"], "severity", ["door"] * 3),
        (["L", "R", "F"], "position", [None] * 3),  # is R right or rear?
    ],
)
def test_single_letters_are_read_by_the_others_of_their_attribute(values, key, parts):
    regions = [{key: value} for value in values]
    add_place = place_finder(regions)
    assert [part_of(add_place("door", one)) for one in regions] == parts


@pytest.mark.parametrize(
    "value", ["NA", "n.a.", "not_visible", "Not-Visible", "hidden", "0.0", "none", "-", 0, None, []]
)
def test_values_that_say_no(value):
    assert ticked("bonnet", value) == []


@pytest.mark.parametrize("value", [True, 1, "1.0", "yes", "Ja", "visible", "x", "✓", "dent"])
def test_values_that_say_yes(value):
    assert ticked("bonnet", value) == ["bonnet"]


@pytest.mark.parametrize("value", [2, "3", "missing", "see note", "?", 0.5])
def test_other_values_are_asked_for(value):
    [text] = ticked("bonnet", value)
    assert text.startswith("bonnet ")
    assert part_of(text) is None


@pytest.mark.parametrize(
    ("attributes", "label"),
    [
        ({"Front": True, "FrontLeft": False}, "Front"),
        ({"view": "rear_right"}, "RearRight"),
        ({"view": {"Rear": True}}, "Rear"),
        ({"user_tags": ["front-left", "batch 7"]}, "FrontLeft"),
        ({"caption": "Rear view of the car"}, "Rear"),
        ({"Ansicht": "hinten links"}, "RearLeft"),
        ({"front": "yes", "left": "yes"}, "FrontLeft"),
        ({"background": True}, "Background"),
        # A view, but none of the classes.
        ({"left": True}, None),
        ({"view": "interior"}, None),
        ({"view": "0"}, None),
        ({"Front": True, "Rear": True}, None),
    ],
)
def test_the_view_of_a_whole_photo(attributes, label):
    views = views_of(attributes)
    assert views
    assert class_of(views) == label


@pytest.mark.parametrize(
    "attributes",
    [
        {"caption": "", "public_domain": "no", "image_url": "http://example.org/front.jpg"},
        {"Front": False},
        {"view": ""},
        {"view": "n/a"},
        {"blurry": True, "quality": "good"},
        {"guess": "Front (0.71)"},  # of a model
        None,
    ],
)
def test_what_says_nothing_of_the_view(attributes):
    assert views_of(attributes) == ()
