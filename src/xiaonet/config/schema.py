"""Typed settings, read from and written to JSON, with the path of a bad key in the error."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from xiaonet import constants
from xiaonet.errors import ConfigError

ADVISED = {"distillation.temperature": (2.0, 5.0), "distillation.alpha": (0.3, 0.7)}
FIXED = "is fixed by design"
LATE = {"stead": -1, "original": 2, "okla": -1}  # samples, medians against analysts' picks: docs/decisions/recipe.md
REDUCTION = 0.5  # of the learning rate, when the dev loss stands still


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class SettingsFile(_Settings):
    """Settings that a JSON file holds; keys that it leaves out keep their defaults."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "settings") -> Self:
        """Check plain values.

        Raises:
            ConfigError: names the source, the path of each bad key, the value seen and the one wanted.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: " + "; ".join(_explain(cls, dict(item)) for item in error.errors())) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a JSON file; keys that it leaves out keep their defaults.

        Raises:
            ConfigError: it cannot be read, is no JSON object, or holds a bad key.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f'{path} holds a {type(values).__name__}; wanted an object such as {{"training": {{"epochs": 5}}}}')
        return cls.parse(values, str(path))


class DeviceSettings(_Settings):
    """Where to compute. Without a CUDA device the CPU is used, and the console says so."""

    use_cuda: bool = True
    device_id: StrictInt = Field(0, ge=0)


class SchedulerSettings(_Settings):
    """`ReduceLROnPlateau`, fixed by design."""

    mode: Literal["min"] = "min"
    factor: float = REDUCTION
    patience: Literal[3] = 3

    @field_validator("factor")
    @classmethod
    def _fixed_factor(cls, value: float) -> float:
        if value != REDUCTION:
            raise ValueError(f"{FIXED} at {REDUCTION}")
        return value


class TrainingSettings(_Settings):
    """How to train."""

    batch_size: StrictInt = Field(64, ge=1, description="windows in a step, over all processes")
    num_workers: StrictInt = Field(2, ge=0, description="loader processes for each training process; 0 loads in place")
    learning_rate: float = Field(1e-3, gt=0)
    epochs: StrictInt = Field(50, ge=1)
    patience: StrictInt = Field(10, ge=1, description="epochs without a better dev loss before stopping")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field("auto", description="auto: bf16 where the hardware has it")
    seed: StrictInt = Field(0, ge=0, lt=2**32)
    start: str = Field("none", min_length=1, description="a model of ours, by name or file, that the student starts from, or none")
    checkpoint_minutes: float = Field(5.0, gt=0, description="between saves within an epoch")
    scheduler: SchedulerSettings = SchedulerSettings()


class PeakSettings(_Settings):
    """How picks are read from probability curves, by `scipy.signal.find_peaks`."""

    sampling_rate: Literal[100] = 100
    height: float = Field(constants.DEFAULT_THRESHOLD, ge=0, le=1, description="least probability of a pick")
    distance: StrictInt = Field(constants.DISTANCE, ge=1, description="samples between two picks of one phase")


class DataSettings(_Settings):
    """What to learn from."""

    name: str = Field("synthetic", min_length=1, description="class, path or name of a SeisBench data set; several joined by +")
    synthetic_records: StrictInt = Field(400, ge=10)
    windows_per_record: StrictInt = Field(1, ge=1, description="in an epoch; more than 1 for small data sets")
    incomplete_statuses: tuple[str, ...] = Field(
        ("unpicked", "automatic"), description="pick statuses that say: more of this phase may be there than was picked"
    )


class DistillationSettings(_Settings):
    """What to learn from the teacher."""

    teacher: str = Field(
        "stead", min_length=1, description="PhaseNet weights of SeisBench, bundled, a local file, or start; several joined by +; or none"
    )
    shares: dict[str, Annotated[float, Field(gt=0)]] = Field({}, description="weight of each of several teachers; equal if empty")
    late: dict[str, StrictInt] = Field(LATE, description="samples by which a teacher reads late; several are shifted early by them")
    temperature: float = Field(3.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the teacher against the labels")


class ModelSettings(_Settings):
    """The student. What has one value only is fixed by design."""

    window_len: Literal[3001] = 3001
    kernel_size: Literal[3] = 3
    encoder_levels: Literal[3] = 3
    decoder_levels: Literal[3] = 3
    in_channels: Literal[3] = 3
    num_phases: Literal[3] = 3
    base_channels: StrictInt = Field(constants.BASE_CHANNELS, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    dilations: Literal["wide", "plain"] = "wide"


class Config(SettingsFile):
    """All settings of a run; `Config()` equals the `config.json` at the root of the repository.

    Example:
        >>> Config().override(["training.epochs=5"]).training.epochs
        5
    """

    device: DeviceSettings = DeviceSettings()
    training: TrainingSettings = TrainingSettings()
    peak_detection: PeakSettings = PeakSettings()
    data: DataSettings = DataSettings()
    distillation: DistillationSettings = DistillationSettings()
    model: ModelSettings = ModelSettings()

    def override(self, assignments: Iterable[str]) -> Self:
        """A copy with `training.epochs=5`-like assignments carried out.

        Raises:
            ConfigError: an assignment has no `=`, or names a bad key or value.
        """
        values = self.model_dump(mode="json")
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals:
                raise ConfigError(f"--set {assignment!r} has no '='; wanted e.g. --set training.epochs=5")
            *sections, last = key.strip().split(".")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"--set {key}: {section} holds a value, not settings")
            place[last] = _value(text.strip())
        return self.parse(values, "--set")

    def to_json(self) -> str:
        """JSON with every key, as in `config.json`."""
        return self.model_dump_json(indent=2) + "\n"

    def changes(self, other: "Config | None" = None) -> dict[str, tuple[Any, Any]]:
        """Settings that differ from another configuration, the default one if none: `{"training.epochs": (50, 5)}`."""
        before, values = dict(_flat(other or Config())), dict(_flat(self))
        return {key: (before[key], value) for key, value in values.items() if value != before[key]}

    def warnings(self) -> list[str]:
        """What is allowed and yet outside the advised range."""
        values = dict(_flat(self))
        return [
            f"{key} is {values[key]}; advised is {low:g} to {high:g}"
            for key, (low, high) in ADVISED.items()
            if not low <= values[key] <= high
        ]


def _flat(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings:
        if isinstance(value, BaseModel):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _explain(config: type[BaseModel], error: dict[str, Any]) -> str:
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        known = [key for key, _ in _flat(config())]
        sections = {key.rpartition(".")[0] for key in known} - {""}
        near = difflib.get_close_matches(path, [*known, *sorted(sections)], n=1)
        return f"{path} is no setting" + (f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}")
    if error["type"] == "literal_error" and " or " not in error["ctx"]["expected"]:
        return f"{path} is {error['input']!r}, but {FIXED} at {error['ctx']['expected']}"
    reason = error["msg"].removeprefix("Value error, ")
    return f"{path} is {error['input']!r}" + (f", but {reason}" if reason.startswith(FIXED) else f": {reason}")
