"""Files as bytes: read once and up to a bound, written whole, with nobody's file replaced."""

import errno
import io
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from colorquant_nn import files
from colorquant_nn.files import read_file, write_atomically
from tests.helpers import contents

posix = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and locks are those of POSIX")
PARTIAL = f"{files.PREFIX}0123456789abcdef{files.SUFFIX}"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def mode_of(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_file_is_read_up_to_a_bound():
    Path("a").write_bytes(b"12345")
    assert read_file("a", "a text", max_bytes=5) == b"12345"
    with pytest.raises(ValueError, match=r"^a: larger than 4 bytes"):
        read_file("a", "a text", max_bytes=4)


def test_a_sparse_file_is_refused_unread():
    with open("large", "wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(ValueError, match="large: larger than"):
        read_file("large", "an image")


@pytest.mark.parametrize("name", ["missing", "no/such/folder"])
def test_a_missing_file_is_said_to_be_missing(name):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        read_file(name, "an image")


@posix
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".", r"\.: expected an image, got a folder"),
        ("/dev/zero", "got a device"),
        ("/dev/null", "got a device"),
        ("loop", "loop: cannot be read"),
        ("x" * 300, "cannot be read"),
        ("file/below", "cannot be read"),
    ],
)
def test_what_is_no_file_is_refused(name, reason):
    Path("loop").symlink_to("loop")
    Path("file").write_bytes(b"1")
    with pytest.raises(ValueError, match=reason):
        read_file(name, "an image")


@posix
@pytest.mark.parametrize("size", [3, files.CHUNK + 7])
def test_a_pipe_is_read_to_its_end(size):
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(b"x" * size,))
    writer.start()
    assert read_file("pipe", "an image") == b"x" * size
    writer.join()


@posix
def test_a_pipe_without_end_is_read_no_further_than_the_bound():
    read, write = os.pipe()
    os.write(write, b"x" * 100)  # and it stays open
    with pytest.raises(ValueError, match="larger than 99 bytes"):
        read_file(f"/dev/fd/{read}", "an image", max_bytes=99)
    os.close(read)
    os.close(write)


