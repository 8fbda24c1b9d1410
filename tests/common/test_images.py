"""From a file to model input: upright, RGB, the right size and range, the same everywhere."""

import os
import struct
import threading
import time
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import save_photo
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin, PngImagePlugin

import config
from test_predict import predict_images
from viewpoint.common import images
from viewpoint.common.images import (
    ImageError,
    is_photo,
    load_batch,
    load_image,
    open_image,
    resize,
    scale,
    stored_geometry,
    upright_size,
)
from viewpoint.common.orientation import turn_outlines, turn_point
from viewpoint.inference import model as inference
from viewpoint.training.batches import DecodedPhotos, ImageBatches, one_hot

# How a camera stores an upright photo for each EXIF orientation: the inverse of the turn
# that a viewer makes (EXIF 2.3, tag 0x0112).
STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def save_stored(path: Path, orientation: int, **options) -> np.ndarray:
    """Save a photo as a camera stores it for an orientation, in the format of the suffix; return its upright pixels."""
    upright = Image.open(save_photo(path.with_name("upright.png"), size=(60, 40)))
    stored = upright.transpose(STORED_AS[orientation]) if orientation in STORED_AS else upright
    stored.save(path, **options)
    return np.asarray(upright)


def looks_like(image: Image.Image, pixels: np.ndarray) -> bool:
    """Whether an image shows these pixels, give or take a lossy compression."""
    return image.size == pixels.shape[1::-1] and np.abs(np.asarray(image).astype(int) - pixels).mean() < 8


XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif", "mpo"])
def test_photos_are_turned_upright_by_exif(tmp_path, orientation, suffix):
    path = tmp_path / f"stored.{suffix}"
    pixels = save_stored(path, orientation, exif=orientation_exif(orientation))
    assert looks_like(open_image(path), pixels)
    assert upright_size(path) == (60, 40)
    stored_size = (40, 60) if orientation >= 5 else (60, 40)
    assert stored_geometry(path) == (*stored_size, orientation)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_photos_are_turned_upright_by_xmp(tmp_path, suffix):
    path, xmp = tmp_path / f"stored.{suffix}", XMP.format(6).encode()
    options: dict = {"xmp": xmp}
    if suffix == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif suffix == "tif":
        options = {"tiffinfo": {700: xmp}}
    pixels = save_stored(path, 6, **options)
    assert looks_like(open_image(path), pixels)
    assert stored_geometry(path) == (40, 60, 6)


# A tag of a random number, type, count and content. Pillow reads XResolution (0x011A) while it
# opens a JPEG, and refuses the photo when that is odd.
ODD_TAGS = st.tuples(
    st.integers(0, 0xFFFF).filter(lambda tag: tag not in (0x0112, 0x011A)),
    st.integers(0, 13),
    st.integers(0, 5) | st.integers(0, 2**32 - 1),
    st.binary(min_size=4, max_size=4),
)


def exif_block(byte_order: str, tags: list[tuple[int, int, int, bytes]]) -> bytes:
    """A block of EXIF data with these tags in this order."""
    mark = b"II*\0" if byte_order == "<" else b"MM\0*"
    entries = b"".join(struct.pack(f"{byte_order}HHL", *tag[:3]) + tag[3] for tag in tags)
    return b"Exif\0\0" + mark + struct.pack(f"{byte_order}LH", 8, len(tags)) + entries + bytes(4)


# A text that lies outside the block: Pillow stops reading there.
ODD_TAG = (0x010F, 2, 100, b"\xff\xff\xff\x7f")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("tags", [[], [ODD_TAG]])
def test_the_orientation_after_the_pixels_of_a_png_counts(tmp_path, tags):
    pixels = save_stored(tmp_path / "stored.png", 6)
    content = (tmp_path / "stored.png").read_bytes()
    exif = b"eXIf" + exif_block("<", [*tags, (0x0112, 3, 1, b"\6\0\0\0")]).removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    (tmp_path / "stored.png").write_bytes(content[:-12] + chunk + content[-12:])
    assert looks_like(open_image(tmp_path / "stored.png"), pixels)
    assert stored_geometry(tmp_path / "stored.png") == (40, 60, 6)


