"""Predict very many photos, on one machine or a cluster, from folders or object stores.

    python tools/predict_many.py photos predictions
    python tools/predict_many.py s3://archive/2024 s3://results/2024
    python tools/predict_many.py photos.parquet predictions --engine ray

SOURCE is a folder, a glob, an address (s3://, gs://, az://, http:// with an index page), or a CSV or
Parquet file, also at an address, with the column image_path or image_name. DESTINATION is a folder or an
address. The same command continues after an interruption; docs/scale.md says more.

Exits with 0 when every photo found was predicted or is in failed.csv, with 1 when any is missing or
none could be predicted, with 2 on a mistake, with 130 on Ctrl-C. Needs requirements-cluster.txt.
"""

import argparse
import hashlib
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # the scripts are one folder up

import config
from viewpoint.common.cli import COUNT, FRACTION, UserError, complain, counted, make_parser, printable, run
from viewpoint.common.parallel import cpu_count, map_in_order
from viewpoint.inference.model import load_model
from viewpoint.inference.outputs import FAILED_COLUMNS, csv_line

try:
    from viewpoint.inference import shards, storage
except ImportError as missing:
    complain(f"error: {missing.name} is not installed; pip install -r requirements-cluster.txt")
    sys.exit(2)

REASONS_SHOWN = 10  # of the most common reasons why photos failed
TASKS = 1000  # blocks that Ray knows of: enough for all cores, and for the autoscaler to see that more are wanted


def prepare(store: storage.Store, source: str, settings: dict[str, Any], is_first: bool) -> None:
    """List the photos, unless that is done; the first shard does it. Raises UserError when it was another run."""
    while shards.MANIFEST not in store.names(""):
        if is_first:
            shards.write_manifest(store, source, settings)
        else:
            time.sleep(1)
    earlier = shards.open_manifest(store)[1]
    if others := [name.replace("_", " ") for name in settings if earlier.get(name) != settings[name]]:
        what = ", another ".join(others)
        raise UserError(f"{store.address} holds a run with another {what}; give another DESTINATION")


def predict_on_ray(destination: str, model: bytes, blocks: list[int]) -> Iterator[int]:
    """Predict blocks on a Ray cluster, each on a core; yields the number of photos of each that is done."""
    try:
        import ray
    except ImportError as error:
        raise UserError(f"no {error.name} for Ray; pip install -r requirements-cluster.txt") from error

    # A cluster is found as Ray finds it: RAY_ADDRESS, or one started on this machine; or else one is started.
    if not ray.is_initialized():
        runtime = {"env_vars": {"PYTHONPATH": str(PROJECT)}}
        ray.init(logging_level="error", log_to_driver=False, runtime_env=runtime)
    work, content, todo = ray.remote(shards.work_on_block), ray.put(model), iter(blocks)
    running: list[Any] = []
    while running := running + [work.remote(destination, content, b) for b in islice(todo, TASKS - len(running))]:
        done, running = ray.wait(running)
        try:
            yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None


def report(store: storage.Store, blocks: range, failed_name: str) -> int:
    """Check the parts of the blocks row by row, write failed_name, print the summary; the exit code."""
    predictions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    failed, wrong, found = [csv_line(FAILED_COLUMNS)], [], 0
    manifest, settings = shards.open_manifest(store)
    parts = map_in_order(partial(shards.read_part, store), blocks, config.STORAGE_THREADS)
    for block, rows in zip(blocks, parts, strict=True):
        names = storage.with_retries(manifest.read_row_group, block)["image_name"]
        found += len(names)
        if rows is None or not rows["image_name"].equals(names):
            wrong.append(shards.PART.format(block))
            continue
        for row in rows.to_pylist():
            if row["error"]:
                failed.append(csv_line([row["image_name"], row["error"]]))
                reasons[re.sub(r"\d+", "N", row["error"])] += 1  # numbers differ for each photo
            else:
                predictions[row["prediction"]] += 1
    store.write(failed_name, "".join(failed).encode())
    print(f"\n{counted(found, 'photo')} found: {predictions.total()} predicted, {reasons.total()} failed")
    for name, count in predictions.most_common():
        print(f"  {name}: {count}")
    if reasons:
        print(f"Failed photos are in {store.address}/{failed_name}. The reasons:")
    for reason, count in reasons.most_common(REASONS_SHOWN):
        print(f"  {printable(reason)}: {count}")
    for reason, count in settings["left_out"].items():
        print(f"Not read: {counted(count, 'file')} ({reason})")
    print(f"The photos were listed on {settings['listed']}; for those that were added since, give another DESTINATION.")
    if wrong:
        print(f"Incomplete: {', '.join(wrong[:REASONS_SHOWN])}; delete these files and run the command again.")
        return 1
    print(f"Predictions are in {store.address}/predictions; pandas.read_parquet() reads the whole folder.")
    return 0 if predictions or not found else 1


