"""The options of train.py: one table in config.py, the command line and the settings made of it."""

import pytest

import config
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
    value, (low, high), _ = ROWS[name]
    options = ["--early-stopping-patience", 0, "--ema", 0]  # these two exclude each other
    assert vars(parse(*options, option(name), low))[name] == type(value)(low)
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
    assert "(default: 36)" in printed
    if not hidden:
        assert printed.index("common options") < printed.index("--weights") < printed.index("optimization:")
        assert "(default: 0.8571)" in printed  # 6 / 7
