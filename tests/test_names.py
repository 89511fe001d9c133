from pathlib import Path

import pytest

from xiaonet.errors import ConfigError
from xiaonet.names import split_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("stead", ["stead"]),
        ("stead+original", ["stead", "original"]),
        (" stead +original+ my/model.pth ", ["stead", "original", "my/model.pth"]),
        ("stead+stead", ["stead", "stead"]),
    ],
)
def test_names_are_split_at_each_plus(text: str, names: list[str]) -> None:
    assert names == split_names(text)


@pytest.mark.parametrize("text", ["", " ", "+", "stead+", "+stead", "stead+ +original"])
def test_an_empty_name_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_names(text, "the teacher", "stead+original")
    assert f"the teacher {text!r} names nothing before or after a +; wanted e.g. stead+original" == str(caught.value)


def test_a_file_and_a_folder_with_a_plus_in_their_names_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one+two").mkdir()
    (tmp_path / "one+two" / "three+.pth").touch()
    assert [[f"{tmp_path}/one+two"], [f"{tmp_path}/one+two/three+.pth"]] == [
        split_names(f"{tmp_path}/one+two"),
        split_names(f"{tmp_path}/one+two/three+.pth"),
    ]
    assert [f"{tmp_path}/one", "three"] == split_names(f"{tmp_path}/one+three")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ["~/one+two"] == split_names("~/one+two")
