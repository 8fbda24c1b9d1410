"""Review the labels in a browser, with every mark saved at once.

    python data_preparation.py --review        # writes dataset/review.html
    python tools/review.py                     # serves it; then open http://localhost:8001

Serves dataset/review.html, and the photos on that page in up to 1600 pixels, to this computer only.
Every mark goes into dataset/corrections.csv within a second; several browsers and tabs see each
other's marks. Stop it at any time: no mark is lost. Run data_preparation.py again to apply them.
"""

import argparse
import io
import json
import sys
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.common.cli import UserError, counted, make_parser, number, run
from viewpoint.common.images import ImageError
from viewpoint.common.tables import read_table
from viewpoint.common.writing import lock
from viewpoint.data.corrections import read_corrections, write_corrections
from viewpoint.data.dataset import CORRECTIONS_NAME, REVIEW_NAME, recorded_data_dir
from viewpoint.reports.pictures import thumbnail
from viewpoint.reports.review import read_review

HTTP_PORT = 80  # which browsers leave out of an address
LARGEST_PHOTO = 1600  # pixels
LARGEST_REQUEST = 10_000_000  # bytes; marks of 4,000 photos take 0.3 MB


class Session:
    """The page and the marks of one dataset folder; corrections.csv is the only state."""

    def __init__(self, dataset: Path, data: Path) -> None:
        self.page, self.corrections, self.data = dataset / REVIEW_NAME, dataset / CORRECTIONS_NAME, data
        self.lock = threading.Lock()
        self.read: tuple[int, dict] = (0, {})
        self.content()

    def content(self) -> dict:
        """What the page shows, read again when the page was written again. Raises UserError as read_review does."""
        changed = self.page.stat().st_mtime_ns if self.page.is_file() else 0
        if not self.read[1] or changed != self.read[0]:
            self.read = changed, read_review(self.page)
        return self.read[1]

    def paths(self) -> set[str]:
        """The photos on the page."""
        return {card["path"] for card in self.content()["cards"]}

    def version(self) -> str:
        """Differs whenever corrections.csv differs, whoever changed it."""
        try:
            state = self.corrections.stat()
        except OSError:
            return "none"
        return f"{state.st_mtime_ns} {state.st_size} {state.st_ino}"

    def marks(self) -> dict[str, Any]:
        """All marks in corrections.csv, and their version. Raises UserError when the file is damaged."""
        version = self.version()  # read first, so that a change meanwhile is noticed next time
        return {"version": version, "marks": read_corrections(self.corrections)}

    def change(self, request: dict) -> dict[str, Any]:
        """Apply {"data_set": id, "marks": {image_path: label, or None for no mark}}, and return all marks.

        Only the photos named are changed, so that two browsers do not undo each other's marks.
        Raises UserError when the marks are of another page, or the file cannot be written.
        """
        content, changes = self.content(), request["marks"]
        if request.get("data_set") != content["data_set"]:
            raise UserError("these marks are of the page of another data set: reload the page")
        known = {*content["classes"], content["wrong"], None}
        # A photo that has left the page keeps its mark, and the mark can be taken back.
        with self.lock:
            marks = read_corrections(self.corrections)
            markable = self.paths() | marks.keys()
            for path, label in changes.items():
                if path not in markable or label not in known:
                    raise UserError(f"{path} cannot be marked as {label}: reload the page")
            merged = {path: label for path, label in (marks | changes).items() if label is not None}
            if merged != marks:
                write_corrections(merged, self.corrections)
            return self.marks()


