"""Train the viewpoint classifier on the splits of data_preparation.py.

    python train.py
    python train.py --weights mobilenet_v2_no_top.weights.h5     # without a download
    python train.py --recipe reference                           # the plain recipe
    python train.py --resume                                     # continue after an interruption
    python train.py --start-from models/model.keras              # update a model with more photos
    python train.py --start-from models/model.keras --unlabelled FOLDER    # and with photos without labels

Phase 1 trains a small head on a frozen MobileNetV2, phase 2 fine-tunes both. A temperature
fitted on the validation split then calibrates the scores. Reads dataset/{train,val,test}.csv
and the photos they name. Writes to models/:

    model.keras      the trained model
    saved_model/     the same model for serving and conversion, with labels.txt
    data.json        which photos and labels it was trained on, so that its figures stay honest
    reference.npz    what photos looked like that it did not learn from, for tools/drift.py
    history.jsonl    a line for each training: date, data, options, figures
    report/          index.html to look at, from the first epoch on; metrics.json,
                     test_predictions.csv, charts; and log.jsonl with one line an epoch

Until the training is finished, models/checkpoint.npz holds the state after each epoch. After an
interruption --resume continues from it and gives the same result.
"""

import datetime
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from viewpoint.common.tensorflow import import_tensorflow

import_tensorflow()

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from viewpoint.common.cli import UserError, resumable, run, writable
from viewpoint.common.images import scale
from viewpoint.common.metrics import predicted_classes
from viewpoint.common.writing import lock, remove
from viewpoint.data.dataset import SPLITS, read_split, recorded_data_dir
from viewpoint.data.out_of_fold import OUT_OF_FOLD_NAME
from viewpoint.data.provenance import ModelData, also_seen, describe_training, hash_photos, read_earlier
from viewpoint.data.splits import remember_learned
from viewpoint.reports.mistakes import Source
from viewpoint.reports.summary import print_summary
from viewpoint.reports.training import Background, write_progress, write_report
from viewpoint.training import optimization
from viewpoint.training.batches import (
    FeatureBatches,
    ImageBatches,
    Images,
    TrainingBatches,
    Variation,
    load_photos,
    one_hot,
)
from viewpoint.training.checkpoint import CHECKPOINT_NAME, Checkpoint, State, describe, load_state, save_state
from viewpoint.training.drift import record_photos
from viewpoint.training.evaluation import (
    ROBUSTNESS_IMAGES,
    calibrate,
    compute_features,
    measure_robustness,
    predict,
    suggest,
)
from viewpoint.training.features import compute_heat
from viewpoint.training.history import add_to_history, changes_since_previous, compare_with_previous
from viewpoint.training.network import (
    build_model,
    feature_extractor,
    head_of,
    load_backbone_weights,
    load_trained,
    save_model,
    unfreeze,
)
from viewpoint.training.self_training import label_unlabelled
from viewpoint.training.settings import Settings, parse_settings

# --- Data --------------------------------------------------------------------------


def load_splits(dataset: Path, data_dir: Path | None) -> dict[str, pd.DataFrame]:
    """Read train, val and test. Raises UserError when one is empty or its photos are missing."""
    splits = {}
    for name in SPLITS:
        csv_path = dataset / f"{name}.csv"
        split = read_split(csv_path, data_dir)
        if "label" not in split or split.empty:
            raise UserError(f"{csv_path} has no labelled photos; run data_preparation.py again")
        missing = [file for file in split["file"] if not Path(file).is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(split)} photos of {csv_path} are missing, the first is {missing[0]}; "
                "give their folder with --data, or run data_preparation.py again"
            )
        splits[name] = split
    return splits


# --- Training ----------------------------------------------------------------------


