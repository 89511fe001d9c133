import errno
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from xiaonet.errors import OutputError
from xiaonet.files import make_folder, write_atomically


def newer(file: IO[bytes]) -> None:
    file.write(b"newer")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An older file, alone in its folder."""
    (tmp_path / "file").write_bytes(b"older")
    return tmp_path / "file"


def test_a_folder_is_made_with_those_it_lies_in(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is there
        make_folder(tmp_path / "one" / "two")
        assert (tmp_path / "one" / "two").is_dir()


def test_a_folder_that_cannot_be_made_is_reported(path: Path) -> None:
    with pytest.raises(OutputError, match=r"file/folder cannot be made: .*Not a directory.*; choose another --out"):
        make_folder(path / "folder")


def untouched(path: Path) -> bool:
    return path.read_bytes() == b"older" and [path] == list(path.parent.iterdir())


def test_a_new_file_takes_the_place_of_the_older_one(path: Path) -> None:
    write_atomically(path, newer)
    assert (b"newer", [path]) == (path.read_bytes(), list(path.parent.iterdir()))


def test_a_file_is_on_disk_before_it_replaces_the_older_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: steps.append(("fsync", os.fstat(descriptor).st_size, path.read_bytes())))
    monkeypatch.setattr(
        os, "replace", lambda source, target: (steps.append(("replace", Path(source).parent, target)), replace(source, target))
    )
    write_atomically(path, newer)
    assert [("fsync", 5, b"older"), ("replace", path.parent, path)] == steps
    assert b"newer" == path.read_bytes()


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_that_any_new_file_has(path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(path, newer)
        assert mask == os.umask(mask)
    finally:
        os.umask(before)
    assert mode == path.stat().st_mode & 0o777


def test_the_rights_of_what_other_threads_write_meanwhile_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks: list[int] = []
    monkeypatch.setattr(os, "umask", masks.append)  # it is one for the whole process
    write_atomically(path, newer)
    assert [] == masks


def test_many_threads_may_write_one_file(path: Path) -> None:
    contents = [bytes([number]) * 10**5 for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(path, lambda file: file.write(content)), contents))
    assert path.read_bytes() in contents
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_older_file_as_it_was(path: Path, error: type[BaseException]) -> None:
    def write(file: IO[bytes]) -> None:
        newer(file)
        raise error

    with pytest.raises(error):
        write_atomically(path, write)
    assert untouched(path)


def test_a_full_disk_leaves_the_older_file_as_it_was(path: Path, write_limit: Callable[[int], None]) -> None:
    write_limit(1000)
    with pytest.raises(OutputError, match=r"file could not be written: .*File too large; an older file there is unchanged"):
        write_atomically(path, lambda file: file.write(b"x" * 1001))
    write_limit(2000)
    assert untouched(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fails_late_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OutputError, match=r"file could not be written: \[Errno 28\] No space left on device"):
            write_atomically(path, newer)
    assert untouched(path)


def test_a_file_that_another_program_has_open_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:  # as Windows does
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OutputError, match="unchanged; close the program that has it open or choose another folder"):
            write_atomically(path, newer)
    assert untouched(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"missing/file could not be written: .*No such file or directory"):
        write_atomically(tmp_path / "missing" / "file", newer)


def test_a_file_in_the_place_of_the_folder_is_named(path: Path) -> None:
    with pytest.raises(OutputError, match=r"file/inner could not be written: .*Not a directory"):
        write_atomically(path / "inner", newer)
    assert untouched(path)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"taken could not be written: .*Is a directory"):
        write_atomically(tmp_path / "taken", newer)
    assert [tmp_path / "taken"] == list(tmp_path.iterdir())


def test_the_leftover_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from xiaonet.files import write_atomically
def write(file):
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    input()
write_atomically(Path({str(tmp_path / "picks.xml")!r}), write)
"""
    living, killed = (
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    )
    assert ["ready\n", "ready\n"] == [living.stdout.readline(), killed.stdout.readline()]
    killed.kill()
    killed.wait()
    (tmp_path / ".picks.xml.notes").write_text("a file of somebody else")
    assert 2 == len(list(tmp_path.glob(".picks.xml.*.*")))
    write_atomically(tmp_path / "picks.xml", lambda file: file.write(b"whole"))
    [left] = tmp_path.glob(".picks.xml.*.*")
    assert f".{living.pid}." in left.name
    assert {"picks.xml", ".picks.xml.notes", left.name} == {path.name for path in tmp_path.iterdir()}
    living.communicate("\n")
    assert (0, b"half") == (living.returncode, (tmp_path / "picks.xml").read_bytes())
