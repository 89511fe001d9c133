import platform
import sys
from types import SimpleNamespace

import pytest

from xiaonet import memory
from xiaonet.memory import keep_freed_memory


def test_freed_memory_is_kept_on_linux_with_glibc() -> None:
    glibc = sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc"
    assert glibc is keep_freed_memory()


def test_glibc_is_set_to_map_and_to_trim_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return 1

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_freed_memory() is True
    assert [(-3, 2**30), (-1, 2**31 - 1)] == calls
    assert keep_freed_memory(64, 8, arenas=1) is True
    assert [(-3, 8), (-1, 64), (-8, 1)] == calls[2:]


@pytest.mark.parametrize(
    ("system", "library"),
    [("darwin", SimpleNamespace(mallopt=lambda *_: 1)), ("linux", SimpleNamespace()), ("linux", SimpleNamespace(mallopt=lambda *_: 0))],
    ids=["another system", "another C library", "refused"],
)
def test_elsewhere_nothing_changes(monkeypatch: pytest.MonkeyPatch, system: str, library: SimpleNamespace) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: library)
    assert keep_freed_memory() is False
