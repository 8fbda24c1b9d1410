"""The TFLite file: same decisions, same class order, and never a worse one in place.

The gate before the hand-off: chance does not decide, and a model that reads its input wrongly does not pass.
"""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tiny_train
from ai_edge_litert.interpreter import Interpreter
from conftest import save_photo

import config
import convert_tflite
import test_predict
from viewpoint.common.cli import UserError, run
from viewpoint.common.images import load_batch, load_image
from viewpoint.handoff.agreement import Agreement, compare
from viewpoint.handoff.quantization import convert, equalize
from viewpoint.inference.model import load_runner, mirrored_indices
from viewpoint.reports.training import measure
from viewpoint.training import evaluation
from viewpoint.training.batches import DecodedPhotos
from viewpoint.training.network import build_model, save_model

PROJECT = Path(convert_tflite.__file__).parent
SIZE = 32
SETTINGS = {"backbone": "MobileNetV2", "temperature": None, "suggestion": None}


def constant_model(class_index: int, size: int | None = SIZE) -> keras.Model:
    """A model that gives class `class_index` the probability 0.9 for any image."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = keras.layers.Dense(7, activation="softmax", kernel_initializer="zeros")(x)
    model = keras.Model(inputs, outputs)
    bias = np.full(7, np.log(0.1 / 6), np.float32)
    bias[class_index] = np.log(0.9)
    model.layers[-1].set_weights([np.zeros((3, 7), np.float32), bias])
    return model


@pytest.fixture
def run_script(monkeypatch, capsys):
    """Run the script as from a shell: (exit code, what it printed, its error message)."""

    def run_with(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["convert_tflite.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            run(convert_tflite.main)
        return exit_info.value.code, *capsys.readouterr()

    return run_with


@pytest.mark.parametrize("class_index", range(7))
def test_class_order_from_training_to_predictions(tmp_path, class_index):
    """A model that always answers class k comes out as name k everywhere."""
    name = config.CLASSES[class_index]
    photo = save_photo(tmp_path / "photo.png")
    model = constant_model(class_index)

    save_model(model, tmp_path)
    split = pd.DataFrame({"image_path": ["photo.png"], "file": [str(photo)], "label": [name]})
    probabilities = evaluation.predict(model, DecodedPhotos(split["file"], SIZE), 1)
    metrics = measure(split, probabilities, SETTINGS, None)
    (tmp_path / "model.tflite").write_bytes(convert(tmp_path / "saved_model"))

    assert metrics["confusion_matrix"][class_index][class_index] == 1
    labels = tmp_path / "saved_model" / "labels.txt"
    assert labels.read_text().splitlines() == config.CLASSES
    for model_path in (tmp_path / "model.tflite", tmp_path / "saved_model"):
        test_predict.predict_images(model_path, labels, photo, tmp_path / "predictions.csv")
        [row] = pd.read_csv(tmp_path / "predictions.csv").to_dict("records")
        expected = {"image_name": "photo.png", "prediction": name, "best_class": name, "quality": "blurred"}
        assert row == {**expected, "score": pytest.approx(0.9, abs=1e-3)}


@pytest.fixture
def trained(tmp_path):
    """A models/ folder with a SavedModel, and a dataset/ with three validation photos."""
    folder = tmp_path / "my car"
    save_model(constant_model(2), folder / "models")
    names = [save_photo(folder / "dataset" / f"{index}.png", seed=index).name for index in range(3)]
    (folder / "dataset" / "val.csv").write_text("image_path,label\n" + "".join(f"{n},Rear\n" for n in names))
    return folder


def test_a_faithful_model_is_written_with_its_labels(trained, run_script):
    exit_code, printed, error = run_script("--models", trained / "models", "--dataset", trained / "dataset")
    assert exit_code == 0, error
    assert "Compared with the Keras model on 3 validation photos, 3 mirror images:" in printed
    assert "100.00%" in printed
    assert (trained / "models" / "model.tflite").read_bytes()[4:8] == b"TFL3"
    assert (trained / "models" / "labels.txt").read_text().splitlines() == config.CLASSES
    assert not list((trained / "models").glob(".*tmp*"))
    # A command that can be pasted, although the folder's name has a space.
    options = f"--images '{trained}/dataset/test.csv' --model '{trained}/models/model.tflite'"
    assert f"Next: python test_predict.py {options}" in printed


@pytest.mark.parametrize(
    ("precision", "near"), [("float16", 2e-3), ("float32", 2e-3), ("dynamic", 2e-3), ("int8", 0.03)]
)
def test_a_mirror_model_is_the_mean_over_an_image_and_its_mirror_image(tmp_path, monkeypatch, precision, near):
    """Worked out by running the plain model twice; and its answers for both images mirror each other."""
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    keras.utils.set_random_seed(4)
    model, _ = build_model(image_size=32)
    model.get_layer("probabilities").set_weights(
        [8 * weight for weight in model.get_layer("probabilities").get_weights()]
    )
    save_model(model, tmp_path)
    mirrored = mirrored_indices(config.CLASSES)
    calibration = np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    runners = []
    for name, indices in (("plain", None), ("mirror", mirrored)):
        (tmp_path / f"{name}.tflite").write_bytes(
            convert(tmp_path / "saved_model", precision, calibration, mirrored=indices)
        )
        runners.append(load_runner(tmp_path / f"{name}.tflite")[0])
    plain, mirror = runners
    image = np.random.default_rng(0).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
    image[:, :, :16] *= 0.2  # its left half is another than its right half
    other = image[:, :, ::-1]
    assert np.abs(plain(image) - plain(other)[:, mirrored]).max() > 0.01
    assert mirror(image) == pytest.approx((plain(image) + plain(other)[:, mirrored]) / 2, abs=near)
    assert mirror(other)[:, mirrored] == pytest.approx(mirror(image), abs=1e-6)


def test_too_little_agreement_leaves_the_earlier_model(trained, run_script):
    (trained / "models" / "model.tflite").write_bytes(b"earlier")
    # No conversion agrees on more than all photos, so this one must be refused.
    road = ["--models", trained / "models", "--dataset", trained / "dataset"]
    exit_code, _, error = run_script(*road, "--min-agreement", "1.01")
    assert exit_code == 2
    assert "100.00% agree instead of 101%" in error
    assert (trained / "models" / "model.tflite").read_bytes() == b"earlier"
    assert not list((trained / "models").glob(".*tmp*"))


def test_the_images_are_validation_photos_filled_up_with_test_training_and_mirrored_photos(
    trained, run_script, monkeypatch
):
    """The model is compared on 12 images; a missing photo of another split than val does not matter."""
    dataset = trained / "dataset"
    for split, number in (("test", 10), ("train", 20)):
        names = [save_photo(dataset / f"{number + index}.png", seed=number + index).name for index in range(3)]
        (dataset / f"{split}.csv").write_text("image_path,label\n" + "".join(f"{name},Rear\n" for name in names))
    (dataset / "21.png").unlink()
    found = {}
    for count in (2, 5, 12):
        monkeypatch.setattr(config, "AGREEMENT_IMAGES", count)
        printed = run_script("--models", trained / "models", "--dataset", dataset)[1]
        found[count] = printed.partition("the Keras model on ")[2].partition(":")[0]
    assert found[2] == "2 validation photos"
    assert found[5] == "3 validation photos, 2 test photos"
    assert found[12] == "3 validation photos, 3 test photos, 2 training photos, 4 mirror images"
    card = (trained / "models" / "handoff" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"Compared with the Keras model on {found[12]}. " in card
    assert "| 100.00% of 12 |" in card


def test_converting_before_training_is_one_sentence(tmp_path, run_script):
    exit_code, _, error = run_script("--models", tmp_path, "--dataset", tmp_path)
    assert exit_code == 2
    assert error.strip().startswith("convert_tflite.py: error: ")
    assert "run train.py first" in error


@pytest.mark.parametrize("form", ["SavedModel", "TFLite"])
def test_a_model_for_images_of_any_size_is_one_sentence(tmp_path, form):
    path = tmp_path / "model"
    constant_model(0, size=None).export(path, verbose=False)
    if form == "TFLite":
        path = tmp_path / "model.tflite"
        path.write_bytes(convert(tmp_path / "model"))
    with pytest.raises(UserError, match=r"maps \(None, None, None, 3\) to .*, not a square RGB image of a fixed size"):
        load_runner(path)


def test_the_photos_to_compare_on_are_all_or_a_reproducible_draw():
    rows = [{"file": f"{i:03}.jpg"} for i in range(300)]
    assert convert_tflite.draw_rows(rows, 500, seed=1) == rows
    drawn = [row["file"] for row in convert_tflite.draw_rows(rows, 100, seed=1)]
    assert len(set(drawn)) == 100
    assert drawn == sorted(drawn)
    assert drawn == [row["file"] for row in convert_tflite.draw_rows(rows, 100, seed=1)]


def test_missing_inputs_are_one_sentence(trained, run_script):
    road = ["--models", trained / "models", "--dataset", trained / "dataset", "--quantize", "int8"]
    train_csv, val_csv = trained / "dataset" / "train.csv", trained / "dataset" / "val.csv"
    model = trained / "models" / "model.keras"
    train_csv.write_bytes(val_csv.read_bytes())
    model.write_bytes(b"not a model")
    assert f"cannot read {model}, which int8 needs" in run_script(*road)[2]
    model.unlink()
    assert f"{model} not found, which int8 needs; run train.py" in run_script(*road)[2]
    train_csv.write_text("image_path,label\n")
    assert f"{train_csv} has no photos, which int8 needs" in run_script(*road)[2]
    val_csv.write_text("image_path,label\n")
    assert f"{val_csv} has no photos to compare the models on" in run_script(*road)[2]


# --- Precisions --------------------------------------------------------------------


def two_convolutions(name: str, weights: str | None) -> keras.Model:
    """A backbone in the place of MobileNetV2, large enough that its weights make up most of the file."""
    inputs = x = keras.Input((None, None, 3))
    for filters in (64, 256):
        x = keras.layers.Conv2D(filters, 3, strides=2)(x)
        x = keras.layers.ReLU(6)(keras.layers.BatchNormalization()(x))
    return keras.Model(inputs, x)


@pytest.fixture(scope="module", params=["small", pytest.param("MobileNetV2", marks=pytest.mark.stress)])
def untrained(request, tmp_path_factory):
    """A models/ folder with an untrained network, and a dataset/ of six photos in train and val."""
    folder = tmp_path_factory.mktemp("untrained")
    keras.utils.set_random_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "small":
            patch.setattr("viewpoint.training.network.build_backbone", two_convolutions)
        model, _ = build_model(image_size=SIZE)
    save_model(model, folder / "models")
    names = [save_photo(folder / "dataset" / f"{index}.png", seed=index).name for index in range(6)]
    for split in ("train", "val"):
        rows = "".join(f"{name},{label}\n" for name, label in zip(names, config.CLASSES, strict=False))
        (folder / "dataset" / f"{split}.csv").write_text("image_path,label\n" + rows)
    return folder


@pytest.fixture(scope="module")
def conversion(untrained) -> subprocess.CompletedProcess:
    """A conversion to all precisions, int8 with uint8 input and output, run as from a shell."""
    code = "import sys, convert_tflite; convert_tflite.main(); print('mediapipe' in sys.modules)"
    road = ["--models", untrained / "models", "--dataset", untrained / "dataset", "--min-agreement", "0"]
    command = [sys.executable, "-c", code, *map(str, road), "--quantize", "all", "--io", "uint8"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_standard_error_has_a_line_a_step_and_nothing_else(conversion):
    """TensorFlow, Keras, LiteRT and the converter print much that is not an error."""
    lines = conversion.stderr.splitlines()
    assert any(line.startswith("Comparing: ") for line in lines)
    assert [line for line in lines if not re.fullmatch(r"[A-Z][a-zA-Z ]+: \d+ photos?, \d+\.\d s", line)] == []


def test_mediapipe_is_not_imported(conversion):
    """It needs libGL and other libraries that servers lack."""
    assert conversion.stdout.splitlines()[-1] == "False"


def test_all_precisions_make_a_table_and_a_file_each(conversion, untrained):
    words = [line.split() for line in conversion.stdout.splitlines()]
    rows = {line[0]: line for line in words if line and line[0] in config.PRECISIONS}
    sizes = {name: (untrained / "models" / f"model_{name}.tflite").stat().st_size for name in config.PRECISIONS[1:]}
    sizes["float16"] = (untrained / "models" / "model.tflite").stat().st_size
    for name, size in sizes.items():
        assert float(rows[name][1]) == pytest.approx(size / 2**20, abs=0.006)
    assert sizes["int8"] < 0.35 * sizes["float32"]
    assert sizes["float16"] < 0.55 * sizes["float32"]


@pytest.mark.parametrize("name", ["model", "model_float32", "model_int8"])
def test_each_precision_passes_its_own_golden_set(conversion, untrained, name):
    models = untrained / "models"
    command = [sys.executable, models / "handoff" / "verify.py", models / f"{name}.tflite"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All as expected" in done.stdout
    row = re.search(r"^\| \S+ \S+ \| `(.*)` \| \d+\.\d \|$", done.stdout, re.MULTILINE)
    assert row[1] == f"{name}.tflite"
    card = (models / "handoff" / "MODEL_CARD.md").read_text()
    assert re.search(rf"^{re.escape(row[0].rpartition('|')[0].rpartition('|')[0])}", card, re.MULTILINE)


@pytest.mark.parametrize("name", ["model", "model_dynamic", "model_int8"])
def test_the_python_snippet_of_the_hand_off_takes_each_precision(conversion, untrained, name):
    """The int8 model has 8-bit input and output, the others float32."""
    path = untrained / "models" / "handoff" / "python" / "viewpoints.py"
    spec = importlib.util.spec_from_file_location("viewpoints_of_each_precision", path)
    snippet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(snippet)
    photo, model = untrained / "dataset" / "0.png", untrained / "models" / f"{name}.tflite"
    expected = load_runner(model)[0](load_batch([photo], SIZE))[0]
    assert expected.sum() == pytest.approx(1, abs=0.02)
    assert snippet.ViewpointModel(model).probabilities(photo) == pytest.approx(expected, abs=1e-6)


def test_an_int8_model_takes_and_gives_float32_unless_asked_for_uint8(trained, run_script, monkeypatch):
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    keras.utils.set_random_seed(0)
    save_model(build_model(image_size=SIZE)[0], trained / "models")
    (trained / "dataset" / "train.csv").write_bytes((trained / "dataset" / "val.csv").read_bytes())
    road = ["--models", trained / "models", "--dataset", trained / "dataset", "--min-agreement", 0]
    exit_code, printed, error = run_script(*road, "--quantize", "int8")
    assert exit_code == 0, error
    assert "model.tflite (int8)" in printed
    interpreter = Interpreter(str(trained / "models" / "model.tflite"))
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [tensor["dtype"] for tensor in details] == [np.float32] * 2
    # Inside, it computes in 8 bits.
    assert np.int8 in {tensor["dtype"] for tensor in interpreter.get_tensor_details()}


def test_an_int8_model_takes_pixels_as_they_are_and_gives_256ths(conversion, untrained):
    path = untrained / "models" / "model_int8.tflite"
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    [model_input], [model_output] = interpreter.get_input_details(), interpreter.get_output_details()
    assert model_input["dtype"] == model_output["dtype"] == np.uint8
    # A step of the input is a step of the pixel: 1 / 127.5.
    assert model_input["quantization"] == (pytest.approx(1 / 127.5, rel=1e-3), pytest.approx(127.5, abs=0.5))
    assert model_output["quantization"] == (1 / 256, 0)
    photo = untrained / "dataset" / "0.png"
    interpreter.set_tensor(model_input["index"], load_image(photo, SIZE)[np.newaxis])
    interpreter.invoke()
    runner, _, _ = load_runner(path)
    by_hand = interpreter.get_tensor(model_output["index"]) / 256
    assert runner(load_batch([photo], SIZE)) == pytest.approx(by_hand, abs=1e-6)


def test_equalizing_changes_no_answer_and_fills_the_range_of_the_activations():
    keras.utils.set_random_seed(0)
    model, backbone = build_model(image_size=SIZE)
    random = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            # With their initial values, a signal fades away.
            layer.set_weights(
                [random.uniform(0.5, 1.5, gamma.shape), random.uniform(-0.2, 0.8, beta.shape), mean, variance]
            )
    images = random.uniform(-1, 1, (8, SIZE, SIZE, 3)).astype(np.float32)
    relu = backbone.get_layer("block_1_depthwise_relu")
    activations = keras.Model(backbone.input, relu.output)
    features = keras.Model(model.input, model.layers[-3].output)  # the hidden layer
    before, before_max = features.predict(images, verbose=0), activations.predict(images, verbose=0).max(axis=(0, 1, 2))
    equalize(model, images)
    after_max = activations.predict(images, verbose=0).max(axis=(0, 1, 2))
    alive = before_max > 0.1
    assert alive.any()
    assert after_max[alive] == pytest.approx(6 / 1.1, rel=1e-3)
    assert np.ptp(before) > 0
    assert features.predict(images, verbose=0) == pytest.approx(before, rel=1e-3, abs=1e-3 * np.ptp(before))


def test_8_bit_input_and_output_are_for_int8_only(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["convert_tflite.py", "--io", "uint8"])
    with pytest.raises(SystemExit):
        convert_tflite.main()
    assert "--io does nothing without --quantize int8" in capsys.readouterr().err


# --- The gate before the hand-off --------------------------------------------------


def scores(*first_two: tuple[float, float]) -> np.ndarray:
    """Probabilities of four classes: these for the first two, and the rest for the other two."""
    return np.array([[one, two, (1 - one - two) / 2, (1 - one - two) / 2] for one, two in first_two])


def agreement(expected: np.ndarray, found: np.ndarray) -> Agreement:
    return compare(expected, found, "photos")


def test_agreement_of_a_hand_worked_case():
    expected = scores((0.9, 0.1), (0.2, 0.8), (0.6, 0.4), (0.5, 0.46))
    found = scores((0.85, 0.1), (0.2, 0.8), (0.6, 0.4), (0.47, 0.49))
    result = agreement(expected, found)
    assert result.change == pytest.approx([0.05, 0, 0, 0.03])
    assert result.tie == pytest.approx(0.05)
    assert result.is_tie.tolist() == [False, False, False, True]
    assert (result.ties, result.changed_ties, result.clear, result.fraction) == (1, 1, 3, 1)


def test_a_near_tie_alone_refuses_nothing_however_few_the_images_are():
    """What a float16 model once did to 1 of 48 validation photos."""
    expected = scores(*[(0.9, 0.05)] * 47, (0.466, 0.462))
    found = scores(*[(0.9, 0.05)] * 47, (0.438, 0.491))
    assert agreement(expected, found).problem(least=0.99) is None
    assert agreement(expected[-1:], found[-1:]).problem(least=0.99) is None


def test_clear_images_that_change_class_refuse_the_model():
    expected = scores(*[(0.9, 0.05)] * 97, *[(0.6, 0.3)] * 3)
    found = scores(*[(0.9, 0.05)] * 97, *[(0.4, 0.5)] * 3)
    assert "gives 3 of 100 clear images another class, so 97.00% agree" in str(agreement(expected, found).problem(0.99))
    assert agreement(expected, found).problem(0.97) is None


def test_a_bad_precision_does_not_make_near_ties_of_clear_images():
    """However far the scores move, scores more than 0.1 apart are clear."""
    expected, found = scores((0.5, 0.39), (0.5, 0.41)), scores((0.1, 0.8), (0.1, 0.8))
    assert agreement(expected, found).is_tie.tolist() == [False, True]


def test_scores_that_move_on_all_images_refuse_a_model_that_keeps_every_class():
    expected, found = scores(*[(0.9, 0.05)] * 100), scores(*[(0.7, 0.2)] * 100)
    assert "moves the scores by 0.20 on average" in str(agreement(expected, found).problem(0.99))
