"""The report's figures on hand-worked cases, and that all of it is written."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import save_photo

import config
from viewpoint.annotations.photo import Part
from viewpoint.common import metrics
from viewpoint.common.metrics import compare
from viewpoint.data.dataset import write_parts
from viewpoint.data.out_of_fold import write_out_of_fold
from viewpoint.data.provenance import photo_hash
from viewpoint.reports import mistakes
from viewpoint.reports import training as report
from viewpoint.training.history import Previous


def test_metrics_of_a_hand_worked_case():
    true = ["Front", "Front", "Rear", "Rear"]
    predicted = ["Front", "Rear", "Rear", "Rear"]
    figures = report.compute_metrics(true, predicted)
    # Front: precision 1, recall 1/2, F1 2/3. Rear: precision 2/3, recall 1, F1 4/5.
    assert figures["accuracy"] == 0.75
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    matrix = np.array(figures["confusion_matrix"])
    assert matrix.shape == (7, 7)
    assert matrix[0, 0] == 1  # a true Front predicted as Front
    assert matrix[0, 3] == 1  # a true Front predicted as Rear
    assert matrix[3, 3] == 2


def test_calibration_error_of_a_hand_worked_case():
    scores, right = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55]), np.array([1, 1, 1, 0, 0, 1], bool)
    table = metrics.reliability(scores, right, bins=10)
    assert table["images"].tolist() == [2, 4]
    assert table["accuracy"].tolist() == [0.5, 0.75]
    # (4 * |0.95 - 0.75| + 2 * |0.55 - 0.5|) / 6
    assert metrics.expected_calibration_error(scores, right, bins=10) == pytest.approx(0.15)
    assert metrics.expected_calibration_error(np.ones(3), np.ones(3), bins=15) == 0


def test_scaling_logits_by_two_squares_the_ratios_of_probabilities():
    scaled = metrics.scale_logits(np.array([[0.6, 0.3, 0.1]]), 2)
    assert scaled[0] == pytest.approx([0.36 / 0.46, 0.09 / 0.46, 0.01 / 0.46])


def test_thresholds_trade_answers_for_accuracy():
    scores, right = np.array([0.3, 0.5, 0.7, 0.9]), np.array([False, False, True, True])
    coverage = {
        row["threshold"]: (row["answered"], row["accuracy"]) for row in metrics.coverage_by_threshold(scores, right)
    }
    assert coverage[0.0] == (1, 0.5)
    assert coverage[0.5] == (0.75, pytest.approx(2 / 3))  # a score of 0.5 is not below 0.5
    assert coverage[0.51] == (0.5, 1)
    assert max(coverage) == 0.9  # above it, nothing is answered


@pytest.fixture
def splits(tmp_path) -> dict[str, pd.DataFrame]:
    """Ten photos of all classes, one with a name that is HTML, as each of the three splits."""
    names = [f"{index}.jpg" for index in range(9)] + ["<img src=x onerror=alert(1)>.jpg"]
    files = [str(save_photo(tmp_path / "photos" / name)) for name in names]
    split = pd.DataFrame({"image_path": names, "file": files, "label": (config.CLASSES * 2)[:10]})
    return {"train": split, "val": split, "test": split}


def one_hot_with_doubt(labels: list[str]) -> np.ndarray:
    """0.9 for each label, and six times 1/60."""
    sure = np.eye(7, dtype=np.float32)[[config.CLASSES.index(label) for label in labels]]
    return sure * (0.9 - 1 / 60) + np.float32(1 / 60)


LOG = {"accuracy": 0.5, "loss": 1.0, "val_accuracy": 0.5, "val_loss": 1.0}
SETTINGS = {"backbone": "MobileNetV2", "temperature": None, "suggestion": None}
HISTORY = [{"phase": 1, "epoch": 1, **LOG, "kept": False}, {"phase": 2, "epoch": 1, **LOG, "kept": True}]


def test_the_report_is_written_in_full(splits, tmp_path):
    labels = splits["test"]["label"].tolist()
    robustness = {"clean": 1.0, "blur": 0.5}
    suggestion = {"photos": 10, "threshold": 0.4, "answered": 1.0, "accuracy": 1.0, "lower_bound": 0.98, "missing": 0}
    settings = SETTINGS | {"temperature": 0.5, "suggestion": suggestion}
    report.write_report(splits, one_hot_with_doubt(labels), HISTORY, settings, tmp_path, report.Background(robustness))
    test = json.loads((tmp_path / "metrics.json").read_text())["test"]
    assert test["accuracy"] == 1
    assert test["accuracy_interval_95"] == pytest.approx([0.722, 1], abs=0.001)  # Wilson's for 10 of 10
    assert test["classes"] == config.CLASSES
    assert test["calibration_error"] == pytest.approx(0.1)
    # A temperature of 0.5 had squared ratios of 9 ** 0.5 * 6 ** 0.5.
    before = 54**0.5 / (54**0.5 + 6)
    assert test["calibration_error_before"] == pytest.approx(1 - before)
    assert test["robustness"] == robustness
    rows = pd.read_csv(tmp_path / "test_predictions.csv")
    assert rows["prediction"].tolist() == labels
    pictures = sorted(path.stem for path in tmp_path.glob("*.png"))
    assert pictures == [
        "answered",
        "class_distribution",
        "confusion_matrix",
        "learning_curves",
        "robustness",
    ]
    assert test["threshold_effect"] == {
        "threshold": 0.4,
        "photos": 10,
        "answered": 10,
        "right": 10,
        "right_without": 10,
    }
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "None on the test split." in page
    assert "No reliability diagram: its bins would hold a few of the 10 test photos" in page
    assert "10 of 10 test photos get the right class: accuracy 1.000, macro F1 1.000." in page
    assert "between 0.72 and 1.00 (95 % interval)" in page
    assert "10 of the test photos are from folders that also have training photos" in page
    assert "<td>0.40 (suggested)</td><td>10 of 10</td>" in page
    assert "the threshold 0.40 leaves an answer for 10 of 10 photos; 10 of these are right, which is 100.0%" in page


def test_the_report_opens_with_what_changed_since_the_previous_training(splits, tmp_path):
    labels = splits["test"]["label"].tolist()
    old = [labels[0], "Background", *labels[2:]]
    new = ["Background", *labels[1:]]
    previous = Previous("an id", "a date", list(range(10)), compare(labels, old, new))
    report.write_report(
        splits, one_hot_with_doubt(new), HISTORY, SETTINGS, tmp_path, report.Background(None, "new id", previous)
    )
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "Against the previous training (an id, a date), on the photos that both tested: 10 photos" in page
    assert page.index("no real difference") < page.index("Newly wrong") < page.index("Newly right")
    assert page.index("Newly right") < page.index('<dl class="figures">')
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["training"] == "new id"
    assert content["previous"]["comparison"]["newly_wrong"] == [0]


def test_a_file_name_that_is_html_is_text(splits, tmp_path, monkeypatch):
    monkeypatch.setattr(config, "MISTAKES_SHOWN", 2)
    probabilities = one_hot_with_doubt(["Rear"] * 10)
    report.write_report(splits, probabilities, HISTORY, SETTINGS, tmp_path, report.Background())
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in page
    assert "<img src=x" not in page
    # Of the nine mistakes, 0.jpg and 1.jpg have pictures; the cell that leads to 0.jpg names the other photo in it.
    assert "<b>Front predicted as Rear</b>: 2 photos." in page
    assert "Without a picture here: 7.jpg</small>" in page


def test_the_page_needs_no_other_file_and_shows_the_surest_mistake_first(browser, splits, tmp_path):
    labels = splits["test"]["label"].tolist()
    predicted = [*labels[:8], "Rear", "Front"]
    probabilities = one_hot_with_doubt(predicted)
    probabilities[8] = probabilities[8] ** 0.5 / (probabilities[8] ** 0.5).sum()  # less sure
    report.write_report(splits, probabilities, HISTORY, SETTINGS, tmp_path / "report", report.Background())
    page = browser.new_page(viewport={"width": 390, "height": 800})
    requests, problems = [], []
    page.on("request", lambda request: request.url.startswith("data:") or requests.append(request.url))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.goto((tmp_path / "report" / "index.html").as_uri())
    assert len(requests) == 1
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # Nothing is cut: no box is wider inside than outside.
    cut = "one => one.clientWidth && one.scrollWidth > one.clientWidth + 1"
    found = f"[...document.querySelectorAll('main *:not(svg *)')].filter({cut}).map(one => one.outerHTML.slice(0, 80))"
    assert page.evaluate(found) == []
    captions = page.locator("#mistakes figcaption").all_text_contents()
    assert [" ".join(caption.split()) for caption in captions] == [
        "Front 0.90, true: FrontRight 0.02 <img src=x onerror=alert(1)>.jpg",
        "Rear 0.55, true: FrontLeft 0.07 8.jpg",
    ]
    widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 0
    assert page.locator(".charts svg").count() == 4
    # A cell of the confusion matrix leads to its photos and hides the others.
    page.get_by_role("link", name="FrontLeft predicted as Rear: its photos").click()
    assert page.locator("#mistakes figure:visible").count() == 1
    assert "8.jpg" in page.locator("#mistakes figure:visible").inner_text()
    page.get_by_role("link", name="Show all mistakes").click()
    assert page.locator("#mistakes figure:visible").count() == 2


def test_while_it_trains_the_page_has_the_curves_so_far(browser, splits, tmp_path):
    epochs = [{"phase": 1, "epoch": 1, **LOG}, {"phase": 2, "epoch": 1, **LOG, "val_accuracy": 0.25}]
    (tmp_path / "index.html").write_text("an earlier report")
    report.write_progress(epochs[:1], 3, tmp_path)
    report.write_progress(epochs, 12, tmp_path)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto((tmp_path / "index.html").as_uri())
    assert page.inner_text("h1") == "Training: phase 2, epoch 1 of 12"
    assert "Validation accuracy 0.250" in page.inner_text("main")
    assert {"phase 1", "phase 2"} <= {text.strip() for text in page.locator("svg text").all_text_contents()}
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.get_by_role("link", name="The report of the training before").get_attribute("href") == "previous.html"
    probabilities = one_hot_with_doubt(["Rear"] * 10)
    report.write_report(splits, probabilities, HISTORY, SETTINGS, tmp_path, report.Background())
    assert "How good" in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "previous.html").read_text() == "an earlier report"


def test_mistakes_of_labels_of_views_and_of_the_model_are_told_apart(tmp_path):
    votes = {"front_votes": 4, "rear_votes": 0, "left_votes": 3, "right_votes": 0}
    rows = [
        {"image_path": "lot/mirrored.jpg", "label": "FrontLeft", **votes},
        {"image_path": "lot/twin.jpg", "label": "FrontLeft", **votes},
        {"image_path": "lot/side.jpg", "label": "FrontLeft", **votes, "front_votes": 1},
        {"image_path": "lot/clear.jpg", "label": "FrontLeft", **votes},
        {"image_path": "lot/sure.jpg", "label": "FrontLeft", **votes},
        {"image_path": "lot/said.jpg", "label": "FrontLeft", **votes},
        {"image_path": "lot/right.jpg", "label": "Rear", **votes},
    ]
    files = [str(save_photo(tmp_path / "photos" / row["image_path"], seed=seed)) for seed, row in enumerate(rows)]
    test = pd.DataFrame(rows).assign(file=files)
    dataset = tmp_path / "dataset"
    (dataset).mkdir()
    corrections = {"changed": 3, "confirmed": 1, "left_out": 1}
    conflicts = [["lot/twin.jpg", "lot/x.jpg"], ["lot/said.jpg", "lot/y.jpg"]]
    summary = {"data_dir": "../photos", "conflicts": conflicts, "corrections": corrections}
    (dataset / "summary.json").write_text(json.dumps(summary))
    (dataset / "corrections.csv").write_text("image_path,label\nlot/said.jpg,FrontLeft\n")
    left, front = [((0, 0), (9, 9))], [((40, 0), (50, 9))]  # the nose at the right of the car's left side
    mirrored = (Part(("leftfrontdoor",), tuple(left)), Part(("bonnet",), tuple(front)))
    write_parts({"lot/mirrored.jpg": mirrored}, dataset / "parts.jsonl")
    rear = config.CLASSES.index("Rear")
    contents = {"lot/sure.jpg": photo_hash(tmp_path / "photos" / "lot" / "sure.jpg")}
    write_out_of_fold({"lot/sure.jpg": np.eye(7)[rear]}, contents, dataset / "out_of_fold.csv")
    asked = []

    def heat(rows, classes):
        asked.extend(classes)
        return np.zeros((len(rows), 2, 2))

    source = mistakes.Source(
        dataset, tmp_path / "photos", "a date", {"test": "0123456789"}, "epochs 3 instead of 2", heat
    )
    probabilities = one_hot_with_doubt(["Rear"] * 7)
    probabilities[4] = np.eye(7)[rear]
    judged = mistakes.judge_mistakes(mistakes.Tested(test, probabilities, source))
    assert {test["image_path"][row]: one.verdict for row, one in judged.items()} == {
        "lot/mirrored.jpg": "label looks wrong",
        "lot/twin.jpg": "label looks wrong",
        "lot/side.jpg": "ambiguous view",
        "lot/clear.jpg": "model's error",
        "lot/sure.jpg": "label looks wrong",
        "lot/said.jpg": "model's error",
    }
    splits = {"train": test, "val": test, "test": test}
    report.write_report(splits, probabilities, HISTORY, SETTINGS, tmp_path / "r", report.Background(source=source))
    assert asked == [rear] * 6
    page = (tmp_path / "r" / "index.html").read_text(encoding="utf-8")
    assert "Of 6 mistakes: 3 where the label looks wrong, 1 of ambiguous views, 2 that are the model&#39;s." in page
    assert "the lowest recall is that of frontleft, 0.000 (0.00 to 0.39) on 6 photos" in page.lower()
    assert "the most frequent mistake is Rear instead of FrontLeft (6 photos)" in page
    assert "Corrections applied: 3 labels changed, 1 confirmed, 1 photo left out as wrong." in page
    assert "models that did not learn this photo say Rear (1.00)" in page
    assert 'href="../dataset/review.html#photo=lot%2Fmirrored.jpg"' in page
    assert page.count("<polygon") == 2
    assert page.count("data:image/webp") == 2 * 6
    assert "a person gave or confirmed this label" in page


def test_a_reliability_diagram_needs_200_photos(splits, tmp_path):
    many = pd.concat([splits["test"]] * 20, ignore_index=True)
    splits = {**splits, "test": many}
    probabilities = one_hot_with_doubt(many["label"].tolist())
    report.write_report(splits, probabilities, HISTORY, SETTINGS, tmp_path, report.Background())
    assert (tmp_path / "reliability.png").is_file()
    assert "No reliability diagram" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    # The diagram of an earlier training would be taken for one of this training.
    report.write_report(
        {**splits, "test": many[:10]}, probabilities[:10], HISTORY, SETTINGS, tmp_path, report.Background()
    )
    assert not (tmp_path / "reliability.png").exists()
