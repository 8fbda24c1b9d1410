"""The export for detectors: values worked out by hand, layouts that others read, nothing left out in silence."""

import csv
import errno
import json
import sys
from pathlib import Path

import export_annotations
import pytest
from conftest import regions, save_photo, write_via
from export_annotations import Item, as_coco, as_yolo, clip
from PIL import Image

from viewpoint.common.cli import UserError
from viewpoint.data.scan import parse_dataset

SQUARE = ((10, 10), (30, 10), (30, 30), (10, 30))  # on a photo of 60 x 40 pixels


def region(name: str | None, points=SQUARE) -> dict:
    """A VIA region with this outline, or without one."""
    xs, ys = zip(*points, strict=True) if points else ((), ())
    shape = {"name": "polygon", "all_points_x": xs, "all_points_y": ys} if points else {}
    return {"shape_attributes": shape, "region_attributes": {} if name is None else {"identity": name}}


def export(monkeypatch, *options: str) -> Path:
    """Run the tool on the folder photos/; the folder that it writes."""
    monkeypatch.setattr(sys, "argv", ["export_annotations.py", "--data", "photos", *options])
    export_annotations.main()
    return Path("export")


def left_out() -> dict[str, list[str]]:
    return json.loads(Path("export/export.json").read_text())["left_out"]


@pytest.fixture
def photos() -> Path:
    """A folder with a dented car, a whole one, and a photo of no car."""
    folder = Path("photos")
    for seed, name in enumerate(("dented.jpg", "whole.jpg", "tree.jpg")):
        save_photo(folder / name, seed)
    car = regions("bonnet", "grille")
    write_via(folder / "via.json", {"dented.jpg": [*car, region("dent")], "whole.jpg": car, "tree.jpg": []})
    return folder


# --- Values ------------------------------------------------------------------------


def test_a_square_worked_out_by_hand():
    item = Item("a/car.jpg", 60, 40, (("dent", (SQUARE,)),))
    coco = as_coco([item], ["crack", "dent"])
    assert coco["images"] == [{"id": 1, "file_name": "a/car.jpg", "width": 60, "height": 40}]
    assert coco["categories"] == [{"id": 1, "name": "crack"}, {"id": 2, "name": "dent"}]
    [annotation] = coco["annotations"]
    assert annotation == {
        "id": 1,
        "image_id": 1,
        "category_id": 2,
        "segmentation": [[10, 10, 30, 10, 30, 30, 10, 30]],
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
    }
    # Its centre is at 20/60, 20/40; it is 20/60 wide and 20/40 high.
    assert as_yolo(item, ["crack", "dent"], "box") == "1 0.333333 0.500000 0.333333 0.500000\n"
    assert as_yolo(item, ["dent"], "polygon") == (
        "0 0.166667 0.250000 0.500000 0.250000 0.500000 0.750000 0.166667 0.750000\n"
    )


def test_a_region_of_two_outlines_is_one_annotation_with_one_box():
    triangles = (((0, 0), (10, 0), (0, 10)), ((30, 20), (60, 20), (60, 40)))
    item = Item("car.jpg", 60, 40, (("dent", triangles),))
    [annotation] = as_coco([item], ["dent"])["annotations"]
    assert len(annotation["segmentation"]) == 2
    assert (annotation["bbox"], annotation["area"]) == ([0, 0, 60, 40], 50 + 300)
    assert as_yolo(item, ["dent"], "box") == "0 0.500000 0.500000 1.000000 1.000000\n"
    assert len(as_yolo(item, ["dent"], "polygon").splitlines()) == 2


@pytest.mark.parametrize(
    ("outline", "inside"),
    [
        (SQUARE, SQUARE),
        (((-5, -5), (20, -5), (20, 50), (-5, 50)), ((0, 0), (20, 0), (20, 40), (0, 40))),
        (((10, 10), (30, 20)), ((10, 10), (30, 10), (30, 20), (10, 20))),  # a scratch drawn as a line
        (((10, 10), (20, 15), (30, 20)), ((10, 10), (30, 10), (30, 20), (10, 20))),
        (((10, 10),), ()),
        (((10, 10), (30, 10)), ()),
        (((10, 10), (10.5, 10), (10.5, 30)), ()),
        (((70, 10), (90, 10), (90, 30)), ()),
        (((-1e308, -1e308), (1e308, -1e308), (1e308, 1e308)), ((0, 0), (60, 0), (60, 40))),
    ],
)
def test_outlines_are_clipped_to_the_photo_and_need_a_pixel_each_way(outline, inside):
    assert clip(outline, 60, 40) == inside


