"""The capture guide: models/handoff/web/, a page that photographs a car from every side with the model.

Its source is in web/, plain files without a build step. The browser's runtime is no part of the
repository: `npm ci` in web/, which tools/serve_demo.py runs, puts it into web/runtime/, and from then on
every hand-off has a copy. So the conversion needs neither npm nor a network, and the mobile team gets a
folder that any web server can serve as it is.
"""

import hashlib
import json
import shutil
from pathlib import Path

import config

SOURCE = Path(__file__).parent / "web"
RUNTIME_NAME = "runtime"
# The strictest Content-Security-Policy that the page works under.
SECURITY_POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob:"
# What the service worker does not keep at once: itself, what only npm reads, and the builds of the
# runtime, of which each browser loads one.
NOT_KEPT = ("sw.js", "package.json", "package-lock.json", "add_runtime.mjs", f"{RUNTIME_NAME}/wasm")


def write_guide(folder: Path, model: bytes, labels: list[str], threshold: float | None = None) -> None:
    """Write the page for a model (a whole .tflite file) and its classes into a new folder.

    `threshold` is the score that train.py suggested, which a frame must reach to be taken; without it,
    config.GUIDE_MIN_SCORE counts.
    """
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "*.part"))
    (folder / "model.tflite").write_bytes(model)
    settings = json.dumps(guide_settings(model, labels, threshold), indent=2)
    (folder / "settings.json").write_text(settings + "\n", encoding="utf-8")
    write_worker(folder)


def guide_settings(model: bytes, labels: list[str], threshold: float | None) -> dict:
    """What the page knows of the model, and the limits that it applies."""
    return {
        "name": config.MODEL_NAME,
        "version": config.VERSION,
        "sha256": hashlib.sha256(model).hexdigest(),
        "labels": labels,
        "views": [name for name in config.VIEW_CIRCLE if name in labels],
        "background": config.BACKGROUND,
        "min_score": threshold or config.GUIDE_MIN_SCORE,
        "capture": {
            "frames_per_second": config.GUIDE_FRAMES_PER_SECOND,
            "steady_frames": config.GUIDE_STEADY_FRAMES,
            "steady_seconds": config.GUIDE_STEADY_SECONDS,
            "motion_above": config.GUIDE_MOTION_ABOVE,
        },
        "quality": {
            "size": config.QUALITY_SIZE,
            "too_dark_below": config.TOO_DARK_BELOW,
            "bright_share": config.BRIGHT_SHARE,
            "clipped_level": config.CLIPPED_LEVEL,
            "too_bright_above": config.TOO_BRIGHT_ABOVE,
            "blurred_above": config.BLURRED_ABOVE,
        },
    }


def write_worker(folder: Path) -> None:
    """Write into sw.js which files it keeps, and a version that changes with any of them."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "sw.js")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    names = [path.relative_to(folder).as_posix() for path in paths]
    kept = ["./", *(name for name in names if not name.startswith(NOT_KEPT))]
    source = (SOURCE / "sw.js").read_text(encoding="utf-8")
    source = source.replace('"unknown"', json.dumps(digest.hexdigest()[:16]))
    (folder / "sw.js").write_text(source.replace("FILES = []", f"FILES = {json.dumps(kept)}"), encoding="utf-8")
