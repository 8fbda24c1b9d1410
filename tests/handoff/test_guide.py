"""The capture guide in a real browser; skipped where there is no Chromium, npm or playwright.

The model is a stand-in that tells the view by the picture's tint. So these tests prove what the page
does with a model's answers, and that it gets the answers of test_predict.py; they do not prove that a
trained model recognizes cars.
"""

import io
import json
import shutil
import threading
import zipfile
from pathlib import Path

import keras
import make_demo_data
import numpy as np
import pandas as pd
import pytest
import serve_demo
from conftest import save_photo, serious_faults
from PIL import Image, ImageFilter

import config
from test_predict import predict_images
from viewpoint.common.images import scale
from viewpoint.common.quality import BLURRED, TOO_BRIGHT, TOO_DARK, quality_reasons
from viewpoint.handoff.guide import guide_settings, write_guide
from viewpoint.handoff.metadata import add_metadata
from viewpoint.handoff.quantization import convert
from viewpoint.inference.model import LABELS_NAME, load_model

WIDTH, HEIGHT = 240, 180
# The tint of each class, far apart from each other: R, G, B.
TINTS = dict(
    zip(
        config.CLASSES,
        [(220, 60, 60), (60, 220, 60), (60, 60, 220), (220, 220, 60), (220, 60, 220), (60, 220, 220), (140, 140, 140)],
        strict=True,
    )
)
AZIMUTHS = {"Front": 0, "FrontLeft": 45, "RearLeft": 135, "Rear": 180, "RearRight": 225, "FrontRight": 315}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A models folder whose model gives the class with the nearest tint."""
    folder = tmp_path_factory.mktemp("models")
    tints = np.array([TINTS[name] for name in config.CLASSES]) / 127.5 - 1
    inputs = keras.Input((32, 32, 3))
    dense = keras.layers.Dense(len(tints), activation="softmax")
    model = keras.Model(inputs, dense(keras.layers.GlobalAveragePooling2D()(inputs)))
    # |x - tint|^2 is, but for a part that all tints share, -2 x tint + |tint|^2.
    dense.set_weights([40 * tints.T, -20 * (tints**2).sum(axis=1)])
    model.export(folder / "saved_model", verbose=False)
    converted = add_metadata(convert(folder / "saved_model"), config.CLASSES)
    (folder / "model.tflite").write_bytes(converted)
    (folder / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n")
    (folder / "handoff").mkdir()
    write_guide(folder / "handoff" / "web", converted, config.CLASSES)
    return folder


@pytest.fixture
def address(models):
    """Where the guide is served."""
    if not shutil.which("npm"):
        pytest.skip("no npm here")
    with serve_demo.make_server(models, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def tinted(view: str, azimuth: float, blurred: bool = False, shift: int = 0) -> Image.Image:
    """A drawn car in the tint of a view."""
    car = make_demo_data.draw_car(azimuth, np.random.default_rng(5))[0].resize((WIDTH, HEIGHT))
    noise = np.random.default_rng(6).normal(0, 20, (HEIGHT, WIDTH, 1))
    pixels = np.asarray(car, dtype=np.float32) + noise
    pixels = np.roll(pixels, shift, axis=1)
    pixels = 0.55 * (pixels - pixels.mean(axis=(0, 1))) + TINTS[view]
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(8)) if blurred else image


def film(order: list[str]) -> tuple[list[Image.Image], list[str | None]]:
    """The frames of a walk around a car, and of each one the view as which it may be taken, or None.

    Before a view can be taken it is shown blurred, moving, and for too short a time. A busy machine skips
    frames: so the movement never returns to where it was, and what separates two sections has several frames.
    """
    frames: list[Image.Image] = []
    good: list[str | None] = []

    def show(images: list[Image.Image], view: str | None = None) -> None:
        frames.extend(images)
        good.extend([view] * len(images))

    for view in order:
        azimuth = AZIMUTHS[view]
        show([tinted(view, azimuth, blurred=True)] * 7)
        show([tinted(view, azimuth, shift=50 * step) for step in range(7)])
        show([tinted(config.BACKGROUND, azimuth)] * 3)
        show([tinted(view, azimuth)] * 3)
        show([tinted(config.BACKGROUND, azimuth)] * 3)
        show([tinted(view, azimuth)] * 10, view)
    return [stamped(frame, number) for number, frame in enumerate(frames)], good


def write_film(path: Path, frames: list[Image.Image]) -> None:
    """Write 10 frames a second as Chromium's fake camera reads them (YUV4MPEG2)."""
    size = f"W{WIDTH} H{HEIGHT}"
    with path.open("wb") as out:
        out.write(f"YUV4MPEG2 {size} F10:1 Ip A1:1 C420jpeg\n".encode())
        for frame in frames:
            y, cb, cr = frame.convert("YCbCr").split()
            half = (WIDTH // 2, HEIGHT // 2)
            planes = [(y, 219), (cb.resize(half), 224), (cr.resize(half), 224)]
            out.write(b"FRAME\n")
            for plane, levels in planes:  # a camera uses a part of the 256 levels only
                out.write((np.asarray(plane) * (levels / 255) + 16).round().astype(np.uint8).tobytes())


def fake_camera(path: Path) -> list[str]:
    """Chromium's options for a camera that shows this film again and again."""
    options = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    return [*options, f"--use-file-for-fake-video-capture={path}"]


def stamped(frame: Image.Image, number: int) -> Image.Image:
    """A frame with its number in bits at the bottom, too faint to make a blurred frame sharp."""
    pixels = np.array(frame)
    bits = np.array([(number >> bit) & 1 for bit in range(10)])
    pixels[-6:] = np.repeat(113 + 30 * bits, WIDTH // 10)[None, :, None]
    return Image.fromarray(pixels)


def number_of(photo: bytes) -> int:
    """The number of the frame that became this photo."""
    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("L"))
    return sum(int(pixels[-3, int((bit + 0.5) * WIDTH / 10)] > 128) << bit for bit in range(10))


def open_guide(page, address: str) -> None:
    assert "script-src 'self' 'wasm-unsafe-eval';" in page.goto(address).headers["content-security-policy"]
    page.locator("body[data-ready]").wait_for(timeout=60_000)


def test_a_walk_takes_each_view_once_and_none_from_a_bad_frame(open_browser, address, axe, tmp_path):
    order = ["RearLeft", "Front", "RearRight", "FrontLeft", "Rear", "FrontRight"]
    frames, good = film(order)
    assert [BLURRED in quality_reasons(frame) for frame in frames[:33]] == [True] * 7 + [False] * 26
    write_film(tmp_path / "walk.y4m", frames)
    browser = open_browser(*fake_camera(tmp_path / "walk.y4m"))
    page = browser.new_page(viewport={"width": 390, "height": 844}, accept_downloads=True)
    elsewhere = []
    page.on("request", lambda request: request.url.startswith((address, "blob:")) or elsewhere.append(request.url))
    open_guide(page, address)
    page.get_by_text("Works without a network now.").wait_for(timeout=60_000)
    assert serious_faults(page, axe) == []
    page.click("#start")
    page.locator("#summary[open]").wait_for(timeout=120_000)  # it opens when all views are there

    assert page.locator("#summary-count").text_content() == "6 of 6 views"
    assert serious_faults(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.set_viewport_size({"width": 844, "height": 390})  # the phone is held sideways: all is on the screen
    assert page.evaluate("document.getElementById('summary').scrollHeight") <= 390
    cards = page.locator("#cards li").all()
    shown = {card.get_attribute("data-view"): card.locator("p").text_content() for card in cards}
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as packed:
        assert packed.testzip() is None
        content = json.loads(packed.read("capture.json"))
        taken = {view["view"]: number_of(packed.read(view["file"])) for view in content["views"]}
        assert {view: good[number] for view, number in taken.items()} == {view: view for view in taken}, str(taken)
        for view in content["views"]:
            assert view["scores"][view["view"]] == view["score"] >= config.GUIDE_MIN_SCORE
            assert shown[view["view"]].startswith(f"{int(100 * view['score'])} %")
    assert [view["view"] for view in content["views"]] == config.VIEW_CIRCLE
    assert content["missing"] == []

    # A view that is taken again is the only one that is missing.
    page.get_by_label("Retake rear left").click()
    assert page.locator("#count").text_content() == "5 of 6 views"

    # The camera is taken away, and started again.
    page.evaluate("video.srcObject.getVideoTracks()[0].dispatchEvent(new Event('ended'))")
    page.get_by_text("The camera was switched off, or another app took it.").wait_for()
    page.click("#start")
    page.locator("#summary[open]").wait_for(timeout=120_000)

    # Without a network the page opens all the same.
    page.context.set_offline(True)
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    page.locator("body[data-ready]").wait_for(timeout=60_000)
    assert elsewhere == []


def test_with_a_shaking_hand_the_shutter_takes_the_view_that_is_seen(open_browser, address, tmp_path):
    write_film(tmp_path / "shaking.y4m", [tinted("Front", 0, shift=50 * step) for step in range(20)])
    page = open_browser(*fake_camera(tmp_path / "shaking.y4m")).new_page(viewport={"width": 390, "height": 844})
    page.add_init_script(
        """MediaStreamTrack.prototype.getCapabilities = () => ({ torch: true });
        MediaStreamTrack.prototype.applyConstraints = async ({ advanced }) => { window.torch = advanced[0].torch; };"""
    )
    open_guide(page, address)
    assert not page.locator("#shutter").is_visible()
    page.click("#start")
    page.locator("#advice", has_text="Hold still").wait_for()
    for light in (True, False):
        page.click("#torch")
        assert page.evaluate("window.torch") == light
        assert page.get_attribute("#torch", "aria-pressed") == str(light).lower()

    # Held sideways under rotation lock: gravity points along the short side of a screen that is upright.
    tilt = """for (let i = 0; i < 100; i++) window.dispatchEvent(
        new DeviceMotionEvent("devicemotion", { accelerationIncludingGravity: { x: %f, y: %f, z: 3 } }))"""
    page.evaluate(tilt % (-9, 1))
    page.locator("#advice", has_text="turn the phone").wait_for()
    page.evaluate(tilt % (1, 9))
    page.locator("#advice", has_text="Hold still").wait_for()

    page.wait_for_timeout(1500)
    assert page.locator("#count").text_content() == "0 of 6 views"
    page.click("#shutter")
    page.locator("#count", has_text="1 of 6 views").wait_for()
    page.click("#review")
    assert page.locator("[data-view=Front] p").text_content().endswith("%, by hand")
    with page.expect_download() as download:
        page.click("#download")
    with zipfile.ZipFile(download.value.path()) as packed:
        [view] = json.loads(packed.read("capture.json"))["views"]
    assert (view["view"], view["source"]) == ("Front", "by hand")


def test_advice_stays_for_a_second_and_only_changes_of_state_are_spoken(browser, address):
    page = browser.new_page()
    open_guide(page, address)
    found = page.evaluate(
        """async () => {
            const { Capture } = await import("./capture.js");
            const capture = new Capture(await (await fetch("settings.json")).json());
            const steady = { view: "Front", score: 1, reason: null, motion: 0, blur: 0 };
            const shaking = [steady, { ...steady, motion: 99 }, { ...steady, reason: "blurred" }];
            const frames = [...shaking, { ...steady, score: 0 }];
            return Array.from({ length: 60 }, (_, i) => {
                // For three seconds the hand shakes, then each frame differs in all that can be wrong.
                const frame = frames[i % (i < 30 ? 3 : 4)];
                const { text, spoken } = capture.add({ ...frame, time: i / 10 }, new Map()).advice;
                return [text, spoken];
            });
        }"""
    )
    texts, spoken = ([values[i] for values in found] for i in (0, 1))
    changes = [i for i in range(1, 60) if texts[i] != texts[i - 1]]
    assert len(changes) >= 3
    assert min(np.diff([0, *changes])) >= 10  # frames, of which ten are a second
    assert set(spoken[:30]) == {"Hold still"}
    assert len(set(texts[:30])) > 1


def test_chosen_photos_get_the_classes_of_test_predict(browser, address, models, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    tinted("Front", 0).resize((900, 700)).save(photos / "a.jpg")
    tinted("Rear", 180, blurred=True).save(photos / "b.jpg")
    tinted(config.BACKGROUND, 0).save(photos / "c.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    tinted("FrontLeft", 45).transpose(Image.Transpose.ROTATE_90).save(photos / "d.jpg", exif=exif)
    tinted("Front", 10).save(photos / "e.jpg")
    for seed in range(4):
        save_photo(photos / f"f{seed}.jpg", seed=seed, size=(2100, 1500))
    predict_images(models / "model.tflite", None, photos, tmp_path / "predictions.csv")
    expected = pd.read_csv(tmp_path / "predictions.csv").set_index("image_name")
    (photos / "g.jpg").write_bytes(b"no photo")

    page = browser.new_page()
    open_guide(page, address)
    page.set_input_files("#files", sorted(photos.iterdir()))
    page.get_by_role("button", name="Continue").wait_for(timeout=60_000)
    found = {
        item.locator(".name").text_content(): (item.get_attribute("data-class"), item.locator(".use").text_content())
        for item in page.locator("#results li").all()
    }
    assert found.pop("g.jpg") == (None, "This browser cannot read it. Try a JPEG photo.")
    assert {name: view for name, (view, _) in found.items()} == expected["best_class"].to_dict()
    assert found["a.jpg"][1] == "Taken as front"
    assert found["b.jpg"] == ("Rear", "Not used: blurred")
    assert found["c.png"][1] == "Not used: no whole car in it"
    assert found["d.jpg"] == ("FrontLeft", "Taken as front left")
    assert found["e.jpg"][1] == "Not used: this view is there already"


def test_without_a_camera_the_page_says_so(browser, address):
    page = browser.new_page()
    open_guide(page, address)
    page.click("#start")
    page.get_by_text("This device has no camera.").wait_for()
    assert page.locator("#advice").text_content() == "You can choose photos of the car instead"


def test_model_input_equals_that_of_images_py(browser, address, tmp_path):
    """The page resizes as Pillow does, to within rounding, for images that become smaller and larger."""
    page = browser.new_page()
    open_guide(page, address)
    for size in ((150, 110), (37, 120)):
        pixels = np.random.default_rng(1).integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
        code = """async ([data, width, height]) => {
            const { resize } = await import("./classifier.js");
            return Array.from(resize({ data: Uint8Array.from(data), width, height }, 96, 3));
        }"""
        found = np.array(page.evaluate(code, [pixels.ravel().tolist(), *size])).reshape(96, 96, 3)
        expected = np.asarray(Image.fromarray(pixels[..., :3]).resize((96, 96), Image.Resampling.BILINEAR))
        assert np.abs(found - expected).max() <= 1


def test_the_page_measures_quality_as_quality_py(browser, address):
    size, edge = config.QUALITY_SIZE, config.QUALITY_SIZE // 5
    blocks = np.random.default_rng(2).integers(80, 200, (size // 8, size // 8), dtype=np.uint8)
    sharp = np.kron(blocks, np.ones((8, 8), dtype=np.uint8))
    # White where the middle, which is measured, begins: a smaller middle would not see it.
    frame, inner = sharp.copy(), edge + 10
    frame[edge:-edge, edge:-edge] = 255
    frame[inner:-inner, inner:-inner] = sharp[inner:-inner, inner:-inner]
    wall = np.full_like(sharp, 255)  # white around the middle
    wall[edge:-edge, edge:-edge] = sharp[edge:-edge, edge:-edge]
    blurred = np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(6)))
    page = browser.new_page()
    open_guide(page, address)
    code = """async ([grey, size]) => {
        const { greyCopy, measureQuality } = await import("./quality.js");
        const { quality } = await (await fetch("settings.json")).json();
        const data = Uint8Array.from(grey.flatMap((value) => [value, value, value, 255]));
        return measureQuality(greyCopy({ data, width: size, height: size }, quality.size), quality).reason;
    }"""
    for pixels, reason in (
        (sharp, None),
        (wall, None),
        (sharp // 8, TOO_DARK),
        (frame, TOO_BRIGHT),
        (blurred, BLURRED),
    ):
        assert quality_reasons(Image.fromarray(pixels)) == ((reason,) if reason else ())
        assert page.evaluate(code, [pixels.ravel().tolist(), size]) == reason


def test_a_page_can_load_the_classifier_more_than_once(browser, address, models):
    page = browser.new_page()
    open_guide(page, address)  # loads it once itself
    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    code = """async (data) => {
        const { loadClassifier } = await import("./classifier.js");
        const frame = { data: Uint8Array.from(data), width: 32, height: 32 }, answers = [];
        for (let i = 0; i < 2; i++) {
            const classifier = await loadClassifier("model.tflite", "runtime/");
            answers.push(await classifier.classify(frame));
            classifier.close();
        }
        return answers;
    }"""
    runner, _, _ = load_model(models / "model.tflite")
    expected = runner(scale(pixels[np.newaxis, ..., :3]))[0]
    for found in page.evaluate(code, pixels.ravel().tolist()):
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        (None, "The browser runtime is missing: run npm ci in the folder of this page."),
        ("import 'https://elsewhere.example/';", "The browser runtime cannot be loaded: see the browser's console."),
    ],
)
def test_a_guide_without_its_runtime_says_how_to_add_it(browser, models, tmp_path, runtime, said):
    shutil.copytree(models / "handoff" / "web", tmp_path / "web", ignore=shutil.ignore_patterns("runtime"))
    if runtime:
        (tmp_path / "web" / "runtime").mkdir()
        (tmp_path / "web" / "runtime" / "litert.js").write_text(runtime)
    handler = lambda *arguments: serve_demo.Handler(*arguments, directory=str(tmp_path / "web"))  # noqa: E731
    with serve_demo.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.get_by_text(said).wait_for()
        server.shutdown()


def test_the_threshold_that_training_suggested_comes_first():
    assert guide_settings(b"", config.CLASSES, 0.55)["min_score"] == 0.55
    assert guide_settings(b"", config.CLASSES, None)["min_score"] == config.GUIDE_MIN_SCORE
