"""The command that takes the pictures in docs/ works, on pages as small as possible."""

import pytest
import take_pictures

from viewpoint.cli import UserError
from viewpoint.images import open_image


def test_pictures_of_all_pages(browser, tmp_path):
    for page, _ in take_pictures.PICTURES.values():
        (tmp_path / "demo" / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "demo" / page).write_text("<!DOCTYPE html><body style='background: #fe0000'>")
    take_pictures.take_pictures(tmp_path / "demo", tmp_path / "docs")
    for name, (_, size) in take_pictures.PICTURES.items():
        picture = open_image(tmp_path / "docs" / name)
        assert picture.size == size
        assert picture.getpixel((9, 9)) == (254, 0, 0)


def test_without_a_demo_it_is_one_sentence(browser, tmp_path):
    with pytest.raises(UserError, match=r"review\.html not found; run make demo first"):
        take_pictures.take_pictures(tmp_path, tmp_path)
