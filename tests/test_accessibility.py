"""No page has a serious accessibility fault, by the rules of axe-core; skipped without Chromium or npm."""

import shutil
import subprocess

import pytest
from conftest import regions, save_photo, write_via

from viewpoint.reports.review import write_review
from viewpoint.scan import read_dataset

AXE = "axe-core@4.14.1"


@pytest.fixture(scope="session")
def axe(tmp_path_factory) -> str:
    """The source of axe-core, from npm."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("no npm here")
    folder = tmp_path_factory.mktemp("axe")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run([npm, "install", *options, AXE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm could not download {AXE}")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


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
    write_review(df, found, {}, photos, None, 9, tmp_path / "review.html", says, [("0.jpg", "2.jpg")])
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto((tmp_path / "review.html").as_uri())
        page.keyboard.press("1")
        assert serious_faults(page, axe) == []
        page.keyboard.press("z")
        assert serious_faults(page, axe) == []
