"""Choosing photos to annotate: the rule by hand, nothing left out in silence, and the way through VIA and back."""

import csv
import io
import json
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import select_photos
from conftest import regions
from PIL import Image
from select_photos import choose, class_weights, margins, part_options

import config
from viewpoint.annotations.photo import Part
from viewpoint.annotations.vocabulary import KNOWN
from viewpoint.common.images import open_image
from viewpoint.data.dataset import write_parts
from viewpoint.data.duplicates import perceptual_hash
from viewpoint.data.provenance import ModelData, SplitData, photo_hash, write_data
from viewpoint.data.scan import read_dataset

SIZE = 32
ANNOTATIONS = "_via_img_metadata"
EQUAL = np.ones(len(config.CLASSES))


def save_noise(path: Path, seed: int) -> Path:
    """Save a photo that is neither dark nor blurred, unlike that of any other seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def models(tmp_path) -> Path:
    """A models folder with a tiny model that has train.py's layer names."""
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.GlobalAveragePooling2D(name="features")(keras.layers.Conv2D(8, 3)(inputs))
    outputs = keras.layers.Dense(len(config.CLASSES), activation="softmax", name="probabilities")(features)
    (tmp_path / "models").mkdir()
    keras.Model(inputs, outputs).save(tmp_path / "models" / "model.keras")
    return tmp_path / "models"


@pytest.fixture
def selected(models, call) -> Path:
    """The folder to_annotate/ with all of five new photos."""
    for seed in range(5):
        save_noise(Path("new") / f"{seed}.jpg", seed)
    assert call(select_photos, "new", "--count", 5)[0] == 0
    return Path("to_annotate")


def read_project(folder: Path) -> dict:
    return json.loads((folder / "via_project.json").read_text(encoding="utf-8"))


# --- The rule ----------------------------------------------------------------------


def probabilities_of(*leads: tuple[str, float]) -> np.ndarray:
    """Probabilities in which a class leads by so much over the next one; the two share everything."""
    rows = np.zeros((len(leads), len(config.CLASSES)))
    for row, (name, lead) in zip(rows, leads, strict=True):
        best = config.CLASSES.index(name)
        row[best], row[best - 1] = (1 + lead) / 2, (1 - lead) / 2
    return rows


def test_a_margin_is_the_lead_over_the_next_class():
    assert margins(np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])) == pytest.approx([0.2, 1.0])


