"""The files of test_predict.py: rows as CSV or JSON lines, photos and videos that failed, interrupted runs."""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import config
from viewpoint.common.cli import UserError, escaped, refuse_other_settings, resumable
from viewpoint.common.writing import link_target, remove, rename_when_done, write_atomically
from viewpoint.data.provenance import KnownPhotos
from viewpoint.inference.inputs import Input, Inputs
from viewpoint.inference.model import PREDICTION_COLUMNS
from viewpoint.inference.predictor import Result

STANDARD_OUTPUT = "-"
FORMATS = ("csv", "jsonl")
COLUMNS = [*PREDICTION_COLUMNS, "best_class", "quality"]
STRETCH_COLUMNS = ["start", "end"]  # seconds; only where there are videos
FAILED_COLUMNS = ["image_name", "reason"]

# Of what failed, or was damaged, the summary shows this many.
FAILURES_SHOWN = 5


class Prediction(NamedTuple):
    """A photo with its result: its name in the output, its file, what the model says, and its label if it has one."""

    name: str
    file: Path
    result: Result
    label: str | None = None


@dataclass
class Answer:
    """What came of a photo or a video: its rows, one of a photo, and one for each stretch of a video.

    `shown` has what reports show of it: the photo itself, or the best frames of the video. `seen` is
    the split that the model learned a labelled photo in, "train" or "val".
    """

    item: Input
    results: list[Result]
    shown: list[Prediction] = field(default_factory=list)
    damage: str = ""  # what of a video could not be read
    seen: str = ""

    @classmethod
    def of_photo(cls, item: Input, result: Result, known: KnownPhotos | None = None) -> "Answer":
        """The answer for a photo; `known` are the photos that the model knows."""
        seen = known.split_of(item.file) if known and item.label is not None else ""
        return cls(item, [result], [Prediction(item.name, item.file, result, item.label)], seen=seen)

    @property
    def error(self) -> str | None:
        """Why the photo or video could not be read."""
        return self.results[0].error


@dataclass
class Outcome:
    """What happened to the photos and videos of a run; it has the same size whatever their number.

    `inputs` lists those that were found; each was either predicted or failed. `on_prediction` is called with
    each prediction that reports show.
    """

    inputs: Inputs
    on_prediction: Callable[[Prediction], None] = lambda prediction: None
    predicted: int = 0
    stretches: int = 0  # of the videos
    resumed: int = 0  # that many of `predicted` come from an interrupted run
    failed: int = 0
    failed_named: int = 0  # that many of `failed` were asked for by name
    failures: list[tuple[str, str]] = field(default_factory=list)  # (name, reason) of the first ones that failed
    damaged: list[tuple[str, str]] = field(default_factory=list)  # (name, reason) of videos that were read in part
    classes: Counter[str] = field(default_factory=Counter)  # photos of each prediction
    unusable: Counter[str] = field(default_factory=Counter)  # photos for each reason in Result.quality
    labelled: Counter[tuple[str, str]] = field(default_factory=Counter)  # (true, predicted) where both are known
    seen: Counter[str] = field(default_factory=Counter)  # labelled photos by the split that the model learned them in
    last: Prediction | None = None

    def add(self, answer: Answer) -> None:
        """Count a photo or video, and show it to reports."""
        item, result = answer.item, answer.results[0]
        self.seen[answer.seen] += 1
        self.last = Prediction(item.name, item.file, result)
        for photo in answer.shown:
            self.on_prediction(photo)
        if result.error is not None:
            self.failed += 1
            self.failed_named += item.is_named
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append((item.name, result.error))
            return
        self.predicted += 1
        if answer.damage:
            self.damaged.append((item.name, answer.damage))
        if result.start is not None:
            self.stretches += len(answer.results)
            return
        self.unusable.update(result.quality)
        self.classes[result.prediction] += 1
        if item.label is not None and result.prediction != config.UNKNOWN:
            self.labelled[(item.label, result.prediction)] += 1


