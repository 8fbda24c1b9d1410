"""Predict very many photos, on one machine or a cluster, from folders or object stores.

    python tools/predict_many.py photos predictions
    python tools/predict_many.py s3://archive/2024 s3://results/2024
    python tools/predict_many.py photos.parquet predictions --engine ray

SOURCE is a folder, a glob, an address (s3://, gs://, az://, http:// with an index page), or a CSV or
Parquet file, also at an address, with the column image_path or image_name. DESTINATION is a folder
or an address. The photos are listed once and cut into shards. predictions/ gets a Parquet file for each
shard, with the columns of predictions.csv and `error`, which says why a photo could not be read;
failed.csv lists those photos.

Run the same command again after an interruption: only the shards in flight were lost. Started
several times at once, also on several machines, the copies share the work. Another model, source or
option on the same DESTINATION is refused. To predict a shard again, delete its file.

Exits with 0 when every photo found was predicted or is in failed.csv, with 1 when any is missing or
none could be predicted, with 2 on a mistake, with 130 on Ctrl-C. Needs requirements-cluster.txt; docs/scale.md
says how to use a cluster.
"""

import argparse
import csv
import hashlib
import logging
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # the scripts are one folder up

import config
from viewpoint.common.cli import COUNT, FRACTION, UserError, complain, counted, make_parser, printable, run
from viewpoint.common.parallel import cpu_count
from viewpoint.inference.model import load_model
from viewpoint.inference.outputs import FAILED_COLUMNS

try:
    from viewpoint.inference import shards, storage
except ImportError as missing:
    complain(f"error: {missing.name} is not installed; pip install -r requirements-cluster.txt")
    sys.exit(2)

REASONS_SHOWN = 10  # of the most common reasons why photos failed
POLL_SECONDS = 1.0  # between two looks at what other copies have done


def prepare(store: storage.Store, source: str, settings: dict[str, Any]) -> None:
    """List the photos, unless that is done or another copy does it. Raises UserError when it was another run."""
    claims = shards.Claims(store)
    while not store.exists(shards.MANIFEST):
        claims.held()  # removes the claim of a dead copy
        with claims.claim("manifest") as is_mine:
            if not is_mine:
                time.sleep(POLL_SECONDS)
            elif not store.exists(shards.MANIFEST):
                shards.write_manifest(store, source, settings)
    earlier = shards.open_manifest(store)[1]
    if others := [name.replace("_", " ") for name in settings if earlier.get(name) != settings[name]]:
        what = ", another ".join(others)
        raise UserError(f"{store.address} holds a run with another {what}; give another DESTINATION")


def predict(store: storage.Store, destination: str, model: bytes, threads: int | None) -> None:
    """Predict until every shard has its part, written here or by another copy; without `threads`, on Ray."""
    manifest = shards.open_manifest(store)[0].metadata
    sizes = {shards.part_name(shard): manifest.row_group(shard).num_rows for shard in range(manifest.num_row_groups)}
    claims = shards.Claims(store)
    with tqdm(total=manifest.num_rows, desc="Predicting", unit="photo") as bar:
        worker = shards.Worker(destination, model, threads, bar.update) if threads else None
        while True:
            parts = set(store.names("predictions"))
            bar.n = sum(size for part, size in sizes.items() if part in parts)
            bar.refresh()
            if parts >= sizes.keys():
                return
            held = claims.held()
            todo = [shard for shard, part in enumerate(sizes) if part not in parts and f"{shard:05}" not in held]
            done = sum(map(worker.work, todo)) if worker else predict_on_ray(destination, model, todo, bar)
            if not done:  # other copies work on what is left
                time.sleep(POLL_SECONDS)


def predict_on_ray(destination: str, model: bytes, todo: list[int], bar: tqdm) -> int:
    """Predict shards with Ray Data: an autoscaling pool of actors, each with the model and one core."""
    if not todo:
        return 0
    try:
        import ray.data
    except ImportError as error:
        raise UserError(f"no {error.name} for Ray; pip install -r requirements-cluster.txt") from error

    # A cluster is found as Ray finds it: RAY_ADDRESS, or one started on this machine; or else one is started.
    if not ray.is_initialized():
        runtime = {"env_vars": {"PYTHONPATH": str(PROJECT)}}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, runtime_env=runtime)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    plan = ray.data.from_items([{"shard": shard} for shard in todo], override_num_blocks=len(todo))
    pool = ray.data.ActorPoolStrategy(min_size=1)
    arguments = (destination, model, 1)
    results = plan.map_batches(shards.Worker, fn_constructor_args=arguments, batch_size=1, num_cpus=1, compute=pool)
    done = 0
    for row in results.iter_rows():
        done += row["photos"]
        bar.update(row["photos"])
    return done


