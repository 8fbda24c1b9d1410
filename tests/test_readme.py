"""README.md: its commands, one after the other, on drawn photos; and what README and docs/ name exists."""

import re
import runpy
import shlex
import socketserver
import subprocess
from pathlib import Path

import make_demo_data
import pytest
import tiny_train

import config

PROJECT = Path(__file__).parents[1]
README = PROJECT / "README.md"
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


def do(line: str, monkeypatch) -> int:
    """Run a command of the page in this process; returns its exit code."""
    words = words_of(line)
    assert words[0] == "python"
    script = words[1]
    monkeypatch.setattr("sys.argv", [*words[1:], *shlex.split(QUICK.get(script, ""))])
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