def train(
    model: keras.Model,
    backbone: keras.Model,
    splits: dict[str, pd.DataFrame],
    val_images: Images,
    settings: Settings,
    state: State,
) -> list[dict]:
    """Train in two phases, starting from `state`, and leave the better phase's weights in `model`.

    `val_images` are the uint8 images of the validation split, in its order. With random weights
    a frozen backbone is of no use, and an earlier model has a trained head, so phase 1 is left out.
    Returns one dict an epoch: phase, epoch, seconds, learning_rate, loss, accuracy, val_loss,
    val_accuracy, mean_seconds, and kept, which is true for the one epoch whose weights were kept.
    """
    batches, val_batches = make_batches(splits, val_images, settings)
    from_random = settings.weights == "none"
    # Both parts share the weights of `model`, and accept images of any size.
    # Folding makes a step a fifth faster and gives the same features; the reference recipe stays plain.
    extractor = feature_extractor(model, backbone, fold=not from_random and settings.recipe != "reference")
    head = head_of(model)
    # The head first: its random weights would send large, meaningless gradients into the backbone and
    # destroy what ImageNet taught it, before the head has learned anything.
    has_phase1 = settings.phase1_epochs and not from_random and not settings.start_from
    if has_phase1 and state.phase < 2:
        print("\nPhase 1: the head on the frozen backbone")
        state.history = train_phase(1, extractor, head, batches, val_batches, settings, state)
        state.kept_weights = model.get_weights()
    if settings.fine_tuning_epochs(len(splits["train"])):
        print("\nPhase 2: backbone and head" if has_phase1 else "\nTraining backbone and head together")
        # Early layers see edges and colours, which cars share with ImageNet, so that some may stay frozen.
        unfreeze(backbone, from_random, 0 if from_random else settings.frozen_share)
        epochs = train_phase(2, extractor, head, batches, val_batches, settings, state)
        # With few photos fine-tuning can do harm; then the head on the frozen backbone is the result.
        improved = not state.history or kept_result(epochs) > kept_result(state.history)
        for epoch in state.history if improved else epochs:
            epoch["kept"] = False
        state.history += epochs
        state.kept_weights = model.get_weights() if improved else state.kept_weights
    if not state.history:
        raise UserError("no epochs to train; give --phase1-epochs or --phase2-epochs above 0")
    model.set_weights(state.kept_weights)
    return state.history


def make_batches(
    splits: dict[str, pd.DataFrame], val_images: Images, settings: Settings
) -> tuple[TrainingBatches, ImageBatches]:
    """The batches to train on and those to validate on."""
    size = training_size(settings.image_size, settings.train_scale)
    # Random crops are cut from larger images, so that they are not enlarged.
    cached_size = round(size * settings.cache_scale) if settings.augment else size
    images = load_photos("train", splits["train"]["file"], cached_size, cache_folder(settings), settings.quiet)
    variation = Variation(settings.flip, settings.strengths() if settings.augment else None, settings.mixup)
    targets = one_hot(splits["train"]["label"])
    batches = TrainingBatches(images, targets, settings.batch_size, size, settings.seed, variation)
    return batches, ImageBatches(val_images, one_hot(splits["val"]["label"]), settings.batch_size)


def cache_folder(settings: Settings) -> Path | None:
    """Where decoded photos are kept; None with --no-cache."""
    return settings.dataset / "cache" if settings.cache else None


def training_size(image_size: int, train_scale: float) -> int:
    """Width and height of training images: a multiple of 32, because the backbone halves them five times."""
    return image_size if train_scale == 1 else max(32, 32 * round(image_size * train_scale / 32))


def kept_result(history: list[dict]) -> tuple[float, float]:
    """What decides between two phases: the kept epoch's val_accuracy, then its val_loss."""
    [kept] = [log for log in history if log["kept"]]
    return kept["val_accuracy"], -kept["val_loss"]


def train_phase(
    phase: int,
    extractor: keras.Model,
    head: keras.Model,
    batches: TrainingBatches,
    val_batches: ImageBatches,
    settings: Settings,
    state: State,
) -> list[dict]:
    """Train one phase and leave the weights of its kept epoch in the network; returns one dict an epoch.

    Continues from `state` when that is of the same phase. `mean_seconds` in each dict is the
    phase's mean over its epochs, including everything that the phase prepares.
    """
    if state.phase != phase:
        state.phase, state.epochs, state.seconds, state.stopped, state.best_weights = phase, [], 0.0, False, []
    started = time.monotonic() - state.seconds
    epochs = settings.phase1_epochs if phase == 1 else settings.fine_tuning_epochs(len(batches.images))
    phase_batches: TrainingBatches | FeatureBatches = batches
    validation: ImageBatches | tuple[np.ndarray, ...] = val_batches
    computes_once = phase == 1 and settings.phase1_views > 0
    network = head if computes_once else keras.Sequential([extractor, head])
    if computes_once:
        # The frozen backbone gives the same features in every epoch, and takes nearly all of the time.
        features = compute_features(extractor, batches, settings.phase1_views, settings.quiet)
        phase_batches = FeatureBatches(features, settings.batch_size, settings.seed)
        validation = compute_features(extractor, val_batches, 1, settings.quiet)
    optimizer = optimization.make_optimizer(phase, epochs * len(phase_batches), settings)
    # Made within the first step, the optimizer's variables would let TensorFlow trace the step twice.
    optimizer.build(network.trainable_variables)
    network.compile(optimizer=optimizer, loss=optimization.make_loss(settings), metrics=["accuracy"])
    callbacks = optimization.make_callbacks(phase, settings)
    checkpoint = Checkpoint(state, settings.models, phase_batches, callbacks, partial(write_progress, count=epochs))
    network.fit(
        phase_batches,
        validation_data=validation,
        initial_epoch=len(state.epochs),
        epochs=len(state.epochs) if state.stopped else epochs,
        callbacks=[*callbacks, optimization.EpochLines(settings.quiet), checkpoint],
        shuffle=False,  # the batches shuffle themselves; Keras's shuffling could not be resumed
        verbose=0,
    )
    if not np.isfinite(state.epochs[-1]["loss"]):
        raise UserError(f"the loss of phase {phase} became NaN or infinite; lower --phase{phase}-learning-rate")
    # Early stopping has restored its best epoch; without it the network has the last one.
    accuracies = [epoch["val_accuracy"] for epoch in state.epochs]
    kept = int(np.argmax(accuracies)) if settings.early_stopping_patience else len(accuracies) - 1
    seconds = (time.monotonic() - started) / len(accuracies)
    return [{**epoch, "mean_seconds": seconds, "kept": i == kept} for i, epoch in enumerate(state.epochs)]


