import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from xiaonet.config.schema import Config
from xiaonet.errors import ConfigError, XiaoNetError


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Config.parse(values, "run.json")
    return str(caught.value)


def test_the_config_file_of_the_repository_holds_the_defaults() -> None:
    path = Path(__file__).parents[2] / "config.json"
    assert Config() == Config.read(path)
    assert Config().to_json() == path.read_text(encoding="utf-8")


def test_the_prescribed_keys_are_there() -> None:
    values = json.loads(Config().to_json())
    prescribed = {
        "device": {"use_cuda", "device_id"},
        "training": {"batch_size", "num_workers", "learning_rate", "epochs", "patience"},
        "peak_detection": {"sampling_rate", "height", "distance"},
        "data": {"name"},
        "distillation": {"teacher", "temperature", "alpha"},
        "model": {"base_channels", "dropout", "dilations"},
    }
    assert [*prescribed, "objective", "labels", "augmentation", "note"] == list(values)
    assert {} == {section: keys - values[section].keys() for section, keys in prescribed.items() if keys - values[section].keys()}


def test_the_prescribed_values_are_the_defaults() -> None:
    config = Config()
    assert (3.0, 0.5) == (config.distillation.temperature, config.distillation.alpha)
    assert ("min", 0.5, 3) == (config.training.scheduler.mode, config.training.scheduler.factor, config.training.scheduler.patience)
    assert (100, 0.3, 100) == (config.peak_detection.sampling_rate, config.peak_detection.height, config.peak_detection.distance)


@pytest.mark.parametrize(
    ("values", "path", "meant"),
    [
        ({"training": {"epoch": 5}}, "training.epoch", "training.epochs"),
        ({"training": {"learning_rat": 0.1}}, "training.learning_rat", "training.learning_rate"),
        ({"model": {"base_chanels": 8}}, "model.base_chanels", "model.base_channels"),
        ({"peak_detection": {"hight": 0.3}}, "peak_detection.hight", "peak_detection.height"),
        ({"training": {"scheduler": {"patiense": 3}}}, "training.scheduler.patiense", "training.scheduler.patience"),
        ({"training": {"schedular": {"patience": 3}}}, "training.schedular", "training.scheduler"),
        ({"trainning": {"epochs": 5}}, "trainning", "training"),
        ({"modle": {}}, "modle", "model"),
    ],
)
def test_a_typo_in_a_key_is_named_with_the_key_that_was_meant(values: dict[str, Any], path: str, meant: str) -> None:
    assert f"run.json: unknown setting {path}; did you mean {meant}?" == refusal(values)


def test_a_key_like_no_other_lists_those_that_exist() -> None:
    message = refusal({"xyzzy": 3})
    assert message.startswith(
        "run.json: unknown setting xyzzy; known settings are device.use_cuda, device.device_id, training.batch_size, "
    )
    assert message.endswith("augmentation.artefact, note")


