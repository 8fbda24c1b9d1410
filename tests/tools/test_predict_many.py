"""Very many photos: no row is lost or made twice, whatever is killed, and nothing secret is printed.

Needs what requirements-cluster.txt and moto's server bring; what is missing skips its tests. The tests of
Ray and of 5,000 photos take minutes: pytest -m stress.
"""

import csv
import functools
import http.server
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from conftest import save_photo

import config
from viewpoint.inference import model as inference

pytest.importorskip("fsspec", reason="no fsspec here")
pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow here")
pa = pytest.importorskip("pyarrow", reason="no pyarrow here")

import fsspec
import predict_many

from viewpoint.inference import shards, storage

COLUMNS = ["image_name", "prediction", "score", "best_class", "quality", "error"]

# Stands for a model that decides by a photo's mean colour, in processes of their own, too.
FAKE_MODEL = """
import os
import numpy as np
from viewpoint.inference import model as inference

def runner(batch):
    if "CALLS" in os.environ:
        with open(os.environ["CALLS"], "ab") as file:
            file.write(b"." * len(batch))
    red = np.clip(batch[..., 0].mean(axis=(1, 2)) / 2 + 0.5, 0, 1)[:, np.newaxis]
    return np.concatenate([red, (1 - red) / 6 * np.ones((len(batch), 6))], axis=1).astype(np.float32)

inference.load_runner = lambda path: (runner, 32, 7)
"""
SAME_PROCESS_ID = "import os\nos.getpid = lambda: 1\n"  # as of copies in containers
RUN_FAKE = (
    f"import sys; sys.path[:0] = [{str(Path(predict_many.__file__).parents[1])!r}, "
    f"{str(Path(predict_many.__file__).parent)!r}]\n{SAME_PROCESS_ID}{FAKE_MODEL}\n"
    "import os, config, predict_many\nconfig.PHOTOS_PER_BLOCK, config.STORAGE_PAUSE = 20, 0.01\n"
    "from viewpoint.common.cli import run\n"
    # Shells start processes in the background with Ctrl+C switched off.
    "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nrun(predict_many.main)\n"
)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with index pages, and logs nothing."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """The path of the model that FAKE_MODEL stands for."""
    monkeypatch.setattr(inference, "load_runner", inference.load_runner)  # so that it is restored
    exec(FAKE_MODEL, {})
    monkeypatch.setattr(config, "STORAGE_PAUSE", 0.001)
    monkeypatch.setattr(config, "PHOTOS_PER_BLOCK", 10)
    path = tmp_path / "model" / "model.tflite"
    path.parent.mkdir()
    path.write_bytes(b"a model")
    (path.parent / "labels.txt").write_text("\n".join(config.CLASSES))
    return path


def write_photos(folder: Path, count: int) -> list[str]:
    """Write photos, every tenth broken: the sorted names."""
    contents = [save_photo(folder.parent / "one.png", seed).read_bytes() for seed in range(5)]
    names = []
    for index in range(count):
        names.append(f"lot {index % 3}/{index:04} é#%?.png")
        path = folder / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no photo" if index % 10 == 3 else contents[index % 5])
    return sorted(names)


def rows(destination: Path | str) -> list[dict]:
    """All rows of a destination, sorted by name."""
    store = storage.Store(str(destination))
    tables = [
        pq.read_table(store.fs.open(f"predictions/{name}"))
        for name in sorted(store.names("predictions"))
        if name.startswith("part-")
    ]
    return pa.concat_tables(tables).sort_by("image_name").to_pylist()


def test_a_folder_gives_a_row_for_each_photo_and_each_failure(call, model, tmp_path):
    names = write_photos(tmp_path / "photos", 25)
    (tmp_path / "photos" / "raw.cr2").touch()
    output = tmp_path / "out"
    code, printed, error = call(predict_many, tmp_path / "photos", output, "--model", model)
    assert code == 0, error
    # In a log, progress is a line a minute, besides the first and the last.
    lines = [line.split(",")[0] for line in error.splitlines() if line]
    assert lines == ["0 of 25 photos", "25 of 25 photos"]
    found = rows(output)
    assert list(found[0]) == COLUMNS
    assert [row["image_name"] for row in found] == names
    failed = [row for row in found if row["error"]]
    assert {row["image_name"].split("/")[1][:4] for row in failed} == {"0003", "0013", "0023"}
    assert {row["error"] for row in failed} == {"not an image, or damaged at its beginning"}
    assert {row["prediction"] for row in failed} == {None}
    assert len(list((output / "predictions").iterdir())) == 3
    assert "25 photos found: 22 predicted, 3 failed" in printed
    assert "not an image, or damaged at its beginning: 3" in printed
    assert "photo or video in a format that is not read" in printed
    assert len((output / "failed.csv").read_text().splitlines()) == 1 + 3


def test_rows_are_those_of_the_predictor(call, model, tmp_path):
    write_photos(tmp_path / "photos", 12)
    call(predict_many, tmp_path / "photos", tmp_path / "out", "--model", model, "--unknown-below", 0.5)
    predictor = shards.Predictor(model, unknown_below=0.5)
    for row in rows(tmp_path / "out"):
        result = predictor(tmp_path / "photos" / row["image_name"])
        assert (row["prediction"] or "") == result.prediction
        assert (row["score"] or 0) == pytest.approx(result.score)
        assert bool(row["error"]) == bool(result.error)


def test_what_exists_is_not_made_again(call, model, tmp_path):
    write_photos(tmp_path / "photos", 40)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    call(predict_many, *command)
    parts = sorted((tmp_path / "out" / "predictions").iterdir())
    parts[1].unlink()
    times = [path.stat().st_mtime_ns for path in (parts[0], *parts[2:])]
    assert call(predict_many, *command)[0] == 0
    assert [path.stat().st_mtime_ns for path in (parts[0], *parts[2:])] == times


@pytest.mark.parametrize(
    ("change", "name"), [(["--unknown-below", 0.5], "unknown below"), (["--tta"], "tta"), ([], "model")]
)
def test_another_run_on_the_same_destination_is_refused(call, model, tmp_path, change, name):
    write_photos(tmp_path / "photos", 3)
    call(predict_many, tmp_path / "photos", tmp_path / "out", "--model", model)
    if not change:
        model.write_bytes(b"another model")
    code, _, error = call(predict_many, tmp_path / "photos", tmp_path / "out", "--model", model, *change)
    assert code == 2 and f"holds a run with another {name}; give another DESTINATION" in error


@pytest.mark.parametrize("kind", ["csv", "parquet", "glob"])
def test_manifests_and_globs(call, model, tmp_path, kind):
    names = write_photos(tmp_path / "photos", 9)
    source = tmp_path / "photos" / f"list.{kind}"
    if kind == "csv":
        source.write_text("image_path\n" + "\n".join([*names, "gone.png"]) + "\n", encoding="utf-8")
    elif kind == "parquet":
        pq.write_table(pa.table({"image_name": [*names, "gone.png"]}), source)
    else:
        source = tmp_path / "photos" / "lot [01]" / "*.png"
    assert call(predict_many, source, tmp_path / "out", "--model", model)[0] == 0
    found = {row["image_name"]: row["error"] for row in rows(tmp_path / "out")}
    if kind == "glob":
        assert len(found) == 6
    else:
        assert found.keys() == {*names, "gone.png"} and found["gone.png"] == "no such file"


def test_an_object_store_in_memory(call, model, tmp_path):
    names = write_photos(tmp_path / "photos", 9)
    fs = fsspec.filesystem("memory")
    for name in names:
        fs.pipe_file(f"/photos/{name}", (tmp_path / "photos" / name).read_bytes())
    fs.pipe_file("/photos/@eaDir/thumb.png", b"")
    code, printed, error = call(predict_many, "memory://photos", "memory://out", "--model", model)
    assert code == 0, error
    assert [row["image_name"] for row in rows("memory://out")] == names
    assert "made by the system or another program" in printed


def test_a_missing_or_damaged_part_is_found(call, model, tmp_path):
    write_photos(tmp_path / "photos", 20)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    call(predict_many, *command)
    part = tmp_path / "out" / "predictions" / "part-000001.parquet"
    pq.write_table(pq.read_table(part)[:2], part)
    code, printed, _ = call(predict_many, *command)
    assert code == 1 and "Incomplete: predictions/part-000001.parquet" in printed


def test_throttling_is_tried_again_and_a_closed_storage_stops_the_run(model, monkeypatch):
    answers = iter([OSError("SlowDown"), TimeoutError(), b"content"])

    def read() -> bytes:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert storage.with_retries(read) == b"content"
    tries = []
    with pytest.raises(PermissionError):
        storage.with_retries(lambda: tries.append(1) or (_ for _ in ()).throw(PermissionError()))
    assert len(tries) == 1


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, TimeoutError])
@pytest.mark.parametrize("before", [0, 13, 29])
def test_an_outage_of_the_storage_stops_the_run_and_fails_no_photos(call, model, tmp_path, monkeypatch, error, before):
    write_photos(tmp_path / "photos", 30)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    reads = []

    def read(address: str) -> bytes:
        reads.append(address)
        if len(reads) > before:
            raise error
        return Path(address).read_bytes()

    with monkeypatch.context() as outage:
        outage.setattr(storage, "read", read)
        code, _, message = call(predict_many, *command)
    assert code == 2 and "photos cannot be read" in message and "run the same command again" in message
    assert "30 photos found: 27 predicted, 3 failed" in call(predict_many, *command)[1]
    assert {row["error"] for row in rows(tmp_path / "out")} == {None, "not an image, or damaged at its beginning"}


def test_a_short_outage_of_the_storage_fails_no_photos(call, model, tmp_path, monkeypatch):
    names = write_photos(tmp_path / "photos", 30)
    refused: list[str] = []

    def read(address: str) -> bytes:
        if address.endswith(names[12]) and len(refused) < config.STORAGE_ATTEMPTS:
            refused.append(address)
            raise TimeoutError
        return Path(address).read_bytes()

    monkeypatch.setattr(storage, "read", read)
    printed = call(predict_many, tmp_path / "photos", tmp_path / "out", "--model", model)[1]
    assert len(refused) == config.STORAGE_ATTEMPTS
    assert "30 photos found: 27 predicted, 3 failed" in printed


def test_photos_that_alone_cannot_be_read_fail(call, model, tmp_path, monkeypatch):
    """Here the archive's first ones, as when it begins with photos in cold storage."""
    names = write_photos(tmp_path / "photos", 60)

    def read(address: str) -> bytes:
        if any(address.endswith(name) for name in names[:20]):
            raise PermissionError
        return Path(address).read_bytes()

    monkeypatch.setattr(storage, "read", read)
    assert call(predict_many, tmp_path / "photos", tmp_path / "out", "--model", model)[0] == 0
    assert [row["image_name"] for row in rows(tmp_path / "out") if row["error"] == "permission denied"] == names[:20]


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("https://me:secret@host/a.csv?token=secret", "https://host/a.csv"),
        ("cannot get https://host/a.jpg?X-Amz-Signature=secret now", "cannot get https://host/a.jpg now"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
    ],
)
def test_credentials_are_not_shown(text, harmless):
    assert storage.redact(text) == harmless


