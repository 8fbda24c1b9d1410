"""The options of train.py, from config.TRAIN_OPTIONS to a command line and to a settings object."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import config
from viewpoint.common.cli import make_parser, number

STRENGTHS = tuple(config.TRAIN_OPTIONS["strengths of --augment"])


class Settings:
    """One value for each option of config.TRAIN_OPTIONS, as attributes.

    `Settings()` has the default recipe's values, `Settings("reference", seed=1)` that recipe's
    with one change. Raises TypeError for a name that is not an option.
    """

    def __init__(self, recipe: str = "default", **changes: object):
        values = {name: row[0] for group in config.TRAIN_OPTIONS.values() for name, row in group.items()}
        values |= config.RECIPES[recipe] | changes
        unknown = values.keys() - {name for group in config.TRAIN_OPTIONS.values() for name in group}
        if unknown:
            raise TypeError(f"{', '.join(sorted(unknown))} not in config.TRAIN_OPTIONS")
        vars(self).update(values, recipe=recipe)

    def __getattr__(self, name: str) -> Any:  # tells type checkers that the attributes above exist
        raise AttributeError(name)

    def fine_tuning_epochs(self, photos: int) -> int:
        """The epochs of phase 2: those asked for, or what config.PHASE2_EPOCHS means for so many training photos."""
        if self.phase2_epochs is not None:
            return self.phase2_epochs
        return max(1, round(config.PHASE2_EPOCHS * (1000 / photos) ** (1 / 3)))

    def strengths(self) -> dict[str, float]:
        """The strengths of the random changes by name, as augmentation.augment takes them."""
        return {name: getattr(self, name) for name in STRENGTHS}


def parse_settings(description: str, options: Sequence[str] | None = None) -> Settings:
    """The settings of a command line (None: this process's). Exits with 2 on a mistake, as argparse does."""
    recipe_parser = argparse.ArgumentParser(add_help=False)
    recipe_parser.add_argument(
        "--recipe", choices=config.RECIPES, default="default", help="set of defaults for the options below"
    )
    recipe = recipe_parser.parse_known_args(options)[0].recipe
    # The full list would fill screens before the options that matter.
    shows_all = "--help-all" in (sys.argv if options is None else options)
    parser = make_parser(description, usage="%(prog)s [options]", parents=[recipe_parser])
    parser.add_argument("--help-all", action="help", help="show all options and exit")
    defaults = Settings(recipe)
    for title, rows in config.TRAIN_OPTIONS.items():
        group = parser.add_argument_group(title)
        for name, (value, accepts, meaning) in rows.items():
            keywords: dict[str, Any] = {"default": getattr(defaults, name), "help": meaning}
            if accepts is bool:
                # A switch that is on by default needs a --no- form; another one does not.
                keywords["action"] = argparse.BooleanOptionalAction if value else "store_true"
            elif isinstance(accepts, list):
                keywords["choices"] = accepts
            elif isinstance(accepts, tuple):
                low, high = accepts
                keywords["type"] = number(type(low), low, float("inf") if high is None else high)
            else:
                keywords["type"] = accepts
            if title != "common options" and not shows_all:
                keywords["help"] = argparse.SUPPRESS
            group.add_argument("--" + name.replace("_", "-"), **keywords)
    args = parser.parse_args(options)
    parser.refuse_unused(args, STRENGTHS, args.augment, "--augment")
    of_plateau = ["lr_factor", "lr_patience", "min_learning_rate"]
    parser.refuse_unused(args, of_plateau, args.schedule == "plateau", "--schedule plateau")
    parser.refuse_unused(args, ["warmup_share"], args.schedule == "cosine", "--schedule cosine")
    if args.ema and args.early_stopping_patience:
        parser.error("--ema keeps the average up to the last epoch; add --early-stopping-patience 0, or --ema 0")
    if args.unlabelled and not args.start_from:
        parser.error("--unlabelled needs a trained model that labels the photos; give it with --start-from")
    return Settings(**vars(args))
