"""docs/month.md: its commands, one after the other, on drawn photos."""

import csv
import json
import re
import runpy
import shlex
import shutil
from pathlib import Path

import make_demo_data
import pytest
import tiny_train

import config
from viewpoint.annotations.via import NO_PARTS_KEY, read_regions
from viewpoint.data.labeling import label_parts, part_names

PAGE = Path(__file__).parents[1] / "docs" / "month.md"
PROJECT = PAGE.parents[1]
# What keeps the walk short; everything else is as the page has it.
QUICK = {
    "train.py": "--weights none --image-size 32 --phase2-epochs 2 --no-augment --quiet",
    "convert_tflite.py": "--min-agreement 0",
    "tools/select_photos.py": "--count 12",
}


def commands(title: str) -> list[str]:
    """The commands in the section of the page whose title begins so."""
    section = next(part for part in re.split(r"^## ", PAGE.read_text(), flags=re.M) if part.startswith(title))
    return [line for block in re.findall(r"^```\n(.*?)^```", section, flags=re.M | re.S) for line in block.splitlines()]


def do(command: str, monkeypatch) -> int:
    """Run a command of the page in this process; returns its exit code."""
    program, *words = shlex.split(command)
    if program in ("mv", "cp"):
        shutil.move(*words) if program == "mv" else shutil.copytree(*words[1:])
        return 0
    assert program == "python"
    script = words[0]
    # The last of two equal options counts.
    words += shlex.split(QUICK.get(script, ""))
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(PROJECT / script), run_name="__main__")
    return int(stopped.value.code or 0)


def selected(folder: str) -> dict[str, str]:
    """The photos that tools/select_photos.py chose: the name of each copy and of the photo that it is a copy of."""
    with Path(folder, "selection.csv").open(newline="", encoding="utf-8") as file:
        return {row["copy"]: row["image_name"] for row in csv.DictReader(file)}


def labels_of_splits() -> dict[str, str]:
    """The label of each photo by its path in the CSVs."""
    labels = {}
    for name in ("train", "val", "test"):
        with Path("dataset", f"{name}.csv").open(newline="", encoding="utf-8") as file:
            labels |= {row["image_path"]: row["label"] for row in csv.DictReader(file)}
    return labels


def annotate(folder: Path, truth: dict[str, list]) -> None:
    """What a person does with the project in VIA: draw the parts of each photo, or say that there are none."""
    path = folder / "via_project.json"
    project = json.loads(path.read_text(encoding="utf-8"))
    source = selected(str(folder))
    for entry in project["_via_img_metadata"].values():
        entry["regions"] = truth[source[entry["filename"]]]
        if not entry["regions"]:
            entry["file_attributes"][NO_PARTS_KEY] = {"yes": True}
    path.write_text(json.dumps(project), encoding="utf-8")


def draw_new_photos() -> dict[str, list]:
    """Write vans at dusk into new_photos/, without annotations: the VIA regions of each by its name."""
    make_demo_data.make_demo_data(Path("vans"), 56, 7, "vans")
    Path("new_photos").mkdir()
    truth = {}
    for path in Path("vans").rglob("via_region_data.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for entry in content.get("_via_img_metadata", content).values():
            regions = entry["regions"]
            truth[entry["filename"]] = list(regions.values()) if isinstance(regions, dict) else regions
            shutil.move(path.parent / entry["filename"], Path("new_photos", entry["filename"]))
    return truth


@pytest.mark.stress
def test_the_month(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    make_demo_data.make_demo_data(Path("dataset"), 154, 3)
    truth = draw_new_photos()

    assert [do(command, monkeypatch) for command in commands("# A month")] == [0, 0, 0]
    assert [do(command, monkeypatch) for command in commands("Week 1")] == [0]
    capsys.readouterr()
    assert [do(command, monkeypatch) for command in commands("Week 2")] == [1]
    assert "too dark" in capsys.readouterr().out
    assert Path("drift.html").is_file()

    choose, move = commands("Week 3")
    assert do(choose, monkeypatch) == 0
    annotate(Path("to_annotate"), truth)
    assert do(move, monkeypatch) == 0

    keep, prepare, update, convert, compare, again = commands("Week 4")
    before = Path("dataset/splits.csv").read_text().splitlines()
    capsys.readouterr()
    assert [do(command, monkeypatch) for command in (keep, prepare)] == [0, 0]
    said = capsys.readouterr().out
    assert "12 are new, 0 are gone, 0 moved" in said, said[-900:]
    assert set(before) <= set(Path("dataset/splits.csv").read_text().splitlines())
    labels = labels_of_splits()
    for copy, source in selected("dataset/november").items():
        regions = truth[source]
        expected = label_parts(part_names(read_regions(regions))) if regions else config.BACKGROUND
        assert labels[f"november/{copy}"] == expected

    assert do(update, monkeypatch) == 0
    ages = json.loads(Path("models/report/metrics.json").read_text())["test"]["by_age"]
    assert [row["name"] for row in ages] == ["old", "new"]
    assert do(convert, monkeypatch) == 0
    # Two epochs do not make a good model; what counts is that the gate judges photos that neither learned.
    capsys.readouterr()
    assert do(compare, monkeypatch) in (0, 1)
    assert f"{sum(row['photos'] for row in ages)} photos, " in capsys.readouterr().out
    assert "## Changes since the hand-off of " in Path("models/handoff/MODEL_CARD.md").read_text(encoding="utf-8")
    assert do(again, monkeypatch) == 0
    assert len(Path("again.csv").read_text(encoding="utf-8").splitlines()) == 1 + len(truth)
