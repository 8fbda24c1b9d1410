"""What a model knows of its training: hashes, fingerprints, ids, and what people are told of them."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace

import pytest

from viewpoint.common.cli import UserError
from viewpoint.data.provenance import (
    DATA_NAME,
    PACKED_NAME,
    also_seen,
    as_text,
    describe_known,
    describe_outdated,
    describe_training,
    find_data,
    fingerprint,
    from_text,
    hash_photos,
    packed_data,
    photo_hash,
    read_data,
    read_earlier,
    write_data,
)

HASHES = {"train": ["aa", "bb", "cc"], "val": ["dd"], "test": ["ee"]}
LABELS = {"train": ["Front", "Rear", "Front"], "val": ["Rear"], "test": ["Rear"]}


def make_data(weight: bytes = b"weights"):
    return describe_training([weight], HASHES, LABELS)


def write_tflite(path, text: str | None) -> None:
    """A file with a zip archive behind it, as a .tflite file with metadata."""
    content = io.BytesIO(b"a model")
    with zipfile.ZipFile(content, "a") as packed:
        packed.writestr("labels.txt", "Front\n")
        if text is not None:
            packed.writestr(PACKED_NAME, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())


def test_a_photo_s_hash_is_of_its_content(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"pixels")
    assert photo_hash(tmp_path / "a.jpg") == hashlib.sha256(b"pixels").hexdigest()[:16]
    hashes = hash_photos([tmp_path / "a.jpg", tmp_path / "gone.jpg", tmp_path / "b.jpg"])
    assert hashes == [photo_hash(tmp_path / "a.jpg"), "", photo_hash(tmp_path / "a.jpg")]


def test_a_fingerprint_changes_with_photos_and_labels_but_not_with_their_order():
    split = fingerprint(["aa", "bb"], ["Front", "Rear"])
    assert (split.photos, split.classes) == (2, {"Front": 1, "Rear": 1})
    assert split.hash == hashlib.sha256(b"aa Front\nbb Rear\n").hexdigest()[:16]
    assert fingerprint(["bb", "aa"], ["Rear", "Front"]) == split
    for others in ((["aa", "bb"], ["Rear", "Front"]), (["aa", "cc"], ["Front", "Rear"]), (["aa"], ["Front"])):
        assert fingerprint(*others).hash != split.hash


def test_equal_trainings_have_equal_ids():
    assert make_data() == make_data()
    assert make_data().training != make_data(b"others").training
    assert make_data().training != describe_training([b"weights"], HASHES, LABELS | {"val": ["Front"]}).training


def test_data_json_keeps_everything_and_training_json_all_but_the_photos(tmp_path):
    data = replace(make_data(), threshold=0.625)
    write_data(data, tmp_path)
    assert read_data(tmp_path) == data
    assert data.photos == {"train": ["aa", "bb", "cc"], "val": ["dd"]}
    assert from_text(as_text(data, with_photos=False)) == replace(data, photos={})


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"training": "a", "splits": {"train": 1}}', "[" * 99_999])
def test_a_damaged_file_is_as_none(tmp_path, text):
    (tmp_path / DATA_NAME).write_text(text)
    write_tflite(tmp_path / "model.tflite", text)
    assert read_data(tmp_path) is None
    assert packed_data(tmp_path / "model.tflite") is None


def test_the_photos_come_from_the_data_of_the_same_training(tmp_path):
    data = make_data()
    write_data(data, tmp_path)
    for model in (tmp_path / "model.tflite", tmp_path / "handoff" / "model.tflite"):
        write_tflite(model, as_text(data, with_photos=False))
        assert find_data(model) == data
    saved_model = tmp_path / "saved_model"
    saved_model.mkdir()
    assert find_data(saved_model) is None
    (saved_model / PACKED_NAME).write_text(as_text(data, with_photos=False))
    assert find_data(saved_model) == data
    write_data(make_data(b"others"), tmp_path)
    assert find_data(saved_model) == replace(data, photos={})
    write_tflite(tmp_path / "old.tflite", None)
    assert find_data(tmp_path / "old.tflite") is None


def test_photos_that_were_trained_on_are_said():
    data = make_data()
    assert describe_known(data, ["aa", "bb", "ee", "ff"]) == (
        "2 of these 4 photos were trained on: these figures are too good"
    )
    assert describe_known(data, ["aa", "dd"]) == (
        "1 of these 2 photos was trained on, and 1 used for validation: these figures are too good"
    )
    assert describe_known(data, ["dd"], "its score is") == (
        "1 of this 1 photo was used for validation in the training: its score is somewhat too good"
    )
    assert describe_known(data, ["ee", ""]) is None
    assert describe_known(None, ["aa"]) is None


def test_a_tflite_file_of_another_training_is_said_by_id_and_else_by_time(tmp_path):
    model, original = tmp_path / "model.tflite", tmp_path / "model.keras"
    write_tflite(model, as_text(make_data(), with_photos=False))
    assert describe_outdated(model) is None  # nothing beside it
    original.write_bytes(b"")
    write_data(make_data(), tmp_path)
    os.utime(model, (0, 0))
    assert describe_outdated(model) is None  # the ids are equal, whatever the times
    write_data(make_data(b"others"), tmp_path)
    assert "comes from another training" in describe_outdated(model)
    write_tflite(model, None)
    assert describe_outdated(model) is None
    os.utime(model, (0, 0))
    assert describe_outdated(model) == (
        f"{model} is older than {original}; run convert_tflite.py to convert the new model"
    )
    assert describe_outdated(tmp_path) is None


def test_what_was_learned_without_labels_cannot_become_a_test_photo_and_the_message_says_why(tmp_path):
    write_data(also_seen(make_data(), None, ["ee"]), tmp_path)
    with pytest.raises(UserError, match=r"2 of the 3 photos of test\.csv, .* learned them without labels"):
        read_earlier(tmp_path / "model.keras", {"val": ["dd"], "test": ["aa", "ee", "ff"]})
    with pytest.raises(UserError, match=r"1 of the 1 photo of val\.csv, .* prepare into the dataset folder"):
        read_earlier(tmp_path / "model.keras", {"val": ["aa"], "test": []})
    assert read_earlier(tmp_path / "model.keras", {"val": ["dd"], "test": ["ff"]}).photos["unlabelled"] == ["ee"]
