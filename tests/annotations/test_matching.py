"""From names in annotation files to photos: under any spelling, moved files too, never the photo of another lot.

Sides and views in other attributes: the plain ones are understood, the others asked for, the rest ignored.
"""

import sys
import unicodedata
from pathlib import Path

import pytest
from conftest import save_photo

from viewpoint.annotations import matching
from viewpoint.annotations.matching import match_names
from viewpoint.annotations.places import class_of, place_finder, ticked, views_of
from viewpoint.annotations.vocabulary import part_of

MISSING, OUTSIDE = "annotated but missing", "photo outside the data folder"


def match(folder: Path, photos: list[str], names_of: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is found for each name of each annotation file: the photo, or the reason why none. Paths from `folder`."""
    found = match_names(
        folder, {folder / path: names for path, names in names_of.items()}, [folder / photo for photo in photos]
    )
    return {
        path.relative_to(folder).as_posix(): [one.image_path or one.reason for one in matches]
        for path, matches in found.items()
    }


def found_as(folder: Path, photos: list[str], path: str, name: str) -> str:
    """How the photo of a single name is said to have been found."""
    [found] = match_names(folder, {folder / path: [name]}, [folder / photo for photo in photos])[folder / path]
    return found.found_as


def numbered(folder: str, numbers: range) -> list[str]:
    """Names as a camera gives them: numbered("lot/", range(2)) is lot/IMG_0.jpg and lot/IMG_1.jpg."""
    return [f"{folder}IMG_{number}.jpg" for number in numbers]


# --- At its place ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "../lot/a.jpg", "b/../a.jpg"])
def test_a_name_is_a_path_from_the_folder_of_its_annotation_file(tmp_path, name):
    assert match(tmp_path, ["lot/a.jpg", "a.jpg"], {"lot/via.json": [name]}) == {"lot/via.json": ["lot/a.jpg"]}
    assert found_as(tmp_path, ["lot/a.jpg", "a.jpg"], "lot/via.json", name) == ""


@pytest.mark.parametrize(
    ("photo", "name"),
    [
        ("images/car.jpg", "images\\car.jpg"),
        ("images/car.jpg", ".\\images\\car.jpg"),
        ("car.jpg", "CAR.JPG"),
        ("Car.JPG", "car.jpg"),
        ("Images/car.jpg", "images/car.jpg"),
        ("ÉTÉ/Škoda.jpg", unicodedata.normalize("NFD", "été/škoda.JPG")),
        (unicodedata.normalize("NFD", "Škoda.jpg"), "Škoda.jpg"),
        ("my car (1).jpg", "my%20car%20%281%29.jpg"),
        ("my%20car.jpg", "my car.jpg"),
        ("Škoda.jpg", "%C5%A0koda.jpg"),
        ("car.jpg", " car.jpg "),
        (" car.jpg", "car.jpg"),
    ],
)
def test_a_photo_is_found_under_another_spelling(tmp_path, photo, name):
    others = ["car2.jpg", "images/cart.jpg"]
    assert match(tmp_path, [photo, *others], {"via.json": [name]}) == {"via.json": [photo]}
    assert found_as(tmp_path, [photo, *others], "via.json", name) == "found under another spelling"


def test_a_name_to_the_letter_counts_more_than_any_spelling(tmp_path):
    photos = ["a%20b.jpg", "a b.jpg", "CAR.jpg", "car.jpg"]
    assert match(tmp_path, photos, {"via.json": photos}) == {"via.json": photos}


def test_the_nearer_spelling_counts(tmp_path):
    photos = [unicodedata.normalize("NFD", "Škoda.jpg"), "škoda.jpg", "a%20b.JPG", "a b.jpg"]
    found = match(tmp_path, photos, {"via.json": ["Škoda.jpg", "a%20b.jpg"]})
    assert found == {"via.json": [photos[0], "a%20b.JPG"]}


def test_several_spellings_of_a_name_are_not_guessed_between(tmp_path):
    found = match(tmp_path, ["car.jpg", "CAR.JPG", "lot/Car.JPG"], {"via.json": ["Car.jpg"]})
    assert found == {"via.json": ["several photos fit the name"]}


def test_the_photo_of_one_name_does_not_go_to_another_that_differs_in_case(tmp_path):
    """On a camera's disk IMG_1.jpg and img_1.JPG are two photos; here one of them was lost."""
    found = match(tmp_path, ["IMG_1.jpg"], {"via.json": ["IMG_1.jpg", "img_1.JPG", ".\\IMG_1.jpg"]})
    assert found == {"via.json": ["IMG_1.jpg", "several names of its file fit the same photo", "IMG_1.jpg"]}
    found = match(tmp_path, ["Img_1.jpg"], {"via.json": ["IMG_1.jpg", "img_1.JPG"]})
    assert found == {"via.json": 2 * ["several names of its file fit the same photo"]}


# --- Elsewhere ---------------------------------------------------------------------

MOVED = [
    "C:\\Users\\me\\photos\\IMG_1.jpg",
    "/home/me/photos/IMG_1.jpg",
    "\\\\server\\share\\IMG_1.jpg",
    "photos/2024/IMG_1.jpg",
    "..\\photos\\img_1.JPG",
    "https://example.org/photos/IMG_1.jpg?width=800#top",
    "https://example.org/photos%2FIMG%5F1.jpg",
    "file:///home/me/IMG_1.jpg",
    "s3://bucket/IMG_1.jpg",
    "/data/local-files/?d=IMG_1.jpg",
    "http://localhost:8080/data/local-files/?d=photos%2FIMG_1.jpg",
]


@pytest.mark.parametrize("name", ["IMG_1.jpg", *MOVED])
@pytest.mark.parametrize(
    ("photo", "json", "place"),
    [
        ("images/train/IMG_1.jpg", "annotations/via.json", "images/train"),
        ("lot/IMG_1.jpg", "via.json", "lot"),
        ("lot/IMG_1.jpg", "lot/json/via.json", "lot"),
        ("IMG_1.jpg", "json/via.json", "the data folder"),
    ],
)
def test_the_only_photo_of_a_name_is_found_where_it_is(tmp_path, name, photo, json, place):
    others = ["images/train/IMG_2.jpg", "lot/IMG_11.jpg"]
    assert match(tmp_path, [photo, *others], {json: [name]}) == {json: [photo]}
    assert found_as(tmp_path, [photo, *others], json, name) == f"found in {place} by name"


@pytest.mark.parametrize("name", MOVED)
def test_a_prefix_of_folders_that_are_not_there_does_not_matter(tmp_path, name):
    assert match(tmp_path, ["lot/IMG_1.jpg"], {"lot/via.json": [name]}) == {"lot/via.json": ["lot/IMG_1.jpg"]}


def test_the_last_folders_of_a_name_tell_lots_apart(tmp_path):
    photos = ["images/front/1.jpg", "images/rear/1.jpg", "images/old/rear/1.jpg"]
    names = ["D:\\work\\Front\\1.jpg", "work/images/rear/1.jpg", "old/rear/1.jpg"]
    assert match(tmp_path, photos, {"annotations/coco.json": names}) == {"annotations/coco.json": photos}


def test_a_name_is_decoded_only_when_there_is_no_photo_of_it(tmp_path):
    photos = ["lot/a%20b.jpg", "lot/a b.jpg"]
    assert match(tmp_path, photos, {"json/via.json": ["x/a%20b.jpg"]}) == {"json/via.json": ["lot/a%20b.jpg"]}


def test_a_folder_with_many_photos_of_which_one_is_annotated(tmp_path):
    """In val/ only one photo is annotated; the others have the names of photos in train/."""
    photos = [*numbered("images/train/", range(5)), *numbered("images/val/", range(5))]
    names = [*numbered("train\\", range(5)), *numbered("val\\", range(1))]
    [found] = match(tmp_path, photos, {"annotations/via.json": names}).values()
    assert found == [*numbered("images/train/", range(5)), "images/val/IMG_0.jpg"]


def test_a_photo_that_is_not_in_the_folder_that_its_name_gives_is_missing(tmp_path):
    photos = [*numbered("lot1/", range(5)), *numbered("lot2/", range(4))]
    names = numbered("E:\\lot2\\", range(5))
    assert match(tmp_path, photos, {"via.json": names}) == {"via.json": [*numbered("lot2/", range(4)), OUTSIDE]}


def test_several_photos_of_a_name_are_left_out_and_the_others_are_found(tmp_path):
    photos = [*numbered("a/", range(4)), *numbered("b/", range(3, 8))]
    [found] = match(tmp_path, photos, {"via.json": numbered("", range(8))}).values()
    assert found == [*numbered("a/", range(3)), "several photos fit the name", *numbered("b/", range(4, 8))]


def test_the_nearest_photos_count(tmp_path):
    """Every lot has images/ and annotations/, and the cameras count from 0 for each."""
    photos = [name for lot in ("lot1", "lot2") for name in numbered(f"{lot}/images/", range(3))]
    names_of = {f"{lot}/annotations/via.json": numbered("", range(3)) for lot in ("lot1", "lot2")}
    assert match(tmp_path, photos, names_of) == {
        f"{lot}/annotations/via.json": numbered(f"{lot}/images/", range(3)) for lot in ("lot1", "lot2")
    }


# --- Never the photo of another lot ------------------------------------------------


@pytest.mark.parametrize("has_json", [True, False])
def test_a_lost_photo_is_not_replaced_by_that_of_another_lot(tmp_path, has_json):
    photos = [*numbered("lot1/", range(5)), *numbered("lot2/", range(4))]
    names_of = {"lot2/via.json": numbered("", range(5))}
    names_of |= {"lot1/via.json": numbered("", range(5))} if has_json else {}
    assert match(tmp_path, photos, names_of)["lot2/via.json"] == [*numbered("lot2/", range(4)), MISSING]


def test_a_lost_photo_is_not_replaced_when_annotations_and_images_are_apart(tmp_path):
    """Lot 2 goes on where lot 1 ended, but for the one photo that lot 1 lost."""
    photos = [*numbered("lot1/images/", range(9)), *numbered("lot2/images/", range(9, 20))]
    [found] = match(tmp_path, photos, {"lot1/annotations/via.json": numbered("", range(10))}).values()
    assert found == [*numbered("lot1/images/", range(9)), MISSING]


def test_a_lost_photo_is_not_replaced_when_there_is_one_file_for_each_photo(tmp_path):
    photos = [*numbered("lot1/images/", range(4)), *numbered("lot2/images/", range(10))]
    names_of = {f"lot1/labels/{number}.json": [f"..\\img\\IMG_{number}.jpg"] for number in range(5)}
    found = match(tmp_path, photos, names_of)
    assert [one for [one] in found.values()] == [*numbered("lot1/images/", range(4)), MISSING]


def test_a_lost_photo_is_not_replaced_by_its_crop_or_by_a_lot_in_a_subfolder(tmp_path):
    photos = [*numbered("", range(4)), *numbered("crops/", range(5))]
    [found] = match(tmp_path, photos, {"via.json": numbered("", range(5))}).values()
    assert found == [*numbered("", range(4)), "a photo of equal name elsewhere may be another one"]


def test_photos_that_were_moved_to_a_subfolder_are_found(tmp_path):
    photos = [*numbered("", range(3)), *numbered("more/", range(3, 5))]
    assert match(tmp_path, photos, {"via.json": numbered("", range(5))}) == {"via.json": photos}


def test_a_lost_photo_is_not_replaced_when_the_names_of_two_lots_are_the_same(tmp_path):
    """The annotations of lot 1 lie above both lots: all names fit twice, but for the one that lot 1 lost."""
    photos = [*numbered("lot1/", range(4)), *numbered("lot2/", range(5))]
    [found] = match(tmp_path, photos, {"via.json": numbered("", range(5))}).values()
    assert found == [*4 * ["several photos fit the name"], "a photo of equal name elsewhere may be another one"]


def test_an_old_version_elsewhere_does_not_go_to_another_lot(tmp_path):
    photos = [*numbered("lot1/", range(5)), *numbered("lot2/", range(5))]
    names_of = {"lot1/via.json": numbered("", range(5)), "backup/via.json": numbered("", range(5))}
    assert match(tmp_path, photos, names_of)["backup/via.json"] == 5 * ["several photos fit the name"]


def test_a_photo_that_a_file_names_exactly_is_not_found_for_another(tmp_path):
    names_of = {"lot1/via.json": ["IMG_1.jpg"], "backup/via.json": ["IMG_1.jpg"]}
    found = match(tmp_path, ["lot1/IMG_1.jpg"], names_of)
    assert found["backup/via.json"] == ["only a photo fits that another name leads to exactly"]


@pytest.mark.parametrize(("exact", "counts"), [(1, True), (2, True), (3, False)])
def test_a_folder_whose_photos_mostly_belong_to_another_file_is_doubtful(tmp_path, exact, counts):
    names_of = {"lot/via.json": numbered("", range(exact)), "json/all.json": numbered("", range(12))}
    photos = [*numbered("lot/", range(5)), *numbered("lot2/", range(5, 12))]
    found = match(tmp_path, photos, names_of)["json/all.json"]
    assert found[:exact] == exact * ["only a photo fits that another name leads to exactly"]
    doubtful = (5 - exact) * ["a photo of equal name elsewhere may be another one"]
    assert found[exact:5] == (photos[exact:5] if counts else doubtful)
    assert found[5:] == photos[5:]


def test_lost_photos_are_not_replaced_when_nearly_all_are_lost(tmp_path):
    photos = [*numbered("lot1/", range(8)), "lot2/IMG_9.jpg"]
    [found] = match(tmp_path, photos, {"lot2/via.json": numbered("", range(10))}).values()
    assert found == [*9 * [MISSING], "lot2/IMG_9.jpg"]


def test_a_few_equal_names_are_chance(tmp_path):
    """The photos of the annotated lot are not here at all; two of those that are have names like them."""
    [found] = match(tmp_path, numbered("lot1/", range(8, 30)), {"lot2/via.json": numbered("", range(10))}).values()
    assert found == [*8 * [MISSING], *2 * ["a photo of equal name elsewhere may be another one"]]


def test_names_from_two_folders_are_not_found_in_one(tmp_path):
    names = ["D:\\lot1\\IMG_1.jpg", "D:\\lot2\\IMG_1.jpg"]
    [found] = match(tmp_path, ["photos/IMG_1.jpg"], {"via.json": names}).values()
    assert found == 2 * ["several names of its file fit the same photo"]
    [found] = match(tmp_path, ["lot2/IMG_1.jpg"], {"json/via.json": [*names, names[1].replace("\\", "/")]}).values()
    assert found == ["several names of its file fit the same photo", "lot2/IMG_1.jpg", "lot2/IMG_1.jpg"]


# --- Never outside -----------------------------------------------------------------


def test_names_that_lead_out_and_names_of_nothing(tmp_path):
    names = {
        "../outside.jpg": OUTSIDE,
        "/etc/passwd": OUTSIDE,
        "C:\\Windows\\a.jpg": OUTSIDE,
        "\\\\server\\share\\a.jpg": OUTSIDE,
        "https://example.org/a.jpg": OUTSIDE,
        "nul\0.jpg": OUTSIDE,
        "gone.jpg": MISSING,
        "": MISSING,
        ".": MISSING,
        "%20": MISSING,
        "x" * 5000: MISSING,
        "\ud800.jpg": "malformed entry",
        "line\r.jpg": "malformed entry",
    }
    save_photo(tmp_path / "outside.jpg")
    (tmp_path / "data").mkdir()
    assert match(tmp_path / "data", ["car.jpg"], {"via.json": list(names)}) == {"via.json": list(names.values())}


def test_a_photo_outside_counts_here_when_this_is_its_copy(tmp_path):
    """A name that leads to a file outside means that file; a photo of equal name and of another size is another one."""
    data = tmp_path / "data"
    copied, other = save_photo(tmp_path / "old" / "1.jpg"), save_photo(tmp_path / "old" / "2.jpg")
    for name in ("1.jpg", "2.jpg"):
        (data / "lot").mkdir(parents=True, exist_ok=True)
        (data / "lot" / name).write_bytes(copied.read_bytes())
    other.write_bytes(other.read_bytes() + b"more")
    for names in ([str(copied), str(other)], ["../old/1.jpg", "../old/2.jpg"]):
        found = match(data, ["lot/1.jpg", "lot/2.jpg"], {"via.json": names})
        assert found == {"via.json": ["lot/1.jpg", OUTSIDE]}


def test_photos_behind_links_have_one_path(tmp_path):
    data = tmp_path / "data"
    photos = [save_photo(data / "real" / "1.jpg"), save_photo(tmp_path / "outside" / "2.jpg")]
    (data / "link").symlink_to(data / "real")
    (data / "1.jpg").symlink_to(photos[0])
    (data / "2.jpg").symlink_to(photos[1])
    (data / "out").symlink_to(tmp_path / "outside")
    (data / "loop.jpg").symlink_to(data / "loop.jpg")
    names = ["real/1.jpg", "link/1.jpg", "1.jpg", "2.jpg", "out/2.jpg", "loop.jpg"]
    found = match(data, ["real/1.jpg"], {"via.json": names})
    assert found == {"via.json": [*3 * ["real/1.jpg"], OUTSIDE, OUTSIDE, MISSING]}
    # With --follow-links, what lies outside is among the photos.
    (data / "out too").symlink_to(tmp_path / "outside")
    found = match(data, ["real/1.jpg", "out/2.jpg"], {"via.json": ["out/2.jpg", "out too/2.jpg"]})
    assert found == {"via.json": ["out/2.jpg", "out/2.jpg"]}


def test_a_link_that_leaves_is_not_replaced_by_a_photo_of_another_spelling(tmp_path):
    (tmp_path / "data").mkdir()
    save_photo(tmp_path / "outside.jpg", size=(99, 9))
    (tmp_path / "data" / "car.jpg").symlink_to(tmp_path / "outside.jpg")
    save_photo(tmp_path / "data" / "CAR.JPG")
    assert match(tmp_path / "data", ["CAR.JPG"], {"via.json": ["car.jpg"]}) == {"via.json": [OUTSIDE]}


def test_a_file_that_does_not_look_like_a_photo_counts_when_it_is_named_exactly(tmp_path):
    save_photo(tmp_path / "photo.jpg").rename(tmp_path / "photo.jpg_large")
    assert match(tmp_path, [], {"via.json": ["photo.jpg_large"]}) == {"via.json": ["photo.jpg_large"]}


def test_a_photo_has_one_path_on_a_disk_that_ignores_case(tmp_path):
    """There the listing has one spelling, and the disk answers to all; a second name of the file does the same here."""
    save_photo(tmp_path / "car.jpg")
    (tmp_path / "CAR.JPG").hardlink_to(tmp_path / "car.jpg")
    assert match(tmp_path, ["car.jpg"], {"via.json": ["CAR.JPG"]}) == {"via.json": ["car.jpg"]}
    save_photo(tmp_path / "Car.jpg")  # another photo
    assert match(tmp_path, ["car.jpg"], {"via.json": ["Car.jpg"]}) == {"via.json": ["Car.jpg"]}


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_a_photo_whose_path_a_csv_file_cannot_hold_is_not_found(tmp_path):
    assert match(tmp_path, ["caf\udce9/1.jpg"], {"via.json": ["1.jpg"]}) == {"via.json": [MISSING]}
    (tmp_path / "a\rb.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("a\rb.jpg")
    assert match(tmp_path, ["a\rb.jpg"], {"via.json": ["link.jpg"]}) == {"via.json": ["malformed entry"]}


def test_every_name_gets_a_match_in_its_order_also_when_it_is_repeated(tmp_path):
    names = ["b.jpg", "a.jpg", "b.jpg", "c.jpg"]
    found = match(tmp_path, ["a.jpg", "b.jpg"], {"via.json": names, "empty.json": []})
    assert found == {"via.json": ["b.jpg", "a.jpg", "b.jpg", MISSING], "empty.json": []}


def test_the_disk_is_asked_only_for_names_that_are_not_listed(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(matching.Path, "is_file", lambda path: asked.append(path.name))
    photos = numbered("lot/", range(100))
    shares = ["\\\\server\\share\\a.jpg", "//server/share/a.jpg"]  # these would ask a server
    match(tmp_path, photos, {"lot/via.json": [*numbered("", range(100)), "gone.jpg", *shares]})
    assert asked == ["gone.jpg"]


# --- Sides and views in other attributes -------------------------------------------


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