# --- COCO --------------------------------------------------------------------------


def test_the_coco_file_read_by_this_project_gives_the_same_labels(demo_photos, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["", "--data", str(demo_photos), "--what", "parts", "--format", "coco"])
    export_annotations.main()
    copy = tmp_path / "copy"
    for path in demo_photos.rglob("*.*"):
        if path.suffix != ".json":
            (copy / path.relative_to(demo_photos)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(demo_photos)).hardlink_to(path)
    (copy / "instances.json").write_bytes(Path("export/instances.json").read_bytes())
    columns = ["image_path", "label"]
    assert parse_dataset(copy)[columns].equals(parse_dataset(demo_photos)[columns])


def test_only_what_is_asked_for_is_exported_and_every_photo_is_listed(photos, monkeypatch, capsys):
    damage = json.loads((export(monkeypatch, "--what", "damage", "--format", "coco") / "instances.json").read_text())
    assert [image["file_name"] for image in damage["images"]] == ["dented.jpg", "tree.jpg", "whole.jpg"]
    assert [image["id"] for image in damage["images"]] == [1, 2, 3]
    assert [category["name"] for category in damage["categories"]] == ["dent"]
    assert [annotation["image_id"] for annotation in damage["annotations"]] == [1]
    assert "photos with none of these          2" in capsys.readouterr().out
    parts = json.loads((export(monkeypatch, "--what", "parts", "--format", "coco") / "instances.json").read_text())
    assert [category["name"] for category in parts["categories"]] == ["bonnet", "grille"]
    assert [annotation["category_id"] for annotation in parts["annotations"]] == [1, 2, 1, 2]
    assert [annotation["id"] for annotation in parts["annotations"]] == [1, 2, 3, 4]


# --- YOLO --------------------------------------------------------------------------


def label_of(image: Path) -> Path:
    """Where Ultralytics looks for the labels of a photo (img2label_paths)."""
    return Path("/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")


def test_ultralytics_finds_the_labels_of_every_photo(monkeypatch):
    names = ["images/car.jpg", "images/car.png", "b/images/car.jpg", "b/v1.2/car.jpg", f"{'long' * 50}.jpg"]
    for seed, name in enumerate(names):
        save_photo(Path("photos", name), seed)
    dent = [*regions("bonnet", "grille"), region("dent")]
    write_via(Path("photos/via.json"), {name: dent if name.startswith("b/") else [] for name in names})
    folder = export(monkeypatch, "--what", "damage", "--format", "yolo").resolve()
    images = sorted((folder / "images").rglob("*.jpg"))
    assert [image.name[:8] for image in images] == ["00001_b_", "00002_b_", "00003_im", "00004_im", "00005_ng"]
    texts = [label_of(image).read_text() for image in images]
    assert texts == ["0 0.333333 0.500000 0.333333 0.500000\n"] * 2 + [""] * 3


def test_without_splits_all_photos_are_for_training_and_validation_and_the_tool_says_so(photos, monkeypatch, capsys):
    folder = export(monkeypatch, "--what", "damage", "--format", "yolo")
    assert (folder / "data.yaml").read_text() == 'train: images/all\nval: images/all\nnames:\n  0: "dent"\n'
    assert "gives the same photos for training and validation" in capsys.readouterr().out


