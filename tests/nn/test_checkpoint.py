import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xiaonet.config.schema import Config
from xiaonet.constants import input_specification
from xiaonet.errors import CheckpointError, ConfigError, OutputError
from xiaonet.nn import checkpoint
from xiaonet.nn.checkpoint import FORMAT, VERSION, load_model, load_tensors, read_model_file, save_model, save_tensors, without_folders
from xiaonet.nn.model import PLAIN, XiaoNet

PROVENANCE = {"seed": 3, "versions": {"xiaonet": "0.1.0"}, "commit": None, "losses": [0.5, 0.25]}


def model_like(seed: int, **arguments: Any) -> XiaoNet:
    torch.manual_seed(seed)
    model = XiaoNet(**{"base_channels": 2, **arguments})
    with torch.no_grad():  # running statistics that differ from the initial ones
        model(torch.randn(4, 3, 64))
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[XiaoNet, bytes]:
    """A model and the bytes of its file."""
    model, path = model_like(0), tmp_path_factory.mktemp("saved") / "model.pth"
    save_model(model, path, PROVENANCE)
    return model, path.read_bytes()


def states_equal(one: XiaoNet, other: XiaoNet) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def damage(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_model_comes_back_with_the_same_probabilities(tmp_path: Path) -> None:
    model = model_like(1)
    save_model(model, tmp_path / "model.pth")
    loaded = load_model(tmp_path / "model.pth")
    windows = torch.randn(2, 3, 3001, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert torch.equal(model(windows), loaded(windows))
    assert states_equal(model, loaded)
    assert (False, "cpu") == (loaded.training, loaded.head.weight.device.type)


@pytest.mark.parametrize(
    "arguments", [{"dropout": 0.25}, {"dilations": PLAIN}, {"base_channels": 3}, {"in_channels": 1}, {"num_phases": 2, "window_len": 6000}]
)
def test_a_file_carries_the_arguments_of_its_model(tmp_path: Path, arguments: dict[str, Any]) -> None:
    model = XiaoNet(**{"base_channels": 2, **arguments})
    save_model(model, tmp_path / "model.pth")
    loaded = load_model(tmp_path / "model.pth")
    assert {**XiaoNet(base_channels=2).arguments, **arguments} == loaded.arguments
    assert model.arguments == loaded.arguments


def test_a_file_carries_provenance_and_input_specification(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth", PROVENANCE)
    content = read_model_file(tmp_path / "model.pth")
    assert PROVENANCE == content["provenance"]
    expected = {
        "sampling_rate": 100.0,
        "window_samples": 3001,
        "component_order": "ENZ",
        "phases": "PSN",
        "normalisation": "demean, linear detrend, peak of each component",
    }
    assert expected == content["contract"]
    assert [
        "arguments",
        "contract",
        "digest",
        "format",
        "precision",
        "provenance",
        "stacking",
        "thresholds",
        "version",
        "weights",
    ] == sorted(content)
    assert "waveforms" == content["stacking"]


def test_provenance_is_empty_where_none_is_given(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth")
    assert {} == read_model_file(tmp_path / "model.pth")["provenance"]


def test_a_file_carries_thresholds(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth", thresholds={"S": 0, "P": 0.15})
    thresholds = read_model_file(tmp_path / "model.pth")["thresholds"]
    assert [("P", 0.15), ("S", 0.0)] == list(thresholds.items())
    assert [float, float] == [type(value) for value in thresholds.values()]


@pytest.mark.parametrize("number", [np.float32, np.float64, np.float16, int])
def test_thresholds_may_be_any_kind_of_number(tmp_path: Path, number: Any) -> None:
    save_model(model_like(0), tmp_path / "model.pth", thresholds={"P": number(1), "S": number(0)})
    thresholds = read_model_file(tmp_path / "model.pth")["thresholds"]
    assert ({"P": 1.0, "S": 0.0}, {float}) == (thresholds, {type(value) for value in thresholds.values()})


def test_thresholds_are_those_of_the_settings_where_none_are_given(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth")
    assert {"P": 0.3, "S": 0.3} == read_model_file(tmp_path / "model.pth")["thresholds"]
    assert 0.3 == Config().peak_detection.height


def test_a_file_from_before_there_were_thresholds_has_the_default_ones(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth", PROVENANCE)
    content = load_tensors(tmp_path / "model.pth", FORMAT)
    del content["thresholds"], content["format"], content["version"]
    save_tensors(tmp_path / "older.pth", FORMAT, content)
    assert {"P": 0.3, "S": 0.3} == read_model_file(tmp_path / "older.pth")["thresholds"]
    assert states_equal(model_like(0), load_model(tmp_path / "older.pth"))


BAD_THRESHOLDS = [
    {"P": 0.3},
    {"P": 0.3, "S": 0.3, "N": 0.3},
    {"P": 1.01, "S": 0.3},
    {"P": 0.3, "S": -0.01},
    {"P": float("nan"), "S": 0.3},
    {"P": "0.3", "S": 0.3},
    {"P": True, "S": 0.3},
]


@pytest.mark.parametrize("thresholds", BAD_THRESHOLDS)
def test_thresholds_that_are_no_probabilities_are_not_saved(tmp_path: Path, thresholds: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        save_model(model_like(0), tmp_path / "model.pth", thresholds=thresholds)
    expected = f"thresholds are {thresholds}; wanted a probability from 0 to 1 for P and S each, e.g. {{'P': 0.3, 'S': 0.3}}"
    assert expected == str(caught.value)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("thresholds", [*BAD_THRESHOLDS, None, 0.3])
def test_a_file_with_thresholds_that_are_no_probabilities_is_refused(tmp_path: Path, thresholds: object) -> None:
    save_model(model_like(0), tmp_path / "model.pth")
    content = load_tensors(tmp_path / "model.pth", FORMAT)
    del content["format"], content["version"]
    save_tensors(tmp_path / "model.pth", FORMAT, {**content, "thresholds": thresholds})
    assert f"is damaged: its thresholds are {thresholds}; wanted" in damage(tmp_path / "model.pth")


def test_paths_may_be_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(model_like(0), "model.pth")
    assert states_equal(model_like(0), load_model("model.pth"))


def damaged_at(raw: bytes, position: int) -> bytes:
    return raw[:position] + bytes([raw[position] ^ 0x10]) + raw[position + 1 :]


@pytest.mark.parametrize("share", [index / 31 for index in range(1, 31)])
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(tmp_path: Path, saved: tuple[XiaoNet, bytes], share: float) -> None:
    model, raw = saved
    path = tmp_path / "model.pth"
    path.write_bytes(damaged_at(raw, int(share * len(raw))))
    try:
        loaded = load_model(path)
    except CheckpointError:
        return
    assert states_equal(model, loaded)
    assert (model.arguments, PROVENANCE) == (loaded.arguments, read_model_file(path)["provenance"])


@pytest.mark.parametrize("words", [b"dropout", b"dilations", b"arguments", b"contract", b"provenance", b"weights", b"digest", b"0.1.0"])
@pytest.mark.parametrize("offset", [0, 3, 9])
def test_a_flipped_bit_in_the_header_is_noticed(tmp_path: Path, saved: tuple[XiaoNet, bytes], words: bytes, offset: int) -> None:
    _, raw = saved
    path = tmp_path / "model.pth"
    path.write_bytes(damaged_at(raw, raw.index(words) + offset))
    assert "damaged" in damage(path)


def test_flipped_bits_in_the_weights_are_noticed(tmp_path: Path, saved: tuple[XiaoNet, bytes]) -> None:
    model, raw = saved
    path = tmp_path / "model.pth"
    weights = [tensor.numpy().tobytes() for tensor in model.state_dict().values() if tensor.numel() >= 8]
    assert 40 <= len(weights)
    for number, tensor in enumerate(weights):
        path.write_bytes(damaged_at(raw, raw.index(tensor) + number % len(tensor)))
        assert "damaged" in damage(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, saved: tuple[XiaoNet, bytes], share: float) -> None:
    _, raw = saved
    path = tmp_path / "model.pth"
    path.write_bytes(raw[: int(share * len(raw))])
    assert "damaged" in damage(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert f"there is no file {tmp_path / 'nowhere.pth'}" in damage(tmp_path / "nowhere.pth")


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    assert "not a XiaoNet file" in damage(tmp_path)


class Trap:
    """Makes a folder when it is unpickled carelessly."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.folder,)


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: torch.save({"weight": torch.zeros(3)}, path),
        lambda path: torch.save(XiaoNet(base_channels=2).state_dict(), path),
        lambda path: torch.save([1, 2, 3], path),
        lambda path: torch.save(torch.zeros(3), path),
        lambda path: torch.save(torch.nn.Linear(2, 2), path),
        lambda path: torch.save({"weight": torch.zeros(3)}, path, _use_new_zipfile_serialization=False),
        zipped,
        lambda path: path.write_text("network,station\nOK,A01\n"),
        lambda path: path.write_bytes(pickle.dumps({"format": FORMAT, "version": VERSION})),
    ],
    ids=["dict", "state_dict", "list", "tensor", "module", "legacy", "zip", "text", "pickle"],
)
def test_a_foreign_file_is_refused_by_name(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "foreign.pth"
    write(path)
    assert "not a XiaoNet file" in damage(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_runs_none(tmp_path: Path, legacy: bool) -> None:
    folder, path = tmp_path / "sprung", tmp_path / "trap.pth"
    torch.save({"format": FORMAT, "version": VERSION, "weights": Trap(folder)}, path, _use_new_zipfile_serialization=not legacy)
    message = damage(path)
    assert "not a XiaoNet file: " + ("File is not a zip file" if legacy else "it holds Python code or objects besides weights") in message
    assert "weights_only" not in message  # torch recommends to load the file unsafely
    assert not folder.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert folder.exists()


def test_a_bare_pickle_that_would_run_code_runs_none(tmp_path: Path) -> None:
    path = tmp_path / "trap.pth"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    assert "not a XiaoNet file" in damage(path)
    assert [path] == list(tmp_path.iterdir())


def test_a_file_of_another_kind_or_version_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "state.pt", "xiaonet-run", {"epoch": 3})
    assert "is not a XiaoNet file: found ('xiaonet-run', 1), wanted ('xiaonet-model', 1)" in damage(tmp_path / "state.pt")
    torch.save({"format": FORMAT, "version": 2}, tmp_path / "later.pt")
    assert "is not a XiaoNet file: found ('xiaonet-model', 2), wanted ('xiaonet-model', 1)" in damage(tmp_path / "later.pt")


def test_a_file_that_lacks_its_parts_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "hollow.pth", FORMAT, {"arguments": {}})
    assert "hollow.pth" in damage(tmp_path / "hollow.pth")


VALUES: list[Any] = [None, 5, "x", [], [1, 2], {"a": "b"}, {3: 4}, torch.zeros(3), {"sampling_rate": torch.zeros(3)}]


@pytest.mark.parametrize("name", ["arguments", "contract", "provenance", "weights", "digest", "precision", "thresholds", "stacking"])
def test_a_file_with_a_wrong_part_is_refused(tmp_path: Path, name: str) -> None:
    save_model(model_like(0), tmp_path / "model.pth")
    content = load_tensors(tmp_path / "model.pth", FORMAT)
    del content["format"], content["version"]
    for value in VALUES:
        if name != "provenance" or not isinstance(value, dict):  # any dictionary is a provenance
            save_tensors(tmp_path / "model.pth", FORMAT, {**content, name: value})
            assert "model.pth" in damage(tmp_path / "model.pth"), value


def test_a_file_from_before_stackings_averages_probabilities(tmp_path: Path) -> None:
    save_model(model_like(0), tmp_path / "model.pth")
    content = load_tensors(tmp_path / "model.pth", FORMAT)
    del content["format"], content["version"], content["stacking"]
    save_tensors(tmp_path / "older.pth", FORMAT, content)
    assert "probabilities" == read_model_file(tmp_path / "older.pth")["stacking"]


@pytest.mark.parametrize("path", [None, 5, [], 1.5])
def test_a_path_of_another_type_is_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match=r"path is .*; wanted the path of a model file"):
        load_model(path)
    with pytest.raises(ConfigError, match=r"path is .*; wanted the path of a model file"):
        save_model(model_like(0), path)


def test_tensors_and_plain_values_come_back(tmp_path: Path) -> None:
    content = {"epoch": 3, "losses": [0.5, 0.25], "state": {"step": torch.arange(4)}}
    save_tensors(tmp_path / "state.pt", "xiaonet-run", content)
    loaded = load_tensors(tmp_path / "state.pt", "xiaonet-run")
    assert [0, 1, 2, 3] == loaded.pop("state")["step"].tolist()
    assert {"format": "xiaonet-run", "version": 1, "epoch": 3, "losses": [0.5, 0.25]} == loaded


@pytest.mark.parametrize(
    ("key", "value"), [("sampling_rate", 50.0), ("component_order", "ZNE"), ("phases", "NPS"), ("window_samples", 6000)]
)
def test_another_input_specification_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: object) -> None:
    path = tmp_path / "model.pth"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "input_specification", lambda: {**input_specification(), key: value})
        save_model(model_like(0), path)
    message, differing = damage(path), {key: value}
    assert f"has another input specification: {differing}; this XiaoNet wants" in message
    assert f"{key!r}: {input_specification()[key]!r}" in message


def test_a_new_file_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_model(model_like(1), path)
    save_model(model_like(2), path)
    assert states_equal(model_like(2), load_model(path))
    assert [path] == list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_older_file_as_it_was(tmp_path: Path, write_limit: Callable[[int], None]) -> None:
    path = tmp_path / "model.pth"
    save_model(model_like(1), path)
    before = path.read_bytes()
    write_limit(len(before) // 2)
    with pytest.raises(OutputError, match=r"model\.pth could not be written: .*an older file there is unchanged"):
        save_model(model_like(2), path)
    write_limit(10 * len(before))
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())
    assert states_equal(model_like(1), load_model(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/data/set+/mnt/other", "set+other"),
        ("~/data/set", "set"),
        (r"C:\Users\me\set", "set"),
        ("/set", "set"),
        ("/home/me/data/", ""),
        ("look at /home/me/run.log, or not", "look at run.log, or not"),
        ("/home/me/My Data/set one+/mnt/the other/set two", "set one+set two"),
        ("data/set", "data/set"),
        ("../data/set", "../data/set"),
        ("https://zenodo.org/records/1", "https://zenodo.org/records/1"),
        ("P and/or S at 1/2", "P and/or S at 1/2"),
        ("stead", "stead"),
        ("sds/2014/CX/*/*/*.091", "sds/2014/CX/*/*/*.091"),
        ("P / S, and /or 1 / 2", "P / S, and /or 1 / 2"),
        ("/home/me/a.log shows P / S", "a.log shows P / S"),
        ("/ and P/S are no paths", "/ and P/S are no paths"),
        (r"\alpha \ \beta", r"\alpha \ \beta"),
        (r"from \\server\home\set and C:\me\set, ~/set", "from set and set, set"),
        ("5 km/s at ~5/6 of /data/station", "5 km/s at ~5/6 of station"),
    ],
)
def test_absolute_paths_lose_their_folders(text: str, expected: str) -> None:
    assert {"a": [expected, 1, None]} == without_folders({"a": (text, 1, None)})


def test_a_file_names_no_folder(tmp_path: Path) -> None:
    save_model(
        model_like(0),
        tmp_path / "model.pth",
        {"data": {"name": "/home/someone/quakes+~/more/others"}, "shares": {"/home/someone/mine.pt": 1.0}},
    )
    assert {"data": {"name": "quakes+others"}, "shares": {"mine.pt": 1.0}} == read_model_file(tmp_path / "model.pth")["provenance"]
    assert b"someone" not in (tmp_path / "model.pth").read_bytes()
