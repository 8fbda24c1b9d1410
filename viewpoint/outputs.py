"""The files of test_predict.py: rows as CSV or JSON lines, photos that failed, rows of an interrupted run."""

import contextlib
import csv
import hashlib
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TextIO

import config
from viewpoint.cli import UserError
from viewpoint.files import link_target, remove, rename_when_done, write_atomically
from viewpoint.inference import PREDICTION_COLUMNS
from viewpoint.inputs import Input, Inputs
from viewpoint.predictor import Result

STANDARD_OUTPUT = "-"
FORMATS = ("csv", "jsonl")
COLUMNS = [*PREDICTION_COLUMNS, "best_class", "quality"]
FAILED_COLUMNS = ["image_name", "reason"]

# Of the photos that failed, the summary shows this many.
FAILURES_SHOWN = 5


class Prediction(NamedTuple):
    """A photo with its result: its name in the output, its file, and what the model says."""

    name: str
    file: Path
    result: Result


@dataclass
class Outcome:
    """What happened to the photos of a run; it has the same size whatever their number.

    `inputs` lists the photos that were found; each was either predicted or failed.
    """

    inputs: Inputs
    predicted: int = 0
    resumed: int = 0  # that many of `predicted` come from an interrupted run
    failed: int = 0
    failed_named: int = 0  # that many of `failed` were asked for by name
    failures: list[tuple[str, str]] = field(default_factory=list)  # (name, reason) of the first ones that failed
    unknown: int = 0
    unusable: Counter[str] = field(default_factory=Counter)  # photos for each reason in Result.quality
    labelled: Counter[tuple[str, str]] = field(default_factory=Counter)  # (true, predicted) where both are known
    last: Prediction | None = None

    def add(self, item: Input, result: Result) -> Prediction:
        """Count a photo."""
        self.last = Prediction(item.name, item.file, result)
        if result.error is not None:
            self.failed += 1
            self.failed_named += item.is_named
            if len(self.failures) < FAILURES_SHOWN:
                self.failures.append((item.name, result.error))
            return self.last
        self.predicted += 1
        self.unusable.update(result.quality)
        if result.prediction == config.UNKNOWN:
            self.unknown += 1
        elif item.label is not None:
            self.labelled[(item.label, result.prediction)] += 1
        return self.last


# --- Rows --------------------------------------------------------------------------


@dataclass(frozen=True)
class RowFormat:
    """How predictions are written: "csv" or "jsonl", with the probabilities of `classes`."""

    name: str
    classes: Sequence[str] = ()

    @property
    def header(self) -> str:
        """What the file begins with."""
        return csv_line([*COLUMNS, *self.classes]) if self.name == "csv" else ""

    def line(self, name: str, result: Result) -> str:
        """The row of a photo."""
        probabilities = [round(result.probabilities[name], 4) for name in self.classes]
        if self.name == "csv":
            quality = "; ".join(result.quality)
            numbers = [f"{value:.4f}" for value in (result.score, *probabilities)]
            return csv_line([name, result.prediction, numbers[0], result.best_class, quality, *numbers[1:]])
        values = [name, result.prediction, round(result.score, 4), result.best_class, list(result.quality)]
        row = dict(zip(COLUMNS, values, strict=True))
        if self.classes:
            row["probabilities"] = dict(zip(self.classes, probabilities, strict=True))
        return json.dumps(row, ensure_ascii=False) + "\n"

    def read(self, text: str) -> Iterator[tuple[str, Result]]:
        """The (name, result) of each complete row; a row that was cut off is passed over."""
        if self.name == "jsonl":
            for line in text.split("\n"):
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    row = json.loads(line)
                    name, prediction, score, best, quality = (row[column] for column in COLUMNS)
                    yield name, Result(prediction, score, best, row.get("probabilities", {}), tuple(quality))
            return
        columns = [*COLUMNS, *self.classes]
        for cells in csv.reader(io.StringIO(text, newline="")):
            # A row is also cut off when the run was killed after a line break inside a photo's name.
            if len(cells) == len(columns) and cells != columns:
                name, prediction, score, best, quality, *numbers = cells
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
    """The CSV beside the output for the photos that failed."""
    return output.with_name(f"{output.stem}_failed.csv")


