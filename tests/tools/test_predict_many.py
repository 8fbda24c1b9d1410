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
    "import os, config, predict_many\nconfig.PHOTOS_PER_SHARD = 20\n"
    "config.CLAIM_SECONDS = float(os.environ.get('CLAIM_SECONDS', 1))\n"
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
    monkeypatch.setattr(config, "CLAIM_SECONDS", 1)
    monkeypatch.setattr(config, "PHOTOS_PER_SHARD", 10)
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
    assert not list((output / "claims").iterdir())


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
    part = tmp_path / "out" / "predictions" / "part-00001.parquet"
    pq.write_table(pq.read_table(part)[:2], part)
    code, printed, _ = call(predict_many, *command)
    assert code == 1 and "Incomplete: part-00001.parquet" in printed


def test_throttling_is_tried_again_and_a_closed_storage_stops_the_run(model, monkeypatch):
    answers = iter([OSError("SlowDown"), TimeoutError(), b"content"])

    def read() -> bytes:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert storage.patiently(read) == b"content"
    tries = []
    with pytest.raises(PermissionError):
        storage.patiently(lambda: tries.append(1) or (_ for _ in ()).throw(PermissionError()))
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

    monkeypatch.setattr(shards, "read", read)
    code, _, message = call(predict_many, *command)
    assert code == 2 and "photos cannot be read" in message and "run the same command again" in message
    monkeypatch.setattr(shards, "read", storage.read)
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

    monkeypatch.setattr(shards, "read", read)
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

    monkeypatch.setattr(shards, "read", read)
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
    assert storage.shown(text) == harmless


def test_of_many_copies_one_gets_a_claim(tmp_path):
    store = storage.Store(str(tmp_path))
    for name in map(str, range(50)):
        got, start = [], threading.Barrier(8)

        def work(name: str = name, got: list = got, start: threading.Barrier = start) -> None:
            start.wait()
            got.append(store.create(f"claims/{name}", b"sign"))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [False] * 7 + [True]


def test_a_copy_that_is_silent_loses_its_claims(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "CLAIM_SECONDS", 1.5)
    store = storage.Store(str(tmp_path))
    killed, other = shards.Claims(store), shards.Claims(store)
    store.create("claims/killed", b"the sign that stays")
    with killed.claim("living") as is_mine:
        assert is_mine
        assert other.held() == {"killed", "living"}
        with other.claim("living") as is_mine:
            assert not is_mine
        for _ in range(4):
            time.sleep(0.5)
            held = other.held()
        assert held == {"living"}
    assert other.held() == set()


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
    assert code == 1 and "part-00000.parquet" in printed


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("gone", "out", "gone not found; check the address"),
        ("gone.csv", "out", "gone.csv: No such file"),
        ("gone.parquet", "out", "gone.parquet not found"),
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


@pytest.mark.parametrize("count", [400, pytest.param(5000, marks=pytest.mark.stress)])
def test_kills_at_random_moments_end_in_the_same_rows(call, model, tmp_path, count):
    write_photos(tmp_path / "photos", count)
    call(predict_many, tmp_path / "photos", tmp_path / "whole", "--model", model)
    chance = random.Random(count)
    for least in (1, count // 40):  # parts that are there before the kill
        process = start(tmp_path / "photos", tmp_path / "killed", model)
        while process.poll() is None and len(list((tmp_path / "killed" / "predictions").glob("part*"))) < least:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    process = start(tmp_path / "photos", tmp_path / "killed", model)
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    assert f"{count} photos found: {count * 9 // 10} predicted, {count // 10} failed" in printed
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")


def test_two_copies_at_once_share_the_work(model, tmp_path, monkeypatch):
    names = write_photos(tmp_path / "photos", 300)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("CLAIM_SECONDS", "60")  # however busy this computer is
    copies = [start(tmp_path / "photos", tmp_path / "out", model) for _ in range(2)]
    printed = [copy.communicate(timeout=120)[0] for copy in copies]
    assert [copy.returncode for copy in copies] == [0, 0]
    assert all("300 photos found: 270 predicted, 30 failed" in text for text in printed)
    assert [row["image_name"] for row in rows(tmp_path / "out")] == names
    assert (tmp_path / "calls").stat().st_size == 270  # none was predicted twice
    assert not list((tmp_path / "out" / "claims").iterdir())


def test_ctrl_c_says_how_to_continue(model, tmp_path):
    write_photos(tmp_path / "photos", 400)
    process = start(tmp_path / "photos", tmp_path / "out", model)
    while process.poll() is None and not list((tmp_path / "out" / "predictions").glob("part*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in error and "Traceback" not in error
    # Only the claim that was just being removed may be left.
    claimed = {f"part-{path.name}.parquet" for path in (tmp_path / "out" / "claims").iterdir()}
    assert claimed <= {path.name for path in (tmp_path / "out" / "predictions").iterdir()}


@pytest.fixture
def s3(monkeypatch):
    """The address of a bucket in an S3-compatible server on this computer, over which fsspec's s3:// goes."""
    pytest.importorskip("s3fs", reason="no s3fs here")
    server_module = pytest.importorskip("moto.server", reason="no moto server here")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    for name, value in [
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ]:
        monkeypatch.setenv(name, value)
    storage.filesystem.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    storage.filesystem("s3").mkdir("bucket")
    yield "s3://bucket"
    server.stop()
    storage.filesystem.cache_clear()


@pytest.mark.filterwarnings("default")  # of the server's libraries
def test_from_s3_to_s3(call, model, tmp_path, s3):
    names = write_photos(tmp_path / "photos", 40)
    storage.filesystem("s3").put(str(tmp_path / "photos"), "bucket/photos", recursive=True)
    command = [f"{s3}/photos", f"{s3}/out", "--model", model]
    code, printed, error = call(predict_many, *command)
    assert code == 0, error
    assert "40 photos found: 36 predicted, 4 failed" in printed
    assert [row["image_name"] for row in rows(f"{s3}/out")] == names
    storage.filesystem("s3").rm_file("bucket/out/predictions/part-00002.parquet")
    assert call(predict_many, *command)[0] == 0
    code, _, error = call(predict_many, f"{s3}/gone", f"{s3}/other", "--model", model)
    assert code == 2 and "s3://bucket/gone not found" in error
    store = storage.Store(f"{s3}/out")
    assert store.create("claims/x", b"one") and not store.create("claims/x", b"two")
    assert store.fs.cat_file("claims/x") == b"one"


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
        while process.poll() is None and len(list((tmp_path / "killed" / "predictions").glob("part*"))) < least:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1))
        process.kill()
        assert process.wait() == -signal.SIGKILL
    subprocess.run(list(map(str, [*script, tmp_path / "killed", *options])), check=True, capture_output=True)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