# --- Rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class RowFormat:
    """How predictions are written: "csv" or "jsonl", with the probabilities of `classes`.

    `has_videos` adds STRETCH_COLUMNS to a CSV. In JSON lines, only stretches have them.
    """

    name: str
    classes: Sequence[str] = ()
    has_videos: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns of a CSV."""
        return [*COLUMNS, *(STRETCH_COLUMNS if self.has_videos else ()), *self.classes]

    @property
    def header(self) -> str:
        """What the file begins with."""
        return csv_line(self.columns) if self.name == "csv" else ""

    def line(self, name: str, result: Result) -> str:
        """The row of a photo or a stretch."""
        probabilities = [round(result.probabilities[name], 4) for name in self.classes]
        times = [] if result.start is None or result.end is None else [round(result.start, 2), round(result.end, 2)]
        if self.name == "csv":
            cells = [name, result.prediction, f"{result.score:.4f}", result.best_class, "; ".join(result.quality)]
            if self.has_videos:
                cells += [f"{time:.2f}" for time in times] or ["", ""]
            return csv_line([*cells, *(f"{value:.4f}" for value in probabilities)])
        values = [name, result.prediction, round(result.score, 4), result.best_class, list(result.quality)]
        row = dict(zip(COLUMNS, values, strict=True)) | dict(zip(STRETCH_COLUMNS, times, strict=False))
        if self.classes:
            row["probabilities"] = dict(zip(self.classes, probabilities, strict=True))
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, lines: Iterable[str]) -> Iterator[tuple[str, Result]]:
        """The (name, result) of each complete row of a photo; rows of stretches, or cut off, are passed over."""
        whole_lines = (line for line in lines if line.endswith("\n"))
        if self.name == "jsonl":
            for line in whole_lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    name, prediction, score, best, quality = (row[column] for column in COLUMNS)
                    if "start" not in row:
                        yield name, Result(prediction, score, best, row.get("probabilities", {}), tuple(quality))
            return
        for cells in csv.reader(whole_lines):
            # A row is also cut off when the run was killed after a line break inside a photo's name.
            if len(cells) == len(self.columns) and cells != self.columns:
                name, prediction, score, best, quality, *numbers = cells
                if self.has_videos:
                    start, _, *numbers = numbers
                    if start:
                        continue
                probabilities = dict(zip(self.classes, map(float, numbers), strict=True))
                reasons = tuple(quality.split("; ")) if quality else ()
                yield name, Result(prediction, float(score), best, probabilities, reasons)


def csv_line(cells: Sequence[str]) -> str:
    """A row of a CSV file."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()


# --- Files -------------------------------------------------------------------------


def is_stream(output: Path) -> bool:
    """Whether rows can only be written through: to standard output, a device or a pipe, also behind a link."""
    return str(output) == STANDARD_OUTPUT or (output.exists() and not output.is_file() and not output.is_dir())


def failed_path(output: Path) -> Path:
    """The CSV beside the output for the photos and videos that failed."""
    return output.with_name(f"{output.stem}_failed.csv")


@contextlib.contextmanager
def open_output(
    output: Path, rows: RowFormat, outcome: Outcome, settings: dict[str, str], resume: bool, known: KnownPhotos
) -> Iterator[tuple[Iterable[Input], TextIO, TextIO]]:
    """Open what to write: (what an interrupted run has not predicted, file of rows, file of failures).

    Rows go to a hidden file that becomes the output in the end; `settings` must be equal to continue
    it. A stream gets them at once, and failures then go to standard error. Raises UserError when
    something cannot be written, or the interrupted run had other settings.
    """
    if is_stream(output):
        if resume:
            raise UserError(
                f"{output} keeps no rows of an interrupted run; give a file as --output, or leave out --resume"
            )
        with open_stream(output) as file:
            file.write(rows.header)
            yield outcome.inputs, file, sys.stderr
        return
    partial = unfinished(output, "partial")
    done = check_partial(partial, unfinished(output, "settings"), output, settings, resume)
    to_do = start_partial(partial, rows, outcome, done, known)
    with resumable(partial), open_partial(partial, output, outcome) as file, open_failed(output, outcome) as failed:
        yield to_do, file, failed


@contextlib.contextmanager
def open_stream(output: Path) -> Iterator[TextIO]:
    """Open standard output, a device or a pipe to write rows. Raises UserError when nobody reads it any more."""
    try:
        if str(output) != STANDARD_OUTPUT:
            with output.open("w", newline="", encoding="utf-8") as file:
                yield file
            return
        with contextlib.suppress(AttributeError):  # a notebook's standard output has no reconfigure()
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
    except OSError as error:
        if isinstance(error, BrokenPipeError) and str(output) == STANDARD_OUTPUT:
            # Or Python would complain once more when it flushes standard output at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UserError(f"cannot write {output}: {error.strerror or error}") from error


@contextlib.contextmanager
def open_failed(output: Path, outcome: Outcome) -> Iterator[TextIO]:
    """Open the CSV for the photos that failed; in the end it is there only when there are any."""
    path = failed_path(output)
    temporary = unfinished(path, "partial")  # a run that is killed leaves it to the next one
    try:
        with rename_when_done(temporary, path), temporary.open("w", newline="", encoding="utf-8") as file:
            file.write(csv_line(FAILED_COLUMNS))
            yield file
    finally:
        remove(temporary)
    if not outcome.failed:
        remove(path)