def parse_shard(text: str) -> tuple[int, int]:
    """The type of --shard: (N, M) of "N/M"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match and int(match[1]) < int(match[2]):
        return int(match[1]), int(match[2])
    raise argparse.ArgumentTypeError(f"{text} is not N/M with N from 0 to M-1, such as 0/4")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Predict very many photos.")
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder, glob, address, or a CSV or Parquet file that names the photos")
    add("destination", metavar="DESTINATION", help="folder or address for the predictions")
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file")
    add("--labels", type=Path, help="file of class names; without it, labels.txt beside the model, or inside it")
    add("--engine", choices=("local", "ray"), default="local", help="this process, or a Ray cluster")
    add("--threads", type=COUNT, help="photos to decode at a time, not for Ray; without it, one for each usable core")
    add("--shard", type=parse_shard, default="0/1", metavar="N/M", help="predict only part N of M, from 0 to M-1")
    add("--unknown-below", type=FRACTION, default=0.0, help="best score, 0 to 1, below which a photo is Unknown")
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.model.is_dir():
        raise UserError(f"{args.model} is a folder; give a .tflite file, which convert_tflite.py writes")
    labels = load_model(args.model, args.labels)[2]
    model, destination = args.model.read_bytes(), storage.full_address(args.destination)
    settings = {
        "model": hashlib.sha256(model).hexdigest(),
        "labels": list(labels),
        "source": storage.redact(storage.full_address(args.source)),
        "unknown_below": args.unknown_below,
        "tta": args.tta,
    }
    shard, count = args.shard
    failed_name = f"failed-{shard}-of-{count}.csv" if count > 1 else "failed.csv"
    try:
        store = storage.Store(destination)
        with store.lock(failed_name):
            store.write(failed_name, b"")  # to see at once whether anything can be written
            prepare(store, args.source, settings, is_first=shard == 0)
            manifest, parts = shards.open_manifest(store)[0].metadata, store.names("predictions")
            blocks = range(shard, manifest.num_row_groups, count)
            todo = [block for block in blocks if Path(shards.PART.format(block)).name not in parts]
            if args.engine == "ray":
                counts = predict_on_ray(destination, model, todo)
            else:
                counts = shards.Worker(destination, model).work(todo, args.threads or cpu_count())
            total = sum(manifest.row_group(block).num_rows for block in todo)
            # A log, which is no terminal, gets a line a minute.
            log = {"mininterval": 60, "bar_format": "{n_fmt} of {total_fmt} photos, {rate_fmt}\n"}
            with tqdm(total=total, unit="photo", **{} if sys.stderr.isatty() else log) as bar:
                for done in counts:
                    bar.update(done)
            return report(store, blocks, failed_name)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what is written stays, and the same command continues") from None
    except (UserError, AssertionError, AttributeError, NameError, TypeError):  # the last four are mistakes of ours
        raise
    except Exception as error:  # storage and Ray raise many types; their text may hold addresses with credentials
        raise UserError(f"{storage.reason_of(error)}; what is written stays, and the same command continues") from None


if __name__ == "__main__":
    run(main)
