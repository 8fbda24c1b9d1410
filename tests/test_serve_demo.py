"""The demo page in a real browser; skipped where there is no Chromium, npm or playwright."""

import shutil
import threading

import keras
import numpy as np
import pandas as pd
import pytest
import serve_demo
from conftest import save_photo

import config
from test_predict import predict_images
from viewpoint.cli import UserError
from viewpoint.handoff.metadata import add_metadata
from viewpoint.inference import LABELS_NAME
from viewpoint.quantization import convert


def test_a_missing_model_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"model\.tflite not found; run convert_tflite\.py"):
        serve_demo.make_server(tmp_path, 0)


@pytest.fixture
def models(tmp_path):
    """A model that decides by a photo's mean colour, with its labels."""
    count = len(config.CLASSES)
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Dense(count, activation="softmax")(keras.layers.GlobalAveragePooling2D()(inputs))
    model = keras.Model(inputs, outputs)
    model.layers[-1].set_weights([np.random.default_rng(1).normal(0, 80, (3, count)), np.zeros(count)])
    model.export(tmp_path / "saved_model", verbose=False)
    converted = add_metadata(convert(tmp_path / "saved_model"), config.CLASSES)
    (tmp_path / "model.tflite").write_bytes(converted)
    (tmp_path / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n")
    return tmp_path


@pytest.mark.skipif(not shutil.which("npm"), reason="no npm here")
def test_photos_dropped_on_the_page_get_the_classes_of_test_predict(browser, models, tmp_path):
    photos = [save_photo(tmp_path / "photos" / f"{seed}.jpg", seed=seed, size=(90, 70)) for seed in (0, 1, 4)]
    predict_images(models / "model.tflite", None, tmp_path / "photos", tmp_path / "predictions.csv")
    predictions = pd.read_csv(tmp_path / "predictions.csv").set_index("image_name")
    assert predictions["prediction"].nunique() > 1
    assert predictions["score"].min() > 0.6
    with serve_demo.make_server(models, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page()
        elsewhere = []
        address = f"http://127.0.0.1:{server.server_port}/"
        page.on("request", lambda request: request.url.startswith((address, "blob:")) or elsewhere.append(request.url))
        page.goto(address)
        page.get_by_text("Ready").wait_for(timeout=60_000)
        for photo in photos:
            page.set_input_files("#file", photo)
            # Wait until the page shows this photo's class instead of the previous one's.
            expected = predictions.loc[photo.name]
            page.wait_for_function(
                "name => document.getElementById('class').textContent === name", arg=expected.prediction
            )
            assert page.locator(".number").count() == len(config.CLASSES)
            scores = [float(text.split()[0]) / 100 for text in page.locator(".number").all_text_contents()]
            assert config.CLASSES[int(np.argmax(scores))] == expected.prediction
            assert max(scores) == pytest.approx(expected.score, abs=0.1)
        server.shutdown()
    assert elsewhere == []
