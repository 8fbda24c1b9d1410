"""Files are listed once each, or reported; they are written whole or not at all."""

import errno
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from viewpoint.common.cli import UserError
from viewpoint.common.files import list_folder, relative_path
from viewpoint.common.writing import lock, write_atomically, write_together

JUNK = "made by the system or another program"
LEAVES = "link that leaves the folder; --follow-links reads it"

# --- Listing -----------------------------------------------------------------------


def touch(folder: Path, *names: str) -> Path:
    """Make empty files, and return their folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(folder: Path, **options) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the files in list_folder's listing, and what it leaves out."""
    listing = list_folder(folder, **options)
    return [path.relative_to(folder).as_posix() for path in listing.files], listing.left_out


def test_the_files_of_all_folders_are_listed_in_order(tmp_path):
    names = ["B.jpg", "a b/c.json", "a.txt", "no extension", "é/ü.png"]
    assert listed(touch(tmp_path, *reversed(names))) == (names, {})


def test_the_folder_may_be_written_in_any_way(tmp_path, monkeypatch):
    touch(tmp_path, "photos/a.jpg", "photos/b/c.jpg")
    (tmp_path / "link").symlink_to("photos")
    for folder, files in ((".", ["photos/a.jpg", "photos/b/c.jpg"]), ("photos", ["a.jpg", "b/c.jpg"])):
        assert list_folder(Path(folder)).files == [Path(folder, file) for file in files]
    assert list_folder(tmp_path / "link").files == [tmp_path / "link" / "a.jpg", tmp_path / "link" / "b" / "c.jpg"]
    monkeypatch.chdir("photos")
    (tmp_path / "photos" / "d.jpg").symlink_to("b/c.jpg")
    assert list_folder(Path()).files == [Path("a.jpg"), Path("b/c.jpg")]


def test_what_systems_and_programs_leave_is_passed_over_and_said(tmp_path):
    junk = [
        "._car.jpg",
        ".car.4711.tmp.jpg",
        ".handoff.4711.tmp/golden/car.png",
        ".ipynb_checkpoints/via-checkpoint.json",
        ".Trash-1000/files/car.jpg",
        "lot/@eaDir/car.jpg/SYNOPHOTO_THUMB_M.jpg",
        "lot/._via.JSON",
        "__MACOSX/lot/car.jpg",
    ]
    touch(tmp_path, *junk, "lot/car.jpg")
    # These are not read anyway, and so nobody misses them.
    touch(tmp_path, ".git/config", "lot/@eaDir/car.jpg@SynoEAStream", "._notes.txt")
    assert listed(tmp_path) == (["lot/car.jpg"], {JUNK: sorted(junk)})


def test_names_that_only_look_like_junk_are_listed(tmp_path):
    names = [".hidden.jpg", "_.jpg", "a.1.tmp.jpg", "eaDir/a.jpg", "git/a.jpg"]
    assert listed(touch(tmp_path, *names)) == (names, {})
    assert listed(touch(tmp_path / ".git", "a.jpg")) == (["a.jpg"], {})  # asked for by name


def test_photos_in_formats_that_are_not_read_are_said(tmp_path):
    assert listed(touch(tmp_path, "a.CR2", "a.jpg", "b.nef")) == (
        ["a.jpg"],
        {"photo or video in a format that is not read": ["a.CR2", "b.nef"]},
    )


def test_only_files_that_would_count_are_said_to_be_left_out(tmp_path):
    touch(tmp_path, "._a.json", "._a.jpg", "a.jpg")
    assert listed(tmp_path, extensions=[".jpg"]) == (["a.jpg"], {JUNK: ["._a.jpg"]})


def test_a_linked_folder_inside_lists_every_photo_once(tmp_path):
    touch(tmp_path, "real/a.jpg", "z/b.jpg")
    (tmp_path / "a link").symlink_to("real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    (tmp_path / "z" / "to real").symlink_to(tmp_path / "real")
    assert listed(tmp_path) == (["real/a.jpg", "z/b.jpg"], {})


def test_a_linked_photo_inside_is_listed_once_under_its_own_path(tmp_path):
    touch(tmp_path, "z/a.jpg")
    (tmp_path / "front.jpg").symlink_to("z/a.jpg")
    (tmp_path / "rear").symlink_to("z/a.jpg")
    assert listed(tmp_path) == (["z/a.jpg"], {})


def test_a_linked_annotation_file_inside_counts_in_both_folders(tmp_path):
    touch(tmp_path, "z/via.json")
    (tmp_path / "via.json").symlink_to("z/via.json")
    assert listed(tmp_path) == (["via.json", "z/via.json"], {})


def test_links_to_stored_contents_count_under_their_own_names(tmp_path):
    """As git-annex and DVC keep large files."""
    touch(tmp_path, ".git/annex/objects/SHA256-12.jpg", ".dvc/cache/ab/cdef")
    (tmp_path / "annex.jpg").symlink_to(".git/annex/objects/SHA256-12.jpg")
    (tmp_path / "dvc.jpg").symlink_to(".dvc/cache/ab/cdef")
    assert listed(tmp_path) == (["annex.jpg", "dvc.jpg"], {})


def test_links_that_leave_the_folder_are_said_and_followed_on_demand(tmp_path):
    outside, data = touch(tmp_path / "outside", "a.jpg", "b.jpg", "via.json", "notes.txt"), tmp_path / "data"
    touch(data, "c.jpg")
    links = {"lot.2024": "", "a.jpg": "a.jpg", "again.jpg": "a.jpg", "via.json": "via.json", "no extension": "b.jpg"}
    for name, target in {**links, "notes.txt": "notes.txt"}.items():
        (data / name).symlink_to(outside / target)
    assert listed(data) == (["c.jpg"], {LEAVES: sorted(links)})
    files, left_out = listed(data, follow_links=True)
    folder = [f"lot.2024/{name}" for name in ("a.jpg", "b.jpg", "notes.txt", "via.json")]
    assert files == ["c.jpg", *folder, "no extension", "notes.txt", "via.json"]  # a.jpg only once
    assert left_out == {}


def test_a_photo_outside_is_listed_once(tmp_path):
    touch(tmp_path / "outside", "1.jpg")
    (tmp_path / "data").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "outside" / "1.jpg")
    assert listed(tmp_path / "data", follow_links=True) == (["a.jpg"], {})


