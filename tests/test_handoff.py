"""The hand-off: the model describes itself, a real client can read it, and the folder can be checked."""

import hashlib
import importlib
import json
import re
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
from tensorflow.lite.tools import flatbuffer_utils

import config
import convert_tflite
from test_predict import predict_images
from viewpoint.cli import run
from viewpoint.handoff.card import model_card
from viewpoint.handoff.folder import choose_by_class, write_snippets
from viewpoint.handoff.metadata import add_metadata, read_metadata
from viewpoint.images import load_image, scale
from viewpoint.inference import load_model
from viewpoint.network import save_model
from viewpoint.quantization import Converted
from viewpoint.quantization import convert as convert_saved_model

PROJECT = Path(convert_tflite.__file__).parent
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
    save_model(colour_model(), folder / "models")
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
    plain = convert_saved_model(handed_over / "models" / "saved_model")
    images = np.random.default_rng(0).uniform(-1, 1, (5, SIZE, SIZE, 3)).astype(np.float32)
    answers = [convert_tflite.load_model(model)(images) for model in (plain, add_metadata(plain, config.CLASSES))]
    assert np.array_equal(*answers)
    assert np.ptp(answers[0]) > 0


def test_a_model_without_metadata_is_told(handed_over):
    plain = convert_saved_model(handed_over / "models" / "saved_model")
    with pytest.raises(ValueError, match="TFLITE_METADATA"):
        read_metadata(plain)


def test_mediapipe_names_the_same_classes_as_predictions_csv(handed_over, tmp_path):
    """MediaPipe, which Android and iOS teams use, knows the model only by its metadata."""
    import mediapipe
    from mediapipe.tasks.python.vision import ImageClassifier

    model, photos = handed_over / "models" / "model.tflite", handed_over / "dataset"
    predict_images(model, None, photos, tmp_path / "predictions.csv")
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    with ImageClassifier.create_from_model_path(str(model)) as classifier:
        for row in predictions.itertuples():
            image = mediapipe.Image.create_from_file(str(photos / row.image_name))
            best = classifier.classify(image).classifications[0].categories[0]
            # MediaPipe resizes in another way, so two classes with similar scores can change places.
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
    text = (folder / "README.md").read_text()
    for filled_in in (f"(1, {SIZE}, {SIZE}, 3)", "(1, 7)", "float32"):
        assert filled_in in text
    assert f"const val SIZE = {SIZE}\n" in (folder / "android" / "Viewpoints.kt").read_text()
    assert "writeFloat" in (folder / "android" / "CompiledModelClassifier.kt").read_text()


def test_the_code_for_an_8_bit_model_has_8_bit_input_and_its_own_classes(tmp_path):
    converted = Converted(b"a model", "int8", "uint8", False, 1, 1.0, 0.01, None, None)
    write_snippets(tmp_path, converted, 96, [*config.CLASSES, "Left", "Right"], 0.5)
    text = (tmp_path / "README.md").read_text()
    assert "(1, 9), uint8: divide by 256. Treat a best score below 0.50 as unknown" in text
    for name in ("android/CompiledModelClassifier.kt", "android/Photos.kt", "ios/LiteRTClassifier.swift"):
        assert "putFloat" not in (tmp_path / name).read_text()
        assert "writeFloat" not in (tmp_path / name).read_text()
        assert "/ 127.5" not in (tmp_path / name).read_text()


def test_the_python_snippet_predicts_as_predictions_csv(handed_over, monkeypatch):
    monkeypatch.syspath_prepend(handed_over / "models" / "handoff" / "python")
    snippet = importlib.import_module("viewpoints")
    runner, size, _ = load_model(handed_over / "models" / "model.tflite")
    model = snippet.ViewpointModel()
    for photo in sorted((handed_over / "dataset").glob("*.jpg"))[:5]:
        expected = runner(scale(load_image(photo, size))[np.newaxis])[0]
        assert model.probabilities(photo) == pytest.approx(expected, abs=1e-6)


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


def test_the_golden_tests_for_phones_read_what_golden_json_has(handed_over):
    folder = handed_over / "models" / "handoff"
    golden = json.loads((folder / "golden" / "golden.json").read_text())
    photo = golden["photos"][0]
    kotlin = (folder / "android" / "GoldenTest.kt").read_text()
    keys = set(re.findall(r'(?:get\w+\(|read\(photo, )"(\w+)"', kotlin))
    assert keys >= {"model_sha256", "photos", "photo", "input", "probabilities", "tolerance", "labels"}
    assert keys <= golden.keys() | photo.keys()
    swift = (folder / "ios" / "GoldenTest.swift").read_text()
    fields = re.findall(r"^ +let (\w+): [\[\w\]]+$", swift, re.MULTILINE)
    snake = {re.sub("(?=[A-Z])", "_", field).lower() for field in fields}  # as convertFromSnakeCase reads them
    assert snake == {"model_sha256", "photos", "photo", "input", "probabilities", "tolerance", "labels"}


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
    (tmp_path / "other.tflite").write_bytes(add_metadata(convert_saved_model(tmp_path / "other"), config.CLASSES))
    done = verify(folder, tmp_path / "other.tflite")
    assert done.returncode == 1
    assert "a probability differs by" in done.stdout

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
    assert "nothing was written" in capsys.readouterr().err
    assert content(handed_over / "models") == before


def test_an_operator_that_phones_lack_is_refused(handed_over):
    plain = (handed_over / "models" / "model.tflite").read_bytes()
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(plain))
    tables.operatorCodes[0].customCode = b"FlexErf"
    model = flatbuffer_utils.convert_object_to_bytearray(tables)
    assert "operator FlexErf" in convert_tflite.problem_of(plain, model, config.CLASSES, [])


