"""The review page: what makes a label suspicious, what is drawn, and marks that change labels.

No page has a serious accessibility fault, by the rules of axe-core; skipped without Chromium or npm.
Which vehicles are completely photographed, why a viewpoint is missing, and what people see of it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ANY, regions, save_photo, serious_faults, write_via
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import config
import data_preparation
from viewpoint.annotations.photo import Part, Photo, Report
from viewpoint.annotations.shapes import via_outline
from viewpoint.annotations.via import read_regions
from viewpoint.common.cli import UserError
from viewpoint.data import doubts
from viewpoint.data.corrections import apply_corrections, read_corrections
from viewpoint.data.dataset import COLUMNS, SPLITS
from viewpoint.data.labeling import VIEWPOINTS, read_names
from viewpoint.data.scan import read_dataset
from viewpoint.inference.outputs import Prediction
from viewpoint.inference.predictor import Result
from viewpoint.reports import review
from viewpoint.reports.charts import heat_scale
from viewpoint.reports.drift import Unusual, write_drift_page
from viewpoint.reports.folders import Vehicles, write_vehicles
from viewpoint.reports.mistakes import Source
from viewpoint.reports.pages import write_page
from viewpoint.reports.pictures import data_uri
from viewpoint.reports.review import Judgements, write_review
from viewpoint.reports.training import Background, write_report
from viewpoint.training.drift import PhotoStatistics, compare

FRONT_LEFT = regions("bonnet", "frontbumper", "leftfrontdoor", "leftmirror")
REAR_RIGHT = regions("tailgate", "rearbumper", "rightreardoor", "rightmirror")


def labelled(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=COLUMNS)


def suspicions(df, hashes=None, predictions=None, out_of_fold=None, conflicts=()) -> dict[str, tuple[float, list[str]]]:
    # Hashes that differ in half of their bits or all, unless the test says otherwise.
    far_apart = (0, 2**64 - 1, 0xFFFFFFFF, 0xFFFF0000FFFF0000)
    hashes = hashes or dict(zip(df["image_path"], far_apart, strict=False))
    photos = {path: Photo((), value) for path, value in hashes.items()}
    found = doubts.find_suspicions(df, photos, predictions or {}, out_of_fold or {}, conflicts)
    found = [(score, list(reasons.values())) for score, reasons in found]
    return dict(zip(df["image_path"], found, strict=True))


@pytest.mark.parametrize(
    ("label", "votes", "expected"),
    [
        ("FrontLeft", (3, 0, 2, 0), []),
        ("FrontLeft", (3, 3, 2, 0), ["as many front as rear parts"]),
        ("FrontLeft", (5, 2, 4, 1), []),
        ("FrontLeft", (3, 0, 4, 2), ["several left and right parts"]),
        ("Front", (3, 0, 2, 2), []),  # a straight view has as many left as right parts
        ("FrontLeft", (3, 0, 1, 0), ["one part decides"]),
        ("Front", (3, 0, 0, 0), []),
        ("FrontLeft", (0, 0, 3, 0), ["no part says front or rear"]),
        ("Background", (0, 0, 0, 0), []),
        ("Background", (1, 0, 0, 0), ["parts, but too few for a car"]),
    ],
)
def test_what_in_the_votes_makes_a_label_suspicious(label, votes, expected):
    [(score, reasons)] = suspicions(labelled(["a.jpg", label, *votes])).values()
    assert reasons == expected
    assert (score > 0) == bool(expected)


def test_what_was_understood_in_part_is_a_reason():
    parts = (Part(("bonnet",)), Part(()), Part(()), Part(("flux capacitor", "scratch")))
    assert doubts.reasons_in_names(parts) == {
        "nameless": "2 regions without a name",
        "unknown": "no list knows flux capacitor",
    }
    assert doubts.reasons_in_names(parts[:1]) == {}


def test_the_kinds_of_doubt_in_their_order():
    found = [doubts.kind_of_doubt(reasons) for reasons in (["tie", "conflict"], ["tie", "model"], ["unknown"], ["tie"])]
    assert found == [0, 1, 2, 3]
    assert doubts.kind_of_doubt([]) == len(doubts.KINDS)
    assert set(doubts.REASONS) == {reason for _, kind in doubts.KINDS for reason in kind}
    assert set(doubts.SUSPICIONS) - set(doubts.REASONS) == {"confident"}


def test_neighbours_in_a_folder_that_look_alike_and_disagree_are_suspicious():
    df = labelled(
        ["a/1.jpg", "FrontLeft", 3, 0, 2, 0],
        ["a/2.jpg", "FrontRight", 3, 0, 0, 2],
        ["a/3.jpg", "FrontLeft", 3, 0, 2, 0],
        ["b/4.jpg", "Rear", 0, 3, 0, 0],
    )
    assert not any(reasons for _, reasons in suspicions(df).values())
    alike = suspicions(df, {"a/1.jpg": 0b111, "a/2.jpg": 0b110, "a/3.jpg": 2**63 - 1, "b/4.jpg": 2**63 - 1})
    assert alike["a/1.jpg"][1] == ["looks like 2.jpg, which is FrontRight"]
    assert alike["a/3.jpg"][1] == []  # unlike its neighbour; b/4.jpg, which it resembles, is in another folder


def test_a_label_that_the_model_contradicts_comes_before_a_tie():
    df = labelled(["a.jpg", "FrontLeft", 3, 0, 2, 0], ["b.jpg", "Front", 3, 3, 0, 0])
    predictions = {"a.jpg": {"FrontRight": 0.9, "FrontLeft": 0.1}, "b.jpg": {"Front": 0.9, "Rear": 0.1}}
    found = suspicions(df, predictions=predictions)
    assert found["a.jpg"][0] == pytest.approx(doubts.SUSPICIONS["model"] * 0.9)
    assert found["a.jpg"][1] == ["the model says FrontRight (0.90)"]
    assert found["a.jpg"][0] > found["b.jpg"][0]


def test_models_that_did_not_learn_a_photo_are_named_and_preferred():
    df = labelled(["a.jpg", "FrontLeft", 3, 0, 2, 0], ["b.jpg", "FrontLeft", 3, 0, 2, 0])
    honest = {"a.jpg": {"FrontRight": 0.8, "FrontLeft": 0.2}}
    learned = {path: {"FrontLeft": 0.9, "FrontRight": 0.1} for path in df["image_path"]}
    found = suspicions(df, predictions=learned, out_of_fold=honest)
    assert found["a.jpg"] == (
        pytest.approx(doubts.SUSPICIONS["model"] * 0.8),
        ["models that did not learn this photo say FrontRight (0.80)"],
    )
    assert found["b.jpg"] == (pytest.approx(doubts.SUSPICIONS["model"] * 0.1), [])


def drawn(name: str, x: float) -> Part:
    return Part((name,), (((x - 5, 0), (x + 5, 0), (x + 5, 9)),))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # A front left view: the nose at the left, the left side to the right of it.
        ([drawn("frontbumper", 10), drawn("bonnet", 20), drawn("leftfrontdoor", 60)], False),
        ([drawn("frontbumper", 10), drawn("bonnet", 20), drawn("rightfrontdoor", 60)], True),
        # A rear left view: the left side at the left.
        ([drawn("leftreardoor", 10), drawn("tailgate", 60)], False),
        ([drawn("rightreardoor", 10), drawn("tailgate", 60)], True),
        # A whole side, without an end: its doors from front to rear.
        ([drawn("leftfrontdoor", 10), drawn("leftreardoor", 60)], False),
        ([drawn("rightfrontdoor", 10), drawn("rightreardoor", 60)], True),
        # A lamp votes for both, so it says where the front of its side is.
        ([drawn("rightheadlamp", 60), drawn("rightreardoor", 10)], False),
        # One for and one against; nothing to compare; not drawn.
        ([drawn("bonnet", 30), drawn("leftfrontdoor", 60), drawn("leftmirror", 10)], False),
        ([drawn("bonnet", 30), drawn("scratch", 60)], False),
        ([Part(("bonnet",)), drawn("rightfrontdoor", 60)], False),
    ],
)
def test_parts_where_a_mirrored_car_has_them(parts, expected):
    assert doubts.looks_mirrored(parts) == expected


def test_nearly_equal_photos_with_different_labels_name_each_other_and_come_first():
    rows = [[f"{name}.jpg", "Front", 3, 0, 0, 0] for name in "abcdef"]
    rows[3][1] = rows[4][1] = "Rear"
    df = labelled(*rows)
    pairs = [("a.jpg", "e.jpg"), ("b.jpg", "d.jpg")]
    found = suspicions(df, dict.fromkeys(df["image_path"], 0), {"f.jpg": {"Rear": 1.0}}, conflicts=pairs)
    assert found["a.jpg"][1] == ["nearly the same photo as e.jpg, which is Rear"]
    assert found["d.jpg"][1][0] == "nearly the same photo as b.jpg, which is Front"
    groups = review.group_pairs(pairs)
    scored = [(score, dict.fromkeys(["model"] if reasons else [], "")) for score, reasons in found.values()]
    order = review.card_order(df["image_path"].tolist(), scored, {"c.jpg": "Front"}, groups)
    assert [df["image_path"][i][0] for i in order] == list("aebdfc")


def test_pairs_that_share_a_photo_are_one_group():
    groups = review.group_pairs([("a", "b"), ("c", "d"), ("e", "f"), ("d", "a")])
    assert groups["a"] is groups["b"] is groups["c"] is groups["d"]
    assert groups["a"] == ["c", "d", "a", "b"]
    assert groups["e"] == ["e", "f"]


def test_the_page_shows_conflicts_side_by_side_and_where_one_may_stop(browser, photos):
    df, read_photos, _ = read_dataset(photos)
    page = photos.parent / "review.html"
    predictions = {"lot/05.jpg": {"Rear": 0.9, "FrontLeft": 0.1}}
    pairs = [("lot/03.jpg", "lot/08.jpg"), ("lot/03.jpg", "gone.jpg"), ("lot/01.jpg", "lot/02.jpg")]
    corrections = {"lot/01.jpg": "FrontLeft", "lot/02.jpg": "RearRight"}  # settled
    review.write_review(df, read_photos, corrections, photos, 99, page, Judgements(None, predictions, pairs))
    view = browser.new_page()
    view.goto(page.as_uri())
    assert view.locator(".group").count() == 1
    group = view.locator(".group .card .path").all_text_contents()
    assert group == ["lot/03.jpg", "lot/08.jpg"]
    before_stop = view.evaluate("document.querySelector('.stop').previousElementSibling.innerText")
    assert "lot/05.jpg" in before_stop
    assert "Something speaks against 3;" in view.locator("#intro").text_content()
    last = view.locator(".card .path").all_text_contents()[-2:]
    assert sorted(last) == ["lot/01.jpg", "lot/02.jpg"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"name": "polygon", "all_points_x": [0, 8, 8.5], "all_points_y": [0, 0, -4]}, [(0, 0), (8, 0), (8.5, -4)]),
        ({"name": "rect", "x": 2, "y": 3, "width": 10, "height": 5}, [(2, 3), (12, 3), (12, 8), (2, 8)]),
        ({"name": "polygon", "all_points_x": [0, 8], "all_points_y": [0]}, []),
        ({"name": "rect", "x": None, "y": 3, "width": 10, "height": 5}, []),
        ({"name": "circle", "cx": "a", "cy": 3, "r": 1}, []),
        ({"name": "circle", "cx": float("nan"), "cy": 3, "r": 1}, []),
        ({}, []),
    ],
)
def test_the_outline_of_a_shape(shape, expected):
    assert list(via_outline(shape)) == expected


SHAPES = st.sampled_from(["polygon", "polyline", "rect", "circle", "ellipse", "point"]) | ANY
KEYS = ("all_points_x", "all_points_y", "x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "theta")


@given(st.fixed_dictionaries({"name": SHAPES}, optional=dict.fromkeys(KEYS, ANY)))
@example({"name": "circle", "cx": 10**400, "cy": 1, "r": 1})
def test_any_shape_has_an_outline_of_numbers_or_none(shape):
    drawn = review.drawn_parts(read_regions([{"shape_attributes": shape}]), 0.1)
    assert all(set(part["points"]) <= set("0123456789,- ") for part in drawn)


def test_the_outline_of_a_turned_ellipse():
    shape = {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": 3.14159265 / 2}
    points = via_outline(shape)
    assert points[0] == pytest.approx((50, 60))  # the long radius points down, not right
    assert points[6] == pytest.approx((40, 40))
    circle = via_outline({"name": "circle", "cx": 50, "cy": 40, "r": 10})
    assert circle[12] == pytest.approx((40, 40))


def test_parts_are_drawn_in_pixels_of_the_thumbnail_with_their_votes():
    rect = {"name": "rect", "x": 20, "y": 40, "width": 100, "height": 10}
    regions_of_photo = {
        "0": {"shape_attributes": rect, "region_attributes": {"identity": "Partial_LeftHeadlamp\n"}},
        "1": {"shape_attributes": rect | {"width": 300}, "region_attributes": {"identity": "scratch"}},
        "2": {"shape_attributes": rect, "region_attributes": {"identity": "flux capacitor"}},
        "3": "no region",
    }
    parts = review.drawn_parts(read_names(read_regions(regions_of_photo), {}, Counter()), 0.5)
    # The largest first, which is drawn below the others.
    assert [part["votes"] for part in parts] == ["damage", "front left", "unknown"]
    assert parts[1] == {"name": "leftheadlamp", "votes": "front left", "points": "10,20 60,20 60,25 10,25"}


# A folder and a file whose path, written into a page as it is, would end the script and run another.
HOSTILE = "lot<", "script><img src=x onerror=alert(1)>.jpg"


@pytest.fixture
def photos(tmp_path) -> Path:
    """Sixteen photos, half FrontLeft (the odd ones), half RearRight, one with a hostile name."""
    folder = tmp_path / "photos"
    names = [f"{index:02}.jpg" for index in range(15)]
    for seed, name in enumerate(names):
        save_photo(folder / "lot" / name, seed=seed)
    write_via(folder / "lot" / "via.json", {name: FRONT_LEFT if i % 2 else REAR_RIGHT for i, name in enumerate(names)})
    save_photo(folder.joinpath(*HOSTILE), seed=15)
    write_via(folder / HOSTILE[0] / "via.json", {HOSTILE[1]: FRONT_LEFT})
    return folder


@pytest.fixture
def prepare(call) -> Callable[..., str]:
    """Runs the script and returns what it printed."""

    def prepare(photos: Path, *options) -> str:
        output = ["--output", photos.parent / "dataset", "--models", photos.parent / "models"]
        shares = ["--val-share", "0.2", "--test-share", "0.2"]
        code, printed, error = call(data_preparation, "--data", photos, *output, *shares, *options)
        assert code == 0, error
        return printed

    return prepare


def labels_of(photos: Path) -> dict[str, str]:
    splits = [pd.read_csv(photos.parent / "dataset" / f"{name}.csv") for name in SPLITS]
    return dict(pd.concat(splits)[["image_path", "label"]].values)


def test_photos_with_an_unknown_name_are_counted_once(prepare, photos):
    for index in range(3):
        save_photo(photos / "foreign" / f"{index}.jpg", seed=50 + index)
    # Two lead by two parts whatever the bonnet votes for; the third by one, so it is left out.
    clear = FRONT_LEFT + regions("Motorhaube")
    annotated = {"0.jpg": clear, "1.jpg": clear, "2.jpg": FRONT_LEFT[1:] + regions("Motorhaube")}
    write_via(photos / "foreign" / "via.json", annotated)
    printed = prepare(photos, "--review")
    assert "in 3 photos; 1 of these left out (see Skipped):\n  motorhaube in 3 photos\n" in printed
    assert "part names that no list knows: 1\n    foreign/2.jpg\n" in printed
    assert "Something speaks against 2 of 18 labels that nobody has marked yet.\n" in printed
    assert f"\nNext: python tools/review.py --dataset {photos.parent / 'dataset'}\n" in printed
    assert printed.count("Next: ") == 1


def test_a_hostile_name_cannot_end_the_script(prepare, photos):
    prepare(photos, "--review")
    page = (photos.parent / "dataset" / "review.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 2  # the data, and the script that shows it
    assert "<img src=x" not in page


def test_every_photo_comes_into_view_on_a_large_screen_too(browser, tmp_path):
    for index in range(200):
        save_photo(tmp_path / "photos" / f"{index:03}.jpg", seed=0, size=(24, 16))
    annotated = {f"{index:03}.jpg": FRONT_LEFT if index % 2 else REAR_RIGHT for index in range(200)}
    write_via(tmp_path / "photos" / "via.json", annotated)
    df, photos, _ = read_dataset(tmp_path / "photos")
    review.write_review(df, photos, {}, tmp_path / "photos", 4000, tmp_path / "review.html", Judgements())
    page = browser.new_page(viewport={"width": 3840, "height": 2160})
    page.goto((tmp_path / "review.html").as_uri())
    for name, count in (("RearRight", 100), ("FrontLeft", 100), ("", 200)):
        page.locator("#class").select_option(name)
        for _ in range(3000):  # a busy computer may need a while
            page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
            page.wait_for_timeout(20)
            if page.locator(".card").count() == count:
                break
        assert page.locator(".card").count() == count
        assert page.locator("#end").text_content() == f"{count} of {count} photos"


def open_page(context, photos: Path, address: str = ""):
    """The review page of the folder, in a new tab; its JavaScript errors are raised at the next check."""
    page = context.new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto((photos.parent / "dataset" / "review.html").as_uri() + address)
    return page


def current_photo(page) -> str:
    return page.locator(".card.current .path").text_content()


def test_marks_made_in_a_browser_change_the_labels(prepare, browser, photos):
    printed = prepare(photos, "--review")
    dataset = photos.parent / "dataset"
    assert f"To look at:\n  {dataset / 'review.html'}: the labels, the most doubtful first\n" in printed
    assert printed.endswith(f"Next: python train.py --dataset {dataset}\n")  # nothing speaks against any label
    before = labels_of(photos)
    page = open_page(browser, photos)
    assert page.locator(".card").count() == 16
    assert page.get_by_text("/".join(HOSTILE)).count() == 1
    assert page.locator("#folder option").all_text_contents() == ["all (16)", "lot (15)", "lot< (1)"]

    page.locator("#class").select_option("FrontLeft")
    assert page.locator(".card").count() == 8
    assert page.locator("#folder option").all_text_contents() == ["all (8)", "lot (7)", "lot< (1)"]
    card = page.locator(".card", has_text="lot/03.jpg")
    card.get_by_label("the right class").select_option("RearRight")
    assert card.get_by_text("→ RearRight").count() == 1
    page.locator("#class").select_option("")
    for name, button in (("04", "Leave out"), ("05", "Correct"), ("06", "Leave out"), ("06", "Leave out")):
        page.locator(".card", has_text=f"lot/{name}.jpg").get_by_role("button", name=button).click()
    # The second click on 06 took its mark back.
    assert page.get_by_role("status").text_content() == "3 marked, 3 not in corrections.csv yet"
    expected = "Next run: 1 label changes, 1 photo is left out, 1 label is confirmed"
    assert page.locator("#next").text_content() == expected
    page.locator("#marked").select_option("no")
    assert page.locator(".card").count() == 13
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(photos.parent / "dataset" / "corrections.csv")

    # The next run does what the page said.
    printed = prepare(photos, "--review")
    assert "1 label changed, 1 confirmed, 1 photo left out as wrong" in printed
    after = labels_of(photos)
    assert {path for path in before if after.get(path) != before[path]} == {"lot/03.jpg", "lot/04.jpg"}
    assert after["lot/03.jpg"] == "RearRight"
    assert "lot/04.jpg" not in after
    # The page that was written again shows what was marked, last.
    page.reload()
    assert page.get_by_role("status").text_content() == "3 marked"
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".card").last.locator(".verdict").text_content() in ("→ RearRight", "✓ correct", "✗ leave out")


def test_marks_outlive_a_closed_tab_and_a_page_that_is_written_again(prepare, browser, photos):
    prepare(photos, "--review")
    context = browser.new_context()
    page = open_page(context, photos)
    for _ in range(6):
        page.keyboard.press("w")
    page.close()
    # Somebody else's corrections arrive, and the page is written again with fewer photos.
    (photos.parent / "dataset" / "corrections.csv").write_text("image_path,label\nlot/14.jpg,FrontLeft\n")
    prepare(photos, "--review", "5")
    page = open_page(context, photos)
    assert page.locator(".card").count() == 5
    assert page.get_by_role("status").text_content() == "7 marked, 6 not in corrections.csv yet"
    # Saved by hand as the page saves it: then nothing is left to save, also of photos that are not on the page.
    with page.expect_download() as download:
        page.get_by_role("button", name="Save corrections.csv").click()
    download.value.save_as(photos.parent / "dataset" / "corrections.csv")
    assert len(read_corrections(photos.parent / "dataset" / "corrections.csv")) == 7
    prepare(photos, "--review", "5")
    page.reload()
    assert page.get_by_role("status").text_content() == "7 marked"
    # Two tabs of the page follow each other.
    other = open_page(context, photos)
    page.keyboard.press("c")
    other.get_by_text("8 marked").or_(other.get_by_text("7 marked, 1 not in")).wait_for()


def test_a_session_by_keyboard_alone(prepare, browser, photos):
    """Twenty marks and what else the keys do; 15 marks take 15 key presses, because the focus moves on."""
    prepare(photos, "--review")
    page = open_page(browser, photos)
    paths = page.locator(".card .path").all_text_contents()
    assert current_photo(page) == paths[0]
    for key in "1234567wc123456":
        page.keyboard.press(key)
    assert page.get_by_role("status").text_content().startswith("15 marked")
    verdicts = page.locator(".card .verdict").all_text_contents()
    labels = page.locator(".card .label").all_inner_texts()
    for verdict, label, name in zip(verdicts, labels, config.CLASSES, strict=False):
        assert verdict == ("✓ correct" if label.split()[0] == name else f"→ {name}")
    assert verdicts[7:9] == ["✗ leave out", "✓ correct"]
    assert current_photo(page) == paths[15]
    # Undo takes the marks back one by one, and goes where they were, also after a reload.
    page.keyboard.press("u")
    page.reload()
    page.keyboard.press("Control+z")
    assert current_photo(page) == paths[13]
    assert page.get_by_role("status").text_content().startswith("13 marked")
    page.reload()
    assert page.get_by_role("status").text_content().startswith("13 marked")
    assert page.locator("#done").text_content() == "13 of 16 reviewed"
    # At the first photo that has no mark yet; a large view, from photo to photo, with the same keys.
    assert current_photo(page) == paths[13]
    page.keyboard.press("z")
    dialog = page.locator("dialog")
    assert dialog.locator(".path").text_content() == paths[13]
    page.keyboard.press("w")
    assert dialog.locator(".path").text_content() == paths[14]
    page.keyboard.press("k")
    assert dialog.locator(".verdict").text_content() == "✗ leave out"
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("j")
    assert current_photo(page) == paths[13]
    page.keyboard.press("Enter")  # no model has judged these photos
    assert page.get_by_role("status").text_content().startswith("14 marked")
    # A letter in the search is text, not a mark; after a filter is chosen, keys are for the photos.
    page.locator("#search").press("x")
    assert page.get_by_role("status").text_content().startswith("14 marked")
    page.get_by_role("button", name="Show all").click()
    page.locator("#marked").select_option("no")
    page.keyboard.press("x")
    assert page.get_by_role("status").text_content().startswith("15 marked")


def test_the_keys_are_in_sight_and_the_page_says_the_whole_command(prepare, browser, photos):
    prepare(photos, "--review", "--resplit")
    dataset = photos.parent / "dataset"
    page = open_page(browser, photos)
    command = page.locator("#how code").text_content()
    assert f"corrections.csv into {dataset}/" in page.locator("#how").text_content()
    assert command == (
        f"python data_preparation.py --data {photos} --output {dataset} --models {photos.parent / 'models'} "
        "--val-share 0.2 --test-share 0.2 --review"
    )
    page.set_viewport_size({"width": 1280, "height": 500})
    for _ in range(15):
        page.keyboard.press("j")
    assert page.locator("#keys").bounding_box()["y"] >= 0
    assert page.locator(".card.current .actions kbd:visible").all_text_contents() == ["c", "x"]
    assert page.locator(".card .actions kbd:visible").count() == 2


@pytest.mark.parametrize(("judge", "accepts"), [("learned both", 0), ("learned neither", 1)])
def test_of_a_pair_only_a_model_that_did_not_learn_it_says_which_is_wrong(browser, photos, monkeypatch, judge, accepts):
    """lot/01 is a true FrontLeft, lot/02 its copy with the planted label; the model repeats the planted one."""
    says = {"lot/01.jpg": {"RearRight": 0.9, "FrontLeft": 0.1}, "lot/02.jpg": {"RearRight": 1.0}}
    others = {f"lot/{i:02}.jpg": {"FrontLeft" if i % 2 else "RearRight": 1.0} for i in range(3, 15)}
    monkeypatch.setattr(
        review,
        "predict_classes",
        lambda df, *_: {path: (others | says)[path] for path in df["image_path"] if path in others | says},
    )
    out_of_fold = says if judge == "learned neither" else {}
    df, read_photos, _ = read_dataset(photos)
    (photos.parent / "dataset").mkdir()
    page_path = photos.parent / "dataset" / "review.html"
    pairs = [("lot/01.jpg", "lot/02.jpg")]
    model = Path("model.tflite")
    assert review.write_review(df, read_photos, {}, photos, 99, page_path, Judgements(model, out_of_fold, pairs)) == 2
    page = open_page(browser, photos)
    assert page.get_by_role("button", name="Accept").count() == accepts
    reasons = page.locator(".card .reasons li").all_text_contents()
    assert sum("say" in reason for reason in reasons) == accepts
    # Enter acts only where its button is: not on the copy, whose label the model repeats.
    if not accepts:
        page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.get_by_role("status").text_content() == "0 marked"
    # The copy gets the right label: nothing is left to ask of the other photo, until that is undone.
    page.keyboard.press("2")
    assert page.locator(".card .path").nth(0).text_content() == "lot/01.jpg"
    assert page.locator(".card .reasons li").first.text_content().startswith(("answered", "models that"))
    if not accepts:
        assert page.locator("#done").text_content().startswith("2 of 2 reviewed")
        assert current_photo(page) not in ("lot/01.jpg", "lot/02.jpg")
    page.keyboard.press("u")
    assert page.locator(".card .reasons li").first.text_content().startswith("nearly the same photo as")


def test_a_link_of_the_report_leads_to_its_photo(browser, tmp_path):
    for index in range(120):
        save_photo(tmp_path / "photos" / f"{index:03}.jpg", seed=0, size=(24, 16 + index % 30))
    write_via(tmp_path / "photos" / "via.json", {f"{index:03}.jpg": FRONT_LEFT for index in range(120)})
    df, found, _ = read_dataset(tmp_path / "photos")
    review.write_review(df, found, {}, tmp_path / "photos", 4000, tmp_path / "review.html", Judgements())
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        for name in ("097.jpg", "055.jpg"):
            page.goto((tmp_path / "review.html").as_uri() + f"#photo={name}")
            page.wait_for_timeout(300)  # a browser that scrolls by itself does it after the page is loaded
            assert current_photo(page) == name
            top = page.locator(".card.current").bounding_box()["y"]
            assert page.locator(".bar").bounding_box()["height"] <= top < 400


def test_enter_and_one_click_accept_the_class_of_the_model(browser, photos, tmp_path):
    df, read_photos, _ = read_dataset(photos)
    says = {path: {"Rear": 0.8, "FrontLeft": 0.2} for path in df["image_path"]}
    (photos.parent / "dataset").mkdir()
    page_path = photos.parent / "dataset" / "review.html"
    splits = {path: "test" if "03" in path else "train" for path in df["image_path"]}
    review.write_review(df, read_photos, {}, photos, 99, page_path, Judgements(None, says, (), splits))
    page = open_page(browser, photos, "#photo=lot/03.jpg")
    # The report of a training links to a photo in this way.
    assert current_photo(page) == "lot/03.jpg"
    page.keyboard.press("Enter")
    card = page.locator(".card", has_text="lot/03.jpg")
    assert card.locator(".verdict").text_content() == "→ Rear"
    card = page.locator(".card", has_text="lot/05.jpg")
    card.get_by_role("button", name="Accept Rear").click()
    assert card.locator(".verdict").text_content() == "→ Rear"
    # Filters are counted, combined, and survive a reload.
    assert page.locator("#predicted option").all_text_contents() == ["all (16)", "Rear (16)"]
    page.locator("#split").select_option("test")
    page.locator("#search").fill("disagree 03")
    assert page.locator(".card").count() == 0
    page.locator("#search").fill("not learn 03")
    page.reload()
    assert page.locator(".card .path").all_text_contents() == ["lot/03.jpg"]
    assert page.locator("#search").input_value() == "not learn 03"


def test_parts_can_be_named_by_touch_and_hidden_by_what_they_vote_for(prepare, browser, photos):
    prepare(photos, "--review")
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = open_page(context, photos)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    card = page.locator(".card", has_text="lot/03.jpg")
    card.get_by_role("button", name="Open lot/03.jpg large").tap()
    dialog = page.locator("dialog")
    assert dialog.get_by_role("button", name="leftmirror: left").count() == 1
    dialog.locator("polygon").last.tap(force=True)
    assert ":" in dialog.locator(".part-name").text_content()
    assert all(button.bounding_box()["height"] >= 40 for button in dialog.locator(".actions button").all())
    dialog.get_by_role("button", name="Close").tap()
    visible = card.locator("polygon:visible").count()
    assert visible == 4
    page.get_by_text("Filters and colours").tap()
    page.get_by_label("left", exact=True).uncheck()
    assert card.locator("polygon:visible").count() == 2
    page.get_by_label("show parts").uncheck()
    assert card.locator("polygon:visible").count() == 0


def test_a_model_that_contradicts_a_label_brings_it_to_the_front(photos, monkeypatch):
    class_of = {f"lot/{index:02}.jpg": "FrontLeft" if index % 2 else "RearRight" for index in range(15)}
    class_of["lot/07.jpg"] = "Rear"
    monkeypatch.setattr(
        review,
        "predict_classes",
        lambda df, *_: {path: {class_of.get(path, "FrontLeft"): 0.9, "Front": 0.1} for path in df["image_path"]},
    )
    df, read_photos, _ = read_dataset(photos)
    page = photos.parent / "review.html"
    review.write_review(df, read_photos, {}, photos, 3, page, Judgements(Path("model.tflite")))
    [content] = re.findall(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    cards = json.loads(content)["cards"]
    assert len(cards) == 3
    assert cards[0]["path"] == "lot/07.jpg"
    assert cards[0]["reasons"][0] == ["model", "the model says Rear (0.90)"]
    assert (cards[0]["predicted"], cards[0]["score"]) == ("Rear", 0.9)


def test_corrections_are_applied_and_counted():
    df = labelled(
        ["a.jpg", "Front", 3, 0, 0, 0],
        ["b.jpg", "Front", 3, 0, 0, 0],
        ["c.jpg", "Rear", 0, 3, 0, 0],
        ["d.jpg", "Rear", 0, 3, 0, 0],
    )
    report = Report()
    corrected = apply_corrections(df, {"a.jpg": "Rear", "c.jpg": "Rear", "d.jpg": "Wrong", "x.jpg": "Front"}, report)
    assert dict(corrected[["image_path", "label"]].values) == {"a.jpg": "Rear", "b.jpg": "Front", "c.jpg": "Rear"}
    assert report.corrections == {"changed": 1, "confirmed": 1, "left_out": 1}
    assert report.skipped == {
        "corrected in corrections.csv, but not among the labelled photos": ["x.jpg"],
        "marked as wrong in corrections.csv, without a right class": ["d.jpg"],
    }


def test_odd_corrections_are_one_sentence(tmp_path):
    path = tmp_path / "corrections.csv"
    assert read_corrections(path) == {}
    path.write_text("image_path,label\na.jpg,Sideways\n")
    with pytest.raises(UserError, match=r"corrections\.csv calls a\.jpg 'Sideways'; use one of Front, "):
        read_corrections(path)
    path.write_text("image_path,label\nlot/a,b.jpg,Front\n")
    with pytest.raises(UserError, match=r"line 2 .* does not have one cell for each of the columns"):
        read_corrections(path)
    path.write_text("image_path,label\na.jpg,Front\na.jpg,Rear\n")
    with pytest.raises(UserError, match=r"a\.jpg both Front and Rear"):
        read_corrections(path)
    path.write_text("photo,class\na.jpg,Front\n")
    with pytest.raises(UserError, match="does not have the columns image_path and label"):
        read_corrections(path)


# --- Accessibility -----------------------------------------------------------------


def test_the_review_page(browser, axe, tmp_path):
    photos = tmp_path / "photos"
    parts = regions("bonnet", "frontbumper", "leftfrontdoor", "scratch")
    for seed in range(3):
        save_photo(photos / f"{seed}.jpg", seed=seed)
    write_via(photos / "via.json", {f"{seed}.jpg": parts for seed in range(3)})
    df, found, _ = read_dataset(photos)
    says = {"1.jpg": {"Rear": 1.0}}
    judged = Judgements(None, says, [("0.jpg", "2.jpg")])
    write_review(df, found, {}, photos, 9, tmp_path / "review.html", judged)
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((tmp_path / "review.html").as_uri())
        page.keyboard.press("1")
        assert serious_faults(page, axe) == []
        page.keyboard.press("z")
        assert serious_faults(page, axe) == []


def test_the_report_of_a_training(browser, axe, tmp_path):
    path = str(save_photo(tmp_path / "a.jpg"))
    votes = {"front_votes": 1, "rear_votes": 0, "left_votes": 3, "right_votes": 0}
    rows = [{"image_path": "lot/a.jpg", "file": path, "label": name, **votes} for name in config.CLASSES]
    split = pd.DataFrame([*rows, rows[0] | {"image_path": "b.jpg"}])
    probabilities = np.full((8, 7), 0.05) + 0.65 * np.eye(7)[[0, 1, 2, 3, 4, 5, 0, 1]]
    (tmp_path / "dataset").mkdir()
    source = Source(
        tmp_path / "dataset", tmp_path, "a date", {"test": "1234"}, "", lambda rows, _: np.ones((len(rows), 2, 2))
    )
    log = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0, "phase": 1, "epoch": 1, "kept": True}
    settings = {"backbone": "MobileNetV2", "temperature": None, "suggestion": None}
    splits = dict.fromkeys(("train", "val", "test"), split)
    write_report(splits, probabilities, [log], settings, tmp_path / "report", Background({"clean": 0.9}, source=source))
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((tmp_path / "report" / "index.html").as_uri())
        assert serious_faults(page, axe) == []


def test_the_page_of_explanations(browser, axe, tmp_path):
    panels = dict.fromkeys(("photo", "predicted Front 0.90"), data_uri(Image.new("RGB", (8, 8))))
    photos = [{"name": "lot/a.jpg", "file": "/data/lot/a.jpg", "panels": panels}]
    write_page(tmp_path / "page.html", "explanations.html", photos=photos, count=2, scale=data_uri(heat_scale()))
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((tmp_path / "page.html").as_uri())
    assert serious_faults(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_page_of_drift(browser, axe, tmp_path):
    before, now = PhotoStatistics(), PhotoStatistics()
    for index in range(60):
        before.add("Rear", 0.9 + index / 1000, "")
        now.add("Front", 0.9, "too dark")
    before.files, now.files = [(640, 480, "JPEG")] * 60, [(480, 640, "PNG")] * 60
    before.features, now.features = np.eye(60), np.eye(60)
    unusual = [Unusual("lot/a.jpg", "Front", 0.9, 0.3, data_uri(Image.new("RGB", (8, 8))))]
    write_drift_page(tmp_path / "page.html", compare(before, now), before, now, unusual, 0.3)
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((tmp_path / "page.html").as_uri())
        assert serious_faults(page, axe) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- Vehicles ----------------------------------------------------------------------


def photo(name: str, view: str, score: float, sure: bool = True, quality: tuple[str, ...] = ()) -> Prediction:
    result = Result(view if sure else config.UNKNOWN, score, view, {}, quality)
    return Prediction(name, Path("photos") / name, result)


@pytest.fixture
def vehicles() -> Vehicles:
    """One complete vehicle, and one with every reason why a viewpoint can be missing."""
    found = Vehicles(VIEWPOINTS)
    for view in VIEWPOINTS:
        found.add(photo(f"full/{view}.jpg", view, 0.9))
    for prediction in [
        photo("poor/a.jpg", "Front", 0.95, quality=("blurred",)),
        photo("poor/b.jpg", "Front", 0.7),
        photo("poor/c.jpg", "Front", 0.8),
        photo("poor/d.jpg", "FrontLeft", 0.4, sure=False),
        photo("poor/e.jpg", "FrontLeft", 0.99, quality=("too dark",)),
        photo("poor/f.jpg", "FrontRight", 0.9, quality=("too dark",)),
        photo("poor/g.jpg", "Background", 0.9),
        Prediction("poor/h.jpg", Path("h.jpg"), Result(error="an empty file")),
    ]:
        found.add(prediction)
    return found


def test_what_is_missing_and_why(vehicles, tmp_path, capsys):
    write_vehicles(vehicles, tmp_path / "p.csv", 0.5)
    full, poor = pd.read_csv(tmp_path / "p_per_folder.csv", keep_default_na=False).to_dict("records")
    assert (full["folder"], full["complete"], full["covered"], full["Rear"]) == ("full", "yes", 6, "full/Rear.jpg")
    assert (poor["photos"], poor["failed"], poor["complete"], poor["covered"]) == (7, 1, "no", 1)
    # The best usable photo, although a blurred one has a better score.
    assert (poor["Front"], float(poor["Front_score"]), poor["Front_missing"]) == ("poor/c.jpg", 0.8, "")
    assert poor["missing"] == "FrontLeft FrontRight Rear RearLeft RearRight"
    reasons = ["only unsure", "only unusable: too dark", "not there"]
    assert [poor[f"{view}_missing"] for view in ("FrontLeft", "FrontRight", "Rear")] == reasons
    assert poor["FrontLeft"] == ""
    content = json.loads((tmp_path / "p_per_folder.json").read_text())
    assert [vehicle["complete"] for vehicle in content["vehicles"]] == [True, False]
    closest = content["vehicles"][1]["views"]["FrontLeft"]
    assert closest == {"missing": "only unsure", "photo": "poor/d.jpg", "score": 0.4, "quality": []}
    assert "show all 6 viewpoints: 1 of 2" in capsys.readouterr().out


def test_only_the_views_that_are_asked_for_count(tmp_path, capsys):
    found = Vehicles(["Front", "Rear"])
    for prediction in (photo("car/a.jpg", "Front", 0.9), photo("car/b.jpg", "Rear", 0.9)):
        found.add(prediction)
    write_vehicles(found, tmp_path / "p.csv", 0)
    [row] = pd.read_csv(tmp_path / "p_per_folder.csv").to_dict("records")
    assert (row["complete"], row["covered"]) == ("yes", 2)
    assert "RearLeft" not in row


def test_the_page_shows_incomplete_vehicles_first_with_their_photos(tmp_path, browser):
    found = Vehicles(["Front", "Rear"])
    for index, (name, view) in enumerate([("a <b>/1.png", "Front"), ("a <b>/2.png", "Rear"), ("b/3.png", "Front")]):
        file = save_photo(tmp_path / f"{index}.png", seed=index)
        found.add(photo(name, view, 0.9)._replace(file=file))
    write_vehicles(found, tmp_path / "p.csv", 0.6)
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto((tmp_path / "p_per_folder.html").as_uri())
    assert [text.split(":")[0] for text in page.locator("h2").all_inner_texts()] == ["b", "a <b>"]
    assert "2 vehicles, 1 complete" in page.inner_text("body")
    assert page.locator("section").first.locator("li.missing").inner_text().endswith("Rear\nnot there")
    # First a table of all vehicles, each with a link to its photos.
    rows = page.locator("tbody tr").all_inner_texts()
    assert [row.split("\t") for row in rows] == [
        ["b", "1", "1 of 2", "Rear: not there"],
        ["a <b>", "2", "2 of 2", "nothing"],
    ]
    sections = page.locator("tbody a").evaluate_all(
        "links => links.map(link => document.getElementById(link.hash.slice(1)).querySelector('h2').textContent)"
    )
    assert [" ".join(text.split()) for text in sections] == ["b: incomplete", "a <b>: complete"]
    assert page.locator("img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")


def test_six_views_are_in_a_row_on_a_screen_and_two_on_a_phone(vehicles, tmp_path, browser):
    vehicles.add(photo(f"poor/{'aNameWithoutAnySpace' * 6}.jpg", "Rear", 0.9))
    write_vehicles(vehicles, tmp_path / "p.csv", 0.5)
    page = browser.new_page()
    page.goto((tmp_path / "p_per_folder.html").as_uri())
    for width, in_a_row in ((1280, 6), (390, 2)):
        page.set_viewport_size({"width": width, "height": 800})
        tops = page.locator(".views").first.locator("li").evaluate_all("all => all.map(one => one.offsetTop)")
        assert [tops.count(top) for top in sorted(set(tops))] == [in_a_row] * (6 // in_a_row)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