@pytest.mark.parametrize(("count", "value"), [(2, b"\6\0\6\0"), (1, b"\0\0\0\0"), (1, b"\x09\0\0\0")])
def test_an_orientation_that_is_none_leaves_the_photo_as_it_is(tmp_path, count, value):
    """Two numbers, or one that is not defined."""
    save_stored(tmp_path / "stored.jpg", 1, exif=exif_block("<", [(0x0112, 3, count, value)]))
    assert stored_geometry(tmp_path / "stored.jpg") == (60, 40, 1)
    assert open_image(tmp_path / "stored.jpg").size == (60, 40)


# Pillow warns of damaged metadata, and then reads the pixels.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, derandomize=True)
@given(
    byte_order=st.sampled_from("<>"),
    before=st.lists(ODD_TAGS, max_size=3),
    after=st.lists(ODD_TAGS, max_size=3),
    orientation=st.integers(1, 8),
    suffix=st.sampled_from(["jpg", "png", "webp"]),
    prefix=st.sampled_from([b"", b"Exif\0\0"]),  # some programs write it twice
)
def test_no_other_tag_hides_the_orientation(tmp_path_factory, byte_order, before, after, orientation, suffix, prefix):
    path = tmp_path_factory.mktemp("exif") / f"stored.{suffix}"
    value = struct.pack(f"{byte_order}HH", orientation, 0)
    exif = prefix + exif_block(byte_order, [*before, (0x0112, 3, 1, value), *after])
    pixels = save_stored(path, orientation, exif=exif)
    assert looks_like(open_image(path), pixels)
    assert upright_size(path) == (60, 40)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None, derandomize=True)
@given(exif=st.binary(max_size=60) | st.binary(max_size=60).map(lambda content: b"MM\0*\0\0\0\x08\0\x03" + content))
def test_whatever_the_exif_data_the_size_is_that_of_the_image(tmp_path_factory, exif):
    path = tmp_path_factory.mktemp("exif") / "stored.jpg"
    save_stored(path, 1, exif=b"Exif\0\0" + exif, dpi=(72, 72))
    assert upright_size(path) == open_image(path).size


def test_outlines_drawn_on_the_stored_photo_are_turned_with_it():
    """A photo of 60x40 pixels that lies on its side: its left end is the top of the upright photo of 40x60."""
    drawn_on_stored = ((0, 10), (50, 10), (50, 20))
    assert turn_outlines([drawn_on_stored], 60, 40, 6) == [((30, 0), (30, 50), (20, 50))]
    # As browsers show it, and what fits both; what fits neither says nothing.
    for outlines in ([((0, 10), (10, 55))], [((1, 1), (39, 39))], [((0, 10), (70, 10))], []):
        assert turn_outlines(outlines, 60, 40, 6) == outlines
    # All outlines of a photo were drawn in the same way.
    assert turn_outlines([drawn_on_stored, ((1, 2),)], 60, 40, 6)[1] == ((38, 1),)
    assert turn_outlines([drawn_on_stored, ((0, 10), (10, 55))], 60, 40, 6)[0] == drawn_on_stored
    assert turn_outlines([drawn_on_stored], 60, 40, 1) == [drawn_on_stored]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_points_are_turned_as_the_pixels_are(tmp_path, orientation):
    stored = np.zeros((4, 6, 3), np.uint8)
    stored[1, 4] = 255  # the pixel whose middle is at (4.5, 1.5)
    Image.fromarray(stored).save(tmp_path / "stored.png", exif=orientation_exif(orientation))
    width, height, _ = stored_geometry(tmp_path / "stored.png")
    x, y = turn_point(4.5, 1.5, width, height, orientation)
    [[row, column]] = np.argwhere(np.asarray(open_image(tmp_path / "stored.png"))[..., 0])
    assert (x, y) == (column + 0.5, row + 0.5)


