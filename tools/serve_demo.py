"""Try the model in a browser: drop a photo, see its class and the probability of each class.

    python tools/serve_demo.py                 # then open http://localhost:8000

Serves tools/demo_page/index.html and models/model.tflite, to this computer only. The page runs
the same file that phones get, with MediaPipe's web runtime. The first run needs npm, which
downloads that runtime to tools/demo_page/node_modules/; nothing else comes from a network.
"""

import argparse
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # the scripts are one folder up

import config
from viewpoint.cli import UserError, number, run
from viewpoint.inference import LABELS_NAME

PAGE = Path(__file__).parent / "demo_page"
RUNTIME = PAGE / "node_modules" / "@mediapipe" / "tasks-vision"


class Handler(SimpleHTTPRequestHandler):
    """Serves the page, the model with its labels, and the runtime below /vision/; nothing else."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def __init__(self, *arguments: Any, models: Path):
        self.models = models
        super().__init__(*arguments, directory=str(RUNTIME))

    def translate_path(self, path: str) -> str:
        route = path.split("?")[0]
        if route == "/":
            return str(PAGE / "index.html")
        if route in ("/model.tflite", f"/{LABELS_NAME}"):
            return str(self.models / route[1:])
        if route.startswith("/vision/"):
            return super().translate_path(route.removeprefix("/vision"))
        return str(PAGE / "no such file")

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing, instead of a line for each request."""


def install_runtime() -> None:
    """Download MediaPipe's web runtime with npm, if it is not there. Raises UserError when that fails."""
    if RUNTIME.is_dir():
        return
    npm = shutil.which("npm")
    if not npm:
        raise UserError("npm not found, which downloads the browser runtime; install Node.js")
    print("Downloading the browser runtime with npm ...", flush=True)
    done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=PAGE, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise UserError(f"npm could not download the browser runtime: {reason}")


def make_server(models: Path, port: int) -> ThreadingHTTPServer:
    """A server of the page that only this computer can reach. Raises UserError when something is missing."""
    for name in ("model.tflite", LABELS_NAME):
        if not (models / name).is_file():
            raise UserError(f"{models / name} not found; run convert_tflite.py, or give its folder with --models")
    install_runtime()
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), partial(Handler, models=models))
    except OSError as error:
        raise UserError(f"cannot use port {port}: {error.strerror}; give another one with --port") from error


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Try the model in a browser.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=config.MODELS_DIR, help="folder of model.tflite and labels.txt")
    parser.add_argument("--port", type=number(int, 1, 65535), default=8000, help="port to serve on")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    with make_server(args.models, args.port) as server:
        print(f"Open http://localhost:{args.port} in a browser; stop the server with Ctrl-C.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped.")


if __name__ == "__main__":
    run(main)
