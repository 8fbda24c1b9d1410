"""Drift: tests checked by hand and by other routes, false alarms by simulation, and the tool on drawn photos."""

import json
from pathlib import Path

import drift as drift_tool
import keras
import numpy as np
import pytest
import tiny_train
from conftest import save_photo
from PIL import Image
from scipy.stats import binomtest, fisher_exact
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

import config
from viewpoint.common.cli import UserError
from viewpoint.common.images import open_image
from viewpoint.common.quality import quality_reasons
from viewpoint.data.provenance import describe_training, write_data
from viewpoint.inference.outputs import RowFormat
from viewpoint.inference.predictor import Result
from viewpoint.reports.drift import describe, describe_share
from viewpoint.training import drift
from viewpoint.training.drift import (
    PhotoStatistics,
    compare,
    compare_features,
    compare_scores,
    compare_shares,
    distances,
    holm,
    observe,
    open_photos,
    read_reference,
    size_step,
    write_reference,
)
from viewpoint.training.network import build_model

# --- The tests, each against another route -----------------------------------------


def test_shares_against_fisher_s_exact_test():
    distance, p = compare_shares({"Rear": 8, "Front": 2}, {"Rear": 2, "Front": 8})
    assert distance == pytest.approx(0.6)  # six of ten photos would have to change
    assert p == pytest.approx(fisher_exact([[8, 2], [2, 8]]).pvalue, abs=0.01)
    assert compare_shares({"Rear": 5}, {"Rear": 9, "Front": 0}) == (0, 1)
    assert compare_shares({"Rear": 5}, {}) == (0, 1)


def test_scores_by_hand():
    # At 0.5 all of the later scores are passed and one of four of the earlier ones.
    assert compare_scores([0.4, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.5])[0] == pytest.approx(0.75)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.9, 0.8]) == [1, 1]


def test_the_classifier_s_answers_are_those_of_one_fitted_again_without_each_photo():
    rng = np.random.default_rng(1)
    before, now = rng.normal(size=(11, 4)), rng.normal(0.7, 1, size=(9, 4))
    features, side = np.concatenate([before, now]), np.repeat([0, 1], [11, 9])
    alpha = drift.RIDGE * features.var(axis=0).sum()
    answers = []
    for row in range(20):
        others = np.arange(20) != row
        answers.append(Ridge(alpha=alpha).fit(features[others], side[others]).predict(features[[row]])[0])
    assert compare_features(before, now)[0] == pytest.approx(roc_auc_score(side, answers))


def test_features_without_any_difference_are_no_drift():
    assert compare_features(np.ones((5, 3)), np.ones((4, 3))) == (0.5, 1)


def test_the_distance_to_the_most_similar_photo():
    features = np.array([[1.0, 0], [2, 0], [0, 3]])
    assert distances(np.array([[0.0, 1], [1, 1]]), features) == pytest.approx([0, 1 - np.sqrt(0.5)])
    # Among themselves, the first two point the same way, and the third is like none.
    assert distances(features, features) == pytest.approx([0, 0, 1])


def test_the_steps_of_sizes():
    assert size_step(0.05) == "under 0.1 megapixels"
    assert size_step(0.1) == "0.1 to 0.3 megapixels"
    assert size_step(12) == "10 megapixels or more"


# --- Certain and large -------------------------------------------------------------

SHARES = [0.25, 0.22, 0.16, 0.1, 0.06, 0.06, 0.15]


def draw(
    rng: np.random.Generator, count: int, shares=SHARES, dark=0.01, shift=0.0, opened: int | None = None
) -> PhotoStatistics:
    """Photos whose scores depend on their class, and whose 40 features depend on 5 hidden causes, as real ones do."""
    photos = PhotoStatistics()
    classes = rng.choice(len(shares), count, p=shares)
    for index, score in zip(classes, rng.beta(8 - classes * 0.5, 1), strict=True):
        photos.add(config.CLASSES[index], float(score), "too dark" if rng.random() < dark else "")
    opened = count if opened is None else opened
    causes = np.random.default_rng(0).normal(size=(5, 40))
    photos.features = np.maximum(rng.normal(shift, 1, (opened, 5)) @ causes + rng.normal(size=(opened, 40)), 0)
    shapes = [(640, 480, "JPEG"), (480, 640, "JPEG"), (2000, 1500, "PNG")]
    photos.files = [shapes[index] for index in rng.choice(3, opened, p=[0.6, 0.3, 0.1])]
    return photos


def is_drift(before: PhotoStatistics, now: PhotoStatistics) -> bool:
    return any(change.is_drift for change in compare(before, now))