def test_parts_of_other_photos_are_found(call, model, tmp_path):
    """Somebody removed the manifest to list the photos again, or two lists came to one destination."""
    write_photos(tmp_path / "photos", 20)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    call(predict_many, *command)
    (tmp_path / "out" / "manifest.parquet").unlink()
    code, _, error = call(predict_many, *command)
    assert code == 2 and "has predictions but no manifest.parquet" in error
    call(predict_many, tmp_path / "photos" / "lot [01]", tmp_path / "other", "--model", model)
    (tmp_path / "other" / "manifest.parquet").rename(tmp_path / "out" / "manifest.parquet")
    code, printed, _ = call(predict_many, tmp_path / "photos" / "lot [01]", tmp_path / "out", "--model", model)
    # The glob gives the photos the same names: the first block has the same ten, the second ends earlier.
    assert code == 1 and "Incomplete: predictions/part-000001.parquet;" in printed


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("gone", "out", "gone not found"),
        ("gone.csv", "out", "gone.csv: No such file"),
        ("gone.parquet", "out", "cannot list gone.parquet: no such file; check the address"),
        ("bad.parquet", "out", "bad.parquet"),
        ("empty", "out", "no photos in"),
        ("empty.csv", "out", "no photos in"),
        ("videos", "out", "no photos in"),
        ("photos", "photos/lot 0/a.jpg", "cannot write"),
        ("photos", "photos/lot 0/a.jpg/out", "cannot write"),
        ("photos", "foreign", "is not from this command"),
        ("photos", "http://host/out", "cannot write to http://host/out"),
        ("what://photos", "out", "cannot open what:// addresses"),
    ],
)
def test_mistakes_are_said_in_a_sentence(call, model, tmp_path, monkeypatch, source, destination, message):
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "photos" / "lot 0" / "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.csv").write_text("image_path\n")
    (tmp_path / "bad.parquet").write_text("no Parquet")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "walk.mp4").touch()
    (tmp_path / "foreign").mkdir()
    pq.write_table(pa.table({"image_name": ["a.jpg"]}), tmp_path / "foreign" / "manifest.parquet")
    code, _, error = call(predict_many, source, destination, "--model", model)
    assert code == 2 and message in error and "Traceback" not in error, error
    assert not (tmp_path / "out" / "manifest.parquet").exists()