# --- The whole ---------------------------------------------------------------------


def refuse_finished(models: Path) -> None:
    """Raise UserError when a folder has a finished model and no interrupted training to resume."""
    if (models / "model.keras").is_file() and not (models / CHECKPOINT_NAME).is_file():
        raise UserError(
            f"nothing to resume: the training of {models / 'model.keras'} is finished; "
            "train without --resume to replace it"
        )


def begin(settings: Settings, splits: dict[str, pd.DataFrame]) -> State:
    """The state to train from: a new one, or with --resume that of an interrupted training.

    Raises UserError when the interrupted training had other settings, or the folder cannot be written.
    """
    path, description = settings.models / CHECKPOINT_NAME, describe(vars(settings), splits)
    state = load_state(path, description) if settings.resume else None
    if state and state.phase:
        print(f"Continuing after phase {state.phase}, epoch {len(state.epochs)}")
        return state
    if settings.resume:
        print(f"Nothing to resume, because {path} has no finished epoch: starting from the beginning")
    elif path.is_file():
        print(f"Replacing {path} of an interrupted training, which --resume would have continued")
    state = State(description)
    # Saved now, so that a folder that cannot be written is reported before the training.
    save_state(state, path)
    return state


def build(settings: Settings) -> tuple[keras.Model, keras.Model]:
    """The network that the options describe, with random weights: (model, backbone)."""
    return build_model(
        image_size=settings.image_size,
        hidden_units=settings.hidden_units,
        backbone_dropout=settings.backbone_dropout,
        head_dropout=settings.head_dropout,
        train_batchnorm=settings.weights == "none",
        backbone_name=settings.backbone,
    )


def build_and_load(settings: Settings) -> tuple[keras.Model, keras.Model]:
    """The network with the weights that --start-from or --weights asks for: (model, backbone)."""
    if settings.mixed_precision:
        keras.config.set_dtype_policy("mixed_float16")
    model, backbone = build(settings)
    if settings.start_from:
        load_trained(model, settings.start_from)
    elif settings.weights != "none":
        load_backbone_weights(backbone, settings.weights, settings.backbone)
    return model, backbone


def in_float32(model: keras.Model, settings: Settings) -> keras.Model:
    """The trained model as a network of float32 throughout, as everything after the training expects it."""
    keras.config.set_dtype_policy("float32")
    result, _ = build(settings)
    result.set_weights(model.get_weights())
    return result


def main() -> None:
    settings = parse_settings("Train the viewpoint classifier.")
    folder = str(settings.models.resolve())
    if writable(folder) != folder:
        raise UserError(f"the name of {folder} is not UTF-8, which TensorFlow needs; give another folder with --models")
    with lock(settings.models, "--models"), resumable(settings.models / CHECKPOINT_NAME):
        train_and_report(settings)


