"""The options of train.py: one table in config.py, the command line and the settings made of it.

The history of trainings: a line for each, and the comparison with the previous one.
"""

import json

import pytest

import config
from viewpoint.common.cli import UserError
from viewpoint.data.provenance import describe_training
from viewpoint.training.history import (
    add_to_history,
    changed_options,
    changes_since_previous,
    compare_with_previous,
    read_history,
)
from viewpoint.training.settings import Settings, parse_settings

ROWS = {name: row for group in config.TRAIN_OPTIONS.values() for name, row in group.items()}


def parse(*options) -> Settings:
    return parse_settings("", [str(option) for option in options])


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def test_without_options_every_setting_has_the_value_of_the_table():
    assert vars(parse()) == {"recipe": "default", **{name: row[0] for name, row in ROWS.items()}}
    assert vars(parse()) == vars(Settings())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if isinstance(row[1], tuple)])
def test_every_number_can_be_set_within_its_limits_only(name, capsys):
    _, (low, high), _ = ROWS[name]
    options = ["--early-stopping-patience", 0, "--ema", 0]  # these two exclude each other
    options += ["--schedule", "plateau"] if name in ("lr_factor", "lr_patience", "min_learning_rate") else []
    assert vars(parse(*options, option(name), low))[name] == low
    for outside in (low - 1, "many", *([] if high is None else [high + 1])):
        with pytest.raises(SystemExit) as exit_info:
            parse(option(name), outside)
        assert exit_info.value.code == 2
        assert f"argument {option(name)}" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1] is bool])
def test_every_switch_can_be_turned(name):
    value = ROWS[name][0]
    assert vars(parse(option(f"no_{name}" if value else name)))[name] != value


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if isinstance(row[1], list)])
def test_every_choice_can_be_made(name):
    for choice in ROWS[name][1]:
        assert vars(parse(option(name), choice))[name] == choice


@pytest.mark.parametrize("recipe", config.RECIPES)
def test_a_recipe_changes_the_defaults_and_options_win_over_it(recipe):
    settings = vars(parse("--recipe", recipe))
    assert settings == vars(Settings(recipe))
    for name, value in config.RECIPES[recipe].items():
        assert settings[name] == value
    assert parse("--recipe", recipe, "--phase2-epochs", 3).phase2_epochs == 3
    assert not parse("--recipe", recipe, "--no-flip").flip


@pytest.mark.parametrize(("photos", "epochs"), [(125, 22), (376, 15), (1000, 11), (2629, 8), (27_000, 4), (10**9, 1)])
def test_the_more_photos_the_fewer_epochs(photos, epochs):
    """11 for 1,000 photos, twice as many for an eighth of them, a third for 27 times as many."""
    assert parse().fine_tuning_epochs(photos) == epochs


@pytest.mark.parametrize("epochs", [0, 3])
def test_a_number_of_epochs_that_is_given_counts_for_any_number_of_photos(epochs):
    assert parse("--phase2-epochs", epochs).fine_tuning_epochs(1000) == epochs


def test_the_recipes_list_only_what_differs():
    for recipe in config.RECIPES.values():
        assert all(value != ROWS[name][0] for name, value in recipe.items())


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="phase3_epochs"):
        Settings(phase3_epochs=1)


