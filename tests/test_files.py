"""Files are written whole or not at all."""

import errno
import os
import time
from pathlib import Path

import pytest

from viewpoint.cli import UserError
from viewpoint.files import write_atomically


@pytest.mark.parametrize("folder", [False, True])
def test_an_output_is_whole_or_the_earlier_one_stays(tmp_path, folder):
    def write(path, text):
        path.mkdir() if folder else None
        (path / "x" if folder else path).write_text(text)

    def read(path):
        return (path / "x" if folder else path).read_text()

    output = tmp_path / "new" / "model.bin"
    with write_atomically(output) as path:
        write(path, "first")
        assert not output.exists()
    with pytest.raises(UserError, match=r"cannot write .*model\.bin: No space left on device"):
        with write_atomically(output) as path:
            write(path, "half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert read(output) == "first"
    with write_atomically(output) as path:
        write(path, "second")
    assert read(output) == "second"
    assert [path.name for path in output.parent.iterdir()] == ["model.bin"]


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path):
    (tmp_path / "real.txt").write_text("first")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with write_atomically(tmp_path / "link.txt") as path:
        path.write_text("second")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "second"


def test_what_a_killed_run_left_is_removed_after_a_day(tmp_path):
    for name, age in ((".model.1.tmp.bin", 25), (".model.2.tmp.bin", 1), (".other.1.tmp.bin", 25)):
        (tmp_path / name).write_text("left")
        os.utime(tmp_path / name, (time.time() - age * 3600,) * 2)
    with write_atomically(tmp_path / "model.bin") as path:
        path.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".model.2.tmp.bin", ".other.1.tmp.bin", "model.bin"]


def test_a_network_mount_that_cannot_flush_a_folder_is_no_reason_to_fail(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with write_atomically(tmp_path / "model.bin") as path:
        path.write_text("whole")
    assert (tmp_path / "model.bin").read_text() == "whole"
