"""Which vehicles are completely photographed, why a viewpoint is missing, and what people see of it."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import save_photo

import config
from viewpoint.data.labeling import VIEWPOINTS
from viewpoint.inference.outputs import Prediction
from viewpoint.inference.predictor import Result
from viewpoint.reports.folders import Vehicles, write_vehicles


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
