"""The commands of README.md and docs/month.md, one after the other, on drawn photos; and what the pages name exists."""

import csv
import json
import re
import runpy
import shlex
import shutil
import socketserver
import subprocess
from pathlib import Path

import make_demo_data
import pytest
import tiny_train

import config
from viewpoint.annotations.via import NO_PARTS_KEY, read_regions
from viewpoint.data.labeling import label_parts, part_names

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
MONTH = PROJECT / "docs" / "month.md"
PAGES = [README, PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
# What keeps the walk short; everything else is as the page has it.
QUICK = {
    "train.py": "--weights none --image-size 32 --phase2-epochs 2 --no-augment --quiet",
    "convert_tflite.py": "--min-agreement 0",
    "tools/select_photos.py": "--count 12",
    "tools/review.py": "--port 8771",
}


def shell_lines(page: Path) -> list[str]:
    """The lines of a page's shell blocks, which are those of no language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [line for language, block in blocks if not language for line in block.splitlines() if words_of(line)]


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's titles, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def options_of(script: str) -> set[str]:
    """The options of a script, from its source; of train.py also those that config.py lists."""
    places = [script, "viewpoint/common/cli.py"]
    found = {"--help"}
    if script == "train.py":
        places.append("viewpoint/training/settings.py")
        names = [name.replace("_", "-") for group in config.TRAIN_OPTIONS.values() for name in group]
        found |= {f"--{word}{name}" for name in names for word in ("", "no-")}
    return found.union(
        *(re.findall(r'"(--[\w-]+)"', (PROJECT / place).read_text(encoding="utf-8")) for place in places)
    )


def scripts_and_options(line: str) -> list[tuple[str, set[str]]]:
    """The scripts in a command, each with the options that it is given; those after a -- are of train.py."""
    found = []
    for command in line.split(" | "):
        words = command.split()
        for index, word in enumerate(words):
            if re.fullmatch(r"(tools/)?\w+\.py", word) and (PROJECT / word).is_file():
                own, _, passed_on = f" {' '.join(words[index + 1 :])}".partition(" -- ")
                found.append((word, set(re.findall(r"(?<!\S)--[\w-]+", own))))
                found.append(("train.py", set(re.findall(r"(?<!\S)--[\w-]+", passed_on))))
    return found


def test_what_the_readme_installs_and_makes_exists():
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(), flags=re.M))
    for words in map(words_of, shell_lines(README)):
        if words[0] == "make":
            assert words[1] in targets
        if "-r" in words:
            assert (PROJECT / words[words.index("-r") + 1]).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            file = page.parent / name if name else page
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_code_and_options_exist(page):
    text = page.read_text(encoding="utf-8")
    for script in set(re.findall(r"\b(?:tests|tools|viewpoint)/[\w/]+\.py\b", text)):
        assert (PROJECT / script).is_file(), script
    for line in [*shell_lines(page), *re.findall(r"`([^`\n]+\.py [^`\n]+)`", text)]:
        for script, options in scripts_and_options(line):
            assert options <= options_of(script), line


def test_the_readme_has_at_most_a_thousand_words():
    assert len(README.read_text(encoding="utf-8").split()) <= 1000


def do(command: str, monkeypatch) -> int:
    """Run a command of a page in this process; returns its exit code."""
    program, *words = words_of(command)
    if program in ("mv", "cp"):
        shutil.move(*words) if program == "mv" else shutil.copytree(*words[1:])
        return 0
    assert program == "python"
    script = words[0]
    # The last of two equal options counts.
    monkeypatch.setattr("sys.argv", [*words, *shlex.split(QUICK.get(script, ""))])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(PROJECT / script), run_name="__main__")
    return int(stopped.value.code or 0)


@pytest.mark.stress
def test_the_commands_of_the_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("viewpoint.training.network.build_backbone", tiny_train.build_backbone)
    monkeypatch.setattr(socketserver.BaseServer, "serve_forever", lambda server: None)  # as if stopped at once
    make_demo_data.make_demo_data(Path("dataset"), 126, 3)
    make_demo_data.make_demo_data(Path("new_photos"), 56, 7)

    for line in (line for line in shell_lines(README) if line.startswith("python ")):
        # tools/drift.py exits with 1 when the photos have changed, which is no error.
        assert do(line, monkeypatch) in ((0, 1) if "drift.py" in line else (0,)), line

    subprocess.run(["git", "init", "--quiet"], check=True)
    Path(".gitignore").write_text((PROJECT / ".gitignore").read_text())
    status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    assert status.split() == ["??", ".gitignore"]


# --- docs/month.md -------------------------------------------------------------------


def commands(title: str) -> list[str]:
    """The commands in the section of docs/month.md whose title begins so."""
    section = next(part for part in re.split(r"^## ", MONTH.read_text(), flags=re.M) if part.startswith(title))
    return [line for block in re.findall(r"^```\n(.*?)^```", section, flags=re.M | re.S) for line in block.splitlines()]


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
