"""From a file to model input: upright, RGB, the right size and range, the same everywhere."""

import keras
import numpy as np
import pytest
from conftest import save_photo
from PIL import Image

import test_predict
from images import ImageError, load_batch, load_image, open_image, resize, scale
from training_data import ImageBatches, Photos, one_hot

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


@pytest.mark.parametrize("orientation", STORED_AS)
def test_photos_are_turned_upright_by_exif(tmp_path, orientation):
    upright = Image.open(save_photo(tmp_path / "upright.png"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright.transpose(STORED_AS[orientation]).save(tmp_path / "stored.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "stored.png"), load_image(tmp_path / "upright.png"))


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


def test_a_png_under_a_jpg_name_is_read(tmp_path):
    save_photo(tmp_path / "photo.png").rename(tmp_path / "photo.jpg")
    assert load_image(tmp_path / "photo.jpg").shape == (224, 224, 3)


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
    photos = Photos([str(photo)], 224)
    trained_on, _ = ImageBatches(photos, one_hot(["Rear"]), batch_size=1)[0]
    served = []

    def runner(batch):
        served.append(batch)
        return np.eye(7, dtype=np.float32)[:1]

    monkeypatch.setattr(test_predict, "load_runner", lambda _: (runner, 224, 7))
    labels = tmp_path / "labels.txt"
    labels.write_text("a b c d e f g")
    test_predict.predict_images("model.tflite", labels, photo, tmp_path / "predictions.csv")
    assert np.array_equal(trained_on, served[0])
    assert np.array_equal(trained_on, load_batch([photo]))
