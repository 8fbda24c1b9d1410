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
option on the same DESTINATION is refused.

Exits with 0 when every photo found was predicted or is in failed.csv, with 1 when any is missing,
with 2 on a mistake, with 130 on Ctrl-C. Needs requirements-cluster.txt; docs/scale.md says how to use
a cluster.
"""

import argparse
import csv
import logging
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))  # the scripts are one folder up

import config
from viewpoint.cli import COUNT, FRACTION, UserError, complain, counted, printable, run
from viewpoint.inference import load_model
from viewpoint.outputs import FAILED_COLUMNS
from viewpoint.parallel import cpu_count

if TYPE_CHECKING:
    from viewpoint import shards

REASONS_SHOWN = 10  # of the most common reasons why photos failed
POLL_SECONDS = 1.0  # between two looks at what other copies have done


def run_here(job: "shards.Job", dead: set[str], todo: list[int], bar: tqdm) -> Iterator[int]:
    """Work on shards in this process, in as many threads as there are cores."""
    from viewpoint.shards import Worker

    worker = Worker(job, dead, bar.update)
    yield from map(worker.work, todo)


def run_on_ray(job: "shards.Job", dead: set[str], todo: list[int], bar: tqdm, workers: int | None) -> Iterator[int]:
    """Work on shards with Ray Data: an autoscaling pool of actors, each with the model and one core."""
    try:
        import ray.data
    except ImportError as error:
        raise UserError("Ray is not installed; pip install -r requirements-cluster.txt") from error
    from viewpoint.shards import RayWorker

    # A cluster is found as Ray finds it: RAY_ADDRESS, or one started on this machine; or else one is started.
    if not ray.is_initialized():
        runtime = {"env_vars": {"PYTHONPATH": str(PROJECT)}}
        ray.init(logging_level=logging.ERROR, log_to_driver=False, runtime_env=runtime)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    plan = ray.data.from_items([{"shard": shard} for shard in todo], override_num_blocks=len(todo))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
    results = plan.map_batches(
        RayWorker, fn_constructor_args=(job, frozenset(dead)), batch_size=1, num_cpus=1, compute=pool
    )
    for row in results.iter_rows():
        bar.update(row["photos"])
        yield row["photos"]


def prepare(store: "shards.Store", claims: "shards.Claims", args: argparse.Namespace, job: "shards.Job") -> None:
    """List the photos, unless that is done or another copy does it. Raises UserError when it was another run."""
    from viewpoint import shards

    facts = job.facts(args.source, args.data)
    while not store.exists(shards.MANIFEST):
        if not claims.claim("manifest"):
            time.sleep(POLL_SECONDS)
            continue
        if not store.exists(shards.MANIFEST):
            try:
                listing = shards.list_source(args.source, args.data)
                listing.photos = tqdm(listing.photos, "Listing", unit="photo")
                shards.write_manifest(store, listing, facts, args.shard_size)
            except FileNotFoundError as error:
                raise UserError(f"{shards.shown(args.source)} not found; check the address") from error
        claims.release("manifest")
    shards.refuse_another(store, facts)


def predict(store: "shards.Store", claims: "shards.Claims", args: argparse.Namespace, job: "shards.Job") -> None:
    """Predict until every shard has its part, written here or by another copy."""
    from viewpoint.shards import missing_shards, open_manifest

    manifest = open_manifest(store).metadata
    sizes = [manifest.row_group(shard).num_rows for shard in range(manifest.num_row_groups)]
    with tqdm(total=sum(sizes), desc="Predicting", unit="photo") as bar:
        while missing := missing_shards(store, len(sizes)):
            bar.n = sum(sizes) - sum(sizes[shard] for shard in missing)
            bar.refresh()
            held = claims.held()
            todo = sorted(shard for shard in missing if f"{shard:05}" not in held)
            if not todo:  # other copies work on what is left
                time.sleep(POLL_SECONDS)
                continue
            if args.engine == "ray":
                done = sum(run_on_ray(job, claims.dead, todo, bar, args.workers))
            else:
                done = sum(run_here(job, claims.dead, todo, bar))
            if not done:
                time.sleep(POLL_SECONDS)
        bar.n = sum(sizes)
        bar.refresh()


def report(store: "shards.Store") -> int:
    """Check the parts, write failed.csv, print the summary; the exit code."""
    from viewpoint.shards import count_rows, facts_of, open_manifest

    with store.write("failed.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FAILED_COLUMNS)
        counts = count_rows(store, lambda name, reason: writer.writerow([name, reason]))
    facts = facts_of(open_manifest(store))
    predicted, failed = counts.predictions.total(), counts.errors.total()
    print(f"\n{counted(counts.found, 'photo')} found: {predicted} predicted, {failed} failed")
    for name, count in sorted(counts.predictions.items(), key=lambda item: -item[1]):
        print(f"  {name}: {count}")
    if failed:
        print(f"Failed photos are in {store.address}/failed.csv; --retry-failed tries them once more. The reasons:")
        for reason, count in counts.errors.most_common(REASONS_SHOWN):
            print(f"  {printable(reason)}: {count}")
    if counts.quality:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.quality.most_common())
        print(f"Hardly usable photos, by the reason in the column quality: {reasons}")
    for reason, count in facts["left_out"].items():
        print(f"Not read: {counted(count, 'file')} ({reason})")
    print(f"The photos were listed on {facts['listed']}; for those that were added since, give another DESTINATION.")
    if counts.wrong or predicted + failed != counts.found:
        print(f"Incomplete: {', '.join(counts.wrong[:REASONS_SHOWN])}; delete these files and run the command again.")
        return 1
    print(f"Predictions are in {store.address}/predictions; pandas.read_parquet() reads the whole folder.")
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Predict very many photos.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="folder, glob, address, or a CSV or Parquet file that names the photos")
    add("destination", metavar="DESTINATION", help="folder or address for the predictions")
    add("--model", type=Path, default=f"{config.MODELS_DIR}/model.tflite", help=".tflite file")
    add("--labels", type=Path, help="file of class names; None: labels.txt beside the model, or inside it")
    add("--data", help="folder or address that names in a CSV or Parquet file start from; None: as test_predict.py")
    add("--engine", choices=("local", "ray"), default="local", help="this process, or a Ray cluster")
    add("--workers", type=COUNT, help="with --engine ray, the most actors at the same time; None: what the cluster has")
    add("--unknown-below", type=FRACTION, default=0.0, help="best score, 0 to 1, below which a photo is Unknown")
    add("--tta", action="store_true", help="average each image with its mirror image; takes twice as long")
    add("--probabilities", action="store_true", help="add a column for each class")
    add("--shard-size", type=COUNT, default=config.PHOTOS_PER_SHARD, help="photos in a part; fixed by the first run")
    add("--retry-failed", action="store_true", help="predict the parts again in which photos failed")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    try:
        from viewpoint import shards
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install -r requirements-cluster.txt") from error
    if args.model.is_dir():
        raise UserError(f"{args.model} is a folder; give a .tflite file, which convert_tflite.py writes")
    if args.engine == "ray" and "memory" in map(shards.protocol_of, (args.source, args.destination)):
        raise UserError("memory:// exists in one process only; give a folder or an object store, or --engine local")
    _, _, labels = load_model(args.model, args.labels)
    is_local = shards.protocol_of(args.destination) == "file" and "://" not in args.destination
    destination = str(Path(args.destination).absolute()) if is_local else args.destination
    store = shards.Store(destination)
    claims = shards.Claims(store)
    options = (tuple(labels), args.unknown_below, args.tta, args.probabilities)
    threads = 1 if args.engine == "ray" else cpu_count()
    job = shards.Job(destination, args.model.read_bytes(), *options, claims.copy, threads)
    try:
        with claims.alive():
            prepare(store, claims, args, job)
            if args.retry_failed:
                shards.remove_parts_with_failures(store)
            predict(store, claims, args, job)
        return report(store)
    except KeyboardInterrupt:
        again = shlex.join(shards.shown(word) for word in ["python", *sys.argv])
        complain(f"interrupted; what is written stays, and the same command continues:\n    {again}")
        return 130
    except (UserError, AssertionError, AttributeError, NameError, TypeError):  # the last four are mistakes of ours
        raise
    except Exception as error:  # storage and Ray raise many types; their text may hold addresses with credentials
        what = next((cause for cause in (error, error.__cause__) if isinstance(cause, UserError)), None)
        reason = str(what) if what else shards.reason_of(error)
        raise UserError(f"{reason}; what is written stays, and the same command continues") from None


if __name__ == "__main__":
    run(main)