def test_of_uncertain_photos_that_look_alike_one_is_chosen(monkeypatch):
    monkeypatch.setattr(select_photos, "CANDIDATES", 3)
    # Three uncertain photos in one place, three in another, and certain ones far from all of these.
    features = np.array([[0, 0], [0, 1], [1, 0], [50, 50], [50, 51], [51, 50], [0, 99], [99, 0]], np.float32)
    leads = [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.9, 0.9]
    rows = choose(features, probabilities_of(*(("Front", lead) for lead in leads)), EQUAL, 2)
    assert [row // 3 for row in rows] == [0, 1]  # one of each place, the less certain one first


def test_a_class_that_needs_photos_comes_first():
    probabilities = probabilities_of(("Front", 0.3), ("Rear", 0.4), ("Rear", 0.9))
    features = np.eye(3, dtype=np.float32)
    assert choose(features, probabilities, EQUAL, 3) == [0, 1, 2]
    rear = np.where(np.array(config.CLASSES) == "Rear", 3.0, 1.0)
    assert choose(features, probabilities, rear, 3) == [1, 0, 2]


def test_photos_with_equal_features_still_fill_the_count():
    probabilities = np.full((20, len(config.CLASSES)), 1 / len(config.CLASSES))
    with pytest.warns(match="distinct clusters"):
        assert len(set(choose(np.zeros((20, 4), np.float32), probabilities, EQUAL, 4))) == 4


def test_a_rare_class_weighs_more_and_its_mirror_image_counts():
    counts = {
        "Front": 18,
        "FrontLeft": 30,
        "FrontRight": 42,
        "Rear": 8,
        "RearLeft": 8,
        "RearRight": 0,
        "Background": 36,
    }
    # With the mirrored class: 36, 72, 72, 16, 8, 8, 72, in the mean 284 / 7.
    data = ModelData("id", {"train": SplitData(142, "", counts)})
    expected = [(284 / 7 / photos) ** 0.5 for photos in (36, 72, 72, 16, 8, 8, 72)]
    assert class_weights(data) == pytest.approx(expected)
    assert class_weights(None).tolist() == EQUAL.tolist()


# --- What is left out --------------------------------------------------------------


def test_every_photo_is_chosen_or_counted(models, call):
    new = Path("new")
    good = [save_noise(new / "lot ü #1%20" / f"{seed}.jpg", seed) for seed in range(4)]
    Image.open(good[0]).save(new / "again.png")  # the same picture in another file
    Image.new("RGB", (80, 60)).save(new / "black.jpg")
    (new / "empty.jpg").write_bytes(b"")
    trained = save_noise(new / "trained.jpg", 10)
    tested = save_noise(new / "tested.jpg", 11)
    learned = save_noise(new / "learned.jpg", 12)
    like_tested = new / "like tested.png"
    Image.open(save_noise(new / "gone.png", 13)).save(like_tested)
    looks = f"{perceptual_hash(like_tested) ^ 0b101:032x}"
    photos = {"train": [photo_hash(trained)], "unlabelled": [photo_hash(learned)]}
    write_data(ModelData("id", {}, photos=photos), models)
    Path("dataset").mkdir()
    Path("dataset/splits.csv").write_text(
        f"image_path,split,content,perceptual_hash\nold.jpg,test,{photo_hash(tested)},\nother.jpg,train,0123,{looks}\n"
    )

    code, out, _ = call(select_photos, new, "--count", 3)
    assert code == 0
    for reason in (
        "annotated already: 2",
        "learned without labels by train.py --unlabelled: 1",
        "nearly the same as a photo that is annotated or learned already: 2",
        "nearly the same as another photo: 1",
        "too dark: 1",
        "unreadable: 1",
    ):
        assert f"  {reason}\n" in out
    assert "3 photos of 4 chosen" in out
    with Path("to_annotate/selection.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        assert (Path("to_annotate") / row["copy"]).read_bytes() == (new / row["image_name"]).read_bytes()
        assert 0 <= float(row["margin"]) <= 1


def test_what_cannot_be_done_is_said_in_one_sentence(models, call):
    save_noise(Path("new/a.jpg"), 0)
    assert "is inside new" in call(select_photos, "new", "--output", "new/out")[2]
    Path("to_annotate").mkdir()
    assert "to_annotate exists and may hold annotations" in call(select_photos, "new")[2]
    Path("to_annotate").rmdir()
    Path("new/a.jpg").write_bytes(b"")
    code, _, error = call(select_photos, "new")
    assert code == 2
    assert "no photo in new is left to annotate (unreadable: 1)" in error
    assert not Path("to_annotate").exists()


# --- VIA, LabelMe, CVAT --------------------------------------------------------------


def test_via_finds_the_photos_the_part_names_and_the_guess(selected):
    project = read_project(selected)
    # What VIA's project_open_parse_json_file() reads.
    assert project["_via_data_format_version"] == "2.0.10"
    assert project["_via_image_id_list"] == list(project[ANNOTATIONS])
    start = project["_via_settings"]["core"]["default_filepath"]
    for key, entry in project[ANNOTATIONS].items():
        assert key == f"{entry['filename']}{entry['size']}"
        assert entry["regions"] == []
        assert entry["file_attributes"]["guess"] in config.CLASSES
        with urllib.request.urlopen(start + entry["filename"]) as photo:  # as a browser joins them
            assert len(photo.read()) == entry["size"]
        assert urllib.parse.quote(entry["filename"]) == entry["filename"]
    part = project["_via_attributes"]["region"]["identity"]
    assert part["type"] == "dropdown"
    assert {"bonnet", "leftheadlamp", "rearbumper", "dent"} <= part["options"].keys() <= KNOWN
    # VIA makes ids of an attribute, a row and an option, and cuts them at two underscores.
    for attributes in project["_via_attributes"].values():
        for name, attribute in attributes.items():
            assert not any("__" in id for id in [name, *attribute.get("options", {})])


def test_a_format_that_browsers_do_not_show_becomes_an_upright_jpeg(models, call):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer turns the photo
    Path("new").mkdir()
    Image.fromarray(pixels).save("new/scan.tif", exif=exif)
    assert call(select_photos, "new")[0] == 0
    [copy] = Path("to_annotate").glob("0001_*")
    assert copy.name == "0001_scan.jpg"
    assert open_image(copy).size == (60, 80)

    # Once the copy is annotated and dealt to a split, the photo is not chosen again.
    annotated = Path("dataset", "november")
    annotated.parent.mkdir()
    Path("to_annotate").rename(annotated)
    assert call(select_photos, "new")[0] == 0
    splits = f"image_path,split,content\nnovember/{copy.name},train,{photo_hash(annotated / copy.name)}\n"
    Path("dataset/splits.csv").write_text(splits)
    code, _, error = call(select_photos, "new", "--output", "again")
    assert (code, "no photo in new is left to annotate (annotated already: 1)" in error) == (2, True)


def test_other_tools_get_the_same_part_names(selected):
    options = part_options(Counter())
    assert (selected / "labelme_labels.txt").read_text().splitlines() == options
    labels = json.loads((selected / "cvat_labels.txt").read_text())
    assert [label["name"] for label in labels] == options
    # One name for one meaning.
    assert "hood" not in options
    assert len(set(options)) == len(options)


def test_the_names_that_the_data_set_uses_come_first(models, call):
    save_noise(Path("new/a.jpg"), 0)
    Path("dataset").mkdir()
    parts = [Part(("rearbumper",)), Part(("hood", "dent")), Part(("hood",)), Part(("bonnet", "not known"))]
    write_parts({"a.jpg": (*parts, Part(("rearbumper",)), Part(("rearbumper",)))}, Path("dataset/parts.jsonl"))
    assert call(select_photos, "new")[0] == 0
    options = list(read_project(Path("to_annotate"))["_via_attributes"]["region"]["identity"]["options"])
    assert options[:3] == ["rearbumper", "hood", "dent"]  # three times, twice, once
    assert options[3:] == [name for name in part_options(Counter()) if name not in ("rearbumper", "bonnet", "dent")]


# --- The way back --------------------------------------------------------------------


def annotate(project: dict) -> list[str]:
    """Do what people do in VIA: draw parts in the first two photos, tick the third; the names of all photos."""
    entries = list(project[ANNOTATIONS].values())
    entries[0]["regions"] = regions("bonnet", "leftheadlamp", "leftfrontdoor")
    entries[1]["regions"] = regions("tailgate", "rearbumper")
    entries[2]["file_attributes"]["no_parts"] = {"yes": True}
    return [entry["filename"] for entry in entries]


def test_nobody_came_yet_so_there_is_no_label(selected):
    table, _, report = read_dataset(selected)
    assert table.empty
    assert list(report.left_out.values()) == ["never annotated"] * 5


def as_csv(project: dict) -> str:
    """VIA's CSV export: a row for each region, and one for a photo without any."""
    text = io.StringIO()
    writer = csv.writer(text)
    columns = "filename file_size file_attributes region_count region_id region_shape_attributes region_attributes"
    writer.writerow(columns.split())
    for entry in project[ANNOTATIONS].values():
        for number, region in enumerate(entry["regions"] or [{"shape_attributes": {}, "region_attributes": {}}]):
            attributes = json.dumps(entry["file_attributes"])
            cells = [entry["filename"], entry["size"], attributes, len(entry["regions"]), number]
            writer.writerow([*cells, *map(json.dumps, region.values())])
    return text.getvalue()


@pytest.mark.parametrize("flavour", ["project", "annotations", "csv"])
def test_what_people_annotated_is_used_and_nothing_else(selected, flavour):
    project = read_project(selected)
    names = annotate(project)
    if flavour == "csv":
        (selected / "saved.csv").write_text(as_csv(project))
    else:
        (selected / "saved.json").write_text(json.dumps(project[ANNOTATIONS] if flavour == "annotations" else project))
    # The project as it was written is still there, as when a browser saves into another file.
    table, _, report = read_dataset(selected)
    expected = {names[0]: "FrontLeft", names[1]: "Rear", names[2]: "Background"}
    assert dict(zip(table["image_path"], table["label"], strict=True)) == expected
    assert report.left_out == dict.fromkeys(names[3:], "never annotated")
    assert any("not annotated yet: 2" in note for note in report.notes)
    assert not report.unknown_parts
