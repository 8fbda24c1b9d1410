"""What train.py prints at its end, and sentences that its report and the hand-off share with it."""

import pandas as pd

import config
from viewpoint.common.cli import command, counted, print_next
from viewpoint.data.dataset import class_counts
from viewpoint.training.settings import Settings

# What the answers above a suggested threshold show.
SUGGESTION_GOAL = f"at least {config.SUGGESTED_ACCURACY:.0%} accuracy with {config.SUGGESTED_CONFIDENCE:.0%} confidence"


def print_summary(
    splits: dict[str, pd.DataFrame],
    history: list[dict],
    metrics: dict,
    suggestion: dict,
    settings: Settings,
) -> None:
    """Print what was trained, how good it is on the test split, and what to run next."""
    [kept] = [log for log in history if log["kept"]]
    has_phases = history[0]["phase"] == 1
    print("\nTest split, used for this report only:\n")
    print(metrics["text"])
    print("Confusion matrix (rows are true classes):")
    print(pd.DataFrame(metrics["confusion_matrix"], config.CLASSES, config.CLASSES).to_string())
    if "robustness" in metrics:
        print("\nAccuracy " + ", ".join(f"{name} {value:.3f}" for name, value in metrics["robustness"].items()))
    before = metrics.get("calibration_error_before")
    note = "" if before is None else f" (before temperature scaling {before:.3f})"
    print(f"Expected calibration error {metrics['calibration_error']:.3f}{note}")
    print(f"\nTrained on {counted(len(splits['train']), 'photo')}, validated on {len(splits['val'])}: ", end="")
    phase = f"phase {kept['phase']} " if has_phases else ""
    print(f"{phase}epoch {kept['epoch']} with validation accuracy {kept['val_accuracy']:.3f}")
    if settings.phase2_epochs is None:
        epochs = counted(sum(log["phase"] == 2 for log in history), "epoch")
        photos = counted(len(splits["train"]), "photo") + (" and those without labels" if settings.unlabelled else "")
        print(f"{'Phase 2' if has_phases else 'Training'}: {epochs} for {photos}; --phase2-epochs sets another number")
    print(f"Test: accuracy {metrics['accuracy']:.3f}, macro F1 {metrics['macro_f1']:.3f}, ", end="")
    print(f"weighted F1 {metrics['weighted_f1']:.3f} on {counted(metrics['images'], 'photo')}")
    if metrics["by_age"]:
        old, new = (f"{row['right']} of {counted(row['photos'], row['name'] + ' photo')}" for row in metrics["by_age"])
        print(f"Right: {old}, which the previous training tested too, and {new}")
    if unmeasured := [name for name in config.CLASSES if name not in metrics["macro_f1_classes"]]:
        print(f"Not measured, and not in macro F1, because they have no test photos: {', '.join(unmeasured)}")
    counts = class_counts(splits["train"]["label"])
    absent = [
        name for name in counts if not counts[name] and not (settings.flip and counts[config.MIRRORED_CLASS[name]])
    ]
    if absent:
        print(f"Without training photos, so do not trust a prediction of: {', '.join(absent)}")
    print(describe_suggestion(suggestion))
    if effect := metrics.get("threshold_effect"):
        print(describe_effect(effect))
    print(
        f"The model is in {settings.models}/; open {settings.models / 'report' / 'index.html'} to see how good it is."
    )
    options = [("--models", settings.models, config.MODELS_DIR), ("--dataset", settings.dataset, config.DATASET_DIR)]
    print_next(command("convert_tflite.py", [*options, ("--data", settings.data, None)]))


def describe_suggestion(suggestion: dict) -> str:
    """What people are told of the threshold that metrics.suggest_threshold found, and of the photos behind it."""
    photos, threshold = photos_behind(suggestion), suggestion["threshold"]
    if threshold is None:
        return (
            f"No threshold for --unknown-below: {photos} cannot show "
            f"{SUGGESTION_GOAL}; {counted(suggestion['missing'], 'more answer')}, all right, would be needed"
        )
    if not threshold:
        return f"On {photos}, all answers together show {SUGGESTION_GOAL}: no --unknown-below is needed"
    return (
        f"On {photos}, the answers with a score of at least {threshold:.2f} show {SUGGESTION_GOAL} "
        f"({suggestion['accuracy']:.1%} are right), and {suggestion['answered']:.1%} of the photos get one: "
        f"test_predict.py --unknown-below {threshold:.2f} writes {config.UNKNOWN} for the others"
    )


def photos_behind(suggestion: dict) -> str:
    """How many photos of which kind a suggestion of metrics.suggest_threshold rests on."""
    others = suggestion.get("out_of_fold", 0)
    photos = counted(suggestion["photos"] - others, "validation photo")
    if others:
        photos += f" and {counted(others, 'training photo')} judged by models that did not learn them"
    return photos


def describe_effect(effect: dict) -> str:
    """The effect of a threshold on the test split in a sentence; see metrics.threshold_effect."""
    return (
        f"On the test split, the threshold {effect['threshold']:.2f} leaves an answer for {effect['answered']} of "
        f"{counted(effect['photos'], 'photo')}; {effect['right']} of these are right, which is "
        f"{effect['right'] / max(effect['answered'], 1):.1%} instead of "
        f"{effect['right_without'] / effect['photos']:.1%} without it"
    )
