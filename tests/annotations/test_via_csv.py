"""VIA's CSV export: read like VIA's JSON, and told from other CSV files by its header."""

import csv
import io
import json
import os

import pytest
from conftest import regions, save_photo, write_via

import config
from viewpoint.annotations import format_of, read_annotation_file, via_csv
from viewpoint.data.labeling import part_names
from viewpoint.data.scan import parse_dataset

HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def via_rows(photos: dict[str, list[dict]]) -> str:
    """The CSV that VIA exports for these regions, its quotes where VIA puts them."""
    lines = [HEADER]
    for name, found in photos.items():
        for number, region in enumerate(found):
            cells = [json.dumps(region[f"{kind}_attributes"]).replace('"', '""') for kind in ("shape", "region")]
            lines.append(f'{name},123,"{{}}",{len(found)},{number},"{cells[0]}","{cells[1]}"')
        if not found:
            lines.append(f'{name},123,"{{}}",0,0,"{{}}","{{}}"')
    return "\n".join(lines)


def names_by_photo(text: str) -> dict[str, set[str]]:
    file = via_csv.read(text, "identity")
    return {entry.filename: part_names(entry.parts) for entry in file.entries}


def test_a_csv_gives_what_the_json_of_the_same_project_gives(tmp_path):
    photos = {"front.jpg": regions("bonnet", "leftheadlamp"), "rear.jpg": regions("tailgate"), "tree.jpg": []}
    write_via(tmp_path / "via.json", photos)
    (tmp_path / "via.csv").write_text(via_rows(photos))
    from_csv = read_annotation_file(tmp_path / "via.csv")
    assert from_csv == read_annotation_file(tmp_path / "via.json")
    assert [len(entry.parts) for entry in from_csv.entries] == [2, 1, 0]


def test_a_folder_with_a_csv_is_labelled(tmp_path):
    for name in ("front.jpg", "tree.jpg"):
        save_photo(tmp_path / name)
    (tmp_path / "via_export_csv.csv").write_text(
        via_rows({"front.jpg": regions("bonnet", "leftheadlamp"), "tree.jpg": []})
    )
    labelled = dict(parse_dataset(tmp_path)[["image_path", "label"]].values)
    assert labelled == {"front.jpg": "FrontLeft", "tree.jpg": "Background"}


TEXT = via_rows({"été.jpg": regions("bonnet", "grille")})


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (TEXT.encode(), None),
        (TEXT.encode("utf-8-sig"), None),
        (TEXT.encode("utf-16"), None),
        (TEXT.replace("\n", "\r\n").encode("utf-16"), None),
        (TEXT.encode("latin-1"), "is not UTF-8; it was read as Latin-1"),
        (f"#{TEXT}".encode(), None),  # VIA 1.0
        (TEXT.replace("\n", "\r").encode(), None),
        (TEXT.replace("\n", "\r\n\r\n").encode(), None),
    ],
)
def test_every_usual_encoding_and_line_end_is_read(tmp_path, content, note):
    path = tmp_path / "via.CSV"
    path.write_bytes(content)
    assert format_of(path)
    file = read_annotation_file(path)
    assert file.notes == ([note] if note else [])
    assert [(entry.filename, part_names(entry.parts)) for entry in file.entries] == [("été.jpg", {"bonnet", "grille"})]


def test_a_csv_that_a_spreadsheet_saved_with_semicolons_is_read():
    text = io.StringIO()
    rows = csv.reader(io.StringIO(via_rows({"car.jpg": regions("bonnet", "grille")})))
    csv.writer(text, delimiter=";").writerows(rows)
    assert names_by_photo(text.getvalue()) == {"car.jpg": {"bonnet", "grille"}}


def test_a_table_with_its_columns_in_another_order_and_an_index_is_read():
    rows = list(csv.DictReader(io.StringIO(via_rows({"car.jpg": regions("bonnet", "grille")}))))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["", *reversed(HEADER.split(","))])
    writer.writeheader()
    writer.writerows({"": number, **row} for number, row in enumerate(rows))
    assert names_by_photo(text.getvalue()) == {"car.jpg": {"bonnet", "grille"}}