def unfinished(output: Path, what: str) -> Path:
    """A hidden file beside the output of an unfinished run: its rows so far ("partial"), or its "settings".

    Raises UserError when `output` is a folder or does not name a file.
    """
    if not output.name or output.is_dir():
        raise UserError(f"{output} names no file to write; give a file name")
    output = link_target(output)
    return output.with_name(f".{output.name}.{what}")


def describe_run(model_path: Path, rows: RowFormat, options: dict[str, object]) -> dict[str, str]:
    """The settings that the rows of a run depend on; contents and long values as short hashes."""
    model = hashlib.sha256()
    for file in sorted(model_path.rglob("*")) if model_path.is_dir() else [model_path]:
        model.update(file.read_bytes() if file.is_file() else b"")
    settings = {name: escaped(str(value)) for name, value in options.items()}
    for name, value in settings.items():
        if len(value) > 100:
            settings[name] = hashlib.sha256(value.encode()).hexdigest()[:12]
    return settings | {"model": model.hexdigest()[:12], "format": rows.name, "columns": ", ".join(rows.columns)}


def check_partial(partial: Path, description: Path, output: Path, settings: dict[str, str], resume: bool) -> bool:
    """Whether there are rows of an interrupted run to continue; if not, prepares a new run.

    Raises UserError when these rows are of other settings, or when the last run was complete.
    """
    if resume and partial.is_file():
        try:
            before = json.loads(description.read_bytes())
        except (OSError, ValueError):
            before = {}
        refuse_other_settings(partial, "run", before, settings)
        return True
    if resume and output.is_file():
        raise UserError(f"nothing to resume: {output} is complete; predict without --resume to replace it")
    if resume:
        print(f"Nothing to resume, because there is no {partial}: starting from the beginning")
    elif partial.is_file():
        print(f"Replacing {partial} of an interrupted run, which --resume would have continued")
    elif output.is_file():
        with output.open("rb") as file:
            if file.read(20).startswith(b"image_path"):  # such as dataset/test.csv
                raise UserError(f"{output} has labels, which predictions must not replace; give another --output")
        print(f"Replacing {output} of an earlier run")
    remove(partial)  # first, so that rows never lie beside the settings of another run
    with write_atomically(description) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return False


@contextlib.contextmanager
def open_partial(partial: Path, output: Path, outcome: Outcome) -> Iterator[TextIO]:
    """Open the file of an unfinished run to add rows; in the end it becomes the output.

    It is removed when no photo could be read, and stays, for --resume, when the run is interrupted.
    """
    try:
        with rename_when_done(partial, link_target(output)), partial.open("a", newline="", encoding="utf-8") as file:
            yield file
    except UserError:
        if not outcome.predicted:
            remove(partial)
        raise
    finally:
        if not partial.exists():
            remove(unfinished(output, "settings"))


def start_partial(
    partial: Path, rows: RowFormat, outcome: Outcome, resume: bool, known: KnownPhotos
) -> Iterable[Input]:
    """Write the header and, with `resume`, the rows of an interrupted run whose photos are still there.

    Counts these, and returns the other inputs.
    """
    done = DoneRows(partial, rows) if resume else None
    to_do = bytearray(b"\1" * len(outcome.inputs))
    with write_atomically(partial) as path, path.open("w", newline="", encoding="utf-8") as file:
        file.write(rows.header)
        for index, item in enumerate(outcome.inputs if done else ()):
            if done and (result := done.take(item.name)):
                file.write(rows.line(item.name, result))
                outcome.add(Answer.of_photo(item, result, known))
                to_do[index] = 0
    outcome.resumed = outcome.predicted
    return itertools.compress(outcome.inputs, to_do)


class DoneRows:
    """The rows of an interrupted run by photo name: in a temporary database on disk, because they may be very many."""

    def __init__(self, path: Path, rows: RowFormat) -> None:
        import sqlite3  # only --resume needs it

        self.database = sqlite3.connect("")  # a temporary file that SQLite removes itself
        self.database.execute("CREATE TABLE done (name TEXT, result BLOB)")
        with path.open(encoding="utf-8", errors="replace", newline="\n") as lines:
            found = ((name, pickle.dumps(result)) for name, result in rows.read(lines))
            self.database.executemany("INSERT INTO done VALUES (?, ?)", found)
        self.database.execute("CREATE INDEX names ON done (name)")

    def take(self, name: str) -> Result | None:
        """The result of a photo, each only once; None when there is none (any more)."""
        found = self.database.execute("SELECT rowid, result FROM done WHERE name = ? LIMIT 1", [name]).fetchone()
        if found is None:
            return None
        self.database.execute("DELETE FROM done WHERE rowid = ?", found[:1])
        return pickle.loads(found[1])