def test_pixels_keep_their_colour_and_place(tmp_path):
    left_red_right_blue = np.zeros((50, 100, 3), np.uint8)
    left_red_right_blue[:, :50, 0] = 255
    left_red_right_blue[:, 50:, 2] = 255
    Image.fromarray(left_red_right_blue).save(tmp_path / "photo.png")
    pixels = load_image(tmp_path / "photo.png", size=10)
    assert pixels.shape == (10, 10, 3)
    assert pixels.dtype == np.uint8
    assert pixels[5, 1].tolist() == [255, 0, 0]
    assert pixels[5, 8].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("L", "jpg"), ("RGBA", "png"), ("P", "png"), ("CMYK", "jpg"), ("1", "png")]
)
def test_every_colour_mode_becomes_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (200, 200), "white").convert(mode).save(path)
    assert open_image(path).mode == "RGB"
    assert load_image(path, 8).min() >= 250


def test_scale_runs_from_minus_one_to_one_as_the_backbone_expects():
    pixels = np.arange(256, dtype=np.uint8)
    scaled = scale(pixels)
    assert scaled.dtype == np.float32
    assert scaled[0] == -1.0
    assert scaled[255] == 1.0
    expected = keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32))
    assert np.array_equal(scaled, expected)


def test_unreadable_files_raise_an_error_that_names_them(tmp_path):
    whole = save_photo(tmp_path / "whole.jpg", size=(2000, 1500)).read_bytes()
    bad = {"empty.jpg": b"", "cut.jpg": whole[: len(whole) // 2], "text.jpg": b"hello"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    for name in [*bad, "missing.jpg"]:
        with pytest.raises(ImageError, match=name):
            load_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "webp", "gif", "bmp", "tif", "avif", "mpo"])
def test_other_formats_under_a_jpg_name_and_without_an_extension_are_read(tmp_path, suffix):
    save_photo(tmp_path / f"photo.{suffix}").rename(tmp_path / "photo.jpg")
    assert load_image(tmp_path / "photo.jpg").shape == (224, 224, 3)
    (tmp_path / "photo.jpg").rename(tmp_path / "IMG_0001")
    assert is_photo(tmp_path / "IMG_0001")
    assert load_image(tmp_path / "IMG_0001").shape == (224, 224, 3)


@pytest.mark.parametrize("extension", sorted({*config.IMAGE_EXTENSIONS} - {".heic", ".heif"}))
def test_a_photo_of_every_extension_is_read(tmp_path, extension):
    save_photo(tmp_path / f"photo{extension}")
    for name in (f"photo{extension}", f"PHOTO{extension.upper()}"):
        (tmp_path / f"photo{extension}").rename(tmp_path / name)
        assert is_photo(tmp_path / name)
        assert load_image(tmp_path / name).shape == (224, 224, 3)


def test_what_counts_as_a_photo(tmp_path):
    for name in ("a.JPG", "b.Heic", "c.json", "README", "folder.jpg/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")
    assert sorted(path.name for path in tmp_path.iterdir() if is_photo(path)) == ["a.JPG", "b.Heic"]


def test_a_photo_that_cannot_be_looked_at_counts(tmp_path, monkeypatch):
    """In a folder that may be listed but not entered; opening the photo gives the reason."""

    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert is_photo(tmp_path / "a.jpg")
    assert not is_photo(tmp_path / "README")


def test_sixteen_bits_keep_their_greys(tmp_path):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (256, 1))).save(tmp_path / "deep.png")
    assert np.array_equal(np.asarray(open_image(tmp_path / "deep.png"))[0, :, 0], np.arange(256))


def test_sixteen_bits_with_a_transparent_grey_and_thirty_two_bits(tmp_path):
    Image.fromarray(np.array([[0, 40_000]], np.uint16)).save(tmp_path / "deep.png", transparency=40_000)
    assert np.asarray(open_image(tmp_path / "deep.png"))[0, :, 0].tolist() == [0, 255]
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ImageError, match="32 bits a pixel"):
        open_image(tmp_path / "float.tiff")


def test_formats_that_run_other_programs_are_not_opened(tmp_path):
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    (tmp_path / "script.jpg").write_bytes(script)
    with pytest.raises(ImageError, match="not an image"):
        open_image(tmp_path / "script.jpg")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path, mode):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 10, 20))
    image.convert(mode).save(tmp_path / "photo.png")
    pixels = np.asarray(open_image(tmp_path / "photo.png"))
    assert pixels[10, 2].tolist() == [0, 0, 0]
    assert pixels[10, 17].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif", "mpo"])
