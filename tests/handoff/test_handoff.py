"""The hand-off: the model describes itself, a real client can read it, and the folder can be checked."""

import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

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
from viewpoint.common.cli import run
from viewpoint.common.images import load_image, scale
from viewpoint.data.provenance import ModelData, as_text, fingerprint
from viewpoint.handoff.agreement import Converted, choose_by_class, compare
from viewpoint.handoff.card import model_card
from viewpoint.handoff.changes import changes_section
from viewpoint.handoff.folder import write_snippets
from viewpoint.handoff.metadata import Origin, add_metadata, read_metadata
from viewpoint.handoff.quantization import convert as convert_saved_model
from viewpoint.inference.model import load_model
from viewpoint.training.network import save_model

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


def made_of(precision: str = "float16", io: str = "float32", tolerance: float = 0.02) -> Converted:
    """A converted model that moved the scores of one photo by 0.01."""
    expected, found = np.array([[0.9, 0.1]]), np.array([[0.89, 0.11]])
    agreement = compare(expected, found, "1 validation photo")
    return Converted(b"a model", precision, io, False, found, agreement, [], tolerance, 5.25, None)


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
    assert metadata.license.decode() == "not stated"
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


def test_a_mirror_model_says_so_in_the_file_and_in_both_texts(handed_over, tmp_path, capsys):
    shutil.copytree(handed_over, tmp_path / "copy")
    folder = tmp_path / "copy" / "models" / "handoff"
    text = "answers with the mean of the photo and its mirror image"
    plain, _ = read_metadata((folder / "model.tflite").read_bytes())
    assert text not in plain.description.decode()
    assert text not in (folder / "README.md").read_text() + (folder / "MODEL_CARD.md").read_text()
    assert "## Changes" not in (folder / "MODEL_CARD.md").read_text()

    assert convert(tmp_path / "copy", "--mirror", "--author", "Our team", "--license", "internal") == 0
    metadata, _ = read_metadata((folder / "model.tflite").read_bytes())
    assert metadata.description.decode() == f"{config.MODEL_DESCRIPTION} The model {text}."
    assert f"The model {text}" in (folder / "README.md").read_text()
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"The model {text}." in card
    assert "the scores without the averaging with the mirror image" in card
    assert "| mean with the mirror image | no | yes |" in card
    assert (metadata.author.decode(), metadata.license.decode()) == ("Our team", "internal")
    assert "Author: Our team. License: internal." in card
    # The numbers that the table shows.
    printed = capsys.readouterr().out
    assert "does not state" not in printed
    without, averaged = re.search(r"mirror images (\S+)\)", printed)[1], re.search(r"float16 .* (\d+)\n", printed)[1]
    found = re.search(
        r"gets (\d+) of the 40 validation photos right, and the Keras model without the mirror image (\d+)", card
    )
    assert list(found.groups()) == [averaged, without]


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
    for filled_in in (f"(1, {SIZE}, {SIZE}, 3)", "(1, 7)", "float32", "script-src 'self' 'wasm-unsafe-eval';"):
        assert filled_in in text
    assert f"const val SIZE = {SIZE}\n" in (folder / "android" / "Viewpoints.kt").read_text()
    assert "writeFloat" in (folder / "android" / "CompiledModelClassifier.kt").read_text()


def test_the_code_for_an_8_bit_model_has_8_bit_input_and_its_own_classes(tmp_path):
    write_snippets(tmp_path, made_of("int8", "uint8"), 96, [*config.CLASSES, "Left", "Right"], 0.5)
    text = (tmp_path / "README.md").read_text()
    assert "(1, 9), uint8: divide by 256. Treat a best score below 0.50 as unknown" in text
    for name in ("android/CompiledModelClassifier.kt", "android/Photos.kt", "ios/LiteRTClassifier.swift"):
        assert "putFloat" not in (tmp_path / name).read_text()
        assert "writeFloat" not in (tmp_path / name).read_text()
        assert "/ 127.5" not in (tmp_path / name).read_text()


