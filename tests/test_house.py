"""The rules of the house, read from the source: who may import whom, and that nothing hides.

The lists in config.py fit together.
"""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import config

PROJECT = Path(__file__).parents[1]
SCRIPTS = {"data_preparation", "train", "convert_tflite", "test_predict"}
# From top to bottom: a room may import the rooms below it, and config.
ROOMS = ["handoff", "reports", "training", "inference", "data", "annotations", "common"]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


FILES = {module_name(path): path for folder in (".", "viewpoint") for path in (PROJECT / folder).glob("*.py")}
FILES |= {module_name(path): path for path in (PROJECT / "viewpoint").rglob("*.py")}


@functools.cache
def imports_of(path: Path) -> dict[str, list[str]]:
    """The project's modules that a file imports, anywhere in it: {module: names taken from it}."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name: [] for alias in node.names if alias.name in FILES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if whole in FILES:
                    found.setdefault(whole, [])
                elif node.module in FILES:
                    found.setdefault(node.module, []).append(alias.name)
    return found


def test_the_root_holds_the_four_scripts_and_config_only():
    assert {path.stem for path in PROJECT.glob("*.py")} == SCRIPTS | {"config"}


def test_no_script_is_imported_by_a_script_or_by_the_package():
    for name, path in FILES.items():
        assert not SCRIPTS & imports_of(path).keys(), name


def test_every_module_is_in_a_room():
    assert {path.name for path in (PROJECT / "viewpoint").glob("*.py")} == {"__init__.py"}
    assert {path.parent.name for path in (PROJECT / "viewpoint").glob("*/*.py")} == set(ROOMS)


def test_a_room_imports_only_rooms_below_it():
    for name, path in FILES.items():
        if name.count(".") == 2:
            room = name.split(".")[1]
            others = {module.split(".")[1] for module in imports_of(path) if module.count(".") > 0} - {room}
            assert others <= set(ROOMS[ROOMS.index(room) + 1 :]), name


def test_there_is_no_import_circle():
    graph = {name: set(imports_of(path)) for name, path in FILES.items()}
    assert list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError on a circle


def test_nobody_imports_a_name_through_a_third_module():
    for name, path in FILES.items():
        for module, taken in imports_of(path).items():
            elsewhere = {alias for names in imports_of(FILES[module]).values() for alias in names}
            assert not elsewhere & set(taken), f"{name} takes {elsewhere & set(taken)} from {module}"


def test_the_package_does_not_import_the_tools():
    tools = {path.stem for path in (PROJECT / "tools").glob("*.py")}
    for path in FILES.values():
        names = {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}
        assert not {name for name in names if name and (name in tools or name.startswith("tools"))}


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of the scripts, the package and the tools, with the place where it is."""
    for path in [*FILES.values(), *(PROJECT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.relative_to(PROJECT)}:{node.lineno} {node.name}", node


def test_a_function_has_at_most_50_lines_and_7_parameters():
    for place, node in functions():
        assert node.end_lineno - node.lineno < 50, place
        named = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        assert len(set(named) - {"self", "cls"}) <= 7, place


def test_options_are_passed_by_name_and_not_as_a_tuple_with_a_star():
    tuples = {"about", "draw", "figures", "how", "judges", "numbers", "options", "sources"}
    for place, node in functions():
        for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
            starred = {ast.unparse(argument.value) for argument in call.args if isinstance(argument, ast.Starred)}
            assert not tuples & starred, place
        assert not node.args.vararg or node.args.vararg.arg not in tuples, place


def test_a_module_that_imports_tensorflow_says_so():
    for path in [*FILES.values(), *(PROJECT / "tools").glob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
        imported = {alias.name for node in nodes for alias in node.names}
        said = f"{path.stem} {ast.get_docstring(tree)}".lower()
        if {name.split(".")[0] for name in imported} & {"tensorflow", "keras"}:
            assert "tensorflow" in said or "keras" in said, path


def test_every_command_line_is_made_in_one_place():
    makers = ("make_parser(", "parse_settings(")
    for path in [*PROJECT.glob("*.py"), *(PROJECT / "tools").glob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert "ArgumentParser(" not in text, path
        assert "run(main)" not in text or any(maker in text for maker in makers), path


def test_the_settings_fit_on_a_few_screens():
    assert len((PROJECT / "config.py").read_text(encoding="utf-8").splitlines()) <= 350


# --- The lists in config.py fit together -------------------------------------------


PART_LISTS = [
    config.FRONT_PARTS,
    config.REAR_PARTS,
    config.LEFT_PARTS,
    config.RIGHT_PARTS,
    config.NEUTRAL_PARTS,
    config.DAMAGE_PARTS,
]


def test_class_order_is_the_agreed_one():
    assert config.CLASSES == ["Front", "FrontLeft", "FrontRight", "Rear", "RearLeft", "RearRight", "Background"]


def test_the_mirror_map_swaps_left_and_right_and_nothing_else():
    assert config.MIRRORED_CLASS == {
        "Front": "Front",
        "FrontLeft": "FrontRight",
        "FrontRight": "FrontLeft",
        "Rear": "Rear",
        "RearLeft": "RearRight",
        "RearRight": "RearLeft",
        "Background": "Background",
    }


def test_every_part_of_one_side_has_its_twin_on_the_other():
    assert all(name.startswith("left") for name in config.LEFT_PARTS)
    for end_parts in (config.FRONT_PARTS, config.REAR_PARTS):
        for name in end_parts:
            if name.startswith("left"):
                assert name.replace("left", "right", 1) in end_parts


def test_no_part_votes_against_itself_or_stands_twice():
    for parts in PART_LISTS:
        assert len(parts) == len(set(parts))
    assert not set(config.FRONT_PARTS) & set(config.REAR_PARTS)
    assert not set(config.LEFT_PARTS) & set(config.RIGHT_PARTS)
    voting = set().union(*PART_LISTS[:4])
    assert not voting & set(config.NEUTRAL_PARTS)
    assert not voting & set(config.DAMAGE_PARTS)


def test_parts_are_written_as_the_labeler_compares_them():
    for name in set().union(*PART_LISTS):
        assert name == name.strip().lower()
        assert not name.startswith(config.PARTIAL_PREFIX)


@pytest.mark.parametrize("part", ["leftfrontdoor", "leftfender", "leftorvm", "leftqpanel", "leftfrontwa"])
def test_side_parts_vote_for_their_side_only(part):
    assert part in config.LEFT_PARTS
    assert part not in config.FRONT_PARTS + config.REAR_PARTS