def test_the_golden_photos_come_from_every_class_in_turn():
    labels = ["Rear", "Rear", "Rear", "Front", "Front", "Background"]
    rows = [{"file": file, "label": label} for file, label in zip("abcdef", labels, strict=True)]
    assert [row["file"] for row in choose_by_class(rows, 5)] == ["a", "d", "f", "b", "e"]
    assert [row["file"] for row in choose_by_class([{"file": file} for file in "abc"], 2)] == ["a", "b"]


# --- The model card ----------------------------------------------------------------

METRICS = {
    "images": 1,
    "accuracy": 0.9,
    "macro_f1": 0.8,
    "calibration_error": 0.05,
    "per_class": {"Rear": {"precision": 0.5, "recall": 0.25, "f1-score": 1 / 3, "support": 4.0}},
    "robustness": {"blur": 0.75},
}
SUMMARY = {"images": {"train": {"Rear": 3, "Front": 1}}}


def write_card(folder: Path, metrics: bytes | None, summary: bytes | None) -> str:
    for name, text in (("metrics.json", metrics), ("summary.json", summary)):
        if text is not None:
            (folder / name).write_bytes(text)
    converted = Converted(b"a model", "float16", "float32", False, 1, 1.0, 0.01, None, None)
    return model_card(converted, SIZE, config.CLASSES, {}, folder / "metrics.json", folder / "summary.json")


def test_the_card_quotes_the_figures_of_training_and_data(tmp_path, capsys):
    card = write_card(tmp_path, json.dumps({"test": METRICS}).encode(), json.dumps(SUMMARY).encode())
    assert "On 1 photo of the test split, before conversion: accuracy 0.900, macro F1 0.800" in card
    assert "| Rear | 0.500 | 0.250 | 0.333 | 4 |" in card
    assert "| blur | 0.750 |" in card
    assert "| train | 4 | 1 | 0 | 0 | 3 | 0 | 0 | 0 |" in card
    assert capsys.readouterr().out == ""


def test_a_card_without_these_files_says_nothing_about_them(tmp_path, capsys):
    card = write_card(tmp_path, None, None)
    assert "## Results" not in card
    assert "## Data" not in card
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b'{"test": {',
        b"\xff\xfe",
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"test": 1, "images": 2}',
        b"[" * 100_000,
        json.dumps({"test": METRICS | {"per_class": {"Rear": [1]}}, "images": {"train": [1]}}).encode(),
    ],
)
def test_damaged_figures_are_left_out_of_the_card_and_named(tmp_path, capsys, damaged):
    card = write_card(tmp_path, damaged, damaged)
    assert "## Results" not in card
    assert "## Data" not in card
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"{tmp_path / name} is damaged, so its figures are not in the model card; run {script} again to get them."
        for name, script in (("summary.json", "data_preparation.py"), ("metrics.json", "train.py"))
    ]


def test_a_conversion_with_damaged_figures_goes_on(handed_over, tmp_path, capsys):
    shutil.copytree(handed_over, tmp_path / "copy")
    (tmp_path / "copy" / "models" / "report").mkdir()
    (tmp_path / "copy" / "models" / "report" / "metrics.json").write_text('{"test": ')
    (tmp_path / "copy" / "dataset" / "summary.json").write_text("{")
    assert convert(tmp_path / "copy") == 0
    printed = capsys.readouterr().out
    assert "metrics.json is damaged" in printed
    assert "summary.json is damaged" in printed


# --- Prediction without the rest ---------------------------------------------------


def test_the_packages_of_prediction_are_those_of_the_project():
    pins = [line for line in (PROJECT / "requirements-predict.txt").read_text().splitlines() if "==" in line]
    assert {pin.split("==")[0] for pin in pins} == {"ai-edge-litert", "numpy", "pillow", "tqdm"}
    assert set(pins) < set((PROJECT / "requirements.txt").read_text().splitlines())


def test_predicting_a_csv_imports_nothing_heavy(handed_over):
    heavy = "{'tensorflow', 'keras', 'sklearn', 'scipy', 'matplotlib', 'pandas', 'imagehash', 'jinja2', 'mediapipe'}"
    code = f"import sys, test_predict; test_predict.main(); print(sorted({heavy} & set(sys.modules)))"
    road = ["--model", handed_over / "models" / "model.tflite", "--images", handed_over / "dataset" / "val.csv"]
    command = [sys.executable, "-c", code, *map(str, road), "--output", str(handed_over / "predictions.csv")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "On the 40 labelled photos: accuracy" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_clean_environment_of_four_packages_verifies_and_predicts(handed_over, tmp_path):
    """The steps of the Dockerfile, and what verify.py needs on a mobile team's machine."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "clean"], check=True)
    python = tmp_path / "clean" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--requirement", PROJECT / "requirements-predict.txt"]
    subprocess.run(install, check=True)

    app, models = tmp_path / "app", handed_over / "models"
    for line in (PROJECT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            for source in sources:
                folder = handed_over if source.startswith("models/") else PROJECT
                copy_as_docker_does(folder / source, app / target)
    for images in (handed_over / "dataset", handed_over / "dataset" / "val.csv"):
        output = tmp_path / f"{images.stem}.csv"
        command = [python, "test_predict.py", "--images", images, "--output", output]
        options = ["--per-folder", "--contact-sheet", tmp_path / "sheet.png"]
        done = subprocess.run([*command, *options], cwd=app, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert len(pd.read_csv(output)) == 40
    assert "On the 40 labelled photos: accuracy" in done.stdout

    done = subprocess.run([python, models / "handoff" / "verify.py"], check=False)
    assert done.returncode == 0


def copy_as_docker_does(source: Path, target: Path) -> None:
    """COPY: the content of a folder into a folder, a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target / source.name)