def test_the_readme_tells_which_golden_set_belongs_to_which_file(tmp_path):
    def readme(*others: Converted) -> str:
        write_snippets(tmp_path, made_of(), 96, config.CLASSES, None, others)
        return (tmp_path / "README.md").read_text()

    assert "golden set of its own" not in readme()
    text = readme(made_of("dynamic", tolerance=0.05), made_of("int8", tolerance=0.1))
    assert "| `model.tflite` | 0.00 MiB | float32 | `golden/` | 0.02 |" in text
    assert "| `model_dynamic.tflite` | 0.00 MiB | float32 | `golden/dynamic/` | 0.05 |" in text
    assert "| `model_int8.tflite` | 0.00 MiB | float32 | `golden/int8/` | 0.1 |" in text
    assert "needs code of its own" not in text
    text = readme(made_of("int8", "uint8", 0.1))
    assert "| `model_int8.tflite` | 0.00 MiB | uint8 | `golden/int8/` | 0.1 |" in text
    assert "needs code of its own" in text


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


def test_a_conversion_that_fails_a_check_leaves_the_earlier_hand_off(handed_over, monkeypatch, capsys):
    before = content(handed_over / "models")
    monkeypatch.setattr(convert_tflite, "read_metadata", lambda _: (None, ["Rear"]))
    assert convert(handed_over, "--quantize", "float32") == 2
    assert "nothing was written" in capsys.readouterr().err
    assert content(handed_over / "models") == before


def test_class_names_of_several_words_and_any_language_arrive_everywhere(tmp_path, monkeypatch):
    names = ["Front", "Vorne links", "Avant côté droit", "後ろ", "Rear-Left", "Rear_Right 2", "No vehicle"]
    monkeypatch.setattr(config, "CLASSES", names)
    monkeypatch.setattr(config, "BACKGROUND", names[-1])
    monkeypatch.setattr(config, "VIEW_CIRCLE", names[:-1])
    save_model(colour_model(), tmp_path / "models")
    photos = [save_photo(tmp_path / "dataset" / f"{i}.jpg", seed=i).name for i in range(7)]
    rows = "".join(f"{photo},{name}\n" for photo, name in zip(photos, names, strict=True))
    (tmp_path / "dataset" / "val.csv").write_text("image_path,label\n" + rows, encoding="utf-8")
    assert convert(tmp_path) == 0
    folder = tmp_path / "models" / "handoff"
    assert verify(folder).returncode == 0
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == names
    assert read_metadata((folder / "model.tflite").read_bytes())[1] == names
    settings = json.loads((folder / "web" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["labels"], settings["views"], settings["background"]) == (names, names[:-1], names[-1])
    # Between the brackets, Kotlin, Swift and Python write a list of plain strings as JSON does.
    for code in ("android/Viewpoints.kt", "ios/Viewpoints.swift", "python/viewpoints.py"):
        text = (folder / code).read_text(encoding="utf-8")
        [listed] = re.findall(
            r"(?:val LABELS = listOf\(|let viewpointLabels = \[|^LABELS = \[)(.*)[)\]]$", text, re.MULTILINE
        )
        assert json.loads(f"[{listed}]") == names, code
    examples = re.findall(r"!\[(.+?)\]\((\S+?)\)", (folder / "MODEL_CARD.md").read_text(encoding="utf-8"))
    assert [name for name, _ in examples] == names
    assert all((folder / unquote(path)).is_file() for _, path in examples)


def misread(folder: Path, change: Callable) -> Path:
    """A SavedModel with the weights of colour_model that reads its input in another way."""
    inputs = keras.Input((SIZE, SIZE, 3))
    keras.Model(inputs, colour_model()(change(inputs))).export(folder, verbose=False)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda x: x[..., ::-1], id="swapped channels"),
        pytest.param(lambda x: 127.5 * x + 127.5, id="lost normalization"),
        pytest.param(lambda x: (x + 1) / 2, id="range 0 to 1"),
        pytest.param(lambda x: x - 0.5, id="another mean"),
    ],
)
def test_a_model_that_reads_its_input_in_another_way_is_refused_here_and_on_the_device(
    handed_over, tmp_path, monkeypatch, capsys, change
):
    wrong, before = misread(tmp_path / "wrong", change), content(handed_over / "models")
    monkeypatch.setattr(
        convert_tflite, "convert", lambda _, *rest, **options: convert_saved_model(wrong, *rest, **options)
    )
    assert convert(handed_over) == 2
    assert "because of the float16 model: it moves the scores by" in capsys.readouterr().err
    assert content(handed_over / "models") == before

    (tmp_path / "wrong.tflite").write_bytes(add_metadata(convert_saved_model(wrong), config.CLASSES))
    done = verify(handed_over / "models" / "handoff", tmp_path / "wrong.tflite")
    assert done.returncode == 1
    assert "a probability differs by" in done.stdout


