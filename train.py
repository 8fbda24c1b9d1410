"""Train the viewpoint classifier on the splits of data_preparation.py.

    python train.py
    python train.py --weights mobilenet_v2_no_top.weights.h5     # without a download
    python train.py --recipe reference                           # the plain recipe

Phase 1 trains a small head on a frozen MobileNetV2; phase 2 fine-tunes both. A temperature
fitted on validation then makes the scores honest. Reads dataset/{train,val,test}.csv and
the photos they name. Writes to models/:

    model.keras      the trained model
    saved_model/     the same for serving and conversion, with labels.txt
    report/          index.html to look at, with all of the following: metrics.json,
                     test_predictions.csv, pictures; and log.jsonl, a line for each epoch

models/checkpoint.npz holds the state after each epoch until the training is done: once killed,
it goes on from there with --resume, to the same result.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keeps TensorFlow's start-up notes off the screen

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm
from tqdm.keras import TqdmCallback

import config
from checkpoint import CHECKPOINT_NAME, Checkpoint, State, describe, load_state, save_state
from common import COUNT, SEED, SHARE, WHOLE, UserError, map_in_order, number, remove, run
from data_preparation import SPLITS, ordered_counts, read_split
from evaluation import calibrate, measure_robustness, predict
from images import ImageError
from network import build_model, feature_extractor, head_of, load_backbone_weights, save_model, unfreeze
from reports.training import answered_shares, is_right, suggest_threshold, write_report
from training_data import (
    FeatureBatches,
    ImageBatches,
    TrainingBatches,
    load_photos,
    one_hot,
)

RATE = number(float, 0)  # a learning rate

# --- Data --------------------------------------------------------------------------


def load_splits(dataset: Path, data_dir: Path | None) -> dict[str, pd.DataFrame]:
    """Read train, val and test. Raises UserError when one is empty or its photos are gone."""
    splits = {}
    for name in SPLITS:
        csv_path = dataset / f"{name}.csv"
        split = read_split(csv_path, data_dir)
        if "label" not in split or split.empty:
            raise UserError(f"{csv_path} holds no labelled images; run data_preparation.py again")
        missing = [file for file in split["file"] if not Path(file).is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(split)} photos of {csv_path} are missing, first {missing[0]}; "
                "give their folder with --data, or run data_preparation.py again"
            )
        splits[name] = split
    return splits


# --- Training ----------------------------------------------------------------------


def train(
    model: keras.Model,
    backbone: keras.Model,
    splits: dict[str, pd.DataFrame],
    val_photos: Sequence[np.ndarray],
    args: argparse.Namespace,
    state: State,
) -> list[dict]:
    """Train in two phases, from `state` on, and leave the better phase's weights in `model`.

    `val_photos` are uint8 images of the validation split, in its order. With random weights
    there is nothing to keep frozen, so phase 1 is left out. Returns one dict for each epoch:
    phase, epoch, seconds, learning_rate, loss, accuracy, val_loss, val_accuracy, mean_seconds,
    and kept, which is true for the one epoch whose weights were kept.
    """
    size = training_size(args.image_size, args.train_scale)
    # Augmented photos are cut out of larger ones, so that a crop is not blown up.
    photos = load_photos("train", splits["train"], round(size * args.cache_scale) if args.augment else size, args)
    batches = TrainingBatches(photos, one_hot(splits["train"]["label"]), size, args)
    val_batches = ImageBatches(val_photos, one_hot(splits["val"]["label"]), args.batch_size)
    from_random = args.weights == "none"
    # Both share the weights of `model`, and take images of any size.
    extractor = feature_extractor(model, backbone, args.fold_batchnorm and not from_random)
    head = head_of(model)
    if args.phase1_epochs and not from_random and state.phase < 2:
        print("\nPhase 1: the head on the frozen backbone")
        state.history = train_phase(1, extractor, head, batches, val_batches, args, state)
        state.kept_weights = model.get_weights()
    if args.phase2_epochs:
        print("\nPhase 2: backbone and head")
        unfreeze(backbone, from_random, args.batchnorm_momentum, 0 if from_random else args.frozen_share)
        epochs = train_phase(2, extractor, head, batches, val_batches, args, state)
        improved = not state.history or kept_result(epochs) > kept_result(state.history)
        for epoch in state.history if improved else epochs:
            epoch["kept"] = False
        state.history += epochs
        state.kept_weights = model.get_weights() if improved else state.kept_weights
    if not state.history:
        raise UserError("no epochs to train; give --phase1-epochs or --phase2-epochs above 0")
    model.set_weights(state.kept_weights)
    return state.history


def training_size(image_size: int, train_scale: float) -> int:
    """Width and height of training images: a multiple of 32, for the backbone halves them five times."""
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
    args: argparse.Namespace,
    state: State,
) -> list[dict]:
    """Train one phase and leave the weights of its kept epoch in the network; one dict an epoch.

    Goes on from `state` when it is of this phase. `mean_seconds` in each dict is the phase's
    mean over its epochs, with all that the phase needs.
    """
    if state.phase != phase:
        state.phase, state.epochs, state.seconds, state.stopped, state.best_weights = phase, [], 0.0, False, []
    started = time.monotonic() - state.seconds
    epochs = args.phase1_epochs if phase == 1 else args.phase2_epochs
    if phase == 1 and args.phase1_views:
        # The frozen backbone gives the same features in every epoch: compute them once.
        network = head
        features = compute_features(extractor, batches, args.phase1_views, args.quiet)
        batches = FeatureBatches(features, args.batch_size, args.seed)
        val_batches = compute_features(extractor, val_batches, 1, args.quiet)
    else:
        network = keras.Sequential([extractor, head])
    network.compile(
        optimizer=make_optimizer(phase, epochs * len(batches), args),
        loss=make_loss(args),
        metrics=["accuracy"],
    )
    callbacks = make_callbacks(phase, args)
    network.fit(
        batches,
        validation_data=val_batches,
        initial_epoch=len(state.epochs),
        epochs=len(state.epochs) if state.stopped else epochs,
        callbacks=[*callbacks, *make_reporters(phase, args), Checkpoint(state, args.models, batches, callbacks)],
        shuffle=False,  # the batches have an order of their own; Keras's would depend on what came before
        verbose=2 if args.quiet else 0,  # without bars, Keras prints lines
    )
    if not np.isfinite(state.epochs[-1]["loss"]):
        raise UserError(f"the loss of phase {phase} is no number any more; lower --phase{phase}-learning-rate")
    # Early stopping has restored its best epoch; without it, the last one is there.
    accuracies = [epoch["val_accuracy"] for epoch in state.epochs]
    kept = int(np.argmax(accuracies)) if args.early_stopping_patience else len(accuracies) - 1
    seconds = (time.monotonic() - started) / len(accuracies)
    return [{**epoch, "mean_seconds": seconds, "kept": i == kept} for i, epoch in enumerate(state.epochs)]


def compute_features(extractor: keras.Model, batches: ImageBatches, views: int, quiet: bool) -> tuple[np.ndarray, ...]:
    """The pooled features of every image in `views` passes over the batches, with the rest.

    Gives float32 features (views * n, channels) and what else the batches hold.
    """
    shape = (views * len(batches.photos), extractor.output_shape[1])
    features = np.empty(shape, np.float32)
    rests, done = [], 0
    with tqdm(total=views * len(batches), desc="Computing features", unit="batch", disable=quiet) as progress:
        for _ in range(views):
            for images, *rest in map_in_order(batches.__getitem__, range(len(batches)), batches.workers):
                features[done : done + len(images)] = extractor.predict_on_batch(images)
                done += len(images)
                rests.append(rest)
                progress.update()
            batches.on_epoch_end()
    return features, *(np.concatenate(arrays) for arrays in zip(*rests, strict=True))


def make_optimizer(phase: int, steps: int, args: argparse.Namespace) -> keras.optimizers.Optimizer:
    """Adam with the recipe's schedule over `steps` steps and its weight averaging."""
    rate = args.phase1_learning_rate if phase == 1 else args.phase2_learning_rate
    if args.schedule == "cosine":
        warmup = round(args.warmup_share * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, decay_steps=steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    if args.ema and phase == 2:
        return keras.optimizers.Adam(rate, use_ema=True, ema_momentum=args.ema)
    return keras.optimizers.Adam(rate)


def make_loss(args: argparse.Namespace) -> keras.losses.Loss:
    """Cross-entropy, or focal loss, on target rows.

    Source: Lin et al., Focal Loss (2017), https://arxiv.org/abs/1708.02002.
    """
    if args.loss == "focal":
        # alpha weighs all classes alike: the class weights do that work.
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, label_smoothing=args.label_smoothing)
    return keras.losses.CategoricalCrossentropy(label_smoothing=args.label_smoothing)