def test_sideways_photos_are_saved_upright(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter, so the stored 60 x 40 pixels are 40 x 60
    path = save_photo(Path("photos/car.jpg"))
    with Image.open(path) as image:
        image.save(path, exif=exif)
    write_via(path.with_name("via.json"), {"car.jpg": [*regions("bonnet", "grille"), region("dent")]})
    [label] = (export(monkeypatch, "--what", "damage", "--format", "yolo") / "labels").rglob("*.txt")
    with Image.open(str(label).replace("labels", "images").replace(".txt", ".jpg")) as image:
        assert (image.size, image.getexif().get(0x0112)) == ((40, 60), None)
        assert label.read_text() == "0 0.500000 0.333333 0.500000 0.333333\n"


# --- Splits and what is left out -----------------------------------------------------


def test_the_splits_are_those_of_data_preparation(photos, monkeypatch):
    splits = {"train": ["dented.jpg"], "val": ["whole.jpg"], "test": []}
    for split, names in splits.items():
        Path("dataset").mkdir(exist_ok=True)
        with Path(f"dataset/{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["image_path", "label"], *([name, "Front"] for name in names)])
    folder = export(monkeypatch, "--what", "damage", "--format", "yolo")
    assert [path.name for path in sorted((folder / "images").rglob("*.jpg"))] == ["00001_dented.jpg", "00001_whole.jpg"]
    assert (folder / "data.yaml").read_text().splitlines()[:2] == ["train: images/train", "val: images/val"]
    assert left_out() == {"in none of the splits": ["tree.jpg"]}
    folder = export(monkeypatch, "--what", "damage", "--format", "coco")
    assert sorted(path.name for path in folder.iterdir()) == [
        "export.json",
        "instances_train.json",
        "instances_val.json",
    ]


def test_regions_that_cannot_be_exported_are_counted_with_the_reason(photos, monkeypatch, capsys):
    car = regions("bonnet", "grille", "headlamp", "frontbumper", "windscreen", "frontlogo", "uppergrille")
    odd = [region("dent"), region("dent", ()), region("scratch", [(70, 10), (90, 10), (90, 30)]), region(None)]
    write_via(photos / "via.json", {"dented.jpg": [*car, *odd], "whole.jpg": car, "tree.jpg": []})
    folder = export(monkeypatch, "--what", "damage", "--format", "coco")
    assert len(json.loads((folder / "instances.json").read_text())["annotations"]) == 1
    assert left_out() == {
        "region without an outline": ["dented.jpg: dent"],
        "region without extent inside the photo": ["dented.jpg: scratch"],
        "region without a name": ["dented.jpg"],
    }
    assert "region without an outline: 1" in capsys.readouterr().out


def test_names_of_part_names_csv_count_and_others_are_left_out_by_name(photos, monkeypatch):
    car = regions("bonnet", "grille", "leftheadlamp", "leftdoor", "leftfender", "leftorvm", "headlamp")
    write_via(photos / "via.json", {"dented.jpg": [*car, region("beule"), region("warp coil")]})
    Path("dataset").mkdir()
    Path("dataset/part_names.csv").write_text("name,count,means\nbeule,1,dent\n")
    folder = export(monkeypatch, "--what", "damage", "--format", "coco")
    assert len(json.loads((folder / "instances.json").read_text())["annotations"]) == 1
    assert left_out()["region with a name that no list knows"] == ["dented.jpg: warp coil"]


def test_nothing_to_export_is_one_sentence(photos, monkeypatch):
    write_via(photos / "via.json", {"whole.jpg": regions("bonnet", "grille")})
    with pytest.raises(UserError, match=r"nothing to export in 1 photo of .*photos .*; change --what"):
        export(monkeypatch, "--what", "damage", "--format", "coco")
    assert not Path("export").exists()
    (photos / "via.json").unlink()
    with pytest.raises(UserError, match="no annotated photo found"):
        export(monkeypatch, "--what", "damage", "--format", "coco")


# --- The output folder -------------------------------------------------------------


def test_an_earlier_export_is_replaced_as_a_whole(photos, monkeypatch):
    export(monkeypatch, "--what", "damage", "--format", "yolo")
    folder = export(monkeypatch, "--what", "parts", "--format", "coco")
    assert sorted(path.name for path in folder.iterdir()) == ["export.json", "instances.json"]


def test_an_export_that_fails_leaves_the_earlier_one(photos, monkeypatch):
    folder = export(monkeypatch, "--what", "damage", "--format", "coco")
    before = (folder / "instances.json").read_bytes()

    def fill_the_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export_annotations, "as_yolo", fill_the_disk)
    with pytest.raises(UserError, match=r"cannot write .*export: No space left on device"):
        export(monkeypatch, "--what", "damage", "--format", "yolo")
    assert (folder / "instances.json").read_bytes() == before
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["export", "photos"]


def test_a_folder_with_anything_else_in_it_is_not_replaced(photos, monkeypatch):
    folder = export(monkeypatch, "--what", "damage", "--format", "yolo")
    (folder / "runs").mkdir()  # a detector trained inside the export
    with pytest.raises(UserError, match="is not an earlier export"):
        export(monkeypatch, "--what", "damage", "--format", "yolo")
    for name in ("mine/images", "mine/labels"):  # somebody's own YOLO data set
        Path(name).mkdir(parents=True)
    with pytest.raises(UserError, match="is not an earlier export"):
        export(monkeypatch, "--what", "damage", "--format", "yolo", "--output", "mine")


@pytest.mark.parametrize("output", ["photos", "photos/export", "."])
def test_the_export_stays_apart_from_the_photos(photos, monkeypatch, output):
    with pytest.raises(UserError, match="must be apart"):
        export(monkeypatch, "--what", "damage", "--format", "yolo", "--output", output)
