"""Run a .tflite file or a SavedModel on photos, in threads. TensorFlow is imported only for a SavedModel."""

import re
import threading
import zipfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import unscale
from viewpoint.common.parallel import cpu_count
from viewpoint.common.tables import encoding_of
from viewpoint.common.tensorflow import without_harmless_lines

PREDICTION_COLUMNS = ["image_name", "prediction", "score"]
LABELS_NAME = "labels.txt"
USE_ITS_LABELS = f"use the {LABELS_NAME} that was written with this model"

# Maps float32 images (n, size, size, 3), -1 to 1, to float32 probabilities (n, classes). Any
# number of threads can call it.
Runner = Callable[[np.ndarray], np.ndarray]

# The shape of a model's input or output with the batch dimension; None where any number fits.
Shape = list[int | None]


# --- Models ------------------------------------------------------------------------


def find_model(models: Path) -> Path | None:
    """The newer of model.tflite and saved_model/ in a folder of models; None when there is neither."""
    files = {"model.tflite": models / "model.tflite", "saved_model": models / "saved_model" / "saved_model.pb"}
    found = [name for name, file in files.items() if file.is_file()]
    return models / max(found, key=lambda name: files[name].stat().st_mtime) if found else None


def model_path(text: str) -> Path:
    """An option type for argparse: a .tflite file, a SavedModel folder, or a folder of models, of which the .tflite."""
    path = Path(text)
    inside = [path / "model.tflite", path / "saved_model"]
    return next((model for model in inside if model.exists()), path)


def load_runner(model_path: Path | str) -> tuple[Runner, int, int]:
    """Load a .tflite file or a SavedModel folder: (runner, image size, class count).

    Raises UserError when there is no such model, or when it does not map a square RGB image of
    one fixed size to class probabilities.
    """
    model_path = Path(model_path)
    if not model_path.exists():
        raise UserError(
            f"{model_path} not found; run train.py and convert_tflite.py, or give the path of another model"
        )
    load = load_saved_model if model_path.is_dir() else load_tflite
    try:
        runner, input_shape, output_shape = load(model_path)
    except UserError:
        raise
    # LiteRT and TensorFlow raise a dozen unrelated types on damaged files.
    except Exception as error:
        raise UserError(f"{model_path} is not a TFLite file or SavedModel folder: {error}") from error
    match input_shape, output_shape:
        case [_, int(height), int(width), 3], [_, int(class_count)] if height == width:
            return runner, height, class_count
    described = " to ".join(f"({', '.join(map(str, shape))})" for shape in (input_shape, output_shape))
    raise UserError(
        f"{model_path} maps {described}, not a square RGB image of a fixed size to classes; "
        "give a model that was made by this project"
    )


def load_model(model_path: Path | str, labels_path: Path | str | None = None) -> tuple[Runner, int, list[str]]:
    """Load a model and its classes: (runner, image size, class names).

    Without `labels_path`, the classes come from labels.txt in the SavedModel folder or beside the
    .tflite file, or else from inside the .tflite file. Raises UserError as load_runner and
    read_labels do, and when labels.txt belongs to another model.
    """
    model_path = Path(model_path)
    runner, size, class_count = load_runner(model_path)
    packed = packed_labels(model_path)
    beside = model_path if model_path.is_dir() else model_path.parent
    source = Path(labels_path or beside / LABELS_NAME)
    if packed and not labels_path and not source.exists():
        return runner, size, check_labels(packed, class_count, f"{LABELS_NAME} inside {model_path}")
    labels = read_labels(source, class_count)
    if packed and packed != labels:
        raise UserError(
            f"{source} does not name the classes inside {model_path}, {', '.join(packed)}; {USE_ITS_LABELS}"
        )
    return runner, size, labels