def make_callbacks(phase: int, args: argparse.Namespace) -> list[keras.callbacks.Callback]:
    """Fresh callbacks for one phase: a used EarlyStopping would remember the other phase."""
    callbacks = [keras.callbacks.TerminateOnNaN()]
    if args.early_stopping_patience:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_accuracy", mode="max", patience=args.early_stopping_patience, restore_best_weights=True
            )
        )
    if args.ema and phase == 2:
        # Validates with the averaged weights; Keras leaves them in the model at the end.
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if args.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                monitor="val_loss", factor=args.lr_factor, patience=args.lr_patience, min_lr=args.min_learning_rate
            )
        )
    return callbacks


def make_reporters(phase: int, args: argparse.Namespace) -> list[keras.callbacks.Callback]:
    """The callbacks that tell people how a phase goes on, and change nothing."""
    callbacks = []
    if args.tensorboard:
        folder = args.models / "report" / "tensorboard" / f"phase{phase}"
        callbacks.append(keras.callbacks.TensorBoard(folder, write_graph=False))
    if not args.quiet:
        # A bar for the phase's epochs, above one for the epoch's batches.
        callbacks.append(TqdmCallback(desc=f"Phase {phase}", dynamic_ncols=True))
    return callbacks


# --- The whole ---------------------------------------------------------------------