@pytest.mark.parametrize(
    ("section", "key", "value", "wanted"),
    [
        ("training", "epochs", "many", "valid integer"),
        ("training", "epochs", True, "valid integer"),
        ("training", "epochs", 2.5, "valid integer"),
        ("training", "epochs", 0, "greater than or equal to 1"),
        ("training", "epochs", None, "valid integer"),
        ("training", "batch_size", 0, "greater than or equal to 1"),
        ("training", "num_workers", -1, "greater than or equal to 0"),
        ("training", "learning_rate", 0, "greater than 0"),
        ("training", "learning_rate", float("nan"), "greater than 0|finite number"),
        ("training", "learning_rate", float("inf"), "finite number"),
        ("training", "gradient_clip", float("inf"), "finite number"),
        ("training", "precision", "fp8", "'auto', '32-true' or 'bf16-mixed'"),
        ("training", "scheduler", 3, "valid dictionary"),
        ("device", "use_cuda", "perhaps", "valid boolean"),
        ("device", "device_id", -1, "greater than or equal to 0"),
        ("peak_detection", "height", 1.5, "less than or equal to 1"),
        ("peak_detection", "distance", 0, "greater than or equal to 1"),
        ("data", "name", 3, "valid string"),
        ("data", "name", "", "at least 1 character"),
        ("distillation", "temperature", 0, "greater than 0"),
        ("distillation", "temperature", float("inf"), "finite number"),
        ("distillation", "alpha", -0.1, "greater than or equal to 0"),
        ("distillation", "alpha", 1.1, "less than or equal to 1"),
        ("model", "base_channels", 0, "greater than or equal to 1"),
        ("model", "dropout", 1.0, "less than 1"),
        ("model", "dilations", "narrow", "'wide' or 'plain'"),
    ],
)
def test_a_bad_value_is_named_with_its_path_and_what_was_wanted(section: str, key: str, value: object, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        Config.parse({section: {key: value}}, "run.json")
    assert str(caught.value).startswith(f"run.json: {section}.{key} is {value!r}: ")


def test_a_section_that_is_no_section_is_named() -> None:
    assert refusal({"training": 5}).startswith("run.json: training is 5: ")


def test_every_bad_key_is_named_at_once() -> None:
    message = refusal({"training": {"epochs": 0, "batchsize": 4}, "model": {"window_len": 6000}})
    assert "training.epochs is 0: " in message
    assert "unknown setting training.batchsize; did you mean training.batch_size?" in message
    assert "model.window_len is 6000, but is fixed by design at 3001" in message


@pytest.mark.parametrize(
    ("path", "value", "fixed"),
    [
        ("model.window_len", 6000, "3001"),
        ("model.kernel_size", 7, "3"),
        ("model.encoder_levels", 4, "3"),
        ("model.decoder_levels", 2, "3"),
        ("model.in_channels", 1, "3"),
        ("model.num_phases", 2, "3"),
        ("training.scheduler.mode", "max", "'min'"),
        ("training.scheduler.factor", 0.1, "0.5"),
        ("training.scheduler.patience", 5, "3"),
        ("peak_detection.sampling_rate", 50, "100"),
    ],
)
def test_what_is_fixed_by_design_refuses_to_change(path: str, value: object, fixed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override([f"{path}={json.dumps(value)}"])
    assert f"--set: {path} is {value!r}, but is fixed by design at {fixed}" == str(caught.value)


def test_settings_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 5  # type: ignore[misc]


def test_assignments_override_single_settings() -> None:
    before = Config.parse({"training": {"batch_size": 8, "epochs": 7}})
    after = before.override(
        [
            "training.epochs=5",
            " training.learning_rate = 3e-4 ",
            "device.use_cuda=false",
            "data.name=/data/a=b+ETHZ",
            'data.incomplete_statuses=["automatic"]',
            "training.epochs=6",
        ]
    )
    assert (8, 6, 3e-4) == (after.training.batch_size, after.training.epochs, after.training.learning_rate)
    assert (False, "/data/a=b+ETHZ", ("automatic",)) == (after.device.use_cuda, after.data.name, after.data.incomplete_statuses)
    assert (7, True) == (before.training.epochs, before.device.use_cuda)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs", "--set 'training.epochs' has no '='; wanted e.g. --set training.epochs=5"),
        ("training.epochs.first=3", "--set training.epochs.first: epochs holds a value, not settings"),
        ("training.epoch=3", "--set: unknown setting training.epoch; did you mean training.epochs?"),
        ("training.epochs=few", "--set: training.epochs is 'few': Input should be a valid integer"),
    ],
)
def test_an_assignment_that_cannot_be_carried_out_is_explained(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override([assignment])
    assert str(caught.value).startswith(message)


def test_changes_are_those_from_the_defaults_or_from_another_configuration() -> None:
    config = Config().override(["training.epochs=5", "distillation.teacher=none", 'data.incomplete_statuses=["automatic"]'])
    expected = {
        "training.epochs": (50, 5),
        "data.incomplete_statuses": (["unpicked", "automatic"], ["automatic"]),
        "distillation.teacher": ("stead", "none"),
    }
    assert expected == config.changes()
    assert {"training.epochs": (5, 6)} == config.override(["training.epochs=6"]).changes(config)
    assert {} == Config().changes()


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("distillation.temperature=1.5", ["distillation.temperature is 1.5; advised is 2 to 5"]),
        ("distillation.temperature=6", ["distillation.temperature is 6.0; advised is 2 to 5"]),
        ("distillation.alpha=0.2", ["distillation.alpha is 0.2; advised is 0.3 to 0.7"]),
        ("distillation.alpha=0.8", ["distillation.alpha is 0.8; advised is 0.3 to 0.7"]),
        ("distillation.temperature=2", []),
        ("distillation.temperature=5", []),
        ("distillation.alpha=0.3", []),
        ("distillation.alpha=0.7", []),
    ],
)
def test_what_is_outside_the_advised_range_is_warned_of(assignment: str, expected: list[str]) -> None:
    assert expected == Config().override([assignment]).warnings()


