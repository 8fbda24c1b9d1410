"""What the mobile team gets: it describes itself, a real client reads it, and it can be checked."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import save_photo
from PIL import Image

import config
import convert_tflite
import test_predict
import train
from common import run
from handoff.folder import choose_by_class
from handoff.metadata import add_metadata, read_metadata

SIZE = 32


def colour_model() -> keras.Model:
    """A model that decides by a photo's mean colour, so that a wrong normalisation or channel order shows."""
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(7, activation="softmax")(x))
    weights = np.random.default_rng(1).normal(0, 80, (3, 7)).astype(np.float32)
    model.layers[-1].set_weights([weights, np.zeros(7, np.float32)])
    return model


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory) -> Path:
    """A folder with models/ as convert_tflite.py leaves it, and dataset/ with 40 validation photos."""
    folder = tmp_path_factory.mktemp("handed over")
    train.save_model(colour_model(), folder / "models")
    names = [save_photo(folder / "dataset" / f"{i}.jpg", seed=i, size=(90, 70)).name for i in range(40)]
    rows = "".join(f"{name},{config.CLASSES[i % 7]}\n" for i, name in enumerate(names))
    (folder / "dataset" / "val.csv").write_text("image_path,label\n" + rows)
    assert convert(folder) == 0
    return folder


def convert(folder: Path, *options: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        road = ["--models", str(folder / "models"), "--dataset", str(folder / "dataset")]
        patch.setattr("sys.argv", ["convert_tflite.py", *road, *options])
        with pytest.raises(SystemExit) as exit_info:
            run(convert_tflite.main)
    return exit_info.value.code


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- Metadata ----------------------------------------------------------------------


def test_the_model_describes_itself(handed_over):
    metadata, labels = read_metadata((handed_over / "models" / "model.tflite").read_bytes())
    assert labels == config.CLASSES
    assert metadata.name.decode() == config.MODEL_NAME
    assert metadata.license.decode() == config.MODEL_LICENSE
    [image] = metadata.subgraphMetadata[0].inputTensorMetadata
    normalization = image.processUnits[0].options
    assert (list(normalization.mean), list(normalization.std)) == ([127.5], [127.5])
    size = image.content.contentProperties.defaultSize
    assert (size.width, size.height) == (SIZE, SIZE)
    [probability] = metadata.subgraphMetadata[0].outputTensorMetadata
    assert (list(probability.stats.min), list(probability.stats.max)) == ([0], [1])


def test_metadata_changes_no_answer_by_a_bit(handed_over):
    plain = convert_tflite.convert(handed_over / "models" / "saved_model")
    images = np.random.default_rng(0).uniform(-1, 1, (5, SIZE, SIZE, 3)).astype(np.float32)
    answers = [convert_tflite.load_model(model)(images) for model in (plain, add_metadata(plain, config.CLASSES))]
    assert np.array_equal(*answers)
    assert np.ptp(answers[0]) > 0


def test_a_model_without_metadata_is_told(handed_over):
    plain = convert_tflite.convert(handed_over / "models" / "saved_model")
    with pytest.raises(ValueError, match="TFLITE_METADATA"):
        read_metadata(plain)


def test_mediapipe_names_the_same_classes_as_predictions_csv(handed_over, tmp_path):
    """The client that Android and iOS teams use, which knows the model by its metadata only."""
    import mediapipe
    from mediapipe.tasks.python.vision import ImageClassifier

    model, photos = handed_over / "models" / "model.tflite", handed_over / "dataset"
    test_predict.predict_images(model, None, photos, tmp_path / "predictions.csv")
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    with ImageClassifier.create_from_model_path(str(model)) as classifier:
        for row in predictions.itertuples():
            image = mediapipe.Image.create_from_file(str(photos / row.image_name))
            best = classifier.classify(image).classifications[0].categories[0]
            # Two classes that are close may change places, for MediaPipe resizes in its own way.
            assert best.category_name == row.prediction or row.score < 0.6
    assert (predictions["score"] > 0.6).mean() > 0.8
    assert predictions["prediction"].nunique() > 3


# --- The hand-off folder -----------------------------------------------------------


def test_the_folder_holds_what_its_readme_names(handed_over):
    folder = handed_over / "models" / "handoff"
    model = (folder / "model.tflite").read_bytes()
    assert model == (handed_over / "models" / "model.tflite").read_bytes()
    assert (folder / "labels.txt").read_text().splitlines() == config.CLASSES
    card = (folder / "MODEL_CARD.md").read_text()
    assert hashlib.sha256(model).hexdigest() in card
    for name in config.CLASSES:
        assert f"![{name}](examples/{name}.jpg)" in card
        assert (folder / "examples" / f"{name}.jpg").is_file()
    readme = (folder / "README.md").read_text()
    assert f"(1, {SIZE}, {SIZE}, 3)" in readme
    assert "SIZE" not in readme


def test_the_golden_set_is_the_model_s_own_input_and_output(handed_over):
    """Read as a Kotlin or Swift test would: raw floats in, and the probabilities of the JSON out."""
    folder = handed_over / "models" / "handoff" / "golden"
    golden = json.loads((folder / "golden.json").read_text())
    assert len(golden["photos"]) == config.GOLDEN_IMAGES
    assert {photo["true_class"] for photo in golden["photos"]} == set(config.CLASSES)
    interpreter = Interpreter(str(handed_over / "models" / "model.tflite"))
    interpreter.allocate_tensors()
    for photo in golden["photos"]:
        tensor = np.frombuffer((folder / photo["input"]).read_bytes(), "<f4").reshape(golden["shape"])
        pixels = np.asarray(Image.open(folder / photo["photo"]))
        assert tensor[0] == pytest.approx(pixels / 127.5 - 1, abs=1e-6)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], tensor)
        interpreter.invoke()
        probabilities = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        assert probabilities.tolist() == pytest.approx(photo["probabilities"], abs=1e-6)
        assert golden["labels"][int(probabilities.argmax())] == photo["prediction"]