def load_tflite(model_path: Path) -> tuple[Runner, Shape, Shape]:
    """Load a .tflite file: (runner, input shape, output shape).

    A model with 8-bit input gets 8-bit values, and 8-bit output is converted to probabilities.
    Raises UserError when its input or output has another type.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = model_path.read_bytes()  # once, so that a file replaced later is not mixed in

    def new_interpreter() -> Interpreter:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        return interpreter

    with without_harmless_lines():  # LiteRT tells of its delegate once in a process
        interpreter = new_interpreter()
    model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for what, details in (("takes", model_input), ("gives", model_output)):
        if details["dtype"] not in (np.float32, np.uint8, np.int8):
            raise UserError(
                f"{model_path} {what} {np.dtype(details['dtype'])} values; convert it with float32, uint8 or int8 "
                "input and output"
            )

    # An interpreter works for one thread at a time. More are made when more threads call.
    idle, free_cores = deque([interpreter]), threading.BoundedSemaphore(cpu_count())

    def runner(batch: np.ndarray) -> np.ndarray:
        probabilities = []
        with free_cores:
            try:
                interpreter = idle.pop()
            except IndexError:
                interpreter = new_interpreter()
            for image in quantize(batch, model_input):
                interpreter.set_tensor(model_input["index"], image[np.newaxis])
                interpreter.invoke()
                probabilities.append(interpreter.get_tensor(model_output["index"])[0])
            idle.append(interpreter)
        if model_output["dtype"] == np.float32:
            return np.stack(probabilities)
        step, zero_point = model_output["quantization"]
        return (np.stack(probabilities).astype(np.float32) - zero_point) * np.float32(step)

    # "shape" has a 1 where any number fits, "shape_signature" a -1.
    shapes = [
        [None if n < 0 else int(n) for n in details["shape_signature"]] for details in (model_input, model_output)
    ]
    return runner, shapes[0], shapes[1]


def quantize(batch: np.ndarray, model_input: dict) -> np.ndarray:
    """Float32 images, -1 to 1, as a .tflite model's input takes them; `model_input` is from get_input_details().

    Source: https://ai.google.dev/edge/litert/models/quantization_spec, real value = (8-bit value -
    zero point) * step.
    """
    if model_input["dtype"] == np.float32:
        return batch
    (step, zero_point), limits = model_input["quantization"], np.iinfo(model_input["dtype"])
    low, high = step * (limits.min - zero_point), step * (limits.max - zero_point)
    is_our_range = abs(low + 1) <= step and abs(high - 1) <= step
    # Without rounding where the 256 values are the pixels, also as 0 to 1 or 0 to 255.
    if is_our_range or abs(low) <= step:
        return (unscale(batch).astype(np.int16) + limits.min).astype(model_input["dtype"])
    return np.clip(np.round(batch / step + zero_point), limits.min, limits.max).astype(model_input["dtype"])


def load_saved_model(folder: Path) -> tuple[Runner, Shape, Shape]:
    """Load a SavedModel folder: (runner, input shape, output shape)."""
    # Here, because it takes seconds, and many phones and servers have only LiteRT.
    from viewpoint.common.tensorflow import import_tensorflow

    import_tensorflow()
    import tensorflow as tf

    # The runner refers to `loaded`, not only to `serve`: otherwise the variables would be freed.
    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    [model_input] = serve.structured_input_signature[1].values()
    [(output_name, model_output)] = serve.structured_outputs.items()

    def runner(batch: np.ndarray) -> np.ndarray:
        return loaded.signatures["serving_default"](**{model_input.name: tf.constant(batch)})[output_name].numpy()

    input_shape, output_shape = (
        tensor.shape.as_list() if tensor.shape.rank is not None else [] for tensor in (model_input, model_output)
    )
    return runner, input_shape, output_shape


# --- Class names -------------------------------------------------------------------


def read_labels(labels_path: Path | str, class_count: int) -> list[str]:
    """Read class names, one on each line, in the order of the model's outputs; see parse_labels.

    Raises UserError when the file is missing or does not name `class_count` classes.
    """
    try:
        content = Path(labels_path).read_bytes()
        labels = parse_labels(content.decode(encoding_of(content)), labels_path)
    except FileNotFoundError as error:
        raise UserError(f"{labels_path} not found; {USE_ITS_LABELS}") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8 or UTF-16"
        raise UserError(f"cannot read the class names in {labels_path}: {reason}; {USE_ITS_LABELS}") from error
    return check_labels(labels, class_count, str(labels_path))


def parse_labels(text: str, source: Path | str) -> list[str]:
    """The class names on the lines of a text, without empty lines, and without numbers before them.

    Teachable Machine and others write "0 Front", "1 Rear". Raises UserError when such numbers are
    not 0, 1, 2 ...
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [re.fullmatch(r"(\d+)[\s:,;]+(\S.*)", line) for line in lines]
    if not all(numbered):
        return lines
    numbers = [int(match[1]) for match in numbered if match]
    if numbers != list(range(len(lines))):
        raise UserError(
            f"{source} numbers its classes {', '.join(map(str, numbers))}, not 0, 1, 2 ... as the model's outputs "
            f"are; {USE_ITS_LABELS}"
        )
    return [match[2] for match in numbered if match]


def check_labels(labels: list[str], class_count: int, source: str) -> list[str]:
    """The labels. Raises UserError, naming their source, when there are not `class_count`."""
    if len(labels) != class_count:
        raise UserError(f"{source} names {len(labels)} classes, but the model has {class_count}; {USE_ITS_LABELS}")
    return labels


def packed_labels(model_path: Path) -> list[str] | None:
    """The class names in the zip archive at the end of a .tflite file; None without any.

    Raises UserError when the archive is damaged.
    """
    if not model_path.is_file() or not zipfile.is_zipfile(model_path):
        return None
    try:
        with zipfile.ZipFile(model_path) as packed:
            text = packed.read(LABELS_NAME).decode() if LABELS_NAME in packed.namelist() else None
    # zipfile raises half a dozen unrelated types on damaged archives.
    except Exception as error:
        raise UserError(
            f"the {LABELS_NAME} inside {model_path} is damaged: {error}; convert the model again"
        ) from error
    return None if text is None else parse_labels(text, f"{LABELS_NAME} inside {model_path}")


def with_mirror(runner: Runner, labels: list[str]) -> Runner:
    """A runner that averages the probabilities of an image and of its mirror image; see in_mirror."""
    mirrored = in_mirror(runner, labels)
    return lambda batch: (runner(batch) + mirrored(batch)) / 2


def in_mirror(runner: Runner, labels: list[str]) -> Runner:
    """A runner that gives the probabilities of the mirror image, with the classes mapped back.

    Raises UserError as mirrored_indices does.
    """
    mirrored = mirrored_indices(labels)
    return lambda batch: runner(batch[:, :, ::-1])[:, mirrored]


def mirrored_indices(labels: list[str]) -> list[int]:
    """The class index of each class after a horizontal flip, by config.MIRRORED_CLASS.

    Raises UserError when one of the labels is missing there.
    """
    try:
        return [labels.index(config.MIRRORED_CLASS[name]) for name in labels]
    except (KeyError, ValueError) as error:
        raise UserError(
            f"cannot mirror the classes {', '.join(labels)}: {error}; predict without --tta, convert without --mirror"
        ) from error