@pytest.mark.parametrize(("name", "message"), [("gone.tflite", "gone.tflite not found"), ("", "is a folder")])
def test_a_model_that_is_no_file_is_named(call, tmp_path, name, message):
    code, _, error = call(predict_many, tmp_path, tmp_path / "out", "--model", tmp_path / name)
    assert code == 2 and message in error and not (tmp_path / "out").exists()


def test_a_destination_inside_the_source(call, model, tmp_path):
    names = write_photos(tmp_path / "photos", 12)
    (tmp_path / "photos" / "walk.mp4").touch()
    command = [tmp_path / "photos", tmp_path / "photos" / "out", "--model", model]
    assert "Not read: 1 file (video, which test_predict.py reads)" in call(predict_many, *command)[1]
    assert call(predict_many, *command)[0] == 0
    assert [row["image_name"] for row in rows(tmp_path / "photos" / "out")] == names


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("kind", ["folder", "csv", "memory"])
def test_unusual_names(call, model, tmp_path, kind):
    names = [
        "a::b.png",
        " a.png",
        "a\nb.png",
        "*[x]?.png",
        "~a.png",
        "s3:a.png",
        "\u202e.png",
        "a%20b#c&d.png",
        '"a,b".png',
    ]
    names += [os.fsdecode(b"\xff.png")] if kind == "folder" else []
    for name in names:
        save_photo(tmp_path / "photos" / "one.png").rename(tmp_path / "photos" / name)
    source = tmp_path / "photos"
    if kind == "csv":
        source /= "list.csv"
        with source.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["image_path"], *([name] for name in names), [names[0]]])  # one of them twice
    elif kind == "memory":
        source = "memory://unusual"
        for name in names:
            fsspec.filesystem("memory").pipe_file(f"/unusual/{name}", (tmp_path / "photos" / name).read_bytes())
    code, printed, error = call(predict_many, source, tmp_path / "out", "--model", model)
    assert code == 0, error
    expected = [name.replace("\udcff", "\\udcff") for name in names] + ([names[0]] if kind == "csv" else [])
    assert [row["image_name"] for row in rows(tmp_path / "out")] == sorted(expected)
    assert f"{len(expected)} photos found: {len(expected)} predicted, 0 failed" in printed


