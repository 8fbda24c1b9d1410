"""Check that a model file gives the expected answers on this machine.

    pip install ai-edge-litert numpy pillow
    python verify.py                     # model.tflite beside this file
    python verify.py other_model.tflite

Runs the model on the photos in golden/ and compares its labels, inputs and probabilities with
golden.json, of the precision that the file was made in; prints the median time of an answer, as a
row for MODEL_CARD.md.
Exits with 0 when all agree and with 1 otherwise.
"""

import hashlib
import json
import platform
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

FOLDER = Path(__file__).parent


def run(interpreter: Interpreter, tensor: np.ndarray) -> np.ndarray:
    """The probabilities for one input tensor: float32 (classes,)."""
    model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.set_tensor(model_input["index"], tensor)
    interpreter.invoke()
    values = interpreter.get_tensor(model_output["index"])[0]
    if values.dtype == np.uint8:
        scale, zero_point = model_output["quantization"]
        return (values.astype(np.float32) - zero_point) * scale
    return values


def find_golden(model: Path) -> tuple[Path, dict]:
    """The golden set that was made with this very file, (folder, golden.json); else that of model.tflite."""
    checksum = hashlib.sha256(model.read_bytes()).hexdigest()
    files = [FOLDER / "golden" / "golden.json", *sorted((FOLDER / "golden").glob("*/golden.json"))]
    sets = [(path.parent, json.loads(path.read_text(encoding="utf-8"))) for path in files]
    return next((pair for pair in sets if pair[1]["model_sha256"] == checksum), sets[0])


def main() -> int:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "model.tflite"
    folder, golden = find_golden(model)
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    with zipfile.ZipFile(model) as packed:
        labels = packed.read("labels.txt").decode().splitlines()
    problems = [] if labels == golden["labels"] else ["the labels inside the model differ from golden.json"]
    largest, milliseconds = 0.0, []
    for photo in golden["photos"]:
        tensor = np.fromfile(folder / photo["input"], golden["dtype"]).reshape(golden["shape"])
        pixels = np.asarray(Image.open(folder / photo["photo"]).convert("RGB"))[np.newaxis]
        if not np.array_equal(pixels if golden["dtype"] == "uint8" else pixels.astype("<f4") / 127.5 - 1, tensor):
            problems.append(f"{photo['photo']}: its pixels are not the tensor in {photo['input']}")
        for _ in range(5):
            start = time.perf_counter()
            probabilities = run(interpreter, tensor)
            milliseconds.append(1000 * (time.perf_counter() - start))
        difference = float(np.abs(probabilities - photo["probabilities"]).max())
        largest = max(largest, difference)
        if difference > golden["tolerance"]:
            problems.append(f"{photo['photo']}: a probability differs by {difference:.3f}")
    print(f"{model}: {len(golden['photos'])} photos, largest difference {largest:.6f} (allowed: {golden['tolerance']})")
    print("Median time of an answer, one thread; for the table under Speed in MODEL_CARD.md, with the device's name:")
    print(f"| {platform.machine()} {platform.system()} | `{model.name}` | {np.median(milliseconds):.1f} |")
    print("\n".join(problems) or "All as expected.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
