"""Shared by all tests: photos and annotations made on the spot, nothing from outside."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import make_demo_data
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from viewpoint.common.cli import run

AXE = "axe-core@4.14.1"

# Any JSON value, and any that has the shape of VIA for some of the way.
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what has the marker
def pytest_collection_modifyitems(items) -> None:
    """Tests in a browser are slow by nature: together they take a minute."""
    for item in items:
        if {"open_browser", "chromium"} & set(item.fixturenames):
            item.add_marker("stress")


@pytest.fixture(scope="session")
def demo_photos(tmp_path_factory) -> Path:
    """A folder of 140 drawn, annotated photos in three VIA flavours."""
    folder = tmp_path_factory.mktemp("demo") / "photos"
    make_demo_data.make_demo_data(folder, images=140, seed=7)
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """Lets what a test writes to a default path land in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a script's main() with a command line, in this process because a new one takes seconds to start.

    Returns the exit code and what was printed on standard output and standard error.
    """

    def call(script: ModuleType, *arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", [script.__file__, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            run(script.main)
        return exit_info.value.code, *capsys.readouterr()

    return call


def save_photo(path: Path, seed: int = 0, size: tuple[int, int] = (60, 40)) -> Path:
    """Save a photo of random smooth colours; the format follows from the suffix."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(path)
    return path


def regions(*identities: str) -> list[dict]:
    """VIA 2 regions with the given part names, all the same small polygon."""
    shape = {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]}
    return [{"shape_attributes": shape, "region_attributes": {"identity": name}} for name in identities]


def write_via(path: Path, photos: dict[str, list | dict]) -> None:
    """Write a VIA 2 export that gives each file name its regions."""
    entries = {
        f"{name}123": {"filename": name, "size": 123, "regions": photo_regions, "file_attributes": {}}
        for name, photo_regions in photos.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(entries), encoding="utf-8")


@pytest.fixture
def open_browser():
    """Opens a headless Chromium with more options; the test is left out, with the reason, where there is none."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here")
    with sync_api.sync_playwright() as playwright:
        opened = []

        def open_browser(*options: str):
            opened.append(playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *options]))
            return opened[-1]

        yield open_browser
        for browser in opened:
            browser.close()


@pytest.fixture
def browser(open_browser):
    """A headless Chromium."""
    return open_browser()


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