def train_and_report(settings: Settings) -> None:
    """Everything from the splits to the model and its report."""
    if settings.resume:
        refuse_finished(settings.models)
    # Before anything is built, because it also decides the random weights of the head.
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if settings.devices == "all":
        optimization.share_batches()
    splits = load_splits(settings.dataset, settings.data)
    hashes = {name: hash_photos(split["file"]) for name, split in splits.items()}
    model, backbone = build_and_load(settings)
    earlier = read_earlier(settings.start_from, hashes) if settings.start_from else None
    # Decoded before the training, so that a damaged photo is reported now and not after hours.
    size, cache, quiet = settings.image_size, cache_folder(settings), settings.quiet
    test_images = load_photos("test", splits["test"]["file"], size, cache, quiet)
    val_images = load_photos("val", splits["val"]["file"], size, cache, quiet)
    learned, unlabelled = splits, None
    if settings.unlabelled:
        unlabelled = label_unlabelled(model, settings.unlabelled, splits, cache, settings.batch_size, quiet)
        remember_learned(settings.dataset, dict(zip(unlabelled.hashes, unlabelled.looks, strict=True)))
        learned = splits | {"train": pd.concat([splits["train"], unlabelled.rows], ignore_index=True)}
    history = train(model, backbone, learned, val_images, settings, begin(settings, learned))
    if settings.mixed_precision:
        model = in_float32(model, settings)
    # Networks are surer than they are right. On validation photos, because those of training are too easy
    # and those of the test must stay unseen.
    temperature = None
    if settings.calibrate:
        targets = one_hot(splits["val"]["label"])
        temperature = calibrate(model, val_images, targets, settings.flip, settings.batch_size)
    probabilities = predict(model, val_images, settings.batch_size)
    suggestion = suggest(probabilities, splits, hashes["train"], settings.dataset / OUT_OF_FOLD_NAME)
    labels = {name: split["label"].tolist() for name, split in splits.items()}
    data = describe_training((weight.tobytes() for weight in model.get_weights()), hashes, labels)
    data = replace(data, threshold=suggestion["threshold"])
    data = also_seen(data, earlier, unlabelled.hashes if unlabelled else [])
    # Saved before the evaluation, so that no later problem can lose the trained model.
    save_model(model, settings.models, data)
    without_labels = unlabelled.describe() if unlabelled else None
    found = {"temperature": temperature, "suggestion": suggestion, "learned_without_labels": without_labels}
    found["robustness_images"] = ROBUSTNESS_IMAGES
    report(Trained(model, data, history, found), splits, test_images, hashes["test"], settings)
    remove(settings.models / CHECKPOINT_NAME)


@dataclass(frozen=True)
class Trained:
    """What a training gave: the model, what it knows of its data, one dict an epoch, and what was found besides.

    `found` has the temperature, the suggested threshold, and what was learned without labels.
    """

    model: keras.Model
    data: ModelData
    history: list[dict]
    found: dict


def report(
    trained: Trained, splits: dict[str, pd.DataFrame], test_images: Images, hashes: list[str], settings: Settings
) -> None:
    """Measure the trained model on the test split; write the report and the history, and print the summary.

    `test_images` and `hashes` belong to the photos of the test split, in its order.
    """
    model, data, history, found = trained.model, trained.data, trained.history, trained.found
    # The only look at the test split: everything that is chosen was chosen on validation photos.
    test = splits["test"]
    probabilities = predict(model, test_images, settings.batch_size)
    robustness = measure_robustness(model, test, probabilities, settings.seed, settings.batch_size, settings.quiet)
    recorded = {name: str(value) if isinstance(value, Path) else value for name, value in vars(settings).items()}
    predicted = predicted_classes(probabilities)
    earlier = settings.start_from.parent if settings.start_from else settings.models
    previous = compare_with_previous(earlier, hashes, test["label"].tolist(), predicted)
    source = Source(
        dataset=settings.dataset,
        data=Path(os.path.normpath(settings.data or recorded_data_dir(settings.dataset))),
        date=f"{datetime.datetime.now():%Y-%m-%d %H:%M}",
        fingerprints={name: split.hash for name, split in data.splits.items()},
        changes=changes_since_previous(earlier, data, settings),
        heat=lambda rows, classes: compute_heat(model, scale(np.stack([test_images[row] for row in rows])), classes),
    )
    background = Background(robustness, data.training, previous, source)
    metrics = write_report(splits, probabilities, history, recorded | found, settings.models / "report", background)
    scores = [f"{score:.4f}" for score in probabilities.max(axis=1)]
    rows = zip(test["image_path"], predicted, scores, test["label"], hashes, strict=True)
    add_to_history(settings.models, data, settings, metrics, list(rows))
    # On photos of the training split, the scores are too good.
    unlearned = pd.concat([splits["val"], splits["test"]])["file"].tolist()
    record_photos(model, unlearned, data.training, settings.models, settings.seed, settings.quiet)
    if previous:
        print(f"\n{previous.describe()}.")
    if found["learned_without_labels"]:
        print(f"{found['learned_without_labels']}.")
    print_summary(splits, history, metrics, found["suggestion"], settings)


if __name__ == "__main__":
    run(main)
