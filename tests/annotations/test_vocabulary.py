"""From spellings to the part names of config.py: what is understood, what is not, and nothing in between.

part_names.csv: unknown names out, meanings in, and nothing that people wrote is lost.
"""

import csv
from collections import Counter

import pytest

import config
from viewpoint.annotations.part_names import known_meanings, read_part_names, write_part_names
from viewpoint.annotations.vocabulary import (
    KNOWN,
    clean_name,
    cut_into_words,
    door_windows,
    is_placeholder,
    is_plate,
    known_by_words,
    one_part,
    part_of,
)
from viewpoint.common.cli import UserError
from viewpoint.common.tables import read_table, write_csv
from viewpoint.data.corrections import read_corrections, write_corrections

LISTS = (config.FRONT_PARTS, config.REAR_PARTS, config.LEFT_PARTS, config.RIGHT_PARTS, config.DAMAGE_PARTS)


def votes(name: str) -> list[bool]:
    return [name in parts for parts in LISTS]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        # Separators, capitals, order of the words.
        ("front_left_door", "leftfrontdoor"),
        ("Front-Left Door", "leftfrontdoor"),
        ("FrontLeftDoor", "leftfrontdoor"),
        ("doorFrontLeft", "leftfrontdoor"),
        ("FRONTLEFTDOOR", "leftfrontdoor"),
        ("front.left/door", "leftfrontdoor"),
        # Synonyms.
        ("back_bumper", "rearbumper"),
        ("back_glass", "rearws"),
        ("front_glass", "frontws"),
        ("windscreen rear", "rearws"),
        ("back_left_light", "leftrearlamp"),
        ("front_right_light", "rightheadlamp"),
        ("front light", "headlamp"),
        ("LH headlight", "leftheadlamp"),
        ("left wing mirror", "leftorvm"),
        ("right front window", "rightfrontdoorglass"),
        ("left front tire", "leftfronttyre"),
        ("right brake light", "rightstoplamp"),
        ("front licence plate", "frontnumberplate"),
        ("back window", "rearws"),
        ("trunk door", "bootdoor"),
        # An end or a side that the name says already.
        ("front door left side", "leftfrontdoor"),
        ("rear left taillight", "lefttaillamp"),
        ("front bonnet", "bonnet"),
        # Parts that are seen from both ends keep silent about the end.
        ("back_door", "door"),
        ("front wheel", "wheel"),
        # Numbering, quotes, punctuation, plurals, partial.
        ("bonnet_1", "bonnet"),
        ("bonnet (2)", "bonnet"),
        ('"bonnet"', "bonnet"),
        ("bonnet.", "bonnet"),
        ("Headlights", "headlamp"),
        ("partial_front_bumper", "frontbumper"),
        ("bonnet (partial)", "bonnet"),
        # Invisible and full-width characters.
        ("bon\u200bnet", "bonnet"),
        ("\ufeffbonnet\u00a0", "bonnet"),
        ("ＦｒｏｎｔＢｕｍｐｅｒ", "frontbumper"),
        # Damage with a word that names no part.
        ("deep scratch", "scratch"),
        ("minor dents", "dents"),
    ],
)
def test_a_spelling_is_read_as_the_part_that_it_means(text, part):
    assert part_of(text) == part


@pytest.mark.parametrize(
    "text",
    [
        *("FR", "fr_door", "R headlamp", "left", "front", "bumper", "light"),  # may be several parts
        *("bumper scratch", "bonnet dent"),  # a part, or a damage of it
        *("front window", "tür vorne links dent", "no damage"),
        *("motorhaube", "lefheadlamp", "flux capacitor", "rear bonnet", ""),
    ],
)
def test_what_is_not_understood_is_not_guessed(text):
    assert part_of(text) is None


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_name_of_config_is_itself_in_any_spelling(name):
    assert part_of(name) == part_of(name.upper()) == part_of(f" {name}_3.") == name
    words = cut_into_words(name)
    if words and name not in config.DAMAGE_PARTS:
        for spelling in ("_".join(words), " ".join(reversed(words)), "".join(word.title() for word in words)):
            assert votes(part_of(spelling)) == votes(name), spelling


def test_names_with_the_same_words_vote_alike():
    for name in KNOWN - set(config.DAMAGE_PARTS):
        same = part_of("_".join(cut_into_words(name) or (name,)))
        assert votes(same) == votes(name)
    assert set(known_by_words().values()) <= KNOWN


def test_the_time_for_a_name_does_not_grow_with_its_cube():
    """A page that was pasted as a name: minutes if each end of a word is compared with each beginning."""
    for text in ("a" * 200_000, "door" * 50_000, "left door, " * 20_000):
        assert part_of(text) is None
        assert door_windows([text]) == {}
        assert one_part(text) == text
    assert is_placeholder(clean_name("a" * 200_000))
    # A long list is cut at once, and its names are short.
    assert cut_into_words("door" * 200) == ("door",) * 200