def report(store: storage.Store) -> int:
    """Check the parts, write failed.csv, print the summary; the exit code."""
    predictions: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    wrong = []
    with store.write("failed.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        failures = csv.writer(file, lineterminator="\n")
        failures.writerow(FAILED_COLUMNS)
        for part, rows in shards.read_parts(store):
            if rows is None:
                wrong.append(part)
                continue
            predictions.update(rows["prediction"].drop_null().to_pylist())
            failed = [(row["image_name"], row["error"]) for row in rows.to_pylist() if row["error"]]
            failures.writerows(failed)
            errors.update(re.sub(r"\d+", "N", error) for _, error in failed)  # numbers differ for each photo
    manifest, settings = shards.open_manifest(store)
    found = manifest.metadata.num_rows
    print(f"\n{counted(found, 'photo')} found: {predictions.total()} predicted, {errors.total()} failed")
    for name, count in predictions.most_common():
        print(f"  {name}: {count}")
    if errors:
        print(f"Failed photos are in {store.address}/failed.csv. The reasons:")
        for reason, count in errors.most_common(REASONS_SHOWN):
            print(f"  {printable(reason)}: {count}")
    for reason, count in settings["left_out"].items():
        print(f"Not read: {counted(count, 'file')} ({reason})")
    print(f"The photos were listed on {settings['listed']}; for those that were added since, give another DESTINATION.")
    if wrong or predictions.total() + errors.total() != found:
        print(f"Incomplete: {', '.join(wrong[:REASONS_SHOWN])}; delete these files and run the command again.")
        return 1
    print(f"Predictions are in {store.address}/predictions; pandas.read_parquet() reads the whole folder.")
    return 0 if predictions else 1


def parse_arguments() -> argparse.Namespace:
    parser = make_parser("Predict very many photos.")
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder, glob, address, or a CSV or Parquet file that names the photos")
    add("destination", metavar="DESTINATION", help="folder or address for the predictions")
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file")
    add("--labels", type=Path, help="file of class names; without it, labels.txt beside the model, or inside it")
    add("--engine", choices=("local", "ray"), default="local", help="this process, or a Ray cluster")
    add(
        "--threads",
        type=COUNT,
        help="with --engine local: photos to decode at a time; without it, one for each usable core",
    )
    add("--unknown-below", type=FRACTION, default=0.0, help="best score, 0 to 1, below which a photo is Unknown")
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    if args.model.is_dir():
        raise UserError(f"{args.model} is a folder; give a .tflite file, which convert_tflite.py writes")
    if args.engine == "ray" and "memory" in map(storage.protocol_of, (args.source, args.destination)):
        raise UserError("memory:// exists in one process only; give a folder or an object store, or --engine local")
    _, _, labels = load_model(args.model, args.labels)
    model, source = args.model.read_bytes(), args.source
    if storage.protocol_of(source) == "file":
        source = str(storage.local_path(source))
    settings = {
        "model": hashlib.sha256(model).hexdigest(),
        "labels": list(labels),
        "source": storage.shown(source),
        "unknown_below": args.unknown_below,
        "tta": args.tta,
    }
    try:
        store = storage.Store(args.destination)
        prepare(store, args.source, settings)
        threads = None if args.engine == "ray" else args.threads or cpu_count()
        predict(store, store.address if store.is_local else args.destination, model, threads)
        return report(store)
    except KeyboardInterrupt:
        complain("interrupted; what is written stays, and the same command continues")
        return 130
    except (UserError, AssertionError, AttributeError, NameError, TypeError):  # the last four are mistakes of ours
        raise
    except Exception as error:  # storage and Ray raise many types; their text may hold addresses with credentials
        what = next((cause for cause in (error, error.__cause__) if isinstance(cause, UserError)), None)
        reason = str(what) if what else storage.reason_of(error)
        raise UserError(f"{reason}; what is written stays, and the same command continues") from None


if __name__ == "__main__":
    run(main)
