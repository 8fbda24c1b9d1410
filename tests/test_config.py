"""The lists in config.py fit together."""

import pytest

import config

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
