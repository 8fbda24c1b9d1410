"""Check that a model file gives the expected answers on this machine.

    pip install ai-edge-litert numpy pillow
    python verify.py                     # model.tflite beside this file
    python verify.py other_model.tflite

Runs the model on the photos in golden/ and compares its labels, inputs and probabilities with
golden.json. Exits with 0 when all agree and with 1 otherwise.
"""

import json
import sys
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


def main() -> int:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "model.tflite"
    golden = json.loads((FOLDER / "golden" / "golden.json").read_text(encoding="utf-8"))
    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    with zipfile.ZipFile(model) as packed:
        labels = packed.read("labels.txt").decode().split()
    problems = [] if labels == golden["labels"] else ["the labels inside the model differ from golden.json"]
    largest = 0.0
    for photo in golden["photos"]:
        tensor = np.fromfile(FOLDER / "golden" / photo["input"], golden["dtype"]).reshape(golden["shape"])
        pixels = np.asarray(Image.open(FOLDER / "golden" / photo["photo"]).convert("RGB"))[np.newaxis]
        if not np.array_equal(pixels if golden["dtype"] == "uint8" else pixels.astype("<f4") / 127.5 - 1, tensor):
            problems.append(f"{photo['photo']}: its pixels are not the tensor in {photo['input']}")
        probabilities = run(interpreter, tensor)
        difference = float(np.abs(probabilities - photo["probabilities"]).max())
        largest = max(largest, difference)
        if difference > golden["tolerance"]:
            problems.append(f"{photo['photo']}: a probability differs by {difference:.3f}")
    print(f"{model}: {len(golden['photos'])} photos, largest difference {largest:.6f} (allowed: {golden['tolerance']})")
    print("\n".join(problems) or "All as expected.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
