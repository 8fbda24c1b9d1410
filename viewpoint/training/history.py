"""The earlier trainings of a models folder: history.jsonl, and the predictions of their test photos."""

import contextlib
import csv
import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from viewpoint.common.cli import UserError
from viewpoint.common.metrics import Comparison, compare, describe_comparison
from viewpoint.common.tables import write_csv
from viewpoint.data.provenance import ModelData
from viewpoint.inference.model import PREDICTION_COLUMNS
from viewpoint.training.settings import Settings

HISTORY_NAME = "history.jsonl"
PREDICTIONS_FOLDER = Path("report") / "history"
COLUMNS = [*PREDICTION_COLUMNS, "label", "photo"]
FIGURES = ("images", "accuracy", "macro_f1", "log_loss", "calibration_error")
# Options that say nothing about how a model was trained.
LEFT_OUT = ("models", "resume", "quiet")


@dataclass(frozen=True)
class Previous:
    """The comparison with the previous training; `rows` are the test photos that both tested."""

    training: str
    date: str
    rows: list[int]
    comparison: Comparison | None  # None when no photo was tested by both

    def describe(self) -> str:
        """The comparison in a sentence."""
        title = f"Against the previous training ({self.training}, {self.date})"
        if self.comparison is None:
            return f"{title}: it tested none of these photos, so the two cannot be compared"
        return f"{title}, on the photos that both tested: {describe_comparison(self.comparison)}"


def read_history(models: Path) -> list[dict]:
    """The lines of history.jsonl; a line that an interruption cut off is left out."""
    try:
        lines = (models / HISTORY_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    runs = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            runs.append(json.loads(line))
    return [run for run in runs if isinstance(run, dict)]


def read_predictions(path: Path, column: str = "prediction") -> dict[str, str]:
    """The predictions in a file of report/history/, or another column, by photo hash; {} when missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["photo"]: row[column] for row in csv.DictReader(file) if row["photo"]}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def last_run(models: Path) -> tuple[dict, dict[str, str]] | None:
    """The last training whose predictions are still there: (its line in history.jsonl, predictions by photo hash)."""
    for run in reversed(read_history(models)):
        if predictions := read_predictions(models / str(run.get("predictions"))):
            return run, predictions
    return None


def compare_with_previous(
    models: Path, hashes: Sequence[str], labels: Sequence[str], predicted: Sequence[str]
) -> Previous | None:
    """Compare test predictions with those of the last training; None without an earlier one.

    Photos are recognized by their content, and both models are judged by the labels given.
    """
    last = last_run(models)
    if last is None:
        return None
    run, old = last
    rows = [row for row, photo in enumerate(hashes) if photo in old]
    pairs = [labels[row] for row in rows], [old[hashes[row]] for row in rows], [predicted[row] for row in rows]
    found = compare(*pairs) if rows else None
    return Previous(str(run.get("training")), str(run.get("date")), rows, found)


def compare_runs(models: Path, before: str, now: str) -> str | None:
    """Compare two trainings, by their ids, on the test photos of both, in a sentence; None when there are none.

    Both are judged by the labels of the later one.
    """
    folder = models / PREDICTIONS_FOLDER
    old, new = (read_predictions(folder / f"{name}.csv") for name in (before, now))
    labels = read_predictions(folder / f"{now}.csv", "label")
    photos = [photo for photo in new if photo in old and photo in labels]
    if not photos:
        return None
    return describe_comparison(compare(*([found[photo] for photo in photos] for found in (labels, old, new))))


def changes_since_previous(models: Path, data: ModelData, settings: Settings) -> str:
    """What is not as it was in the training that compare_with_previous takes: photos or labels of a split, options.

    "" without an earlier training.
    """
    last = last_run(models)
    if last is None:
        return ""
    before, now = dict(last[0].get("options") or {}), changed_options(settings)
    hashes = dict(last[0].get("data") or {})
    found = [
        f"other photos or labels in {name}" for name, split in data.splits.items() if hashes.get(name) != split.hash
    ]
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            found.append(f"{name} {now.get(name, 'its default')} instead of {before.get(name, 'its default')}")
    return "; ".join(found) or "nothing: the same photos, labels and options"


def add_to_history(
    models: Path,
    data: ModelData,
    settings: Settings,
    metrics: dict,
    rows: Sequence[Sequence[str]],
) -> None:
    """Write the test predictions to report/history/, and append the training's line to history.jsonl.

    `rows` have the COLUMNS. Raises UserError when one of the files cannot be written.
    """
    predictions = PREDICTIONS_FOLDER / f"{data.training}.csv"
    write_csv(models / predictions, COLUMNS, rows)
    line = {
        "date": f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %z}",
        "training": data.training,
        "data": {name: split.hash for name, split in data.splits.items()},
        "options": changed_options(settings),
        "figures": {name: metrics[name] for name in FIGURES},
        "predictions": predictions.as_posix(),
    }
    path = models / HISTORY_NAME
    try:
        cut_off = path.is_file() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as file:
            file.write("\n" * cut_off + json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def changed_options(settings: Settings) -> dict[str, object]:
    """The options that differ from the defaults of their recipe, and the recipe if it is not the default one."""
    defaults = vars(Settings(settings.recipe)) | {"recipe": "default"}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(settings).items()
        if name not in LEFT_OUT and value != defaults[name]
    }
