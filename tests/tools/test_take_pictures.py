"""The command that takes the pictures in docs/ works, on pages as small as possible."""

import shutil

import pytest
import take_pictures

from viewpoint.common.cli import UserError
from viewpoint.common.images import open_image

# A capture guide that is red while it takes the rear left view of the car in its camera, and blue when it is ready.
GUIDE = """<!DOCTYPE html><body>
<button id="start">Start</button><p></p><dialog id="summary"></dialog>
<script src="start.js"></script>"""
SCRIPT = """document.body.style.background = "#fe0000";
document.getElementById("start").onclick = async () => {
  await navigator.mediaDevices.getUserMedia({ video: true });
  document.querySelector("p").textContent = "Hold still: taking rear left";
  setTimeout(() => {
    document.body.style.background = "#0000fe";
    document.getElementById("summary").show();
  }, 1500);
};"""


@pytest.fixture(autouse=True)
def chromium() -> None:
    """Leaves the tests out where there is no Chromium or playwright, which the pictures need."""
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        pytest.skip("no Chromium here")
    pytest.importorskip("playwright.sync_api", reason="no playwright here")


def test_pictures_of_all_pages(tmp_path):
    for page, _ in take_pictures.PICTURES.values():
        (tmp_path / "demo" / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / page).write_text("<!DOCTYPE html><body style='background: #fe0000'>")
    guide = tmp_path / "demo" / "models" / "handoff" / "web"
    (guide / "runtime").mkdir(parents=True)
    (guide / "model.tflite").write_bytes(b"")
    (guide / "index.html").write_text(GUIDE)
    (guide / "start.js").write_text(SCRIPT)
    take_pictures.take_pictures(tmp_path / "demo", tmp_path / "docs")
    for name, (_, size) in take_pictures.PICTURES.items():
        picture = open_image(tmp_path / "docs" / name)
        assert picture.size == size
        assert picture.getpixel((9, 9)) == (254, 0, 0)
    picture = open_image(tmp_path / "docs" / "guide.png")
    assert picture.getpixel((9, 800)) == (254, 0, 0)
    assert picture.getpixel((picture.width - 9, 800)) == (0, 0, 254)


def test_without_a_demo_it_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"review\.html not found; run make demo first"):
        take_pictures.take_pictures(tmp_path, tmp_path)