@pytest.mark.parametrize(("asked", "hidden"), [("--help", True), ("--help-all", False)])
def test_the_help_shows_the_common_options_or_all_with_defaults_as_people_write_them(asked, hidden, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(asked)
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    shown = {name for name in ROWS if option(name) + " " in printed or option(name) + "," in printed}
    assert shown == (set(config.TRAIN_OPTIONS["common options"]) if hidden else ROWS.keys())
    assert "None" not in printed
    assert "(default: 16)" in printed
    if not hidden:
        assert printed.index("common options") < printed.index("--weights") < printed.index("optimization:")
        assert "(default: 0.8571)" in printed  # 6 / 7


# --- The history of trainings ------------------------------------------------------


METRICS = {"images": 2, "accuracy": 0.5, "macro_f1": 0.5, "log_loss": 1.0, "calibration_error": 0.1, "per_class": {}}


def add(models, weight: bytes, rows: list[tuple[str, str]], settings: Settings | None = None) -> str:
    """Add a training whose test split has these (photo hash, prediction)s; returns its id."""
    splits = {"train": ["aa"], "val": ["bb"], "test": [photo for photo, _ in rows]}
    data = describe_training([weight], splits, {name: ["Rear"] * len(part) for name, part in splits.items()})
    csv_rows = [(f"{photo}.jpg", prediction, "0.9000", "Rear", photo) for photo, prediction in rows]
    add_to_history(models, data, settings or Settings(), METRICS, csv_rows)
    return data.training


def test_a_line_and_a_file_for_each_training(tmp_path):
    ids = [
        add(tmp_path, b"1", [("cc", "Rear"), ("dd", "Front")]),
        add(tmp_path, b"2", [("cc", "Front")], Settings("reference", seed=1, quiet=True)),
    ]
    first, second = read_history(tmp_path)
    assert [first["training"], second["training"]] == ids
    assert first["options"] == {}
    assert second["options"] == {"recipe": "reference", "seed": 1}
    assert first["figures"] == {name: value for name, value in METRICS.items() if name != "per_class"}
    assert set(first["data"]) == {"train", "val", "test"}
    assert first["predictions"] == f"report/history/{ids[0]}.csv"
    assert (tmp_path / first["predictions"]).read_text() == (
        "image_name,prediction,score,label,photo\ncc.jpg,Rear,0.9000,Rear,cc\ndd.jpg,Front,0.9000,Rear,dd\n"
    )


def test_the_comparison_is_on_the_photos_that_both_tested(tmp_path):
    assert compare_with_previous(tmp_path, ["cc"], ["Rear"], ["Rear"]) is None
    add(tmp_path, b"1", [("xx", "Rear")])
    training = add(tmp_path, b"2", [("cc", "Rear"), ("dd", "Front"), ("ee", "Front")])
    previous = compare_with_previous(
        tmp_path, ["new", "dd", "cc", ""], ["Rear"] * 4, ["Front", "Rear", "Front", "Rear"]
    )
    assert previous.training == training
    assert previous.rows == [1, 2]
    assert (previous.comparison.newly_right, previous.comparison.newly_wrong) == ([0], [1])
    assert "on the photos that both tested: 2 photos, 1 right before and 1 now" in previous.describe()
    # A corrected label counts for both.
    assert compare_with_previous(tmp_path, ["dd"], ["Front"], ["Front"]).comparison.newly_right == []
    none = compare_with_previous(tmp_path, ["new"], ["Rear"], ["Rear"])
    assert none.comparison is None
    assert "tested none of these photos, so the two cannot be compared" in none.describe()


def test_damaged_lines_and_missing_files_are_passed_over(tmp_path):
    first = add(tmp_path, b"1", [("cc", "Rear")])
    second = add(tmp_path, b"2", [("cc", "Front")])
    (tmp_path / "report" / "history" / f"{second}.csv").unlink()
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('[]\n{"training": "cut o')
    assert compare_with_previous(tmp_path, ["cc"], ["Rear"], ["Rear"]).training == first
    third = add(tmp_path, b"3", [("cc", "Rear")])
    assert [run["training"] for run in read_history(tmp_path)] == [first, second, third]
    assert all(json.dumps(run) for run in read_history(tmp_path))


def test_a_history_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "history.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*history\.jsonl"):
        add(tmp_path, b"1", [("cc", "Rear")])


def test_only_changed_options_are_recorded(tmp_path):
    assert changed_options(Settings()) == {}
    assert changed_options(Settings(mixup=0.2, weights="none", models=tmp_path)) == {"mixup": 0.2, "weights": "none"}


def test_what_changed_since_the_previous_training(tmp_path):
    splits = {"train": ["aa"], "val": ["bb"], "test": ["cc"]}
    labels = {name: ["Rear"] for name in splits}
    data = describe_training([b"2"], splits, labels)
    assert changes_since_previous(tmp_path, data, Settings()) == ""
    add(tmp_path, b"1", [("cc", "Rear")], Settings(mixup=0.2))
    same = changes_since_previous(tmp_path, data, Settings(mixup=0.2, quiet=True))
    assert same == "nothing: the same photos, labels and options"
    corrected = describe_training([b"2"], splits, labels | {"train": ["Front"]})
    assert changes_since_previous(tmp_path, corrected, Settings(seed=7)) == (
        "other photos or labels in train; mixup its default instead of 0.2; seed 7 instead of its default"
    )
