"""CSV files as spreadsheets save them."""

import pytest

from viewpoint.common.cli import UserError
from viewpoint.common.tables import read_table

ROWS = [{"name": "Tür", "means": "door, left"}, {"name": "Dach", "means": ""}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        'name,means\nTür,"door, left"\nDach,\n',
        "name;means\r\nTür;door, left\r\nDach;\r\n",
        'name\tmeans\nTür\tdoor, left\n\t\n\nDach\t""\n',
        'name,means\n,\nTür,"door, left"\n\n\nDach,',
    ],
)
def test_every_usual_encoding_and_delimiter_is_read_without_blank_rows(tmp_path, encoding, text):
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "a.csv") == (["name", "means"], ROWS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name,means\na,b,c\n", 'line 2 .* one cell for each of the columns name, means; put .* contains ","'),
        (b"name;means\na\n", "line 2 .* one cell for each"),
        (b"name,means\na,\0\n", "it holds NUL characters"),
        (b'name,means\na,"b\n', "is not a readable CSV file"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, content, reason):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_table(tmp_path / "a.csv")
    with pytest.raises(UserError, match=r"cannot read .*: Is a directory"):
        read_table(tmp_path)