@pytest.mark.parametrize(("before", "now"), [(94, 94), pytest.param(30, 150, marks=pytest.mark.stress)])
def test_false_alarms_on_photos_of_the_same_kind_are_not_more_than_5_per_cent(monkeypatch, before, now):
    """Both sides are drawn anew each time, so that the few earlier photos are counted as chance as well.

    About 4 % are expected; without the correction for the number of tests, about a third.
    """
    monkeypatch.setattr(drift, "DRAWS", 399)
    rng = np.random.default_rng(3)
    alarms = sum(is_drift(draw(rng, before), draw(rng, now)) for _ in range(100))
    assert binomtest(alarms, 100, 0.05, alternative="greater").pvalue > 0.05


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"shares": [0.05, 0.1, 0.1, 0.3, 0.2, 0.2, 0.05]}, "classes"),
        ({"dark": 0.3}, "quality"),
        ({"shift": 0.7}, "features"),
    ],
)
def test_drift_is_found_and_named(change, what):
    rng = np.random.default_rng(4)
    for _ in range(5):
        changes = compare(draw(rng, 94), draw(rng, 94, **change))
        assert what in [change.what for change in changes if change.is_drift]


def test_a_certain_but_small_change_among_very_many_photos_is_no_drift():
    rng = np.random.default_rng(5)
    before = draw(rng, 20_000, opened=50)
    now = draw(rng, 100_000, shares=[0.28, 0.22, 0.16, 0.07, 0.06, 0.06, 0.15], opened=50)
    classes = next(change for change in compare(before, now) if change.what == "classes")
    assert classes.p < 0.01
    assert classes.size == pytest.approx(0.03, abs=0.005)
    assert not classes.is_drift


def test_what_changed_in_words():
    before, now = PhotoStatistics(), PhotoStatistics()
    for count, name in ((9, "Rear"), (91, "Front")):
        for index in range(count):
            before.add(name, 0.5 + index / 200, "too dark" if index == 0 else "")
    for count, name in ((20, "Rear"), (980, "FrontLeft")):
        for index in range(count):
            now.add(name, 0.9, "too dark" if index < 30 else "")
    before.features = now.features = np.ones((3, 2))
    before.files, now.files = [(640, 480, "JPEG")] * 50, [(200, 200, "PNG")] * 50
    assert describe(compare(before, now), before, now) == [
        "There were no FrontLeft photos; now they are 98 %.",
        "There are no Front photos any more; they were 91 %.",
        "There are no photos of 0.3 to 1 megapixels any more; they were 100 %.",
        "There were no photos of under 0.1 megapixels; now they are 100 %.",
        "There were no square photos; now they are 100 %.",
        "There are no wide photos any more; they were 100 %.",
        "There are no JPEG photos any more; they were 100 %.",
        "There were no PNG photos; now they are 100 %.",
    ]


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        ((0.09, 0.02), "Rear photos fell from 9 to 2 %."),
        ((0.02, 0.06), "Three times as many Rear photos: 6 % instead of 2 %."),
        ((0.2, 0.25), "Rear photos rose from 20 to 25 %."),
        ((0.1, 0.16), "Rear photos rose from 10 to 16 %."),  # not twice as many
        ((0.004, 0.5), "Rear photos rose from 0.4 to 50 %."),
    ],
)
def test_a_share_in_words(shares, sentence):
    assert describe_share("Rear photos", *shares) == sentence


# --- The record and the tool -------------------------------------------------------


def test_the_record_comes_back(tmp_path):
    photos = draw(np.random.default_rng(1), 20)
    write_reference(photos, "abc", tmp_path)
    again = read_reference(tmp_path, "abc")
    assert (again.scores, again.quality, again.files) == (photos.scores, photos.quality, photos.files)
    assert again.features == pytest.approx(photos.features, rel=1e-3)
    with pytest.raises(UserError, match=r"is of another training than model\.keras; train again"):
        read_reference(tmp_path, "def")
    (tmp_path / drift.REFERENCE_NAME).write_bytes(b"PK")
    with pytest.raises(UserError, match="is damaged"):
        read_reference(tmp_path, "abc")
    with pytest.raises(UserError, match="not found; train again"):
        read_reference(tmp_path / "none", "abc")
    (tmp_path / "drift.csv").touch()
    with pytest.raises(UserError, match=r"drift\.csv is a file; give the models folder that train.py wrote"):
        read_reference(tmp_path / "drift.csv", "abc")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with an untrained network, its record of 60 photos, and the network itself."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
        keras.utils.set_random_seed(1)
        model, _ = build_model(image_size=32)
    model.save(folder / "model.keras")
    files = [save_photo(folder / f"{seed}.png", seed=seed) for seed in range(60)]
    data = describe_training([b""], {"train": [], "val": [], "test": []}, {"train": [], "val": [], "test": []})
    write_data(data, folder)
    write_reference(observe(model, files, seed=1), data.training, folder)
    return folder, model


