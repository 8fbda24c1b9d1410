"""Labels from parts, worked out by hand."""

import pytest
from conftest import regions

import config
from viewpoint.labeling import extract_viewpoint_label, label_parts


@pytest.mark.parametrize(
    ("identities", "label"),
    [
        # Both ends and both sides.
        (["bonnet", "frontbumper"], "Front"),
        (["tailgate", "rearbumper"], "Rear"),
        (["bonnet", "leftheadlamp", "leftorvm"], "FrontLeft"),
        (["bonnet", "rightheadlamp"], "FrontRight"),
        (["rearws", "lefttaillamp", "leftreardoor"], "RearLeft"),
        (["rearws", "righttaillamp"], "RearRight"),
        # Votes against each other: the majority decides.
        (["bonnet", "rearws", "tailgate"], "Rear"),
        (["bonnet", "frontws", "rearws"], "Front"),
        (["leftheadlamp", "rightheadlamp", "leftfender"], "FrontLeft"),
        # Ties.
        (["bonnet", "tailgate"], "Front"),
        (["leftheadlamp", "rightheadlamp"], "Front"),
        (["lefttaillamp", "righttaillamp"], "Rear"),
        (["leftheadlamp", "lefttaillamp"], "FrontLeft"),
        # Side votes alone mean Front.
        (["leftfrontdoor", "leftreardoor"], "FrontLeft"),
        (["rightorvm", "rightrearwa"], "FrontRight"),
        (["leftorvm", "rightorvm"], "Front"),
        # Parts that say nothing count as parts but do not vote.
        (["tyre", "leftfrontdoor"], "FrontLeft"),
        (["trunk", "rearbumper"], "Rear"),
        (["tyre", "roof", "logo", "doorhandle", "trunk"], "Background"),
        # Fewer than two parts.
        (["bonnet"], "Background"),
        (["tyre"], "Background"),
        (["bonnet", "bonnet", "bonnet"], "Background"),
        # Damage is no part.
        (["scratch", "dent"], "Background"),
        (["bonnet", "scratch", "dirt", "crack"], "Background"),
        (["bonnet", "grille", "dent"], "Front"),
        # A part that no list knows is a part without a vote.
        (["flux capacitor", "leftorvm"], "FrontLeft"),
        (["flux capacitor", "warp coil"], "Background"),
        # Spelling: case, spaces and "partial_" do not matter, and make no second part.
        (["Partial_Bonnet", " LEFTHEADLAMP\n"], "FrontLeft"),
        (["bonnet", "partial_bonnet", "Bonnet "], "Background"),
        (["partial_tailgate", "partial_rearws"], "Rear"),
        # A part seen twice votes once: one left part against two distinct right ones.
        (["leftorvm", "partial_leftorvm", "Leftorvm", "rightorvm", "rightfender"], "FrontRight"),
        ([], "Background"),
    ],
)
def test_label_of_parts_in_both_via_forms(identities, label):
    as_list = regions(*identities)
    as_dict = {str(index): region for index, region in enumerate(as_list)}
    assert extract_viewpoint_label(as_list) == label
    assert extract_viewpoint_label(as_dict) == label


def test_regions_without_a_usable_name_are_passed_over():
    nameless = [{"region_attributes": {}}, {"region_attributes": {"identity": " "}}, {"shape_attributes": {}}, None]
    assert extract_viewpoint_label(nameless) == "Background"
    assert extract_viewpoint_label(nameless + regions("tailgate", "rearws")) == "Rear"


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (["leftfrontdoor", "leftreardoor"], "Left"),  # side votes only
        (["rightheadlamp", "righttaillamp"], "Right"),  # one front and one rear vote
        (["bonnet", "leftfrontdoor"], "FrontLeft"),
        (["tailgate", "rearbumper", "leftheadlamp"], "RearLeft"),
        (["bonnet", "tailgate"], "Front"),  # tied ends without a side
        (["leftorvm", "rightorvm"], "Front"),
        (["leftorvm"], "Background"),
    ],
)
def test_pure_side_views_are_classes_of_their_own_when_config_lists_them(monkeypatch, names, label):
    monkeypatch.setattr(config, "CLASSES", [*config.CLASSES, "Left", "Right"])
    assert label_parts(names) == label