def test_following_links_ends_and_prefers_paths_without_links(tmp_path):
    data = touch(tmp_path / "outer" / "data", "a.jpg")
    touch(tmp_path / "outer", "b.jpg", "other/c.jpg")
    (data / "up").symlink_to("..")
    (tmp_path / "outer" / "other" / "back").symlink_to(data)
    (tmp_path / "outer" / "other" / "up").symlink_to("..")
    assert listed(data, follow_links=True) == (["a.jpg", "up/b.jpg", "up/other/c.jpg"], {})


def test_links_that_lead_nowhere_are_said(tmp_path):
    touch(tmp_path, "a.jpg")
    for link, target in (("b.jpg", "gone.jpg"), ("loop.jpg", "loop.jpg"), ("drive", "/nowhere/x"), ("c.txt", "gone")):
        (tmp_path / link).symlink_to(target)
    assert listed(tmp_path) == (["a.jpg"], {"link that leads nowhere": ["b.jpg", "drive", "loop.jpg"]})


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes here")
def test_pipes_are_said_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "link.jpg").symlink_to("pipe.jpg")
    assert listed(tmp_path) == ([], {"neither a file nor a folder": ["link.jpg", "pipe.jpg"]})


def test_folders_that_cannot_be_read_are_said(tmp_path, monkeypatch):
    touch(tmp_path, "a.jpg", "locked/b.jpg", "@eaDir/c.jpg")
    scandir = os.scandir

    def refuse_some(path):
        if path.name in ("locked", "@eaDir"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse_some)
    assert listed(tmp_path) == (["a.jpg"], {"folder that cannot be read": ["locked (Permission denied)"]})


@pytest.mark.skipif(sys.platform != "linux", reason="names are text here")
def test_names_in_the_report_are_printable(tmp_path):
    touch(tmp_path, os.fsdecode(b"._caf\xe9\r\x1b.jpg"))
    assert listed(tmp_path) == ([], {JUNK: [r"._caf\udce9\r\x1b.jpg"]})


# --- Writing -----------------------------------------------------------------------


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


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES])
def test_a_network_mount_that_cannot_flush_a_folder_is_no_reason_to_fail(tmp_path, monkeypatch, code):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    with write_atomically(tmp_path / "model.bin") as path:
        path.write_text("whole")
    write_version(tmp_path, "new")
    assert (tmp_path / "model.bin").read_text() == "whole"
    assert version_in(tmp_path) == {"new"}


# --- Writing several files together ------------------------------------------------

NAMES = ["train.csv", "test.csv", "summary.json"]


def write_version(folder: Path, text: str) -> None:
    """Write the files NAMES with this content, of which two must never be mixed."""
    paths = [folder / name for name in NAMES]
    with write_together(paths[:2], paths[2:]) as temporaries:
        for path in paths:
            temporaries[path].write_text(text)


def version_in(folder: Path) -> set[str]:
    """The contents of the files NAMES."""
    return {(folder / name).read_text() for name in NAMES}


class Killed(BaseException):
    """A kill, as far as a test can stage one: nothing that runs afterwards changes a file."""


def fail_from(monkeypatch, step: int, calls: int, error: BaseException) -> list[str]:
    """Let `calls` changes of files from the one numbered `step` on raise an error; returns the names of all calls."""
    made: list[str] = []

    def failing(function):
        def call(*arguments, **options):
            made.append(function.__name__)
            if step <= len(made) - 1 < step + calls:
                raise error
            return function(*arguments, **options)

        return call

    for owner, name in ((Path, "replace"), (Path, "unlink"), (os, "fsync"), (shutil, "copyfile")):
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    return made


