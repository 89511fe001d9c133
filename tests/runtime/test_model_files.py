import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xiaonet.cli.info import info
from xiaonet.errors import CheckpointError
from xiaonet.picker import Picker
from xiaonet.runtime.checksum import add_checksum
from xiaonet.runtime.loading import load_predictor
from xiaonet.shipped import WEIGHTS

NANO = WEIGHTS / "xiaonet-nano.onnx"
RUNTIMES = ["onnxruntime", "openvino", "torch"]
NAMES = ["xiaonet", "xiaonet-int8", "xiaonet-nano", "xiaonet-nano-int8"]


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file with a right checksum like the narrow model's, but with another header."""
    model = onnx.load(NANO)
    (entry,) = model.metadata_props
    header = json.loads(entry.value)
    change(header)
    entry.value = json.dumps({**header, "seal": "0" * 64})
    path.write_bytes(add_checksum(model.SerializeToString()))
    return path


def refused(path: Path, runtime: str = "onnxruntime") -> str:
    with pytest.raises(CheckpointError) as caught:
        load_predictor(path, runtime)  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_missing_file_is_named(tmp_path: Path, runtime: str) -> None:
    path = tmp_path / ("nowhere.pth" if runtime == "torch" else "nowhere.onnx")
    assert f"there is no file {path}" == refused(path, runtime)


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "could not be read" in refused(tmp_path / "folder.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("content", [b"", b"network,station\nOK,A01\n"])
def test_what_is_no_model_is_refused(tmp_path: Path, runtime: str, content: bytes) -> None:
    (tmp_path / "foreign.onnx").write_bytes(content)
    assert "damaged or not a XiaoNet model: it has no checksum; copy it again" in refused(tmp_path / "foreign.onnx", runtime)


def test_a_network_of_others_is_refused(tmp_path: Path) -> None:
    model = onnx.load(NANO)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    assert "not a XiaoNet model" in refused(tmp_path / "foreign.onnx")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97, 0.99999])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    raw = NANO.read_bytes()
    (tmp_path / "short.onnx").write_bytes(raw[: int(share * len(raw))])
    assert "damaged" in refused(tmp_path / "short.onnx")


@settings(max_examples=60, deadline=None)
@example(place=0.5, bit=0)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: float, bit: int) -> None:
    raw = bytearray(NANO.read_bytes())
    raw[int(place * len(raw))] ^= 1 << bit
    path = tmp_path_factory.mktemp("flipped") / "flipped.onnx"
    path.write_bytes(raw)
    assert "is damaged" in refused(path)


def test_a_flipped_bit_in_the_checksum_is_noticed(tmp_path: Path) -> None:
    raw = bytearray(NANO.read_bytes())
    for at in range(raw.index(b'"seal"'), raw.index(b'"seal"') + 74):
        broken = bytes(raw[:at]) + bytes([raw[at] ^ 1]) + bytes(raw[at + 1 :])
        (tmp_path / "flipped.onnx").write_bytes(broken)
        assert "is damaged" in refused(tmp_path / "flipped.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(("key", "value"), [("sampling_rate", 50.0), ("component_order", "ZNE"), ("phases", "NPS"), ("gain", 2)])
def test_a_file_of_another_input_specification_names_what_differs(tmp_path: Path, runtime: str, key: str, value: object) -> None:
    path = rewritten(tmp_path / "other.onnx", lambda header: header["contract"].update({key: value}))
    assert f"has another input specification: { ({key: value}) }; this XiaoNet wants {{'sampling_rate': 100.0" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_input_specification_that_lacks_an_entry_is_another(tmp_path: Path, runtime: str) -> None:
    path = rewritten(tmp_path / "other.onnx", lambda header: header["contract"].pop("normalisation"))
    assert "has another input specification: {'normalisation': None}" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_later_version_of_the_file_is_refused(tmp_path: Path, runtime: str) -> None:
    path = rewritten(tmp_path / "later.onnx", lambda header: header.update(version=2))
    assert "has an unknown format: found ('xiaonet-onnx', 2), wanted ('xiaonet-onnx', 1)" in refused(path, runtime)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_is_too_new_for_the_runtime_asks_for_a_newer_one(tmp_path: Path, runtime: str) -> None:
    model = onnx.load(NANO)
    model.graph.node[-1].op_type = "SofterMax"
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "seal": "0" * 64})
    (tmp_path / "new.onnx").write_bytes(add_checksum(model.SerializeToString()))
    message = refused(tmp_path / "new.onnx", runtime)
    assert f"requires a newer {runtime}: " in message
    assert "; pip install -U " in message
    assert "Exception from" not in message


@pytest.mark.parametrize("kind", ["onnx", "pth"])
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_of_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str) -> None:
    """As after a broken installation: names of shipped models lead to files, which are checked like any other."""
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr("xiaonet.shipped.WEIGHTS", tmp_path / "weights")
    file = tmp_path / "weights" / f"{name}.{kind}"
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1  # a bit of a weight
    file.write_bytes(raw)
    damage = "its content does not match its checksum" if kind == "onnx" else "the checksum of .* does not"
    message = f"{file} is damaged: {damage}"
    with pytest.raises(CheckpointError, match=message):
        Picker(name, runtime="torch" if kind == "pth" else "auto")