@pytest.mark.parametrize("size", [None, 8])
def test_of_several_pictures_the_first_counts(tmp_path, suffix, size):
    first, second = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"several.{suffix}", save_all=True, append_images=[second])
    with Image.open(tmp_path / f"several.{suffix}") as image:
        assert image.n_frames == 2
    red, _, blue = open_image(tmp_path / f"several.{suffix}", size).getpixel((5, 5))
    assert (red > 200, blue < 50) == (True, True)


def test_the_size_of_a_jpeg_is_known_without_decoding(tmp_path, monkeypatch):
    save_photo(tmp_path / "photo.jpg", size=(64, 32))
    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", None)  # raises a TypeError
    assert upright_size(tmp_path / "photo.jpg") == (64, 32)


# Pillow warns of damaged metadata, and then reads the pixels.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0" + 40 * b"\xff", b"x"])
def test_broken_exif_costs_no_photo(tmp_path, exif):
    save_photo(tmp_path / "photo.jpg", size=(64, 32))
    Image.open(tmp_path / "photo.jpg").save(tmp_path / "broken.jpg", exif=exif)
    assert open_image(tmp_path / "broken.jpg").size == (64, 32) == upright_size(tmp_path / "broken.jpg")


def test_the_smallest_and_a_very_wide_photo_are_read(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    assert load_image(tmp_path / "dot.png", 8)[4, 4].tolist() == [255, 0, 0]
    Image.new("RGB", (20_000, 500), "red").save(tmp_path / "wide.jpg")
    assert load_image(tmp_path / "wide.jpg").shape == (224, 224, 3)


def claim_size(path: Path, width: int, height: int) -> None:
    """A PNG of a few bytes whose header claims to be of this size."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
    content = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path):
    claim_size(tmp_path / "bomb.png", 60_000, 60_000)
    with pytest.raises(ImageError, match=r"bomb\.png: 60000x60000 pixels are more than 200 megapixels"):
        open_image(tmp_path / "bomb.png")


def test_a_heic_photo_is_read_or_the_package_is_named_that_would(tmp_path, monkeypatch):
    # Under a wrong name, too, as some exports give it.
    (tmp_path / "IMG_1.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setattr(images, "can_read_heic", lambda: False)
    with pytest.raises(ImageError, match=r"IMG_1\.jpg: a HEIC photo; install pillow-heif"):
        open_image(tmp_path / "IMG_1.jpg")


def test_an_avif_photo_without_the_codec_is_a_sentence(tmp_path, monkeypatch):
    save_photo(tmp_path / "photo.avif").rename(tmp_path / "IMG_1.jpg")
    monkeypatch.setattr(images, "FORMATS", ["JPEG", "PNG"])
    with pytest.raises(ImageError, match=r"IMG_1\.jpg: an AVIF photo, which this version of Pillow cannot read"):
        open_image(tmp_path / "IMG_1.jpg")


def test_an_avif_photo_whose_first_brand_is_that_of_heif_is_read(tmp_path):
    content = save_photo(tmp_path / "photo.avif").read_bytes()
    assert content[8:12] == b"avif"
    (tmp_path / "photo.avif").write_bytes(content[:8] + b"mif1" + content[12:])
    assert load_image(tmp_path / "photo.avif").shape == (224, 224, 3)


def test_a_heic_photo_is_read_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="no pillow-heif here")
    heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(tmp_path / "IMG_1.HEIC")
    assert load_image(tmp_path / "IMG_1.HEIC").shape == (224, 224, 3)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is unreadable here")
def test_a_photo_without_permission_is_a_sentence(tmp_path):
    save_photo(tmp_path / "photo.jpg").chmod(0)
    with pytest.raises(ImageError, match=r"photo\.jpg: Permission denied"):
        open_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_jpeg_is_decoded_smaller_but_looks_the_same(tmp_path, orientation):
    """A photo of 1600x1200 for a model of 100x100: an eighth would be less than twice that, a quarter is not."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(5).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((1600, 1200), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    assert sorted(open_image(tmp_path / "photo.jpg", 100).size) == [300, 400]
    full = open_image(tmp_path / "photo.jpg")
    assert sorted(full.size) == [1200, 1600]
    reduced = load_image(tmp_path / "photo.jpg", 100).astype(int)
    difference = np.abs(reduced - np.asarray(resize(full, 100)))
    assert difference.mean() < 1
    assert difference.max() <= 8


def test_training_and_prediction_see_the_same_input_to_the_bit(tmp_path, monkeypatch):
    photo = save_photo(tmp_path / "photo.jpg", size=(1600, 1200))
    photos = DecodedPhotos([str(photo)], 224)
    trained_on, _ = ImageBatches(photos, one_hot(["Rear"]), batch_size=1)[0]
    served = []

    def runner(batch):
        served.append(batch)
        return np.eye(len(config.CLASSES), dtype=np.float32)[:1]

    monkeypatch.setattr(inference, "load_runner", lambda _: (runner, 224, len(config.CLASSES)))
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(config.CLASSES))
    predict_images("model.tflite", labels, photo, tmp_path / "predictions.csv")
    assert np.array_equal(trained_on, served[0])
    assert np.array_equal(trained_on, load_batch([photo]))