def test_lists_and_folders_of_a_web_server(call, model, tmp_path):
    pytest.importorskip("aiohttp", reason="no aiohttp here")
    names = ["lot 0/a b.png", "lot 1/c#.png"]
    for name in names:
        save_photo(tmp_path / "web" / name)
    handler = functools.partial(QuietHandler, directory=tmp_path / "web")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://me:secret@127.0.0.1:{server.server_port}"
        quoted = [urllib.parse.quote(name) for name in names]
        lines = ["image_path", quoted[0], f"{address}/{quoted[1]}?token=secret", f"{address}/gone.png"]
        (tmp_path / "web" / "list.csv").write_text("\n".join(lines))
        for source, output in ((f"{address}/list.csv?token=secret", "listed"), (f"{address}/", "folder")):
            code, printed, error = call(predict_many, source, tmp_path / output, "--model", model)
            assert code == 0 and "secret" not in printed + error, error
        server.shutdown()
    public = address.replace("me:secret@", "")
    found = {row["image_name"]: row["error"] for row in rows(tmp_path / "listed")}
    assert found == {quoted[0]: None, f"{public}/{quoted[1]}": None, f"{public}/gone.png": "no such file"}
    assert [row["image_name"] for row in rows(tmp_path / "folder")] == quoted


def start(source: str | Path, destination: str | Path, model: Path, *options: object) -> subprocess.Popen:
    command = [sys.executable, "-c", RUN_FAKE, source, destination, "--model", model, *options]
    return subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_parts(process: subprocess.Popen, destination: Path, count: int) -> None:
    """Wait until a process has written `count` parts, or has ended."""
    while process.poll() is None and len(list((destination / "predictions").glob("part*"))) < count:
        time.sleep(0.002)


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.stress)])
def test_kills_at_random_moments_end_in_the_same_rows(call, model, tmp_path, count):
    write_photos(tmp_path / "photos", count)
    call(predict_many, tmp_path / "photos", tmp_path / "whole", "--model", model)
    chance = random.Random(count)
    for least in (1, count // 40):  # parts that are there before the kill
        process = start(tmp_path / "photos", tmp_path / "killed", model)
        wait_for_parts(process, tmp_path / "killed", least)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(tmp_path / "photos", tmp_path / "killed", model)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert f"{count} photos found: {count * 9 // 10} predicted, {count // 10} failed" in printed
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_a_second_copy_is_refused(call, model, tmp_path):
    write_photos(tmp_path / "photos", 10)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    with storage.Store(str(tmp_path / "out")).lock("failed.csv"):
        code, _, error = call(predict_many, *command)
        assert code == 2 and "failed.csv is in use by process" in error
        assert "wait until it has finished, or give another one with DESTINATION or --shard" in error
        assert call(predict_many, *command, "--shard", "0/2")[0] == 0
    assert call(predict_many, *command)[0] == 0


def test_a_second_copy_on_an_object_store_ends_at_its_first_block(call, model, tmp_path, monkeypatch):
    """Another machine's copy, which no lock can keep out, writes a part in the meantime."""
    write_photos(tmp_path / "photos", 20)

    def read(address: str) -> bytes:
        fsspec.filesystem("memory").pipe_file("/shared/predictions/part-000001.parquet", b"of the other copy")
        return Path(address).read_bytes()

    monkeypatch.setattr(storage, "read", read)
    code, _, error = call(predict_many, tmp_path / "photos", "memory://shared", "--model", model)
    assert code == 2 and "another copy writes to memory://shared; start one copy" in error
    assert fsspec.filesystem("memory").cat_file("/shared/predictions/part-000001.parquet") == b"of the other copy"


def test_shards_share_the_photos_and_the_first_lists_them(call, model, tmp_path):
    write_photos(tmp_path / "photos", 90)
    call(predict_many, tmp_path / "photos", tmp_path / "whole", "--model", model)
    command = [tmp_path / "photos", tmp_path / "out", "--model", model]
    waiting = start(tmp_path / "photos", tmp_path / "out", model, "--shard", "2/3")
    while waiting.poll() is None and not (tmp_path / "out" / "failed-2-of-3.csv").exists():
        time.sleep(0.01)
    assert not (tmp_path / "out" / "manifest.parquet").exists()
    # 90 photos are 9 blocks of 10, in one shard every third one.
    for number in (0, 1):
        code, printed, error = call(predict_many, *command, "--shard", f"{number}/3")
        assert code == 0 and "30 photos found: 27 predicted, 3 failed" in printed, error
    assert "30 photos found: 27 predicted, 3 failed" in waiting.communicate(timeout=60)[0]
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")
    failed = [(tmp_path / "out" / f"failed-{number}-of-3.csv").read_text().splitlines()[1:] for number in range(3)]
    whole = (tmp_path / "whole" / "failed.csv").read_text().splitlines()[1:]
    assert sorted(line for lines in failed for line in lines) == sorted(whole)
    assert "90 photos found: 81 predicted, 9 failed" in call(predict_many, *command)[1]  # all shards are checked


@pytest.mark.parametrize("shard", ["3/3", "0/0", "1", "a/b", "-1/3"])
def test_a_wrong_shard_is_refused(call, model, tmp_path, shard):
    code, _, error = call(predict_many, tmp_path, tmp_path / "out", "--model", model, f"--shard={shard}")
    assert code == 2 and "is not N/M with N from 0 to M-1" in error


def test_ctrl_c_says_how_to_continue(model, tmp_path):
    write_photos(tmp_path / "photos", 400)
    process = start(tmp_path / "photos", tmp_path / "out", model)
    wait_for_parts(process, tmp_path / "out", 1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in error and "Traceback" not in error


class LocalS3:
    """A server on this computer that speaks S3's protocol, with a bucket; its text is the bucket's address."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def __str__(self) -> str:
        return "s3://bucket"

    def start(self) -> None:
        """Start, also once more after an outage: the objects are still there."""
        self.server = pytest.importorskip("moto.server").ThreadedMotoServer(port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self) -> None:
        """Stop, so that connections are refused."""
        self.server.stop()
        self.server._server.server_close()


def use_s3_at(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fsspec's s3:// go to a server on this computer, in this process and in those that it starts."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for name, value in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(name, value)
    storage.filesystem.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def s3(monkeypatch):
    """An S3-compatible server, over which fsspec's s3:// goes."""
    pytest.importorskip("s3fs", reason="no s3fs here")
    pytest.importorskip("moto.server", reason="no moto server here")
    server = LocalS3()
    use_s3_at(server.port, monkeypatch)
    reset = urllib.request.Request(f"http://127.0.0.1:{server.port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    storage.filesystem("s3").mkdir("bucket")
    yield server
    server.stop()
    storage.filesystem.cache_clear()


@pytest.mark.filterwarnings("default")  # of the server's libraries
def test_from_s3_to_s3(call, model, tmp_path, s3):
    names = write_photos(tmp_path / "photos", 40)
    storage.filesystem("s3").put(str(tmp_path / "photos"), "bucket/photos", recursive=True, batch_size=4)
    command = [f"{s3}/photos", f"{s3}/out", "--model", model]
    code, printed, error = call(predict_many, *command)
    assert code == 0, error
    assert "40 photos found: 36 predicted, 4 failed" in printed
    assert [row["image_name"] for row in rows(f"{s3}/out")] == names
    storage.filesystem("s3").rm_file("bucket/out/predictions/part-000002.parquet")
    assert call(predict_many, *command)[0] == 0
    code, _, error = call(predict_many, f"{s3}/gone", f"{s3}/other", "--model", model)
    assert code == 2 and "no photos in s3://bucket/gone" in error


@pytest.mark.filterwarnings("default")
def test_each_object_is_one_photo(call, model, tmp_path, s3):
    """S3 knows no folders: a name between two "/" may be empty, and "?" and "*" are characters like others."""
    content = save_photo(tmp_path / "one.png").read_bytes()
    names = ["a.png", "quest?ion/a.png", "quest?ion//a.png", "/a.png", "//a.png", "x[1]*/y/../a.png"]
    for name in names:
        storage.filesystem("s3").pipe_file(f"bucket/photos/{name}", content)
    code, printed, error = call(predict_many, f"{s3}/photos", tmp_path / "out", "--model", model)
    assert code == 0 and "6 photos found: 6 predicted, 0 failed" in printed, error
    assert [row["image_name"] for row in rows(tmp_path / "out")] == sorted(names)


@pytest.mark.filterwarnings("default")
def test_a_missing_bucket_is_named_before_the_photos_are_listed(call, model, s3):
    code, _, error = call(predict_many, f"{s3}/gone", "s3://nowhere/out", "--model", model)
    assert code == 2 and "cannot write to s3://nowhere/out: no such bucket; create it first" in error


class Overloaded(QuietHandler):
    """Answers as an S3 that has too much to do, and counts how often it was asked."""

    asked = 0

    def do_GET(self) -> None:
        Overloaded.asked += 1
        self.send_error(503)


@pytest.mark.filterwarnings("default")
def test_only_one_layer_tries_again(model, monkeypatch):
    pytest.importorskip("s3fs", reason="no s3fs here")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        use_s3_at(server.server_port, monkeypatch)
        assert shards.fetch({"address": b"s3://bucket/a.png"})["error"]
        server.shutdown()
    assert Overloaded.asked == config.STORAGE_ATTEMPTS


@pytest.mark.filterwarnings("default")
def test_an_outage_of_s3_ends_in_a_sentence_and_the_command_continues(call, model, tmp_path, s3):
    write_photos(tmp_path / "photos", 60)
    storage.filesystem("s3").put(str(tmp_path / "photos"), "bucket/photos", recursive=True, batch_size=4)
    call(predict_many, tmp_path / "photos", tmp_path / "whole", "--model", model)
    process = start(f"{s3}/photos", tmp_path / "out", model)
    wait_for_parts(process, tmp_path / "out", 1)
    s3.stop()
    _, error = process.communicate(timeout=120)
    s3.start()
    assert process.returncode == 2 and "run the same command again" in error
    assert "Traceback" not in error and "Unclosed" not in error, error
    process = start(f"{s3}/photos", tmp_path / "out", model)
    assert "60 photos found: 54 predicted, 6 failed" in process.communicate(timeout=120)[0]
    assert rows(tmp_path / "out") == rows(tmp_path / "whole")


@pytest.mark.stress
def test_ray_killed_ends_in_the_same_rows(tmp_path):
    """With a real model, because Ray's actors are processes that know nothing of a test's stand-in."""
    pytest.importorskip("ray", reason="no ray here")
    model = os.environ.get("VIEWPOINT_MODEL")
    if not model:
        pytest.skip("VIEWPOINT_MODEL names no .tflite file")
    count = 5000
    write_photos(tmp_path / "photos", count)
    code = RUN_FAKE.replace(SAME_PROCESS_ID + FAKE_MODEL, "")
    script = [sys.executable, "-c", code, tmp_path / "photos"]
    options = ["--model", model, "--engine", "ray"]
    subprocess.run(list(map(str, [*script, tmp_path / "whole", *options[:-2]])), check=True, capture_output=True)
    chance = random.Random(1)
    for least in (10, 50):
        process = subprocess.Popen(
            list(map(str, [*script, tmp_path / "killed", *options])),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_parts(process, tmp_path / "killed", least)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(list(map(str, [*script, tmp_path / "killed", *options])), check=True, capture_output=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