def print_summary(
    splits: dict[str, pd.DataFrame],
    history: list[dict],
    metrics: dict,
    suggestion: dict | None,
    args: argparse.Namespace,
) -> None:
    """Print what was trained, how it does on the test split, and what to run next."""
    [kept] = [log for log in history if log["kept"]]
    print("\nTest split, used for this report only:\n")
    print(metrics["text"])
    print("Confusion matrix (rows are true classes):")
    print(pd.DataFrame(metrics["confusion_matrix"], config.CLASSES, config.CLASSES).to_string())
    if "robustness" in metrics:
        print("\nAccuracy " + ", ".join(f"{name} {value:.3f}" for name, value in metrics["robustness"].items()))
    print(f"Expected calibration error {metrics['calibration_error']:.3f}", end="")
    print(f" (before temperature scaling {metrics['calibration_error_before']:.3f})" if args.calibrate else "")
    print(f"\nTrained on {len(splits['train'])} images, validated on {len(splits['val'])}: ", end="")
    print(f"phase {kept['phase']} epoch {kept['epoch']} with validation accuracy {kept['val_accuracy']:.3f}")
    print(f"Test: accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, ", end="")
    print(f"weighted F1 {metrics['weighted_f1']:.3f} on {metrics['images']} images")
    counts = ordered_counts(splits["train"]["label"])
    absent = [name for name in counts if not counts[name] and not (args.flip and counts[config.MIRRORED_CLASS[name]])]
    if absent:
        print(f"Never seen in training, so never predicted with reason: {', '.join(absent)}")
    if suggestion and not suggestion["threshold"]:
        print(f"On validation, {suggestion['accuracy']:.1%} of all answers are right: no --unknown-below is needed")
    elif suggestion:
        print(f"On validation, {suggestion['accuracy']:.1%} of the answers with a score of at least ", end="")
        print(f"{suggestion['threshold']:.2f} are right; {suggestion['answered']:.1%} have one: ", end="")
        print(f"test_predict.py --unknown-below {suggestion['threshold']:.2f} writes Unknown for the others")
    else:
        print(f"No threshold for --unknown-below gives {config.SUGGESTED_ACCURACY:.0%} accuracy on validation")
    print(f"The model is in {args.models}/; open {args.models / 'report' / 'index.html'} to look at how it does.")
    options = "" if args.models == Path(config.MODELS_DIR) else f" --models {args.models}"
    options += "" if args.dataset == Path(config.DATASET_DIR) else f" --dataset {args.dataset}"
    options += f" --data {args.data}" if args.data else ""
    print(f"Next: python convert_tflite.py{options}")