def test_a_comma_in_a_file_name_does_not_shift_the_cells():
    assert names_by_photo(via_rows({"a, b,c.jpg": regions("bonnet")})) == {"a, b,c.jpg": {"bonnet"}}


def test_rows_of_one_photo_are_joined_wherever_they_are():
    first, second, third = via_rows({"a.jpg": regions("bonnet", "grille"), "b.jpg": regions("boot")}).splitlines()[1:]
    assert names_by_photo("\n".join([HEADER, first, third, second])) == {
        "a.jpg": {"bonnet", "grille"},
        "b.jpg": {"boot"},
    }


@pytest.mark.parametrize(
    "cell", ['"not json"', "7", '"[1]"', '"{""identity"": ""bonnet"', "[" * 100_000, '"{""identity"": null}"']
)
def test_a_region_whose_attributes_are_damaged_has_no_name(cell):
    good, bad = via_rows({"car.jpg": regions("bonnet", "grille")}).splitlines()[1:]
    bad = bad[: bad.rindex(',"') + 1] + cell
    [entry] = via_csv.read("\n".join([HEADER, good, bad]), "identity").entries
    assert [part.names for part in entry.parts] == [("bonnet",), ()]


def test_a_row_that_ends_early_is_a_region_without_a_name():
    file = via_csv.read(f'{HEADER}\ncar.jpg,123,"{{}}",1,0', "identity")
    assert [part.names for part in file.entries[0].parts] == [()]


def test_a_row_without_a_file_name_is_malformed():
    text = via_rows({"car.jpg": regions("bonnet"), " ": regions("grille")})
    assert via_csv.read(text, "identity").malformed == ["line 3"]


def test_lost_rows_are_noticed_by_the_region_count():
    lines = via_rows({"a.jpg": regions("bonnet", "grille"), "b.jpg": []}).splitlines()
    assert [entry.problem for entry in via_csv.read("\n".join(lines), "identity").entries] == ["", ""]
    found = via_csv.read("\n".join([*lines[:2], lines[3]]), "identity").entries
    assert [entry.problem for entry in found] == ["has another number of regions than its region_count says", ""]


def test_the_attribute_that_names_the_parts_is_found_as_in_json():
    text = via_rows({"car.jpg": regions("bonnet")}).replace("identity", "part")
    file = via_csv.read(text, "identity")
    assert part_names(file.entries[0].parts) == {"bonnet"}
    assert file.notes == ['has no attribute "identity"; the part names were read from "part"']
    two = text.replace('""part"": ""bonnet""', '""part"": ""bonnet"", ""beside"": ""grille""')
    with pytest.raises(ValueError, match="give the right one with --label-key"):
        via_csv.read(two, "identity")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "image_path,label\na.jpg,Front\n", "filename,label\na.jpg,Front\n", f"see {HEADER[:30]}", "\0" * 50],
)
def test_other_csv_files_are_no_annotation_files(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert not format_of(path)
    assert via_csv.read(text, "identity") is None
    with pytest.raises(ValueError, match="not the CSV that VIA exports"):
        read_annotation_file(path)


def test_json_files_and_nothing_else_count_without_a_look_inside(tmp_path):
    for name in ("a.json", "b.JSON", "c.txt", "d.csv.bak", "e"):
        (tmp_path / name).write_text("")
    (tmp_path / "folder.json").mkdir()
    assert [path.name for path in sorted(tmp_path.iterdir()) if format_of(path)] == ["a.json", "b.JSON"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["via.csv", "via.json"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert not format_of(tmp_path / name)


def test_large_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "MAX_JSON_MEGABYTES", 0.0001)
    path = tmp_path / "via.csv"
    path.write_text(via_rows({"car.jpg": regions("bonnet")}))
    assert format_of(path)
    with pytest.raises(ValueError, match=r"larger than 0\.0001 MB"):
        read_annotation_file(path)


def test_what_is_not_csv_is_refused_with_the_reason():
    cell = "x" * (csv.field_size_limit() + 1)
    with pytest.raises(ValueError, match="not readable as CSV: field larger than field limit"):
        via_csv.read(f"{HEADER}\n{cell}", "identity")