def test_precisions_that_pass_are_handed_over_and_no_file_of_an_earlier_conversion_is_left(
    handed_over, tmp_path, monkeypatch, capsys
):
    folder = shutil.copytree(handed_over, tmp_path / "copy")
    models, wrong = folder / "models", misread(tmp_path / "wrong", lambda x: x[..., ::-1])
    (models / "model_float32.tflite").write_bytes(b"of an earlier conversion")
    monkeypatch.setattr(config, "PRECISIONS", ["float16", "float32", "dynamic"])
    monkeypatch.setattr(
        convert_tflite,
        "convert",
        lambda model, precision, **options: convert_saved_model(
            wrong if precision == "float16" else model, precision, **options
        ),
    )
    assert convert(folder, "--quantize", "all") == 1
    printed = capsys.readouterr().out
    assert "Not handed over: the float16 model: it moves the scores by" in printed
    assert f"Wrote {models / 'model.tflite'} (float32)" in printed
    assert f"Removed {models / 'model_float32.tflite'}: it belonged to the earlier hand-off." in printed
    assert sorted(path.name for path in models.glob("*.tflite")) == ["model.tflite", "model_dynamic.tflite"]
    golden = json.loads((models / "handoff" / "golden" / "golden.json").read_text())
    assert golden["precision"] == "float32"
    for name in ("model", "model_dynamic"):
        assert verify(models / "handoff", models / f"{name}.tflite").returncode == 0


def test_after_a_kill_the_folder_and_the_model_are_never_of_two_conversions(handed_over, tmp_path, monkeypatch):
    folder = shutil.copytree(handed_over, tmp_path / "copy")
    models = folder / "models"
    real, done = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if len(done) == 2:  # the earlier folder was renamed away, and the new one renamed
            raise Killed
        done.append(target)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", killed)
    monkeypatch.setattr("viewpoint.common.writing.put_back", lambda *_: None)
    monkeypatch.setattr("viewpoint.common.writing.remove", lambda _: None)
    with pytest.raises(Killed):
        convert(folder, "--quantize", "float32")
    assert done[1] == models / "handoff"
    assert not (models / "model.tflite").exists()


class Killed(BaseException):
    """A kill, as far as a test can stage one."""


def test_an_operator_that_phones_lack_is_refused(handed_over):
    plain = (handed_over / "models" / "model.tflite").read_bytes()
    tables = flatbuffer_utils.convert_bytearray_to_object(bytearray(plain))
    tables.operatorCodes[0].customCode = b"FlexErf"
    model = flatbuffer_utils.convert_object_to_bytearray(tables)
    assert "operator FlexErf" in convert_tflite.problem_of(plain, model, config.CLASSES, [])


def test_the_golden_photos_come_from_every_class_in_turn():
    labels = ["Rear", "Rear", "Rear", "Front", "Front", "Background"]
    assert choose_by_class([{"label": label} for label in labels], 5) == [0, 3, 5, 1, 4]
    assert choose_by_class([{}, {}, {}], 2) == [0, 1]


# --- The model card ----------------------------------------------------------------

QUARTER = {"accuracy": 0.25, "accuracy_interval_95": [0.05, 0.7]}
METRICS = {
    "images": 1,
    "accuracy": 0.9,
    "macro_f1": 0.8,
    "calibration_error": 0.05,
    "per_class": {"Rear": {"precision": 0.5, "recall": 0.25, "f1-score": 1 / 3, "support": 4.0}},
    "robustness": {"blur": 0.75},
}