def verify(folder: Path, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, folder / "verify.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_verify_passes_the_model_and_fails_another(handed_over, tmp_path):
    folder = handed_over / "models" / "handoff"
    done = verify(folder)
    assert done.returncode == 0, done.stderr
    assert "All as expected" in done.stdout

    other = colour_model()
    other.layers[-1].set_weights([weight[..., ::-1] for weight in other.layers[-1].get_weights()])
    other.export(tmp_path / "other", verbose=False)
    (tmp_path / "other.tflite").write_bytes(add_metadata(convert_tflite.convert(tmp_path / "other"), config.CLASSES))
    done = verify(folder, tmp_path / "other.tflite")
    assert done.returncode == 1
    assert "a probability is" in done.stdout

    shutil.copytree(folder, tmp_path / "copy")
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "copy" / "golden" / "01.png")
    assert "01.png: its pixels are not the tensor" in verify(tmp_path / "copy").stdout


@pytest.mark.parametrize(
    ("check", "result"),
    [
        ("compare", (0.5, 0.5)),
        ("read_metadata", (None, ["Rear"])),
    ],
)
def test_a_conversion_that_fails_a_check_leaves_the_earlier_hand_off(handed_over, monkeypatch, capsys, check, result):
    before = content(handed_over / "models")
    monkeypatch.setattr(convert_tflite, check, lambda *_: result)
    assert convert(handed_over, "--quantize", "float32") == 2
    assert "was not written" in capsys.readouterr().err
    assert content(handed_over / "models") == before


def test_an_operator_that_phones_lack_is_refused(handed_over):
    plain = (handed_over / "models" / "model.tflite").read_bytes()
    tables = convert_tflite.flatbuffer_utils.convert_bytearray_to_object(bytearray(plain))
    tables.operatorCodes[0].customCode = b"FlexErf"
    model = convert_tflite.flatbuffer_utils.convert_object_to_bytearray(tables)
    assert "operator FlexErf" in convert_tflite.problem_of(plain, model, config.CLASSES, [])


def test_the_golden_photos_come_from_every_class_in_turn():
    split = pd.DataFrame({"file": list("abcdef"), "label": ["Rear", "Rear", "Rear", "Front", "Front", "Background"]})
    assert choose_by_class(split, 5)["file"].tolist() == ["a", "d", "f", "b", "e"]
    assert choose_by_class(split[["file"]], 2)["file"].tolist() == ["a", "b"]


# --- Prediction without the rest ---------------------------------------------------


def test_the_packages_of_prediction_are_those_of_the_project():
    project = Path(__file__).parents[1]
    pins = [line for line in (project / "requirements-predict.txt").read_text().splitlines() if "==" in line]
    assert {pin.split("==")[0] for pin in pins} == {"ai-edge-litert", "numpy", "pillow", "tqdm"}
    assert set(pins) < set((project / "requirements.txt").read_text().splitlines())


def test_a_clean_environment_of_four_packages_verifies_and_predicts(handed_over, tmp_path):
    """The steps of the Dockerfile, and what verify.py asks of a phone team's machine."""
    project = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    python = tmp_path / "clean" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", project / "requirements-predict.txt"]
    subprocess.run(install, check=True)

    app = tmp_path / "app"
    for name in ("test_predict.py", "config.py", "common.py", "images.py"):
        assert f" {name} " in (project / "Dockerfile").read_text()
        (app / "models").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project / name, app / name)
    for name in ("model.tflite", "labels.txt"):
        shutil.copyfile(handed_over / "models" / name, app / "models" / name)
    command = [python, "test_predict.py", "--images", handed_over / "dataset", "--output", tmp_path / "predictions.csv"]
    subprocess.run(command, cwd=app, check=True)
    assert len(pd.read_csv(tmp_path / "predictions.csv")) == 40

    done = subprocess.run([python, handed_over / "models" / "handoff" / "verify.py"], check=False)
    assert done.returncode == 0