def test_placeholders_and_numbers_are_no_names():
    for text in ("not_defined", "undefined", "Unknown", "none", "N/A", "n.a.", "-", "?", "12", "3.0", "", " "):
        assert is_placeholder(clean_name(text)), text
    for text in ("bonnet", "part 1", "nonet"):
        assert not is_placeholder(clean_name(text)), text


def test_the_text_on_a_number_plate_is_told_from_part_names():
    for text in ("KA01AB1234", "B-MW 4711", "AB12 CDE", "AB-123-CD"):
        assert is_plate(clean_name(text)), text
    for text in (
        "motorhaube_001",
        "region 1234",
        "Tür links 001",
        "door1",
        "FL1",
        "2024-05-01",
        "AB 1",
        "LFD 01",
        "RRD_0002",
        "M-XY 77",
    ):
        assert not is_plate(clean_name(text)), text


# --- part_names.csv ----------------------------------------------------------------


def test_what_people_filled_in_is_read_and_kept(tmp_path):
    path = tmp_path / "part_names.csv"
    write_part_names(path, Counter({"motorhaube": 5, "aufkleber": 2, "kratzer": 1}), {}, Counter())
    assert path.read_text() == "name,count,means\nmotorhaube,5,\naufkleber,2,\nkratzer,1,\n"

    path.write_text("name,count,means\nmotorhaube,5,Bonnet\naufkleber,2,nothing\nkratzer,1,damage\nneu,1,\n")
    filled_in = read_part_names(path)
    assert known_meanings(filled_in, path) == {"motorhaube": "bonnet", "aufkleber": "others", "kratzer": "damage"}

    write_part_names(path, Counter({"stossfänger": 3}), filled_in, Counter({"motorhaube": 6}))
    assert path.read_text() == (
        "name,count,means\nstossfänger,3,\nmotorhaube,6,Bonnet\naufkleber,0,nothing\nkratzer,0,damage\n"
    )


def test_no_cell_is_a_formula_and_all_are_read_back_as_they_were(tmp_path):
    path = tmp_path / "a.csv"
    names = ["=door", "+1 bonnet", "-dent", "@roof", "\ttab", "\rline", "'=quoted", "''@", "plain", "'plain'"]
    write_csv(path, ["name", "count"], [(name, -1) for name in names])
    with path.open(newline="") as file:
        cells = [row[0] for row in csv.reader(file)][1:]
    assert [cell[0] for cell in cells] == [*("'" * 8), "p", "'"]
    assert read_table(path)[1] == [{"name": name, "count": "-1"} for name in names]
    # In the files that people fill in.
    write_part_names(path, Counter({"=door": 2}), {}, Counter())
    assert "\n'=door,2,\n" in path.read_text()
    assert read_part_names(path)["=door"]["count"] == "2"
    write_corrections({"-1.jpg": "Rear"}, path)
    assert path.read_text() == "image_path,label\n'-1.jpg,Rear\n"
    assert read_corrections(path) == {"-1.jpg": "Rear"}


def test_a_spreadsheet_may_save_it_with_semicolons_and_a_bom(tmp_path):
    path = tmp_path / "part_names.csv"
    path.write_bytes("name;count;means\nTür vorne links;4;front_left_door\n".encode("utf-8-sig"))
    assert known_meanings(read_part_names(path), path) == {"tür vorne links": "leftfrontdoor"}


def test_columns_that_people_added_stay(tmp_path):
    path = tmp_path / "part_names.csv"
    path.write_text("name,who,means,count\nHaube,Anna,bonnet,5\nteil x,Ben asks the shop,,2\nteil y,,,1\n")
    write_part_names(path, Counter({"teil x": 3, "neu": 1}), read_part_names(path), Counter({"haube": 6}))
    assert path.read_text() == ("name,count,means,who\nteil x,3,,Ben asks the shop\nneu,1,,\nhaube,6,bonnet,Anna\n")


def test_one_name_with_two_meanings_is_refused_and_with_one_in_two_spellings_read(tmp_path):
    path = tmp_path / "part_names.csv"
    path.write_text("name,count,means\nTür VL,5,leftfrontdoor\ntür vl,1,Front left door\nTÜR VL,1,\n")
    assert known_meanings(read_part_names(path), path) == {"tür vl": "leftfrontdoor"}
    path.write_text("name,count,means\nTür VL,5,leftfrontdoor\ntür vl,1,rightfrontdoor\n")
    with pytest.raises(UserError, match="'tür vl' means both leftfrontdoor and rightfrontdoor; keep one of them"):
        read_part_names(path)


def test_odd_content_is_one_sentence(tmp_path):
    path = tmp_path / "part_names.csv"
    assert read_part_names(path) == {}
    path.write_text("name,count,means\nmotorhaube,5,engine cover\n")
    with pytest.raises(UserError, match="says that 'motorhaube' means 'engine cover', which is not a part name"):
        known_meanings(read_part_names(path), path)
    path.write_text("part,number\nmotorhaube,5\n")
    with pytest.raises(UserError, match="does not have the columns name, count, means"):
        read_part_names(path)
    path.write_bytes(b"name,count,means\n\x00")
    with pytest.raises(UserError, match="is not a readable CSV file"):
        read_part_names(path)