def write_card(folder: Path, metrics: bytes | None, data: ModelData | None = None) -> str:
    if metrics is not None:
        (folder / "metrics.json").write_bytes(metrics)
    handed = [made_of(), made_of("int8")]
    return model_card(handed, SIZE, config.CLASSES, {}, folder / "metrics.json", Origin("We", data=data))


def test_the_card_quotes_the_figures_of_training_data_and_precisions(tmp_path, capsys):
    data = ModelData("t", {"train": fingerprint("1234", ["Rear", "Rear", "Rear", "Front"])})
    card = write_card(tmp_path, json.dumps({"test": METRICS, "training": "t"}).encode(), data)
    assert "Author: We. License: not stated." in card
    assert "| `model_int8.tflite` | int8 | 0.00 MiB | 100.00% of 1 | 0 of 0 | 0.0100 | 0.0100 |" in card
    assert "Compared with the Keras model on 1 validation photo. " in card
    assert re.search(r"^\| \S+ \S+ \| `model.tflite` \| 5.2 \|$", card, re.MULTILINE)
    assert "On 1 photo of the test split, before conversion: accuracy 0.900, macro F1 0.800" in card
    assert "| Rear | 0.500 | 0.250 | 0.333 | 4 |" in card
    assert "| blur | 0.750 |" in card
    assert "By source" not in card.partition("## What it is not for")[0]
    assert f"| train | 4 | 1 | 0 | 0 | 3 | 0 | 0 | 0 | `{data.splits['train'].hash}` |" in card
    assert capsys.readouterr().out == ""


def test_a_card_without_these_files_says_nothing_about_them(tmp_path, capsys):
    card = write_card(tmp_path, None)
    assert "## Results" not in card
    assert "## Data" not in card
    assert "**No threshold can be promised to work.** Figures of this training are not known." in card
    assert "| trucks, buses and motorcycles | not measured |" in card
    assert "such as a quarter of the photo | not measured |" in card
    assert capsys.readouterr().out == ""


def card_of(folder: Path, test: dict, **settings) -> str:
    return write_card(folder, json.dumps({"test": METRICS | test, "settings": settings}).encode())


def suggested(threshold: float | None, **values) -> dict:
    nothing = {"answered": None, "accuracy": None, "lower_bound": None, "missing": 0, "out_of_fold": 0}
    return {"photos": 48, "threshold": threshold} | nothing | values


def test_the_card_says_what_the_threshold_keeps_and_promises(tmp_path):
    answered = [
        {"threshold": 0.0, "answered": 1.0, "accuracy": 0.75},
        {"threshold": 0.15000000000000002, "answered": 1.0, "accuracy": 0.75},
        {"threshold": 0.9, "answered": 0.5, "accuracy": 1.0},
    ]
    effect = {"threshold": 0.85, "photos": 20, "answered": 16, "right": 15, "right_without": 15}
    suggestion = suggested(0.85, photos=200, answered=0.91, accuracy=0.9945, out_of_fold=150)
    test = {"images": 20, "answered": answered, "threshold_effect": effect}
    card = card_of(tmp_path, test, suggestion=suggestion)
    assert (
        "**Treat an answer with a best score below 0.85 as unknown.** Of 50 validation photos and 150 training" in card
    )
    assert "91.0% get an answer then, and 99.5% of these answers are right. That shows at least 98% accuracy" in card
    assert "| 0.00 | 20 of 20 (100.0%) | 15 (75.0%) |" in card
    assert "| **0.85** | 16 of 20 (80.0%) | 15 (93.8%) |" in card
    assert "| 0.90 | 10 of 20 (50.0%) | 10 (100.0%) |" in card
    assert "| 0.15 |" not in card


def test_the_card_says_why_no_threshold_can_be_promised(tmp_path):
    card = card_of(tmp_path, {}, suggestion=suggested(None, missing=95))
    assert (
        "**No threshold can be promised to work.** One is suggested only if the answers above it show at least" in card
    )
    assert "48 validation photos cannot show that; 95 more answers, all right, would be needed" in card
    card = card_of(tmp_path, {}, suggestion=suggested(0.0, answered=1.0, accuracy=1.0))
    assert "**No threshold is needed.**" in card


