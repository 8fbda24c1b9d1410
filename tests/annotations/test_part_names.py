"""part_names.csv: unknown names out, meanings in, and nothing that people wrote is lost."""

from collections import Counter

import pytest

from viewpoint.annotations.part_names import known_meanings, read_part_names, write_part_names
from viewpoint.common.cli import UserError


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