def test_both_warnings_come_at_once() -> None:
    config = Config.parse({"distillation": {"temperature": 10, "alpha": 1}})
    expected = ["distillation.temperature is 10.0; advised is 2 to 5", "distillation.alpha is 1.0; advised is 0.3 to 0.7"]
    assert expected == config.warnings()


@pytest.mark.parametrize("content", [b"", b"{", b"{'training': {}}", b"\xff\xfe\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.read(path)
    assert str(caught.value).startswith(f"{path} cannot be read as JSON: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json cannot be read as JSON: .*No such file"):
        Config.read(tmp_path / "nowhere.json")


@pytest.mark.parametrize(("content", "kind"), [("[1, 2]", "list"), ('"training"', "str"), ("5", "int"), ("null", "NoneType")])
def test_a_file_that_holds_no_object_is_refused_with_an_example(tmp_path: Path, content: str, kind: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        Config.read(path)
    assert f'{path} holds a {kind}; wanted an object such as {{"training": {{"epochs": 5}}}}' == str(caught.value)


def test_a_bad_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"training": {"epoch": 5}}')
    with pytest.raises(ConfigError) as caught:
        Config.read(path)
    assert f"{path}: unknown setting training.epoch; did you mean training.epochs?" == str(caught.value)
    assert isinstance(caught.value, XiaoNetError)


def test_keys_left_out_of_a_file_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"training": {"epochs": 5}, "model": {}}')
    assert Config().override(["training.epochs=5"]) == Config.read(path)


@given(
    st.fixed_dictionaries(
        {
            "device": st.fixed_dictionaries({"use_cuda": st.booleans(), "device_id": st.integers(0, 8)}),
            "training": st.fixed_dictionaries(
                {
                    "epochs": st.integers(1, 10**6),
                    "learning_rate": st.floats(0, exclude_min=True, allow_infinity=False),
                    "precision": st.sampled_from(["auto", "32-true", "bf16-mixed"]),
                }
            ),
            "data": st.fixed_dictionaries({"name": st.text(min_size=1), "incomplete_statuses": st.lists(st.text(), max_size=3)}),
            "distillation": st.fixed_dictionaries({"alpha": st.floats(0, 1), "temperature": st.floats(0.1, 100)}),
        }
    )
)
def test_json_brings_back_any_configuration(values: dict[str, Any]) -> None:
    config = Config.parse(values)
    assert config == Config.parse(json.loads(config.to_json()))
    assert values["training"]["learning_rate"] == config.training.learning_rate


def test_settings_by_name_are_changed_one_by_one_or_as_a_whole() -> None:
    before = {"stead": -1, "original": 2, "okla": -1}
    one = Config().override(["distillation.delays.original=3", "distillation.teacher_weights.stead=1"])
    assert {
        "distillation.delays": (before, {**before, "original": 3}),
        "distillation.teacher_weights": ({}, {"stead": 1}),
    } == one.changes()
    assert {"bundled": 1} == Config().override(['distillation.delays={"bundled": 1}']).distillation.delays


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("distillation.teacher_weights.stead=0", "distillation.teacher_weights.stead is 0: Input should be greater than 0"),
        (
            "distillation.delays.stead=0.5",
            "distillation.delays.stead is 0.5: wanted whole samples below 1000: one number, or one for P and one for S",
        ),
        ("distillation.teacher_weight.stead=1", "unknown setting distillation.teacher_weight; did you mean distillation.teacher_weights?"),
        ("epochs=5", "--set: unknown setting epochs; did you mean training.epochs?"),
        ("model.epochs=5", "--set: unknown setting model.epochs; did you mean training.epochs?"),
    ],
)
def test_bad_settings_by_name(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override([assignment])
    assert message in str(caught.value)


def test_a_section_is_merged_and_a_dictionary_of_numbers_is_replaced() -> None:
    before = Config().override(["training.learning_rate=0.01", "training.seed=7"])
    after = before.override(['training={"epochs": 5, "scheduler": {"patience": 3}}', 'data={"source_weights": {"automatic": 1}}'])
    assert {
        "training.epochs": (50, 5),
        "data.source_weights": ({"manual": 1.0}, {"automatic": 1.0}),
    } == after.changes(before)


def test_a_section_after_a_value_in_its_place() -> None:
    assert 5 == Config().override(["training=3", 'training={"epochs": 5}']).training.epochs


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epochs=" + "9" * 5000, "--set training.epochs: the value has 5000 characters, which are too many digits for a number"),
        ("training.epochs=" + "9" * 4000, "training.epochs is 99999"),
        ("training.learning_rate=" + "9" * 4000, "training.learning_rate is 99999"),
        ("training.epochs=" + "[" * 100_000, "the value is nested too deeply"),
        ("data.continuous=" + "[" * 900 + "]" * 900, "data.continuous"),
        ("training=" + '{"a":' * 900 + "1" + "}" * 900, "training.a"),
        ("a." * 5000 + "b=1", "--set"),
    ],
    ids=["5000 digits", "4000 digits", "4000 digits of a float", "open brackets", "nested list", "nested object", "long name"],
)
def test_values_that_are_too_much_are_refused_in_short(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config().override([assignment])
    assert message in str(caught.value)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    "text",
    ['{"training": {"epochs": ' + "9" * 5000 + "}}", "[" * 100_000, '{"training": ' * 50_000, '{"data": ' + "[" * 950 + "]" * 950 + "}"],
    ids=["5000 digits", "open brackets", "open objects", "nested list"],
)
def test_files_that_are_too_much_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config.read(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "assignment",
    [
        "objective.steps=5",
        "objective.minutes=1",
        "data.unlabelled=records",
        'data.continuous=["sds"]',
        "distillation.online_weight=0.5",
        "training.compile=true",
        "model.network=phasenet",
    ],
)
def test_settings_of_drawn_windows_are_refused_for_epochs(assignment: str) -> None:
    with pytest.raises(ConfigError, match=f"{assignment.partition('=')[0]} is .*, which needs objective.kind drawn_windows, but that is"):
        Config().override([assignment])
    drawn = ["objective.kind=drawn_windows", *(["objective.steps=5"] if "objective" not in assignment else [])]
    Config().override([*drawn, assignment])


def test_every_setting_has_a_description() -> None:
    def names(model: type[BaseModel]) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found += [f"{name}.{inner}" for inner in names(field.annotation)]
            elif not field.description:
                found.append(name)
        return found

    assert [] == names(Config)