class Handler(BaseHTTPRequestHandler):
    """Answers this computer's own browsers: the page, its photos, and the marks; nothing else."""

    server: ThreadingHTTPServer
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds; a connection that a browser leaves open must not keep its thread for ever

    def __init__(self, *arguments: Any, session: Session) -> None:
        self.session = session
        super().__init__(*arguments)

    def is_allowed(self) -> bool:
        """Whether the request was made by our own page.

        Another web page could reach this port through the browser of the person who reviews, by a
        form or by a name of its own that leads to 127.0.0.1 (DNS rebinding).
        """
        own = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        if self.server.server_port == HTTP_PORT:
            own |= {"127.0.0.1", "localhost"}
        origin, site = self.headers.get("Origin"), self.headers.get("Sec-Fetch-Site", "same-origin")
        if self.headers.get("Host") not in own or (origin and origin not in {f"http://{host}" for host in own}):
            return False
        if self.command == "POST":
            return bool(origin) and self.headers.get_content_type() == "application/json"
        # A link elsewhere, such as in a report, may lead to the page, but not to a photo in it.
        return site in ("same-origin", "none") or urlsplit(self.path).path == "/"

    def do_GET(self) -> None:
        route, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if not self.is_allowed():
            return self.reply(HTTPStatus.FORBIDDEN, b"only for the review page on this computer")
        if route == "/":
            return self.reply(HTTPStatus.OK, self.session.page.read_bytes(), "text/html; charset=utf-8")
        if route == "/marks":
            if query.get("known") == [self.session.version()]:
                return self.reply(HTTPStatus.NO_CONTENT, b"")
            return self.reply_json(self.session.marks)
        if route == "/photo":
            return self.reply_photo(query.get("path", [""])[0])
        return self.reply(HTTPStatus.NOT_FOUND, b"not found")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        self.close_connection = True  # a body that is not read must not be taken for the next request
        if not self.is_allowed() or urlsplit(self.path).path != "/marks":
            return self.reply(HTTPStatus.FORBIDDEN, b"only for the review page on this computer")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST:
            return self.reply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, b"too long")
        try:
            request = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            request = None
        marks = request.get("marks") if isinstance(request, dict) else None
        if not isinstance(marks, dict) or not all(isinstance(label, str | None) for label in marks.values()):
            return self.reply(HTTPStatus.BAD_REQUEST, b'not a JSON object with "marks": {image_path: label or null}')
        return self.reply_json(lambda: self.session.change(request))

    def reply_json(self, make: Any) -> None:
        """Send what make() returns, or the sentence of its UserError."""
        try:
            self.reply(HTTPStatus.OK, json.dumps(make()).encode(), "application/json")
        except UserError as error:
            self.reply(HTTPStatus.CONFLICT, f"Not saved: {error}".encode(errors="replace"))

    def reply_photo(self, path: str) -> None:
        """Send a photo of the page, upright, in at most LARGEST_PHOTO pixels."""
        if path not in self.session.paths():
            return self.reply(HTTPStatus.NOT_FOUND, b"not on the page")
        content = io.BytesIO()
        try:
            thumbnail(self.session.data / path, LARGEST_PHOTO).save(content, "WEBP", quality=85, method=2)
        except ImageError as error:
            return self.reply(HTTPStatus.NOT_FOUND, str(error).encode(errors="replace"))
        return self.reply(HTTPStatus.OK, content.getvalue(), "image/webp")

    def reply(self, status: HTTPStatus, content: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing, instead of a line for each request."""


def make_server(dataset: Path, data: Path | None, port: int) -> ThreadingHTTPServer:
    """A server of the review page that only this computer can reach.

    `data` is the folder of the photos; None: the one that summary.json records. Raises UserError
    when the page is missing, or corrections.csv is damaged or has columns that would be lost.
    """
    session = Session(dataset, data or recorded_data_dir(dataset))
    session.marks()
    if session.corrections.exists():
        more = set(read_table(session.corrections)[0]) - {"image_path", "label"}
        if more:
            raise UserError(
                f"{session.corrections} has the columns {', '.join(sorted(more))}, which saving would remove; "
                "keep image_path and label only"
            )
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, session=session))
    except OSError as error:
        raise UserError(f"cannot use port {port}: {error.strerror}; give another one with --port") from error


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Review the labels in a browser.")
    add = parser.add_argument
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of review.html and corrections.csv")
    add("--data", type=Path, help="folder of the photos; without it, the one recorded in the folder of --dataset")
    add("--port", type=number(int, 1, 65535), default=8001, help="port to serve on")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    held = lock(args.dataset, "--dataset", CORRECTIONS_NAME)  # two servers could undo each other's marks
    with held, make_server(args.dataset, args.data, args.port) as server:
        print(f"Open http://localhost:{args.port} in a browser; stop the server with Ctrl-C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
    marks = read_corrections(args.dataset / CORRECTIONS_NAME)
    print(f"\nStopped. {args.dataset / CORRECTIONS_NAME} has {counted(len(marks), 'mark')}.")
    print(f"Next: {read_review(args.dataset / REVIEW_NAME)['again']}   # applies them")


if __name__ == "__main__":
    run(main)
