"""train.py --start-from: an earlier model, trained further on old and new photos, with honest figures."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import pytest
import tiny_train
from conftest import save_photo
from PIL import Image

import config
import train
from viewpoint.common.cli import UserError
from viewpoint.data.duplicates import perceptual_hash
from viewpoint.data.provenance import count_known, hash_photos, photo_hash, read_data
from viewpoint.data.splits import read_history
from viewpoint.training.self_training import answers, find_unlabelled

QUICK = ["--phase1-epochs", "1", "--phase2-epochs", "1", "--image-size", "32", "--quiet", "--no-calibrate"]


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch) -> None:
    """A backbone of one convolution in the place of MobileNetV2."""
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)


def write_splits(**photos: Iterable[int]) -> None:
    """Write dataset/NAME.csv for each split, with the photos of these numbers."""
    Path("dataset").mkdir(exist_ok=True)
    for name, numbers in photos.items():
        rows = []
        for number in numbers:
            file = Path("photos", f"{number}.png")
            if not file.exists():
                save_photo(file, seed=number)
            rows.append(f"../{file},{config.CLASSES[number % 7]}\n")
        Path("dataset", f"{name}.csv").write_text("image_path,label\n" + "".join(rows))


def run_train(monkeypatch, *options: str) -> None:
    weights = [] if "--start-from" in options else ["--weights", "backbone.weights.h5"]
    if weights and not Path(weights[1]).exists():
        train.build(train.Settings(image_size=32))[1].save_weights(weights[1])
    monkeypatch.setattr("sys.argv", ["train.py", *QUICK, *weights, *options])
    train.main()


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory) -> Path:
    """A folder with a model in models/, trained on photos 0 to 6, validated on 7 to 13, tested on 14 to 20."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
        write_splits(train=range(7), val=range(7, 14), test=range(14, 21))
        run_train(patch)
    return folder


@pytest.fixture
def earlier(trained_once, tmp_path) -> None:
    """A copy of that folder, in which the test starts."""
    shutil.copytree(trained_once, tmp_path, dirs_exist_ok=True)


def weights_of(path: Path | str) -> list[np.ndarray]:
    return keras.models.load_model(path).get_weights()


@pytest.fixture(scope="module")
def updated_once(trained_once, tmp_path_factory) -> tuple[Path, str]:
    """A folder with an update of that model in new/, and what the update printed.

    It learned from photos 100 to 106, after the old ones were deleted, with a learning rate of 0: what comes out is
    what it started from. Its test photos are the old ones and three new ones.
    """
    folder = tmp_path_factory.mktemp("updated")
    shutil.copytree(trained_once, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(folder)
        patch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
        write_splits(train=range(100, 107), test=[*range(14, 21), 120, 121, 122])
        run_train(patch, "--start-from", "models/model.keras", "--models", "new", "--phase2-learning-rate", "0")
    return folder, printed.getvalue()


def test_an_update_starts_from_the_earlier_weights_and_leaves_out_phase_1(updated_once):
    folder, _ = updated_once
    before, after = (weights_of(folder / models / "model.keras") for models in ("models", "new"))
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5)
    metrics = json.loads((folder / "new" / "report" / "metrics.json").read_text())
    assert [epoch["phase"] for epoch in metrics["history"]] == [2]


def test_the_updated_model_remembers_the_photos_of_both_trainings(updated_once):
    folder, _ = updated_once
    both = [str(folder / "photos" / f"{number}.png") for number in (*range(7), *range(100, 107))]
    assert read_data(folder / "new").photos["train"] == sorted(hash_photos(both))


def test_old_and_new_test_photos_are_told_apart(updated_once):
    folder, printed = updated_once
    before = json.loads((folder / "models" / "report" / "metrics.json").read_text())["test"]
    old, new = json.loads((folder / "new" / "report" / "metrics.json").read_text())["test"]["by_age"]
    # The weights are the same, so the old photos must have the same figures.
    assert (old["name"], old["photos"], old["accuracy"]) == ("old", 7, before["accuracy"])
    assert (new["name"], new["photos"]) == ("new", 3)
    assert f"Right: {old['right']} of 7 old photos, which the previous training tested too, and " in printed
    assert "Old and new photos" in (folder / "new" / "report" / "index.html").read_text()