def parse_arguments(options: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings of a command line (None: this one's): config.py's recipe, and what stands there."""
    recipe_parser = argparse.ArgumentParser(add_help=False)
    recipe_parser.add_argument(
        "--recipe", choices=config.RECIPES, default="default", help="sets the defaults of the options below"
    )
    recipe = recipe_parser.parse_known_args(options)[0].recipe
    parser = argparse.ArgumentParser(
        description="Train the viewpoint classifier.",
        parents=[recipe_parser],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    switch = argparse.BooleanOptionalAction
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of train.csv, val.csv and test.csv")
    add("--data", type=Path, help="folder the CSVs' paths start from; None: the one recorded beside them")
    add("--models", type=Path, default=config.MODELS_DIR, help="folder to write the model and its report to")
    add("--backbone", choices=config.BACKBONES, default=config.BACKBONES[0], help="the network below the head")
    add("--weights", default="imagenet", help="imagenet (downloads), none (random), or a file for the backbone")
    add(
        "--image-size",
        type=number(int, 32),
        default=config.IMAGE_SIZE,
        help="width of the model's input in pixels",
    )
    add("--batch-size", type=COUNT, help="images in a training step")
    add("--phase1-epochs", type=WHOLE, default=config.PHASE1_EPOCHS, help="epochs on the frozen backbone")
    add("--phase1-learning-rate", type=RATE, default=config.PHASE1_LEARNING_RATE, help="rate of phase 1")
    add(
        "--phase1-views",
        type=WHOLE,
        help="variants of each photo whose features phase 1 runs on; 0: compute anew",
    )
    add("--phase2-epochs", type=WHOLE, help="epochs of fine-tuning")
    add("--phase2-learning-rate", type=RATE, help="rate of phase 2")
    add("--frozen-share", type=SHARE, help="share of the backbone's layers, its first, that phase 2 leaves frozen")
    add("--train-scale", type=number(float, 0.1), help="size of training images, in model input sizes")
    add(
        "--fold-batchnorm",
        action=switch,
        help="let the frozen BatchNorm scale kernels, not activations: the same, faster",
    )
    add("--flip", action=switch, help="mirror half the training images, and their classes with them")
    add("--augment", action=switch, help="change training images at random")
    add("--mixup", type=number(float, 0), default=config.MIXUP, help="alpha of mixup, 0 for none")
    add("--loss", choices=["crossentropy", "focal"], default=config.LOSS, help="what is minimised")
    add("--label-smoothing", type=SHARE, help="share of a target that is spread over all classes")
    add("--schedule", choices=["plateau", "cosine"], help="how the learning rate falls")
    add("--ema", type=SHARE, help="share of the averaged weights that a step keeps, 0 for no averaging")
    add(
        "--early-stopping-patience",
        type=WHOLE,
        help="epochs without a better val_accuracy; 0: keep the last epoch",
    )
    add("--calibrate", action=switch, help="fit a temperature on the validation split")
    add("--cache", action=switch, help="decode each photo once, into dataset/cache, not once an epoch")
    add("--hidden-units", type=COUNT, default=config.HIDDEN_UNITS, help="units of the head's hidden layer")
    add("--backbone-dropout", type=SHARE, default=config.BACKBONE_DROPOUT, help="dropout before the hidden layer")
    add("--head-dropout", type=SHARE, default=config.HEAD_DROPOUT, help="dropout after the hidden layer")
    add("--lr-factor", type=number(float, 0, 0.9999), default=config.LR_FACTOR, help="the plateau schedule's factor")
    add("--lr-patience", type=WHOLE, default=config.LR_PATIENCE, help="epochs of val_loss that make a plateau")
    add("--min-learning-rate", type=RATE, default=config.MIN_LEARNING_RATE, help="the plateau schedule's end")
    add(
        "--warmup-share",
        type=number(float, 0, 0.9999),
        default=config.WARMUP_SHARE,
        help="share of warm-up steps",
    )
    add(
        "--batchnorm-momentum",
        type=SHARE,
        default=config.BATCHNORM_MOMENTUM,
        help="momentum of BatchNorm, with --weights none",
    )
    add("--calibration-bins", type=COUNT, default=config.CALIBRATION_BINS, help="bins of the calibration error")
    add("--resume", action="store_true", help="go on after an interruption with the same options")
    add("--deterministic", action="store_true", help="the same bits every time on one machine; slower")
    add("--quiet", action="store_true", help="a line for each epoch in the place of progress bars, for logs")
    add("--tensorboard", action="store_true", help="also write report/tensorboard/, for tensorboard --logdir")
    add("--robustness-images", type=COUNT, default=config.ROBUSTNESS_IMAGES, help="most test images to corrupt")
    add("--seed", type=SEED, default=config.SEED, help="seed of weights, dropout, batch order and random changes")
    strengths = parser.add_argument_group("strengths of --augment")
    for name, (value, low, high, meaning) in config.AUGMENTATION.items():
        strengths.add_argument(
            f"--{name.replace('_', '-')}", type=number(float, low, high), default=value, help=meaning
        )
    parser.set_defaults(**config.RECIPES[recipe])
    args = parser.parse_args(options)
    if args.ema and args.early_stopping_patience:
        parser.error("--ema keeps the average up to the last epoch; add --early-stopping-patience 0, or --ema 0")
    return args


def begin(args: argparse.Namespace, splits: dict[str, pd.DataFrame]) -> State:
    """A new training's state, or with --resume that of an interrupted one. Raises UserError as both do."""
    path, settings = args.models / CHECKPOINT_NAME, describe(args, splits)
    state = load_state(path, settings) if args.resume else None
    if state and state.phase:
        print(f"Going on after phase {state.phase} epoch {len(state.epochs)}")
        return state
    if args.resume:
        print(f"Nothing to resume, for {path} holds no finished epoch: beginning anew")
    elif path.is_file():
        print(f"{path} of an interrupted training, from which --resume would go on, will be overwritten")
    remove(args.models / "report" / "tensorboard")
    state = State(settings)
    # Now, for a folder that cannot be written must be known before the training and not after it.
    save_state(state, path)
    return state


def main() -> None:
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)
    if args.deterministic:
        tf.config.experimental.enable_op_determinism()
    splits = load_splits(args.dataset, args.data)
    model, backbone = build_model(
        len(config.CLASSES),
        args.image_size,
        args.hidden_units,
        args.backbone_dropout,
        args.head_dropout,
        args.weights == "none",
        args.backbone,
    )
    if args.weights != "none":
        load_backbone_weights(backbone, args.weights, args.backbone)
    # Before the training, so that a damaged photo is reported now and not after hours.
    test_photos = load_photos("test", splits["test"], args.image_size, args)
    val_photos = load_photos("val", splits["val"], args.image_size, args)
    history = train(model, backbone, splits, val_photos, args, begin(args, splits))
    temperature = calibrate(model, val_photos, one_hot(splits["val"]["label"]), args) if args.calibrate else None
    # Saved before it is evaluated, so that nothing after this can cost the trained model.
    save_model(model, args.models)
    probabilities = predict(model, val_photos, args.batch_size)
    suggestion = suggest_threshold(answered_shares(probabilities.max(axis=1), is_right(splits["val"], probabilities)))
    probabilities = predict(model, test_photos, args.batch_size)
    try:
        robustness = measure_robustness(model, splits["test"], probabilities, args)
    except ImageError as error:  # a photo has gone since it was decoded
        print(f"No robustness figures: {error}")
        robustness = None
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    settings |= {"temperature": temperature, "suggestion": suggestion}
    metrics = write_report(splits, probabilities, history, settings, args.models / "report", robustness)
    remove(args.models / CHECKPOINT_NAME)
    print_summary(splits, history, metrics, suggestion, args)


if __name__ == "__main__":
    run(main)