@contextlib.contextmanager
def open_output(
    output: Path, rows: RowFormat, outcome: Outcome, model_path: Path, options: str, resume: bool
) -> Iterator[tuple[list[tuple[Input, Result]], TextIO, TextIO]]:
    """Open what to write: (photos of an interrupted run that need no prediction, file of rows, file of failures).

    Rows go to a hidden file that becomes the output in the end. A stream gets them at once, and
    failures then go to standard error. Raises UserError when something cannot be written.
    """
    if is_stream(output):
        if resume:
            raise UserError(
                f"{output} keeps no rows of an interrupted run; give a file as --output, or leave out --resume"
            )
        with open_stream(output) as file:
            file.write(rows.header)
            yield [], file, sys.stderr
        return
    partial = partial_path(output, model_path, options)
    kept = start_partial(partial, rows, outcome.inputs, resume)
    with open_partial(partial, output, outcome) as file, open_failed(partial, output, outcome) as failed:
        yield kept, file, failed


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
def open_failed(partial: Path, output: Path, outcome: Outcome) -> Iterator[TextIO]:
    """Open the CSV for the photos that failed; in the end it is there only when there are any."""
    path = failed_path(output)
    temporary = path.with_name(f".failed{partial.name}")  # a run that is killed leaves it to the next one
    try:
        with rename_when_done(temporary, path), temporary.open("w", newline="", encoding="utf-8") as file:
            file.write(csv_line(FAILED_COLUMNS))
            yield file
    finally:
        remove(temporary)
    if not outcome.failed:
        remove(path)


def partial_path(output: Path, model_path: Path, options: str) -> Path:
    """The file for the rows of an unfinished run: beside the output, with a name for this model and these options.

    Raises UserError when `output` is a folder or does not name a file.
    """
    if not output.name or output.is_dir():
        raise UserError(f"{output} names no file to write; give a file name")
    output = link_target(output)
    content = hashlib.sha256(options.encode(errors="backslashreplace"))
    for file in sorted(model_path.rglob("*")) if model_path.is_dir() else [model_path]:
        content.update(file.read_bytes() if file.is_file() else b"")
    return output.with_name(f".{output.stem}.{content.hexdigest()[:12]}.partial{output.suffix}")


@contextlib.contextmanager
def open_partial(partial: Path, output: Path, outcome: Outcome) -> Iterator[TextIO]:
    """Open the file of an unfinished run to add rows; in the end it becomes the output.

    It is removed when no photo could be read, and stays, for --resume, when the run is interrupted.
    """
    with rename_when_done(partial, link_target(output)):
        try:
            with partial.open("a", newline="", encoding="utf-8") as file:
                yield file
        except UserError:
            if not outcome.predicted:
                remove(partial)
            raise


def start_partial(partial: Path, rows: RowFormat, inputs: Inputs, resume: bool) -> list[tuple[Input, Result]]:
    """Write the header and, with `resume`, the rows of an interrupted run whose photos are still there.

    Returns the photos of these rows.
    """
    if partial.is_file() and not resume:
        print(f"Dropping the rows of an interrupted run, which --resume would have continued ({partial})")
    done = read_partial(partial, rows) if resume else {}
    kept = []
    with write_atomically(partial) as path, path.open("w", newline="", encoding="utf-8") as file:
        file.write(rows.header)
        for item in inputs if done else ():
            if done.get(item.name):
                result = done[item.name].pop(0)
                file.write(rows.line(item.name, result))
                kept.append((item, result))
    return kept


def without(inputs: Inputs, kept: Sequence[tuple[Input, Result]]) -> Iterator[Input]:
    """The photos that are not yet in the rows of an interrupted run."""
    done = Counter(item.name for item, _ in kept)
    for item in inputs:
        if done[item.name]:
            done[item.name] -= 1
        else:
            yield item


def read_partial(path: Path, rows: RowFormat) -> dict[str, list[Result]]:
    """The complete rows of an interrupted run by photo name; {} if there is no such file."""
    done: dict[str, list[Result]] = {}
    if path.is_file():
        whole_lines = path.read_bytes().rpartition(b"\n")[0].decode(errors="replace")
        for name, result in rows.read(whole_lines):
            done.setdefault(name, []).append(result)
    return done