def test_the_card_shows_the_folders_with_the_lowest_accuracy(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "FOLDERS_SHOWN", 1)
    folders = [{"name": "lot|1", "photos": 4, "right": 1} | QUARTER]
    folders += [{"name": name, "photos": 2, "right": 2, "accuracy": 1.0} for name in "ab"]
    card = card_of(tmp_path, {"by_folder": folders})
    assert "| `lot\\|1` | 4 | 1 | 0.250 (0.05 to 0.70) |\n| 2 other folders | 4 | 4 | 1.000 |" in card


def test_the_card_says_that_photos_without_labels_were_learned(tmp_path):
    said = "Of 20 photos without labels, the model is sure of 15 (Front 15). Left out: 5 unreadable"
    card = card_of(tmp_path, {}, learned_without_labels=said)
    assert f"It also learned from photos that nobody labelled. {said}." in card
    assert "nobody labelled" not in card_of(tmp_path, {}, learned_without_labels=None)


def test_the_card_says_that_the_training_continued_from_another_model(tmp_path):
    said = "The training continued from an earlier model, which may have learned other photos as well."
    assert said in card_of(tmp_path, {}, start_from="models/model.keras")
    assert said not in card_of(tmp_path, {}, start_from=None)


def test_the_card_shows_which_views_are_confused(tmp_path):
    matrix = [[5, 1, 0], [2, 6, 0], [0, 0, 3]]
    groups = [{"name": "ambiguous", "photos": 8, "right": 6}]
    card = card_of(
        tmp_path, {"classes": ["Front", "FrontLeft", "Rear"], "confusion_matrix": matrix, "by_label": groups}
    )
    line = "| Front and FrontLeft | 3 | 14 | 1 Front answered as FrontLeft, 2 FrontLeft answered as Front |"
    assert [text for text in card.splitlines() if " answered as " in text] == [line]
    assert "| ambiguous | a lead of one part or none, as in most photos from the very side | 8 | 6 |" in card
    assert "| a car from the very side, which is no class of its own | 6 of 8 ambiguous test photos right |" in card


def test_the_card_says_how_much_hidden_cars_and_bad_photos_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "TOO_DARK_BELOW", 77)
    card = card_of(tmp_path, {"images": 900, "robustness": {"clean": 0.9, "25 % occluded": 0.6}}, robustness_images=500)
    assert "On 500 test photos." in card
    assert "| none | 0.900 |" in card
    assert "such as a quarter of the photo | accuracy 0.600 instead of 0.900, see Altered photos |" in card
    assert "| too dark | fewer than 2% of the pixels reach grey level 77 of 255 |" in card


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
        json.dumps({"test": METRICS | {"per_class": {"Rear": [1]}}}).encode(),
    ],
)
def test_damaged_figures_are_left_out_of_the_card_and_named(tmp_path, capsys, damaged):
    card = write_card(tmp_path, damaged)
    assert "## Results" not in card
    said = "is damaged, so its figures are not in the model card; run train.py again to get them."
    assert capsys.readouterr().out == f"{tmp_path / 'metrics.json'} {said}\n"


def test_a_conversion_with_damaged_figures_goes_on(handed_over, tmp_path, capsys):
    shutil.copytree(handed_over, tmp_path / "copy")
    (tmp_path / "copy" / "models" / "report").mkdir()
    (tmp_path / "copy" / "models" / "report" / "metrics.json").write_text('{"test": ')
    assert convert(tmp_path / "copy") == 0
    printed = capsys.readouterr().out
    assert "metrics.json is damaged" in printed
    assert "does not state the author and the license of the model: give --author and --license." in printed


# --- Changes since the last hand-off -----------------------------------------------


def write_small_handoff(folder: Path, training: str, labels: dict[str, str], **golden) -> None:
    """A hand-off with the parts that are compared: a model that carries its training, and its golden.json."""
    names = [f"{name}.jpg" for name in labels]
    data = ModelData(training, {"train": fingerprint(names, list(labels.values()))}, 0.5)
    (folder / "golden").mkdir(parents=True)
    with zipfile.ZipFile(folder / "model.tflite", "w") as packed:
        packed.writestr("training.json", as_text(data, with_photos=False))
    content = {
        "labels": config.CLASSES,
        "shape": [1, 224, 224, 3],
        "dtype": "<f4",
        "model_sha256": hashlib.sha256((folder / "model.tflite").read_bytes()).hexdigest(),
        "made": "2026-01-31",
    }
    (folder / "golden" / "golden.json").write_text(json.dumps(content | golden))


