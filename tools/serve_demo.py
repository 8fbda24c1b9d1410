"""Serve the capture guide: a page that photographs a car from every side, and names the view of any photo.

    python tools/serve_demo.py                 # then open http://localhost:8000 on this computer
    python tools/serve_demo.py --phone         # for a phone in the same network

Serves models/handoff/web/, which convert_tflite.py writes; the model runs in the browser and no photo
leaves it. The first run needs npm, which downloads the browser runtime to viewpoint/handoff/web/runtime/;
later conversions copy it from there, and nothing else comes from a network.

With --phone everybody in the network can open the page while it is served. Browsers give the camera only
to https:// pages, so this makes a certificate (with the command openssl) that the phone does not know:
it warns, and you tell it to go on. Only on a web server with a real certificate does the page also work offline.
"""

import argparse
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.common.cli import UserError, make_parser, number, run
from viewpoint.common.writing import write_atomically
from viewpoint.handoff.guide import RUNTIME_NAME, SECURITY_POLICY, SOURCE, write_worker


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder."""

    timeout = 30  # seconds that a connection may say nothing, from the TLS handshake on
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # ask each time whether a file has changed
        self.send_header("Content-Security-Policy", SECURITY_POLICY)
        super().end_headers()

    def handle(self) -> None:
        """Answer the requests of a connection; one that breaks off, as of a phone that warns first, is no error."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing, instead of a line for each request."""


def install_runtime() -> None:
    """Download the browser runtime with npm, if it is not there. Raises UserError when that fails."""
    if (SOURCE / RUNTIME_NAME).is_dir():
        return
    npm = shutil.which("npm")
    if not npm:
        raise UserError("npm not found, which downloads the browser runtime; install Node.js")
    print("Downloading the browser runtime with npm ...", flush=True)
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts=false"]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"npm could not download the browser runtime: {reason}")


def add_runtime(guide: Path) -> None:
    """Copy the browser runtime into a guide that was written without it."""
    if not (guide / RUNTIME_NAME).is_dir():
        install_runtime()
        with write_atomically(guide / RUNTIME_NAME) as path:
            shutil.copytree(SOURCE / RUNTIME_NAME, path)
        write_worker(guide)


def make_server(models: Path, port: int, phone: bool = False) -> ThreadingHTTPServer:
    """A server of the guide: for this computer only, or with `phone` by HTTPS for its whole network.

    Raises UserError when something is missing.
    """
    guide = models / "handoff" / "web"
    if not (guide / "model.tflite").is_file():
        raise UserError(f"{guide / 'model.tflite'} not found; run convert_tflite.py, or give its folder with --models")
    add_runtime(guide)
    try:
        server = ThreadingHTTPServer(("" if phone else "127.0.0.1", port), partial(Handler, directory=str(guide)))
    except OSError as error:
        raise UserError(f"cannot use port {port}: {error.strerror}; give another one with --port") from error
    if phone:
        # The handshake comes with the first read, in the connection's own thread: here it would block all others.
        server.socket = make_certificate(own_address()).wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    return server


def own_address() -> str:
    """The address of this computer in its network; that of the computer itself when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that nobody has; nothing is sent
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def make_certificate(address: str) -> ssl.SSLContext:
    """TLS with a new self-made certificate for an IP address. Raises UserError when openssl cannot make it."""
    openssl = shutil.which("openssl")
    if not openssl:
        raise UserError("openssl not found, which makes the certificate; install it, or serve without --phone")
    with tempfile.TemporaryDirectory() as folder:
        files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem"]
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", *files]
        command += ["-subj", "/CN=capture guide", "-addext", f"subjectAltName=IP:{address}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"openssl could not make a certificate: {done.stderr.strip().rpartition(chr(10))[2]}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/certificate.pem", f"{folder}/key.pem")
        return context


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Serve the capture guide.")
    parser.add_argument("--models", type=Path, default=config.MODELS_DIR, help="folder of handoff/web/")
    parser.add_argument("--port", type=number(int, 1, 65535), default=8000, help="port to serve on")
    parser.add_argument("--phone", action="store_true", help="serve by HTTPS to the whole network, for phones")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with make_server(args.models, args.port, args.phone) as server:
        if args.phone:
            print(f"1. Connect the phone to the same network and open https://{own_address()}:{args.port} there.")
            print("2. It warns that it does not know the certificate, which this computer has just made: go on.")
            print("3. Allow the camera. Stop the server with Ctrl-C.", flush=True)
        else:
            print(f"Open http://localhost:{args.port} in a browser; stop the server with Ctrl-C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped.")


if __name__ == "__main__":
    run(main)
