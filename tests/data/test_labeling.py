"""Labels from parts, worked out by hand.

From a folder to labelled photos: every flavour, everything left out is reported, nothing outside is read.
"""

import json
from collections import Counter

import pytest
from conftest import regions, save_photo, write_via

import config
from viewpoint.annotations.photo import Part
from viewpoint.data.labeling import (
    NAMELESS,
    ONE_NAME,
    UNKNOWN_PARTS,
    decide,
    extract_viewpoint_label,
    label_parts,
    read_names,
)
from viewpoint.data.scan import NOT_USED, PERHAPS, parse_dataset, read_dataset


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


def test_part_names_do_instead_of_regions_but_not_among_them():
    names = ["bonnet", "leftfrontdoor", "frontbumper"]
    assert extract_viewpoint_label(names) == "FrontLeft"
    with pytest.raises(ValueError, match="mixed; give either 'bonnet' and other names"):
        extract_viewpoint_label([*regions("tailgate"), *names])
    with pytest.raises(ValueError, match="a list or a dict, not str"):
        extract_viewpoint_label("bonnet")


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


# --- What was not understood gets no label -----------------------------------------


def parts(*names: str) -> tuple[Part, ...]:
    """Parts with one name each; "" is a region without a name."""
    return read_names([Part((name,) if name else ()) for name in names], {}, Counter())


@pytest.mark.parametrize(
    ("names", "decision"),
    [
        ([], ("Background", "")),
        (["bonnet", "leftheadlamp"], ("FrontLeft", "")),
        # Nothing has a name.
        (["", ""], (None, NAMELESS)),
        (["undefined", "n/a", "3"], (None, NAMELESS)),
        # One region without a name could be a right lamp and turn FrontLeft into Front.
        (["bonnet", "leftheadlamp", ""], (None, NAMELESS)),
        # Two votes more for the front and for the left than one region could undo.
        (["bonnet", "frontbumper", "leftheadlamp", "leftorvm", ""], ("FrontLeft", "")),
        (["bonnet", "frontbumper", "leftheadlamp", "leftorvm", "", "", ""], (None, NAMELESS)),
        # One stray click among six regions changes nothing; one of five may.
        (["bonnet", "frontbumper", "frontws", "grille", "tyre", ""], ("Front", "")),
        (["bonnet", "frontbumper", "frontws", "grille", ""], (None, NAMELESS)),
        # A name that no list knows could vote like any other, also among many.
        (["bonnet", "frontbumper", "frontws", "grille", "tyre", "lefheadlamp"], (None, UNKNOWN_PARTS)),
        (["bonnet", "frontbumper", "leftheadlamp", "leftorvm", "stossfaenger"], ("FrontLeft", "")),
        (["motorhaube", "stossfaenger"], (None, UNKNOWN_PARTS)),
        # A number plate as a region's name is no part.
        (["bonnet", "leftheadlamp", "KA01AB1234"], ("FrontLeft", "")),
        (["KA01AB1234"], (None, NAMELESS)),
        # Names that only say that there is something, and the value that a tool gives every new region.
        (["car"], (None, NAMELESS)),
        (["bonnet", "bonnet", "bonnet"], (None, ONE_NAME)),
        (["bonnet, grille, leftheadlamp"], ("FrontLeft", "")),
        # Damage alone, and one part, are close-ups.
        (["scratch", "dent"], ("Background", "")),
        (["bonnet", "scratch"], ("Background", "")),
    ],
)
def test_a_photo_that_was_half_understood_is_labelled_only_when_that_is_safe(names, decision):
    assert decide(parts(*names)) == decision


def test_names_are_read_by_what_people_filled_in_and_spellings_are_counted():
    spellings: Counter[tuple[str, str]] = Counter()
    meanings = {"motorhaube": "bonnet"}
    given = [Part(("Motorhaube",)), Part(("front_left_door",)), Part(("tailgate",)), Part(("front_left_door",))]
    assert [part.names for part in read_names(given, meanings, spellings)] == [
        ("bonnet",),
        ("leftfrontdoor",),
        ("tailgate",),
        ("leftfrontdoor",),
    ]
    assert +spellings == {("motorhaube", "bonnet"): 1, ("front_left_door", "leftfrontdoor"): 2}