# --- Very large images -------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "CMYK", "1"])
def test_strips_give_what_the_whole_image_gives(monkeypatch, mode):
    rng = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (61, 47), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (61, 47, 4), dtype=np.uint8), "RGBA").convert(mode)
    if mode == "P":
        image.info["transparency"] = 7
    whole = np.asarray(images.strip_to_rgb(image))
    monkeypatch.setattr(images, "STRIP_PIXELS", 5 * 47)
    assert np.array_equal(np.asarray(images.to_rgb(image)), whole)


def test_a_very_large_image_is_reduced_to_no_less_than_twice_the_size(tmp_path, monkeypatch):
    pixels = np.random.default_rng(4).integers(0, 256, (90, 67, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    monkeypatch.setattr(images, "REDUCED_ABOVE", 90 * 67 / 1e6 - 1e-6)
    monkeypatch.setattr(images, "STRIP_PIXELS", 7 * 67)
    # By 3: the shorter side, 67, is at least 3 times twice 10.
    small = open_image(tmp_path / "large.png", 10)
    assert small.size == (23, 30)
    mean = pixels[3:6, 6:9].mean(axis=(0, 1))
    assert np.abs(np.array(small.getpixel((2, 1))) - mean).max() < 1
    assert open_image(tmp_path / "large.png").size == (67, 90)
    monkeypatch.setattr(images, "REDUCED_ABOVE", 90 * 67 / 1e6)
    assert open_image(tmp_path / "large.png", 10).size == (67, 90)


def test_threads_decode_only_so_many_megapixels_together(monkeypatch):
    """Sizes of 60, 60 and 120 of 130 megapixels: the two small ones fit together, the large one only alone."""
    monkeypatch.setattr("config.MAX_MEGAPIXELS", 130)
    decoding, together, most, order = images.Decoding(), [], [], []
    started = threading.Event()

    def decode(megapixels: int) -> None:
        with decoding.room_for(megapixels):
            together.append(megapixels)
            most.append(sum(together))
            order.append(megapixels)
            started.set()
            time.sleep(0.05)
            together.remove(megapixels)

    threads = []
    for megapixels in (60, 120, 60, 60):
        threads.append(threading.Thread(target=decode, args=(megapixels,)))
        threads[-1].start()
        started.wait(5)
        time.sleep(0.01)
    for thread in threads:
        thread.join(10)
    assert order == [60, 120, 60, 60]  # the large one is not overtaken
    assert max(most) == 120
    with decoding.room_for(500):  # what is too large for any room goes alone
        pass


def test_an_opened_file_is_read_as_its_path_is_however_often_and_named_in_errors(tmp_path):
    photo = save_photo(tmp_path / "a.jpg", size=(60, 40))
    with photo.open("rb") as file:
        for _ in range(2):
            assert np.array_equal(np.asarray(open_image(file, 8)), np.asarray(open_image(photo, 8)))
            assert stored_geometry(file) == (60, 40, 1)
    (tmp_path / "empty.jpg").touch()
    with (tmp_path / "empty.jpg").open("rb") as file, pytest.raises(ImageError, match=r"empty\.jpg: an empty file"):
        open_image(file)
