"""Train the viewpoint classifier on the splits of data_preparation.py.

    python train.py
    python train.py --weights mobilenet_v2_no_top.weights.h5     # without a download

Phase 1 trains a small head on a frozen MobileNetV2; phase 2 fine-tunes both. Reads
dataset/{train,val,test}.csv and the photos they name. Writes to models/:

    model.keras      the best model of both phases
    saved_model/     the same for serving and conversion, with labels.txt
    report/          metrics.json, test_predictions.csv, confusion_matrix.png, learning_curves.png
"""

import argparse
import csv
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # keeps TensorFlow's start-up notes off the screen

import matplotlib

matplotlib.use("Agg")  # draws to files, so it needs no screen

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix, f1_score
from sklearn.utils.class_weight import compute_class_weight

import config
from common import UserError, run, write_atomically
from data_preparation import SPLITS, ordered_counts, read_split
from images import load_batch
from test_predict import LABELS_NAME, PREDICTION_COLUMNS, accuracy_and_macro_f1

# --- Data --------------------------------------------------------------------------


class ImageBatches(keras.utils.PyDataset):
    """Batches of (images, class indices) of a split, decoded from the files as they are used.

    Images are float32 (n, size, size, 3), -1 to 1; class indices int32 (n,). With a seed,
    every epoch comes in a new order, and the same seed gives the same orders.
    """

    def __init__(self, split: pd.DataFrame, batch_size: int, size: int, shuffle_seed: int | None = None):
        # Threads, not processes: Pillow lets go of the interpreter lock while it decodes.
        super().__init__(workers=os.cpu_count() or 1, max_queue_size=8)
        self.files = split["file"].to_numpy()
        self.targets = class_indices(split["label"])
        self.batch_size = batch_size
        self.size = size
        self.generator = None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        self.order = np.arange(len(self.files))
        self.on_epoch_end()

    def __len__(self) -> int:
        return -(-len(self.files) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return load_batch(self.files[rows], self.size), self.targets[rows]

    def on_epoch_end(self) -> None:
        if self.generator is not None:
            # A new array: batches of the epoch before may still be in the making.
            self.order = self.generator.permutation(len(self.files))


def class_indices(labels: pd.Series) -> np.ndarray:
    """Class names as indices into config.CLASSES: int32 of shape (n,)."""
    return np.array([config.CLASSES.index(label) for label in labels], dtype=np.int32)


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


def balanced_class_weights(labels: pd.Series) -> dict[int, float]:
    """The weight of each class index in the loss: n / (classes present * images of the class).

    Classes without images get 1. Source: sklearn.utils.class_weight, "balanced".
    """
    targets = class_indices(labels)
    present = np.unique(targets)
    weights = compute_class_weight("balanced", classes=present, y=targets)
    return dict.fromkeys(range(len(config.CLASSES)), 1.0) | dict(zip(present.tolist(), weights.tolist(), strict=True))


# --- Model -------------------------------------------------------------------------


def build_model(
    num_classes: int,
    image_size: int = config.IMAGE_SIZE,
    hidden_units: int = config.HIDDEN_UNITS,
    backbone_dropout: float = config.BACKBONE_DROPOUT,
    head_dropout: float = config.HEAD_DROPOUT,
    train_batchnorm: bool = False,
) -> tuple[keras.Model, keras.Model]:
    """MobileNetV2 1.0 with a small head, random weights, backbone frozen: (model, backbone).

    The model maps float32 (n, image_size, image_size, 3), RGB, -1 to 1, to float32
    probabilities (n, num_classes). The backbone's BatchNorm layers stay in inference mode,
    also when the backbone is unfrozen, unless `train_batchnorm`: ImageNet's statistics are
    better than those of a small batch, but random weights have none.
    Source: Sandler et al., MobileNetV2 (2018), https://arxiv.org/abs/1801.04381.
    """
    backbone = keras.applications.MobileNetV2(input_shape=(image_size, image_size, 3), include_top=False, weights=None)
    backbone.trainable = False
    inputs = keras.Input((image_size, image_size, 3), name="image")
    x = backbone(inputs, training=None if train_batchnorm else False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(backbone_dropout)(x)
    x = keras.layers.Dense(hidden_units, activation="relu")(x)
    x = keras.layers.Dropout(head_dropout)(x)
    outputs = keras.layers.Dense(num_classes, activation="softmax", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="vehicle_viewpoint"), backbone


def load_backbone_weights(backbone: keras.Model, weights: str) -> None:
    """Load ImageNet weights into the backbone: Keras's download ("imagenet") or a file.

    Raises UserError when the download or the file fails.
    """
    if weights == "imagenet":
        try:
            source = keras.applications.MobileNetV2(
                input_shape=backbone.input_shape[1:], include_top=False, weights="imagenet"
            )
        # Keras wraps network failures in a bare Exception.
        except Exception as error:
            raise UserError(
                "cannot download the ImageNet weights; give a weights file with --weights PATH, "
                "or start from random weights with --weights none"
            ) from error
        backbone.set_weights(source.get_weights())
        return
    if not Path(weights).is_file():
        raise UserError(f"weights file {weights} not found; give --weights imagenet, none or a file")
    try:
        backbone.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise UserError(
            f"{weights} does not fit MobileNetV2 1.0 without top: {str(error).splitlines()[0]}; "
            "give --weights imagenet, none or another file"
        ) from error


def unfreeze(
    backbone: keras.Model, train_batchnorm: bool = False, batchnorm_momentum: float = config.BATCHNORM_MOMENTUM
) -> None:
    """Make the backbone trainable, but its BatchNorm layers only with `train_batchnorm`.

    `batchnorm_momentum` is how much of their running statistics they then keep in a step.
    The model must be compiled again afterwards.
    """
    backbone.trainable = True
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = train_batchnorm
            layer.momentum = batchnorm_momentum if train_batchnorm else layer.momentum


# --- Training ----------------------------------------------------------------------


def train(model: keras.Model, backbone: keras.Model, splits: dict[str, pd.DataFrame], args) -> list[dict]:
    """Train in two phases and leave the best weights of both in `model`.

    With random weights there is nothing to keep frozen, so phase 1 is left out. Returns one
    dict for each epoch: phase, epoch, loss, accuracy, val_loss, val_accuracy, learning_rate.
    """
    batches = ImageBatches(splits["train"], args.batch_size, args.image_size, shuffle_seed=args.seed)
    val_batches = ImageBatches(splits["val"], args.batch_size, args.image_size)
    class_weights = balanced_class_weights(splits["train"]["label"])
    phases = [(2, args.phase2_epochs, args.phase2_learning_rate)]
    if args.weights != "none":
        phases.insert(0, (1, args.phase1_epochs, args.phase1_learning_rate))
    history, best_weights, best_accuracy = [], None, -1.0
    for phase, epochs, learning_rate in phases:
        if epochs == 0:
            continue
        if phase == 2:
            unfreeze(backbone, args.weights == "none", args.batchnorm_momentum)
        model.compile(
            optimizer=keras.optimizers.Adam(learning_rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        print(f"\nPhase {phase}: {'the head on the frozen backbone' if phase == 1 else 'backbone and head'}")
        logs = model.fit(
            batches,
            validation_data=val_batches,
            epochs=epochs,
            class_weight=class_weights,
            callbacks=callbacks(args),
        ).history
        if not np.isfinite(logs["loss"][-1]):
            raise UserError(f"the loss of phase {phase} is no number any more; lower --phase{phase}-learning-rate")
        epoch_logs = [dict(zip(logs, values, strict=True)) for values in zip(*logs.values(), strict=True)]
        history += [{"phase": phase, "epoch": epoch, **log} for epoch, log in enumerate(epoch_logs, start=1)]
        # Early stopping has restored this phase's best epoch; keep it only if it is the best yet.
        if max(logs["val_accuracy"]) > best_accuracy:
            best_accuracy, best_weights = max(logs["val_accuracy"]), model.get_weights()
    if best_weights is None:
        raise UserError("no epochs to train; give --phase1-epochs or --phase2-epochs above 0")
    model.set_weights(best_weights)
    return history


def callbacks(args: argparse.Namespace) -> list[keras.callbacks.Callback]:
    """Fresh callbacks for one phase: a used EarlyStopping would remember the other phase."""
    return [
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.EarlyStopping(
            monitor="val_accuracy", mode="max", patience=args.early_stopping_patience, restore_best_weights=True
        ),
        keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", factor=args.lr_factor, patience=args.lr_patience, min_lr=args.min_learning_rate
        ),
    ]


def save_model(model: keras.Model, models_dir: Path) -> None:
    """Write model.keras and saved_model/ with labels.txt in class order."""
    with write_atomically(models_dir / "model.keras") as path:
        model.save(path)
    with write_atomically(models_dir / "saved_model") as path:
        model.export(path, verbose=False)
        (path / LABELS_NAME).write_text("\n".join(config.CLASSES) + "\n", encoding="utf-8")


# --- Report ------------------------------------------------------------------------


def evaluate(model: keras.Model, split: pd.DataFrame, batch_size: int) -> np.ndarray:
    """The model's probabilities for a split: float32 of shape (n, classes), in its order."""
    return model.predict(ImageBatches(split, batch_size, model.input_shape[1]), verbose=0)


def compute_metrics(true: list[str], predicted: list[str]) -> dict:
    """Accuracy, macro and weighted F1, the per-class report and the confusion matrix.

    Averages are over the classes that occur; the matrix holds all, true classes as rows.
    """
    accuracy, macro_f1 = accuracy_and_macro_f1(true, predicted)
    occurring = [name for name in config.CLASSES if name in true or name in predicted]
    return {
        "images": len(true),
        "accuracy": accuracy,
        "macro_f1": macro_f1,
        "weighted_f1": f1_score(true, predicted, average="weighted", zero_division=0),
        "classes": config.CLASSES,
        "confusion_matrix": confusion_matrix(true, predicted, labels=config.CLASSES).tolist(),
        "per_class": classification_report(true, predicted, labels=occurring, zero_division=0, output_dict=True),
        "text": classification_report(true, predicted, labels=occurring, zero_division=0, digits=3),
    }


def write_report(test: pd.DataFrame, probabilities: np.ndarray, history: list[dict], args, folder: Path) -> dict:
    """Write the report on the test split into `folder` and return its metrics."""
    predicted = [config.CLASSES[index] for index in probabilities.argmax(axis=1)]
    metrics = compute_metrics(test["label"].tolist(), predicted)
    text = metrics.pop("text")
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    with write_atomically(folder / "metrics.json") as path:
        content = {"test": metrics, "settings": settings, "history": history}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    with (
        write_atomically(folder / "test_predictions.csv") as path,
        path.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*PREDICTION_COLUMNS, "label"])
        scores = [f"{score:.4f}" for score in probabilities.max(axis=1)]
        writer.writerows(zip(test["image_path"], predicted, scores, test["label"], strict=True))
    with write_atomically(folder / "confusion_matrix.png") as path:
        draw_confusion_matrix(np.array(metrics["confusion_matrix"]), path)
    with write_atomically(folder / "learning_curves.png") as path:
        draw_learning_curves(history, path)
    return metrics | {"text": text}


def draw_confusion_matrix(matrix: np.ndarray, path: Path) -> None:
    """Draw a confusion matrix of counts (classes, classes), true classes as rows, to PNG."""
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    display = ConfusionMatrixDisplay(matrix, display_labels=config.CLASSES)
    display.plot(ax=axes, cmap="Blues", xticks_rotation=45, values_format="d")
    axes.set(title=f"Test split: {np.trace(matrix)} of {matrix.sum()} images right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_learning_curves(history: list[dict], path: Path) -> None:
    """Draw loss and accuracy over the epochs of both phases to PNG, the best epoch marked."""
    epochs = range(1, len(history) + 1)
    figure, panels = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axes, name in zip(panels, ("accuracy", "loss"), strict=True):
        axes.plot(epochs, [log[name] for log in history], label="train", color="#0072B2")
        axes.plot(epochs, [log[f"val_{name}"] for log in history], label="validation", color="#D55E00")
        axes.axvline(1 + best_epoch(history), color="grey", linestyle=":", label="best epoch")
        phase1_epochs = sum(log["phase"] == 1 for log in history)
        if 0 < phase1_epochs < len(history):
            axes.axvline(phase1_epochs + 0.5, color="black", linewidth=1, label="phase 2 begins")
        axes.set(xlabel="epoch", title=name)
        axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def best_epoch(history: list[dict]) -> int:
    """The index in `history` of the epoch kept: the first with the best val_accuracy."""
    return int(np.argmax([log["val_accuracy"] for log in history]))


def print_summary(splits: dict[str, pd.DataFrame], history: list[dict], metrics: dict, models_dir: Path) -> None:
    """Print what was trained, how it does on the test split, and what to run next."""
    best = history[best_epoch(history)]
    print("\nTest split, used for this report only:\n")
    print(metrics["text"])
    print("Confusion matrix (rows are true classes):")
    print(pd.DataFrame(metrics["confusion_matrix"], config.CLASSES, config.CLASSES).to_string())
    print(f"\nTrained on {len(splits['train'])} images, chosen on {len(splits['val'])}: ", end="")
    print(f"phase {best['phase']} epoch {best['epoch']} with validation accuracy {best['val_accuracy']:.3f}")
    print(f"Test: accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, ", end="")
    print(f"weighted F1 {metrics['weighted_f1']:.3f} on {metrics['images']} images")
    absent = [name for name, count in ordered_counts(splits["train"]["label"]).items() if not count]
    if absent:
        print(f"Never seen in training, so never predicted with reason: {', '.join(absent)}")
    print(f"The model is in {models_dir}/, pictures in {models_dir}/report/.")
    option = "" if models_dir == Path(config.MODELS_DIR) else f" --models {models_dir}"
    print(f"Next: python convert_tflite.py{option}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Train the viewpoint classifier.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, default=config.DATASET_DIR, help="folder of train.csv, val.csv and test.csv")
    add("--data", type=Path, help="folder the CSVs' paths start from (default: the one recorded beside them)")
    add("--models", type=Path, default=config.MODELS_DIR, help="folder to write the model and its report to")
    add("--weights", default="imagenet", help="imagenet (downloads), none (random), or a MobileNetV2 weights file")
    add("--image-size", type=int, default=config.IMAGE_SIZE, help="width and height of the model's input, pixels")
    add("--batch-size", type=int, default=config.BATCH_SIZE, help="images in a training step")
    add("--phase1-epochs", type=int, default=config.PHASE1_EPOCHS, help="epochs on the frozen backbone")
    add("--phase1-learning-rate", type=float, default=config.PHASE1_LEARNING_RATE, help="rate of phase 1")
    add("--phase2-epochs", type=int, default=config.PHASE2_EPOCHS, help="epochs of fine-tuning")
    add("--phase2-learning-rate", type=float, default=config.PHASE2_LEARNING_RATE, help="rate of phase 2")
    add("--hidden-units", type=int, default=config.HIDDEN_UNITS, help="units of the head's hidden layer")
    add("--backbone-dropout", type=float, default=config.BACKBONE_DROPOUT, help="dropout before the hidden layer")
    add("--head-dropout", type=float, default=config.HEAD_DROPOUT, help="dropout after the hidden layer")
    add(
        "--early-stopping-patience",
        type=int,
        default=config.EARLY_STOPPING_PATIENCE,
        help="epochs without a better val_accuracy before a phase ends",
    )
    add("--lr-factor", type=float, default=config.LR_FACTOR, help="the rate's factor on a plateau of val_loss")
    add("--lr-patience", type=int, default=config.LR_PATIENCE, help="epochs that make a plateau")
    add("--min-learning-rate", type=float, default=config.MIN_LEARNING_RATE, help="the rate is not cut below this")
    add(
        "--batchnorm-momentum",
        type=float,
        default=config.BATCHNORM_MOMENTUM,
        help="momentum of BatchNorm, with --weights none",
    )
    add("--seed", type=int, default=config.SEED, help="seed of weights, dropout and batch order")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    keras.utils.set_random_seed(args.seed)
    splits = load_splits(args.dataset, args.data)
    model, backbone = build_model(
        len(config.CLASSES),
        args.image_size,
        args.hidden_units,
        args.backbone_dropout,
        args.head_dropout,
        train_batchnorm=args.weights == "none",
    )
    if args.weights != "none":
        load_backbone_weights(backbone, args.weights)
    history = train(model, backbone, splits, args)
    # Saved before it is evaluated, so that nothing after this can cost the trained model.
    save_model(model, args.models)
    probabilities = evaluate(model, splits["test"], args.batch_size)
    metrics = write_report(splits["test"], probabilities, history, args, args.models / "report")
    print_summary(splits, history, metrics, args.models)


if __name__ == "__main__":
    run(main)