def test_an_update_in_place_that_was_interrupted_in_its_report_is_resumed(earlier, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    write_splits(train=range(100, 107))  # the old lot was deleted meanwhile
    update = ["--start-from", "models/model.keras"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "report", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_train(monkeypatch, *update)
    updated = weights_of("models/model.keras")
    run_train(monkeypatch, *update, "--resume")
    for before, after in zip(updated, weights_of("models/model.keras"), strict=True):
        np.testing.assert_array_equal(after, before)
    assert not Path("models/checkpoint.npz").exists()
    both = [f"photos/{number}.png" for number in (*range(7), *range(100, 107))]
    assert read_data(Path("models")).photos["train"] == sorted(hash_photos(both))


@pytest.mark.parametrize(("split", "known"), [("test", 2), ("val", 3)])
def test_splits_that_hold_photos_which_the_model_was_trained_on_are_refused(earlier, monkeypatch, split, known):
    others = {"train": range(100, 107), split: [*range(known), 110, 111]}
    write_splits(**others)
    with pytest.raises(UserError, match=rf"trained on {known} of the {known + 2} photos of {split}\.csv"):
        run_train(monkeypatch, "--start-from", "models/model.keras", "--models", "new")
    assert not Path("new/model.keras").exists()


def test_a_model_that_knows_nothing_of_its_photos_is_continued_with_a_warning(earlier, monkeypatch, capsys):
    def begins(*_):
        raise KeyboardInterrupt

    Path("models/data.json").unlink()
    monkeypatch.setattr(train, "train", begins)
    with pytest.raises(KeyboardInterrupt):
        run_train(monkeypatch, "--start-from", "models/model.keras", "--models", "new")
    assert "models does not tell on which photos model.keras was trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Path("models/model.keras").unlink(), "models/model.keras not found"),
        (lambda: Path("models/model.keras").write_bytes(b"cut off"), "models/model.keras is not a model of train.py"),
        (
            lambda: Path("models/saved_model/labels.txt").write_text("\n".join(reversed(config.CLASSES))),
            "models/model.keras has other classes",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_one_sentence(earlier, monkeypatch, capsys, change, message):
    change()
    capsys.readouterr()
    with pytest.raises(UserError, match=message):
        run_train(monkeypatch, "--start-from", "models/model.keras", "--models", "new")
    assert capsys.readouterr().out == ""


def test_a_folder_in_the_place_of_a_model_is_one_sentence(monkeypatch, capsys):
    write_splits(train=range(7), val=range(7, 14), test=range(14, 21))
    with pytest.raises(UserError, match=r"photos is not a file; run train\.py, or give the model\.keras"):
        run_train(monkeypatch, "--start-from", "photos")
    assert capsys.readouterr().out == ""


def test_another_network_is_one_sentence(earlier, monkeypatch):
    with pytest.raises(UserError, match="training with the same --backbone and --hidden-units"):
        run_train(monkeypatch, "--start-from", "models/model.keras", "--models", "new", "--hidden-units", "5")


# --- Photos without labels ---------------------------------------------------------


def test_only_photos_whose_mirror_image_gets_the_mirrored_class_are_sure():
    assert config.CLASSES[:3] == ["Front", "FrontLeft", "FrontRight"]
    assert config.CLASSES[-1] == config.BACKGROUND
    photo = [(0.1, 0.9, 0, 0), (0.1, 0.9, 0, 0), (0.3, 0.7, 0, 0), (0.9, 0.1, 0, 0), (0, 0, 0, 1)]
    mirror = [(0.1, 0, 0.9, 0), (0.1, 0.9, 0, 0), (0.2, 0, 0.8, 0), (0.8, 0, 0.2, 0), (0, 0, 0, 1)]
    indices, sure = answers(*(np.insert(np.array(rows), [3], [0, 0, 0], axis=1) for rows in (photo, mirror)))
    # In turn: left in both; left in the photo and right in the mirror image; left with a mean of 0.75; front with 0.85;
    # surely no vehicle, which is not learned.
    assert sure.tolist() == [True, False, False, True, False]
    assert indices[[0, 3]].tolist() == [1, 0]


def test_photos_that_cannot_be_read_or_are_nearly_labelled_ones_are_not_learned_from(tmp_path):
    labelled = str(save_photo(tmp_path / "labelled.png", seed=1))
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(labelled, folder / "copy.png")
    Image.open(labelled).resize((200, 150)).save(folder / "smaller.jpg")
    (folder / "broken.jpg").write_bytes(Path(labelled).read_bytes()[:200])
    other = str(save_photo(folder / "other.png", seed=2))
    found, left_out = find_unlabelled(folder, [labelled], quiet=True)
    assert list(found) == [other]
    assert left_out == {"unreadable": 1, "nearly the same as a labelled photo": 2}


def test_what_was_learned_without_labels_is_known_and_said(earlier, monkeypatch, capsys):
    Path("more").mkdir()
    new = [save_photo(Path("more", f"{number}.png"), seed=number) for number in range(200, 206)]
    shutil.copy("photos/14.png", "more/test photo.png")
    Path("dataset/splits.csv").write_text("image_path,split,content\n14.png,test,0123\n")  # as versions before wrote it
    # Sure of the first four: FrontLeft. A model of one convolution would be sure of none.
    monkeypatch.setattr(
        "viewpoint.training.self_training.answers", lambda p, m: (np.ones(len(p), int), np.arange(len(p)) < 4)
    )
    run_train(monkeypatch, "--start-from", "models/model.keras", "--models", "updated", "--unlabelled", "more")
    said = capsys.readouterr().out
    assert "Of 7 photos without labels, the model is sure of 4 (FrontLeft 4). Left out: 1 nearly the same as a" in said
    data = read_data(Path("updated"))
    assert count_known(data, hash_photos(new)) == len(data.photos["unlabelled"]) == 4
    # When they are annotated, they and photos like them are in train.
    history = read_history(Path("dataset"))
    assert history.by_content == {"0123": "test"} | dict.fromkeys(data.photos["unlabelled"], "train")
    assert history.hashes_besides([]) == {photo_hash(file): perceptual_hash(file) for file in new[:4]}
    page = Path("updated/report/index.html").read_text()
    assert "learned from photos that nobody labelled. Of 7 photos without labels, the model is sure of 4" in page
    assert "The training continued from models/model.keras" in page
    # They are not counted as labelled photos, and nothing is measured on them.
    assert data.splits["train"].photos == 7
    assert json.loads(Path("updated/report/metrics.json").read_text())["test"]["images"] == 7


def test_a_model_that_is_sure_of_nothing_is_one_sentence(earlier, monkeypatch):
    Path("more").mkdir()
    save_photo(Path("more", "1.png"), seed=300)
    monkeypatch.setattr(config, "PSEUDO_LABEL_SCORE", 1.1)
    with pytest.raises(UserError, match="nothing to learn from more; train without --unlabelled"):
        run_train(monkeypatch, "--start-from", "models/model.keras", "--unlabelled", "more")


def test_photos_without_labels_need_a_model_that_labels_them(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "--unlabelled", "more"])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    assert "--unlabelled needs a trained model that labels the photos" in capsys.readouterr().err