class Input(io.TextIOWrapper):
    """Standard input as a program has it."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_standard_input_is_a_file(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Input(b"\xff\0"))
    assert read_file("-", "an image") == b"\xff\0"
    with pytest.raises(ValueError, match="standard input: the file is empty"):
        read_file("-", "an image")
    monkeypatch.setattr(sys, "stdin", Input(b"12345"))
    with pytest.raises(ValueError, match="standard input: larger than 4 bytes"):
        read_file("-", "an image", max_bytes=4)


@pytest.mark.parametrize("stream", [None, Input(b"", terminal=True)])
def test_nobody_is_asked_to_type_a_picture(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdin", stream)
    with pytest.raises(ValueError, match="standard input: expected an image in a pipe"):
        read_file("-", "an image")


def test_standard_output_gets_bytes_last(capsysbinary):
    write_atomically({"-": b"\xff\0", "a": b"1"})
    assert capsysbinary.readouterr().out == b"\xff\0"
    assert os.listdir() == ["a"]
    with pytest.raises(ValueError, match="no/b"):
        write_atomically({"-": b"\xff\0", "no/b": b"1"})
    assert capsysbinary.readouterr().out == b""


def test_a_closed_standard_output_is_an_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ValueError, match="-: standard output is closed"):
        write_atomically({"-": b"1"})


@posix
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_usual_mode(mask):
    before = os.umask(mask)
    try:
        write_atomically({"new": b"1"}, replace=False)
        Path("usual").write_bytes(b"1")
    finally:
        os.umask(before)
    assert mode_of("new") == mode_of("usual") == 0o666 & ~mask


@posix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o400, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(mode):
    Path("a").write_bytes(b"old")
    os.chmod("a", mode)
    write_atomically({"a": b"new"})
    assert mode_of("a") == mode
    os.chmod("a", 0o600)
    assert Path("a").read_bytes() == b"new"


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root gives files away")
def test_a_file_that_is_replaced_keeps_its_owner():
    Path("a").write_bytes(b"old")
    os.chown("a", 1234, 2345)
    os.chmod("a", 0o640)
    write_atomically({"a": b"new"})
    found = os.stat("a")
    assert (found.st_uid, found.st_gid, mode_of("a")) == (1234, 2345, 0o640)


@posix
def test_another_group_gets_no_rights_of_the_old_one(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    Path("a").write_bytes(b"old")
    os.chmod("a", 0o664)
    monkeypatch.setattr(os, "fchown", refuse)
    write_atomically({"a": b"new"})
    assert mode_of("a") == 0o644


@posix
def test_a_private_file_is_private_while_it_is_replaced(monkeypatch):
    Path("a").write_bytes(b"old")
    os.chmod("a", 0o600)
    seen = []
    replace = os.replace

    def look(source, target):
        seen.append(mode_of(source))
        replace(source, target)

    make = os.open

    def look_at_once(path, *more):
        descriptor = make(path, *more)
        seen.append(mode_of(path))
        return descriptor

    monkeypatch.setattr(os, "open", look_at_once)
    monkeypatch.setattr(os, "replace", look)
    write_atomically({"a": b"new"})
    assert seen == [0o600, 0o600]


@posix
def test_links_stay_links():
    Path("there").mkdir()
    Path("there/a").write_bytes(b"old")
    Path("link").symlink_to("there/a")
    Path("dangling").symlink_to("there/b")
    write_atomically({"link": b"1", "dangling": b"2"})
    assert os.readlink("link") == "there/a"
    assert os.readlink("dangling") == "there/b"
    assert [Path("there", name).read_bytes() for name in "ab"] == [b"1", b"2"]
    assert sorted(os.listdir()) == ["dangling", "link", "there"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_that_appeared_meanwhile_is_not_replaced(monkeypatch, links):
    def refuse(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    write_atomically({"a": b"mine"}, replace=False)
    with pytest.raises(ValueError, match=r"^a: exists"):
        write_atomically({"new": b"2", "a": b"2"}, replace=False)
    assert Path("a").read_bytes() == b"mine"
    assert os.listdir() == ["a"]


@pytest.mark.parametrize("name", ["no/file", ".", "a/b"])
def test_a_target_that_cannot_be_written_leaves_nothing(name):
    Path("a").write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"{name}: "):
        write_atomically({"new": b"1", name: b"2"})
    assert os.listdir() == ["a"]


@posix
def test_what_a_killed_writer_left_is_removed_by_the_next():
    Path(PARTIAL).write_bytes(b"half")
    os.chmod(PARTIAL, 0o400)
    mine = Path(".mine.partial")
    mine.write_bytes(b"not yours")
    write_atomically({"a": b"1"})
    assert sorted(os.listdir()) == [mine.name, "a"]


@posix
def test_what_a_living_writer_writes_stays():
    import fcntl

    with open(PARTIAL, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically({"a": b"1"})
        assert Path(PARTIAL).exists()
    write_atomically({"a": b"2"})
    assert os.listdir() == ["a"]


@posix
def test_a_large_folder_is_not_searched_for_each_file(monkeypatch):
    monkeypatch.setattr(files, "MANY", -1)
    monkeypatch.setattr(files.time, "monotonic", iter([0.0, 1.0, 1.0, 4.9, 5.1, 6, 6]).__next__)
    write_atomically({"a": b"1"})  # searched for a second
    Path(PARTIAL).write_bytes(b"half")
    write_atomically({"a": b"2"})
    assert Path(PARTIAL).exists()
    write_atomically({"a": b"3"})
    assert os.listdir() == ["a"]


@posix
def test_a_name_like_a_leftover_does_no_harm():
    os.mkfifo(PARTIAL.replace("0", "1"))
    Path(PARTIAL.replace("0", "2")).mkdir()
    Path("there").write_bytes(b"mine")
    Path(PARTIAL.replace("0", "3")).symlink_to("there")
    write_atomically({"a": b"1"})
    assert Path("there").read_bytes() == b"mine"


@posix
def test_a_writer_whose_file_is_taken_for_a_leftover_begins_again(monkeypatch):
    lock = files._lock
    taken = []

    def steal(descriptor):
        if not taken:
            taken.extend(os.listdir())
            os.unlink(taken[0])
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", steal)
    write_atomically({"a": b"1"})
    assert taken
    assert os.listdir() == ["a"]
    assert Path("a").read_bytes() == b"1"


def test_a_system_without_locks_has_whole_files_all_the_same(monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    write_atomically({"a": b"1", "b": b"2"}, replace=False)
    write_atomically({"a": b"3"})
    with pytest.raises(ValueError, match="b: exists"):
        write_atomically({"b": b"4"}, replace=False)
    assert contents(Path()) == {"a": b"3", "b": b"2"}


def test_partial_files_of_this_process_are_discarded(monkeypatch):
    def stop(*_):
        assert len(os.listdir()) == 1
        files.discard_partials()
        assert os.listdir() == []
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically({"a": b"1"})
