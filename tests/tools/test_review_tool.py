"""The served review page: every mark is in corrections.csv at once, and only our own page gets an answer."""

import contextlib
import csv
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import review as tool  # tools/review.py
from conftest import regions, save_photo, write_via
from PIL import Image

from viewpoint.common.cli import UserError
from viewpoint.common.writing import lock
from viewpoint.data.corrections import read_corrections
from viewpoint.data.dataset import data_set_id
from viewpoint.data.scan import read_dataset
from viewpoint.reports.review import Judgements, write_review

COUNT = 24


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A dataset folder with a page of 24 photos, as data_preparation.py --review writes it."""
    photos = tmp_path / "photos"
    for index in range(COUNT):
        save_photo(photos / f"{index:02}.jpg", seed=index, size=(2000, 1000) if index == 0 else (60, 40))
    parts = regions("bonnet", "frontbumper", "leftfrontdoor", "leftmirror")
    write_via(photos / "via.json", {f"{index:02}.jpg": parts for index in range(COUNT)})
    save_photo(photos / "secret.jpg")  # never annotated, so not on the page
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "summary.json").write_text('{"data_dir": "../photos", "id": "an id"}')
    df, found, _ = read_dataset(photos)
    says = {path: {"Front": 0.9, "FrontLeft": 0.1} for path in df["image_path"]}
    write_review(df, found, {}, photos, 99, folder / "review.html", Judgements(None, says))
    return folder


@pytest.fixture
def server(dataset):
    with tool.make_server(dataset, None, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def request(server, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def post(server, marks: dict, **changes: str) -> tuple[int, bytes]:
    headers = {"Origin": f"http://127.0.0.1:{server.server_port}", "Content_Type": "application/json"} | changes
    return request(server, "POST", "/marks", {"data_set": "an id", "marks": marks}, **headers)


def test_marks_are_merged_into_the_file(server, dataset):
    path = dataset / "corrections.csv"
    assert data_set_id(dataset) == "an id"
    assert post(server, {"01.jpg": "Rear", "02.jpg": "Wrong"})[0] == 200
    assert read_corrections(path) == {"01.jpg": "Rear", "02.jpg": "Wrong"}
    # A second browser takes one back and marks another one; a person adds a third in an editor.
    post(server, {"01.jpg": None, "03.jpg": "Front"})
    with path.open("a") as file:
        file.write("left the page.jpg,RearLeft\n")
    post(server, {"04.jpg": "Front"})
    expected = {"02.jpg": "Wrong", "03.jpg": "Front", "04.jpg": "Front", "left the page.jpg": "RearLeft"}
    assert read_corrections(path) == expected
    status, answer = request(server, "GET", "/marks")
    assert (status, json.loads(answer)["marks"]) == (200, expected)
    assert request(server, "GET", f"/marks?known={json.loads(answer)['version'].replace(' ', '+')}")[0] == 204


def test_a_damaged_file_is_not_overwritten(server, dataset):
    (dataset / "corrections.csv").write_text("image_path,label\n01.jpg,Sideways\n")
    status, answer = post(server, {"02.jpg": "Rear"})
    assert status == 409
    assert b"Not saved" in answer and b"Sideways" in answer
    assert "Sideways" in (dataset / "corrections.csv").read_text()


@pytest.mark.parametrize(
    ("marks", "headers"),
    [
        ({"01.jpg": "Rear"}, {"Origin": "http://evil.example"}),
        ({"01.jpg": "Rear"}, {"Origin": "null"}),
        ({"01.jpg": "Rear"}, {"Host": "evil.example:80"}),
        ({"01.jpg": "Rear"}, {"Content_Type": "text/plain"}),  # what a form of another page can send
        ({"../secret.jpg": "Rear"}, {}),
        ({"01.jpg": "Sideways"}, {}),
        ({"01.jpg": 3}, {}),
        ({"01.jpg": [1]}, {}),
        ({"01.jpg": {}}, {}),
    ],
)
def test_marks_of_other_pages_and_of_nonsense_are_refused(server, dataset, marks, headers):
    status, answer = post(server, marks, **headers)
    assert status in ((403, 409) if all(isinstance(label, str) for label in marks.values()) else (400,))
    assert answer
    assert not (dataset / "corrections.csv").exists()


def test_marks_of_another_data_set_are_refused(server, dataset):
    headers = {"Origin": f"http://localhost:{server.server_port}", "Content_Type": "application/json"}
    for body in ({"data_set": "another", "marks": {"01.jpg": "Rear"}}, {"data_set": "an id"}, ["01.jpg"]):
        assert request(server, "POST", "/marks", body, **headers)[0] in (400, 409)
    assert not (dataset / "corrections.csv").exists()


def test_only_photos_of_the_page_are_served(server):
    status, content = request(server, "GET", "/photo?path=00.jpg")
    assert status == 200
    assert Image.open(io.BytesIO(content)).size == (1600, 800)
    for path in ("secret.jpg", "../dataset/summary.json", "/etc/passwd", "./00.jpg", ""):
        assert request(server, "GET", f"/photo?path={path}")[0] == 404
    assert request(server, "GET", "/photo?path=00.jpg", Sec_Fetch_Site="cross-site")[0] == 403
    assert request(server, "GET", "/", Host="evil.example")[0] == 403
    assert request(server, "GET", "/corrections.csv")[0] == 404
    assert request(server, "GET", "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link in a report


def test_port_80_is_left_out_by_browsers(server, dataset, monkeypatch):
    """The address of the server, whatever its real port, is http://localhost."""
    assert request(server, "GET", "/", Host="localhost")[0] == 403
    port = server.server_port
    monkeypatch.setattr(server, "server_port", 80)
    monkeypatch.setattr(http.client.HTTPConnection, "default_port", port)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    body = json.dumps({"data_set": "an id", "marks": {"01.jpg": "Rear"}})
    headers = {"Host": "localhost", "Origin": "http://localhost", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/marks", body, headers)
        assert connection.getresponse().status == 200
    assert read_corrections(dataset / "corrections.csv") == {"01.jpg": "Rear"}


def test_a_second_server_of_one_dataset_is_refused(dataset, call):
    with lock(dataset, "--dataset", "corrections.csv"):
        code, _, error = call(tool, "--dataset", dataset, "--port", 18001)
    assert code == 2
    assert f"{dataset / 'corrections.csv'} is in use by process {os.getpid()}" in error


def test_what_cannot_be_served_is_one_sentence(dataset):
    (dataset / "corrections.csv").write_text("image_path,label,comment\n01.jpg,Rear,blurred\n")
    with pytest.raises(UserError, match="has the columns comment, which saving would remove"):
        tool.make_server(dataset, None, 0)
    (dataset / "review.html").write_text("<!DOCTYPE html>\nan older page")
    with pytest.raises(UserError, match=r"review\.html cannot be served; write it again"):
        tool.make_server(dataset, None, 0)
    (dataset / "review.html").unlink()
    with pytest.raises(UserError, match=r"run data_preparation\.py --review first"):
        tool.make_server(dataset, None, 0)


def wait_until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def marks_in(dataset: Path) -> dict[str, str]:
    path = dataset / "corrections.csv"
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {row["image_path"]: row["label"] for row in csv.DictReader(file)}


def test_twenty_marks_by_keyboard_are_in_the_file_and_in_a_second_tab(browser, server, dataset):
    address = f"http://127.0.0.1:{server.server_port}/"
    page, second = browser.new_page(), browser.new_page()
    elsewhere = []
    page.on("request", lambda one: one.url.startswith((address, "data:")) or elsewhere.append(one.url))
    for tab in (page, second):
        tab.on("pageerror", lambda error: pytest.fail(str(error)))
        tab.goto(address)
        tab.get_by_text("0 marked, all saved").wait_for()
    assert not page.get_by_role("button", name="Save corrections.csv").is_visible()
    paths = page.locator(".card .path").all_text_contents()
    keys = [*"1234567wc1234567wc", "Enter", "Enter"]
    for number, key in enumerate(keys, start=1):
        page.keyboard.press(key)
        wait_until(lambda number=number: len(marks_in(dataset)) == number, seconds=1)
    assert len(keys) == 20
    marks = marks_in(dataset)
    assert [marks[path] for path in paths[:9]] == [
        *("Front", "FrontLeft", "FrontRight", "Rear", "RearLeft", "RearRight", "Background"),
        *("Wrong", "FrontLeft"),
    ]
    assert [marks[path] for path in paths[18:20]] == ["Front", "Front"]  # accepted from the model
    second.get_by_text("20 marked, all saved").wait_for()
    assert second.locator(".card .verdict").first.text_content() == "→ Front"
    # The second tab, still at the first photo, takes back its own mark, not one of the first tab.
    second.keyboard.press("w")
    wait_until(lambda: marks_in(dataset)[paths[0]] == "Wrong")
    second.keyboard.press("u")
    wait_until(lambda: marks_in(dataset) == marks)
    for _ in range(20):
        page.keyboard.press("u")
    wait_until(lambda: not marks_in(dataset))
    # A reload leads to the first photo without a mark, and says what a mark on a marked photo replaces.
    for _ in range(3):
        page.keyboard.press("x")
    page.get_by_text("3 marked, all saved").wait_for()
    page.reload()
    page.get_by_text("3 marked, all saved").wait_for()
    assert page.locator(".card.current .path").text_content() == paths[3]
    page.keyboard.press("k")
    page.keyboard.press("4")
    assert page.locator("#said").text_content() == f"{paths[2]}: → Rear instead of ✗ leave out"
    for _ in range(4):
        page.keyboard.press("u")
    page.get_by_text("0 marked, all saved").wait_for()
    page.keyboard.press("z")
    image = page.locator("dialog img")
    wait_until(lambda: image.evaluate("image => image.naturalWidth") == 1600)
    assert elsewhere == []


def test_no_mark_is_lost_when_the_server_is_killed_and_started_again(browser, dataset):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, tool.__file__, "--dataset", str(dataset), "--port", str(port)]

    def start() -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert "Open http://localhost" in process.stdout.readline()
        return process

    process = start()
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://localhost:{port}/")
        page.get_by_text("0 marked, all saved").wait_for()
        for _ in range(5):
            page.keyboard.press("1")
        page.get_by_text("5 marked, all saved").wait_for()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for _ in range(4):
            page.keyboard.press("w")
        page.get_by_text("does not answer: start it again").wait_for()
        assert page.get_by_text("9 marked, 4 not saved yet").count() == 1
        page.close()  # the browser has the marks all the same
        assert len(marks_in(dataset)) == 5
        process = start()
        page = context.new_page()
        page.goto(f"http://localhost:{port}/")
        page.get_by_text("9 marked, all saved").wait_for()
        assert sorted(marks_in(dataset).values()) == ["Front"] * 5 + ["Wrong"] * 4
    finally:
        process.kill()
        process.communicate()
