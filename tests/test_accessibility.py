"""No page has a serious accessibility fault, by the rules of axe-core; skipped without Chromium or npm."""

import numpy as np
import pandas as pd
from conftest import regions, save_photo, write_via
from PIL import Image

import config
from viewpoint.data.scan import read_dataset
from viewpoint.reports.charts import heat_scale
from viewpoint.reports.drift import Unusual, write_drift_page
from viewpoint.reports.mistakes import Source
from viewpoint.reports.pages import write_page
from viewpoint.reports.pictures import data_uri
from viewpoint.reports.review import Judgements, write_review
from viewpoint.reports.training import Background, write_report
from viewpoint.training.drift import PhotoStatistics, compare


def serious_faults(page, axe: str) -> list[str]:
    """The serious and critical faults of the page as it is now, each with the first element that has it."""
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


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
