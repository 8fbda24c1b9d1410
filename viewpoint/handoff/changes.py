"""What differs between a hand-off and the one before it, for the model card."""

import hashlib
import json
from pathlib import Path

from viewpoint.data.provenance import packed_data
from viewpoint.training.history import compare_runs, read_history

NOT_RECORDED = "not recorded"


def changes_section(earlier: Path, folder: Path, models: Path) -> list[str]:
    """What differs between the hand-off folders `earlier` and `folder`; nothing when there was no earlier one.

    `models` has the history of the trainings. When the earlier hand-off cannot be read, that is printed.
    """
    if not earlier.is_dir():
        return []
    runs = {str(run.get("training")): run for run in read_history(models)}
    try:
        before, now = read_facts(earlier, runs), read_facts(folder, runs)
    # What people do to an old folder can break anything in it.
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        print(f"The earlier {earlier} is damaged, so the model card does not say what changed since then.")
        return []
    title = f"## Changes since the hand-off of {before['made on']}"
    if before["file"] == now["file"]:
        return [title, "None: `model.tflite` is the same file."]
    rows = [[name, before[name], value] for name, value in now.items() if before[name] != value]
    lines = ["|  | before | now |", "| --- | --- | --- |", *("| " + " | ".join(row) + " |" for row in rows)]
    parts = [title, "\n".join(lines)]
    if before["training"] == now["training"] != NOT_RECORDED:
        parts.append("The training is the same, and so are its data and its figures on the test photos.")
    elif found := compare_runs(models, before["training"], now["training"]):
        parts.append(f"Both trainings on the test photos that they share: {found}.")
    elif (
        NOT_RECORDED not in (before["accuracy"], now["accuracy"]) and before["photos in test"] != now["photos in test"]
    ):
        parts.append("The two accuracies are of different test photos.")
    return parts


def read_facts(handoff: Path, runs: dict[str, dict]) -> dict[str, str]:
    """What the card compares, by name. `runs` are the lines of the trainings' history by id.

    Raises ValueError when model.tflite is not the file that golden.json was made with, and half a
    dozen other types when the folder is damaged.
    """
    golden = json.loads((handoff / "golden" / "golden.json").read_text(encoding="utf-8"))
    model = (handoff / "model.tflite").read_bytes()
    checksum = hashlib.sha256(model).hexdigest()
    if checksum != golden["model_sha256"]:
        raise ValueError("another model.tflite")
    facts = {
        "made on": str(golden.get("made", "unknown date")),
        "version": str(golden.get("version", NOT_RECORDED)),
        "input": f"{tuple(golden['shape'])}, {'uint8' if golden['dtype'] == 'uint8' else 'float32'}",
        "classes": ", ".join(golden["labels"]),
        "precision": str(golden.get("precision", NOT_RECORDED)),
        "mean with the mirror image": {True: "yes", False: "no"}.get(golden.get("mirror"), NOT_RECORDED),
        "file": f"{len(model) / 2**20:.2f} MiB, SHA-256 {checksum[:12]}…",
    }
    data = packed_data(handoff / "model.tflite")
    facts["training"] = data.training if data else NOT_RECORDED
    facts["threshold"] = NOT_RECORDED if data is None else "none" if data.threshold is None else f"{data.threshold:.2f}"
    for name in ("train", "val", "test"):
        split = data.splits.get(name) if data else None
        facts[f"photos in {name}"] = f"{split.photos}, fingerprint {split.hash}" if split else NOT_RECORDED
    figures = runs.get(facts["training"], {}).get("figures")
    facts["accuracy"] = f"{figures['accuracy']:.3f} of {figures['images']} test photos" if figures else NOT_RECORDED
    return facts