def write_run(models: Path, training: str, predictions: str) -> None:
    """The line and the predictions of a training that was tested on the photos p0, p1, p2 ..., all of them Front."""
    (models / "report" / "history").mkdir(parents=True, exist_ok=True)
    rows = [f"{index}.jpg,{name},0.9,Front,p{index}\n" for index, name in enumerate(predictions.split())]
    text = "image_name,prediction,score,label,photo\n" + "".join(rows)
    (models / "report" / "history" / f"{training}.csv").write_text(text)
    figures = {"images": len(rows), "accuracy": text.count(",Front,0.9,") / len(rows)}
    with (models / "history.jsonl").open("a") as file:
        file.write(json.dumps({"training": training, "figures": figures}) + "\n")


def test_the_card_tells_what_changed_since_the_last_hand_off(tmp_path):
    write_small_handoff(tmp_path / "old", "aaa", {"1": "Front"}, precision="float16", mirror=False, version="1.0")
    write_small_handoff(
        tmp_path / "new",
        "bbb",
        {"1": "Front", "2": "Rear"},
        dtype="uint8",
        precision="int8",
        mirror=False,
        version="1.0",
    )
    write_run(tmp_path, "aaa", "Front Rear Front Front")
    write_run(tmp_path, "bbb", "Front Front Front Front")
    title, table, sentence = changes_section(tmp_path / "old", tmp_path / "new", tmp_path)
    assert title == "## Changes since the hand-off of 2026-01-31"
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    rows = {name: values for name, *values in lines}
    assert list(rows) == ["input", "precision", "file", "training", "photos in train", "accuracy"]
    assert rows["input"] == ["(1, 224, 224, 3), float32", "(1, 224, 224, 3), uint8"]
    assert rows["training"] == ["aaa", "bbb"]
    assert rows["accuracy"] == ["0.750 of 4 test photos", "1.000 of 4 test photos"]
    assert [text.split(",")[0] for text in rows["photos in train"]] == ["1", "2"]
    assert "4 photos, 3 right before and 4 now; 1 newly right, 0 newly wrong: no real difference" in sentence


def test_accuracies_are_called_of_different_photos_only_where_they_are(tmp_path):
    for training in ("aaa", "bbb"):
        write_small_handoff(tmp_path / training, training, {})
        write_run(tmp_path, training, "Front Rear")
    (tmp_path / "report" / "history" / "aaa.csv").unlink()  # so the two cannot be compared
    changes = changes_section(tmp_path / "aaa", tmp_path / "bbb", tmp_path)
    assert len(changes) == 2
    assert "different test photos" not in changes[1]


def test_the_same_model_again_has_no_changes(handed_over):
    folder = handed_over / "models" / "handoff"
    assert changes_section(folder, folder, handed_over / "models")[1:] == ["None: `model.tflite` is the same file."]


@pytest.mark.parametrize("damage", ["golden.json cut off", "golden.json of something else", "another model", "empty"])
def test_a_damaged_earlier_hand_off_is_named_and_does_not_stop_the_conversion(tmp_path, capsys, damage):
    for name in ("old", "new"):
        write_small_handoff(tmp_path / name, name, {})
    golden, model = tmp_path / "old" / "golden" / "golden.json", tmp_path / "old" / "model.tflite"
    match damage:
        case "golden.json cut off":
            golden.write_bytes(golden.read_bytes()[:100])
        case "golden.json of something else":
            golden.write_text("[1]")
        case "another model":
            model.write_bytes(b"another")
        case "empty":
            shutil.rmtree(tmp_path / "old")
            (tmp_path / "old").mkdir()
    assert changes_section(tmp_path / "old", tmp_path / "new", tmp_path) == []
    assert f"The earlier {tmp_path / 'old'} is damaged" in capsys.readouterr().out


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


@pytest.mark.stress
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