def test_a_member_of_another_input_specification_is_refused(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from xiaonet import XiaoNet, save_model
    from xiaonet.nn import checkpoint

    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "input_specification", lambda: {"sampling_rate": 50.0})
        save_model(XiaoNet(base_channels=2), tmp_path / "slow.pth")
    with pytest.raises(CheckpointError, match=r"slow.pth has another input specification: .*'sampling_rate': 50.0"):
        load_predictor(f"xiaonet+{tmp_path / 'slow.pth'}")


DAMAGED_HEADERS: list[Any] = [
    *({"version": value} for value in (None, "1", [1], {}, 0)),
    *({"format": value} for value in (None, 5, [], "xiaonet-model")),
    *({"contract": value} for value in (None, "x", 5, [], [["phases", "PSN"]], {})),
    *({"thresholds": value} for value in (None, "x", 0.3, [], {}, [0.3, 0.3], {"P": 0.3}, {"P": 0.3, "S": "0.3"}, {"P": 0.3, "S": None})),
    *({"thresholds": {"P": 0.3, "S": value}} for value in (-0.1, 1.1, float("nan"), float("inf"), True, [0.3])),
    *({"parameters": value} for value in (None, "16578", 0, -5, 1.5, True, [], {}, float("nan"), float("inf"))),
    *({"arguments": value} for value in (None, 5, "x", [])),
    *({"provenance": value} for value in (None, 5, "x", [])),
    *({"precision": value} for value in (None, 8, "int4", [])),
    *({"stacking": value} for value in (None, 8, "logits", [])),
]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_header_with_a_wrong_field_is_refused_and_names_the_field(tmp_path: Path, runtime: str) -> None:
    for change in DAMAGED_HEADERS:
        (name,) = change
        message = refused(rewritten(tmp_path / "wrong.onnx", lambda header, change=change: header.update(change)), runtime)
        words = {"version": "format", "contract": "contract is" if change[name] != {} else "input specification"}
        assert words.get(name, name) in message, (change, message)


@pytest.mark.parametrize("name", ["format", "version", "contract", "thresholds", "parameters"])
def test_a_header_without_a_field_is_refused(tmp_path: Path, name: str) -> None:
    message = refused(rewritten(tmp_path / "wrong.onnx", lambda header: header.pop(name)))
    assert {"version": "format"}.get(name, name) in message


def test_a_header_from_before_precisions_is_read(tmp_path: Path) -> None:
    path = rewritten(tmp_path / "older.onnx", lambda header: [header.pop(name) for name in ("precision", "arguments", "provenance")])
    assert "older.onnx, 16,578 parameters" in load_predictor(path).description


def test_a_header_from_before_stackings_averages_probabilities(tmp_path: Path) -> None:
    older = rewritten(tmp_path / "older.onnx", lambda header: header.pop("stacking", None))
    newer = rewritten(tmp_path / "newer.onnx", lambda header: header.update(stacking="waveforms"))
    assert ["probabilities", "waveforms"] == [load_predictor(path).stacking for path in (older, newer)]


@pytest.mark.parametrize("text", ["", "null", "[]", "5", "{", "[" * 100_000, f'{{"parameters": {"9" * 5000}}}', '{"format": '])
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    model = onnx.load(NANO)
    (entry,) = model.metadata_props
    entry.value = text
    model.metadata_props.add(key="also", value='"seal": "' + "0" * 64 + '"')
    (tmp_path / "wrong.onnx").write_bytes(add_checksum(model.SerializeToString()))
    assert "wrong.onnx" in refused(tmp_path / "wrong.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_weights_in_another_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str) -> None:
    rewritten(tmp_path / "whole.onnx", lambda header: None)
    model = onnx.load(tmp_path / "whole.onnx")
    onnx.save_model(model, tmp_path / "split.onnx", save_as_external_data=True, location="split.bin", size_threshold=64)
    assert (tmp_path / "split.bin").stat().st_size > 50_000
    split = onnx.load(tmp_path / "split.onnx", load_external_data=False)
    (entry,) = split.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), "seal": "0" * 64})
    (tmp_path / "split.onnx").write_bytes(add_checksum(split.SerializeToString()))
    monkeypatch.chdir(tmp_path)  # where runtimes would look for it
    message = refused(tmp_path / "split.onnx", runtime)
    assert "keeps weights in another file (ONNX external data); wanted one file with all weights" in message
    assert "whole.onnx" in load_predictor(tmp_path / "whole.onnx", runtime).description  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments", [{"base_channels": "x"}, {"colour": 1}, {"base_channels": 0}, {"base_channels": 10**9}, {"dilations": 5}]
)
def test_info_of_a_header_with_wrong_arguments_is_an_error_message(tmp_path: Path, arguments: dict[str, Any]) -> None:
    path = rewritten(tmp_path / "wrong.onnx", lambda header: header.update(arguments=arguments))
    with pytest.raises(CheckpointError, match="the model file is damaged: its arguments"):
        info(str(path))
