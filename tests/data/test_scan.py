"""From a folder to labelled photos: every flavour, everything left out is reported, nothing outside is read."""

import json

from conftest import regions, save_photo, write_via

from viewpoint.data.scan import NOT_USED, PERHAPS, parse_dataset, read_dataset


def test_all_via_flavours_at_any_depth_give_the_same_rows(tmp_path):
    entry = {"filename": "car.jpg", "size": 0, "regions": regions("bonnet", "leftheadlamp"), "file_attributes": {}}
    via1 = entry | {"fileref": "", "base64_img_data": "", "regions": dict(enumerate(entry["regions"]))}
    flavours = {
        "via2": {"car.jpg0": entry},
        "a/deep folder (été)/via1": {"car.jpg0": via1},
        "project": {"_via_settings": {}, "_via_img_metadata": {"car.jpg0": entry}, "_via_attributes": {}},
        "bare key": {"car.jpg": entry},
    }
    for folder, content in flavours.items():
        save_photo(tmp_path / folder / "car.jpg")
        (tmp_path / folder / "any name.json").write_text(json.dumps(content), encoding="utf-8-sig")
    df = parse_dataset(tmp_path)
    assert df["image_path"].tolist() == sorted(f"{folder}/car.jpg" for folder in flavours)
    assert set(df["label"]) == {"FrontLeft"}
    assert df.loc[0, "front_votes":"right_votes"].tolist() == [2, 0, 1, 0]


def test_everything_left_out_is_reported_with_its_reason(tmp_path):
    good = save_photo(tmp_path / "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "empty.jpg").write_bytes(b"")
    save_photo(tmp_path / "forgotten.JPG")
    # A name that no list knows could not change this label.
    car = regions("bonnet", "grille", "leftheadlamp", "leftmirror", "warp coil")
    write_via(tmp_path / "via.json", dict.fromkeys(["good.jpg", "cut.jpg", "empty.jpg", "gone.jpg"], car))
    (tmp_path / "broken.json").write_text('{"a": ')
    (tmp_path / "other.json").write_text('{"name": "not VIA"}')
    (tmp_path / "odd.json").write_text('{"x": {"filename": "good.jpg", "regions": null}, "y": {"filename": 5}}')
    (tmp_path / "half.json").write_text(r'{"\udce9": {"filename": "\udce9.jpg", "regions": []}}')
    (tmp_path / "via_attributes.json").write_text('{"region": {"identity": {}}, "file": {}}')

    df, _, report = read_dataset(tmp_path)

    assert df["image_path"].tolist() == ["good.jpg"]
    assert report.skipped["annotated but missing"] == ["via.json: gone.jpg"]
    assert [item.split()[0] for item in report.skipped["unreadable"]] == ["cut.jpg", "empty.jpg"]
    assert report.skipped[PERHAPS] == ["forgotten.JPG"]
    assert [item.split()[0] for item in report.skipped[NOT_USED]] == ["broken.json", "other.json"]
    assert sorted(report.skipped["malformed entry"]) == [r"half.json: \udce9.jpg", "odd.json: x", "odd.json: y"]
    assert report.unknown_parts == {"warp coil": 3}
    assert report.photos_found == len(df) + len(report.left_out) == 4


def test_photos_outside_the_folder_are_never_read(tmp_path):
    outside = save_photo(tmp_path / "outside.jpg")
    data = tmp_path / "data"
    save_photo(data / "inside.jpg")
    (data / "link.jpg").symlink_to(outside)
    names = ["../outside.jpg", str(outside), "link.jpg", "nul\0.jpg", "inside.jpg"]
    write_via(data / "via.json", dict.fromkeys(names, regions("bonnet", "grille")))
    df, _, report = read_dataset(data)
    assert df["image_path"].tolist() == ["inside.jpg"]
    assert len(report.skipped["photo outside the data folder"]) == 4


def test_of_two_versions_of_an_annotation_the_complete_one_counts(tmp_path):
    save_photo(tmp_path / "car.jpg")
    write_via(tmp_path / "0 nothing yet.json", {"car.jpg": []})
    write_via(tmp_path / "1 first try.json", {"car.jpg": regions("rearws")})
    write_via(tmp_path / "2 final.json", {"car.jpg": regions("tailgate", "rearws")})
    df, _, report = read_dataset(tmp_path)
    assert df["label"].tolist() == ["Rear"]
    assert report.skipped == {}