# --- From a folder to labelled photos ----------------------------------------------


def test_all_via_flavours_at_any_depth_give_the_same_rows(tmp_path):
    entry = {"filename": "car.jpg", "size": 0, "regions": regions("bonnet", "leftheadlamp"), "file_attributes": {}}
    via1 = entry | {"fileref": "", "base64_img_data": "", "regions": dict(enumerate(entry["regions"]))}
    flavours = {
        "via2": {"car.jpg0": entry},
        "a/deep folder (été)/via1": {"car.jpg0": via1},
        "project": {"_via_settings": {}, "_via_img_metadata": {"car.jpg0": entry}, "_via_attributes": {}},
        "bare key": {"car.jpg": entry},
    }
    for folder, content in flavours.items():
        save_photo(tmp_path / folder / "car.jpg")
        (tmp_path / folder / "any name.json").write_text(json.dumps(content), encoding="utf-8-sig")
    df = parse_dataset(tmp_path)
    assert df["image_path"].tolist() == sorted(f"{folder}/car.jpg" for folder in flavours)
    assert set(df["label"]) == {"FrontLeft"}
    assert df.loc[0, "front_votes":"right_votes"].tolist() == [2, 0, 1, 0]


def test_everything_left_out_is_reported_with_its_reason(tmp_path):
    good = save_photo(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    save_photo(tmp_path / "forgotten.JPG")
    # A name that no list knows could not change this label.
    car = regions("bonnet", "grille", "leftheadlamp", "leftmirror", "warp coil")
    write_via(tmp_path / "via.json", dict.fromkeys(["good.jpg", "cut.jpg", "empty.jpg", "gone.jpg"], car))
    (tmp_path / "broken.json").write_text('{"a": ')
    (tmp_path / "other.json").write_text('{"name": "not VIA"}')
    (tmp_path / "odd.json").write_text('{"x": {"filename": "good.jpg", "regions": null}, "y": {"filename": 5}}')
    (tmp_path / "half.json").write_text(r'{"\udce9": {"filename": "\udce9.jpg", "regions": []}}')
    (tmp_path / "via_attributes.json").write_text('{"region": {"identity": {}}, "file": {}}')

    df, _, report = read_dataset(tmp_path)

    assert df["image_path"].tolist() == ["good.jpg"]
    assert report.skipped["annotated but missing"] == ["via.json: gone.jpg"]
    assert [item.split()[0] for item in report.skipped["unreadable"]] == ["cut.jpg", "empty.jpg"]
    assert report.skipped[PERHAPS] == ["forgotten.JPG"]
    assert [item.split()[0] for item in report.skipped[NOT_USED]] == ["broken.json", "other.json"]
    assert sorted(report.skipped["malformed entry"]) == [r"half.json: \udce9.jpg", "odd.json: x", "odd.json: y"]
    assert report.unknown_parts == {"warp coil": 3}
    assert report.photos_found == len(df) + len(report.left_out) == 4


def test_photos_outside_the_folder_are_never_read(tmp_path):
    outside = save_photo(tmp_path / "outside.jpg")
    data = tmp_path / "data"
    save_photo(data / "inside.jpg")
    (data / "link.jpg").symlink_to(outside)
    names = ["../outside.jpg", str(outside), "link.jpg", "nul\0.jpg", "inside.jpg"]
    write_via(data / "via.json", dict.fromkeys(names, regions("bonnet", "grille")))
    df, _, report = read_dataset(data)
    assert df["image_path"].tolist() == ["inside.jpg"]
    assert len(report.skipped["photo outside the data folder"]) == 4


def test_of_two_versions_of_an_annotation_the_complete_one_counts(tmp_path):
    save_photo(tmp_path / "car.jpg")
    write_via(tmp_path / "0 nothing yet.json", {"car.jpg": []})
    write_via(tmp_path / "1 first try.json", {"car.jpg": regions("rearws")})
    write_via(tmp_path / "2 final.json", {"car.jpg": regions("tailgate", "rearws")})
    df, _, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["Rear"]
    assert report.skipped == {}