STEPS = 12  # 3 old files copied, 3 new ones flushed, 2 old ones unlinked, 3 new ones renamed, the folder flushed


@pytest.mark.parametrize("step", range(STEPS))
def test_files_that_belong_together_survive_an_error_at_every_step(tmp_path, step):
    write_version(tmp_path, "old")
    with pytest.MonkeyPatch.context() as patch:
        fail_from(patch, step, 1, OSError(errno.EIO, os.strerror(errno.EIO)))
        with pytest.raises(UserError, match=r"cannot write .*train\.csv: Input/output error"):
            write_version(tmp_path, "new")
    assert version_in(tmp_path) == {"old"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    write_version(tmp_path, "new")
    assert version_in(tmp_path) == {"new"}


def test_the_steps_of_the_test_above_are_all(tmp_path, monkeypatch):
    write_version(tmp_path, "old")
    made = fail_from(monkeypatch, 10**6, 0, OSError())
    write_version(tmp_path, "new")
    # The temporaries and copies are removed afterwards, whatever happens.
    assert made[STEPS:] == ["unlink"] * 6
    assert made[:STEPS].count("replace") == 3


def test_earlier_files_come_back_where_nothing_can_be_renamed_any_more(tmp_path, monkeypatch):
    write_version(tmp_path, "old")

    def refuse(*_):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UserError, match="Permission denied"):
        write_version(tmp_path, "new")
    assert version_in(tmp_path) == {"old"}


@pytest.mark.parametrize("step", range(STEPS))
def test_after_a_kill_files_may_be_missing_but_are_never_mixed(tmp_path, step):
    write_version(tmp_path, "old")
    with pytest.MonkeyPatch.context() as patch:
        fail_from(patch, step, 10**6, Killed())
        patch.setattr("viewpoint.common.writing.put_back", lambda *_: None)
        patch.setattr("viewpoint.common.writing.remove", lambda _: None)
        with pytest.raises(Killed):
            write_version(tmp_path, "new")
    assert len({(tmp_path / name).read_text() for name in NAMES[:2] if (tmp_path / name).exists()}) <= 1
    assert (tmp_path / NAMES[2]).read_text() in ("old", "new")


def test_new_files_that_fail_leave_none(tmp_path, monkeypatch):
    """As before there was a first version."""
    fail_from(monkeypatch, 5, 1, OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(UserError):
        write_version(tmp_path, "new")
    assert list(tmp_path.iterdir()) == []


def test_links_to_files_that_belong_together_stay(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "train.csv").symlink_to("real.csv")
    write_version(tmp_path, "new")
    assert (tmp_path / "train.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "new"


# --- Paths -------------------------------------------------------------------------


def test_a_path_on_another_windows_drive_is_absolute(tmp_path, monkeypatch):
    assert relative_path(tmp_path / "photos", tmp_path / "dataset") == "../photos"

    def other_drive(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert relative_path(tmp_path / "photos", tmp_path / "dataset") == (tmp_path / "photos").as_posix()


# --- Locking -----------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from viewpoint.common.writing import lock
with lock(Path(sys.argv[1]), "--models"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_by_one_process_and_released_by_its_death(tmp_path):
    folder = tmp_path / "models"
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(
            UserError, match=rf"models is in use by process {process.pid} on .* another one with --out$"
        ):
            with lock(folder, "--out"):
                pytest.fail("two processes hold the lock")
        with lock(folder, "--out", "another.csv"):
            pass
        process.kill()
    for _ in range(2):  # released at the end of the block, too
        with lock(folder, "--out"):
            assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} on ")
            with pytest.raises(UserError, match="in use"), lock(folder, "--out"):
                pytest.fail("the lock is held twice")
    if sys.platform != "win32":
        assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="an open file is not removed")
def test_a_lock_is_not_taken_on_a_file_that_its_holder_has_just_removed(tmp_path, monkeypatch):
    """The other process ends between our opening of the file and our lock on it."""
    locked = []

    def lock_late(descriptor: int) -> bool:
        if not locked:
            (tmp_path / ".lock").unlink()
        locked.append(os.fstat(descriptor).st_nlink)
        return True

    monkeypatch.setattr("viewpoint.common.writing.try_to_lock", lock_late)
    with lock(tmp_path, "--out"):
        assert locked == [0, 1]
        assert (tmp_path / ".lock").is_file()


def test_a_lock_leaves_no_folder_behind(tmp_path):
    with pytest.raises(ValueError, match="nothing to write"), lock(tmp_path / "new", "--out"):
        raise ValueError("nothing to write")
    assert not (tmp_path / "new").exists() or sys.platform == "win32"


@pytest.mark.skipif(sys.platform == "win32", reason="locks in another way")
@pytest.mark.parametrize("owner", ["fcntl.flock", "pathlib.Path.open"])
def test_where_files_cannot_be_locked_the_work_is_done_all_the_same(tmp_path, monkeypatch, owner):
    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(owner, refuse)
    with lock(tmp_path, "--out"):
        done = True
    assert done