def predict(model, files: list[Path], output: Path, file_format: str = "csv") -> Path:
    """Write what test_predict.py would write of these photos with this model."""
    rows = RowFormat(file_format)
    lines = [rows.header]
    for file, scores in zip(files, open_photos(PhotoStatistics(), model, files, quiet=True)[1], strict=True):
        name = config.CLASSES[scores.argmax()]
        lines.append(
            rows.line(file.name, Result(name, float(scores.max()), name, quality=quality_reasons(open_image(file))))
        )
    output.write_text("".join(lines))
    return output


def test_photos_of_the_same_kind_and_dark_ones(models, tmp_path, call):
    folder, model = models
    photos = tmp_path / "photos"
    files = [save_photo(photos / f"{seed}.png", seed=seed) for seed in range(100, 140)]
    (photos / "broken.png").write_bytes(b"no photo")
    table = predict(model, files, tmp_path / "predictions.csv")
    with table.open("a") as rows:
        rows.write("broken.png,Front,0.9,Front,\n")
    code, printed, _ = call(drift_tool, table, "--against", folder, "--data", photos)
    assert code == 0, printed
    assert "1 photo could not be read" in printed
    assert "41 new photos, 40 of them opened, against 60 that the model did not learn from" in printed
    assert "No change found of: classes, quality" in printed

    for file in files:
        Image.open(file).point(lambda value: value // 8).save(file)
    lines = predict(model, files, tmp_path / "predictions.jsonl", "jsonl")
    code, printed, _ = call(drift_tool, lines, "--against", folder, "--data", photos, "--output", "page.html")
    assert code == 1
    assert "There were no photos that are too dark; now they are 100 %." in printed
    page = Path("page.html").read_text()
    assert "The photos have changed" in page
    assert page.count("data:image/webp") == drift_tool.PHOTOS_SHOWN


def test_mistakes_are_one_sentence(models, tmp_path, call):
    folder, model = models
    file = save_photo(tmp_path / "photos" / "a.png")
    table = predict(model, [file], tmp_path / "predictions.csv")
    code, _, error = call(drift_tool, table, "--against", folder)
    assert (code, "a.png not found; give the folder" in error) == (2, True)
    assert call(drift_tool, tmp_path / "none.csv", "--against", folder)[0] == 2
    [name] = observe(model, [file], seed=0, quiet=True).scores
    other = next(one for one in config.CLASSES if one != name)
    table.write_text(table.read_text().replace(name, other))
    code, _, error = call(drift_tool, table, "--against", folder, "--data", tmp_path / "photos")
    assert (code, "gives only 0% of the photos the class in the predictions" in error) == (2, True)


def test_rows_of_videos_are_passed_over_and_other_files_are_refused(tmp_path):
    table = tmp_path / "rows.csv"
    table.write_text("image_name,score,best_class,quality,start,end\na.jpg,0.5,Rear,,,\nb.mp4,0.5,Rear,,0.00,2.00\n")
    assert list(drift_tool.read_predictions(table)) == [("a.jpg", "Rear", 0.5, "")]
    table.write_text(json.dumps({"image_name": "a.jpg", "score": 0.5, "best_class": "Roof", "quality": []}) + "\n")
    with pytest.raises(UserError, match=r"row 1 of .* is not a prediction \(Roof with a score of 0\.5\)"):
        list(drift_tool.read_predictions(table))
    table.write_text("{}\n[]\n")
    with pytest.raises(UserError, match=r"row 1 of .* is not a prediction"):
        list(drift_tool.read_predictions(table))
    row = json.dumps({"image_name": "a.jpg", "score": 0.5, "best_class": "Rear", "quality": []})
    table.write_text(f"{row}\n[]\n")
    with pytest.raises(UserError, match=r"row 2 of .* is not a prediction"):
        list(drift_tool.read_predictions(table))
    table.write_text('{"image_name": \n')
    with pytest.raises(UserError, match="is not a readable file of JSON lines"):
        list(drift_tool.read_predictions(table))


def test_every_row_has_the_same_chance_to_be_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "DRIFT_PHOTOS", 5)
    table = tmp_path / "rows.csv"
    names = [f"{index}.jpg" for index in range(20)]
    table.write_text("image_name,score,best_class,quality\n" + "".join(f"{name},0.5,Rear,\n" for name in names))
    drawn = []
    for seed in range(400):
        photos, rows = drift_tool.count_and_draw(table, seed)
        assert (len(photos), len({row.name for row in rows})) == (20, 5)
        drawn += [row.name for row in rows]
    # 400 times 5 of 20: 100 each, give or take four standard deviations of 8.7.
    assert all(65 < drawn.count(name) < 135 for name in names)
