"""All settings of a run, typed and described.

A settings file, such as `config.json` or a recipe, holds those that differ from the defaults.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from xiaonet import constants
from xiaonet.config import migration, parsing
from xiaonet.errors import ConfigError

ADVISED = {"distillation.temperature": (2.0, 5.0), "distillation.alpha": (0.3, 0.7)}
LEARNING_RATE_FACTOR = 0.5  # applied when the dev loss stagnates
DELAYS: dict[str, int | tuple[int, int]] = {"stead": -1, "original": 2, "okla": -1}  # samples; medians against analysts' picks

Count = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Weight = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Delay = Annotated[int | tuple[int, int], BeforeValidator(parsing.delay)]
OnlineWeight = Annotated[float | tuple[float, float], BeforeValidator(parsing.online_weight)]


class Settings(BaseModel):
    """A part of the settings: frozen, and strict about unknown names."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class DeviceSettings(Settings):
    """Where to compute. Without a CUDA device the CPU is used, and the console says so."""

    use_cuda: bool = Field(True, description="compute on a GPU if there is one")
    device_id: CountOrZero = Field(0, description="number of the GPU")


class SchedulerSettings(Settings):
    """`ReduceLROnPlateau` of the objective `epochs`, fixed by design."""

    mode: Literal["min"] = Field("min", description="a lower dev loss is better")
    factor: float = Field(LEARNING_RATE_FACTOR, description="applied to the learning rate when the dev loss stagnates")
    patience: Literal[3] = Field(3, description="epochs without a better dev loss before the learning rate falls")

    @field_validator("factor")
    @classmethod
    def _fixed_factor(cls, value: float) -> float:
        if value != LEARNING_RATE_FACTOR:
            raise ValueError(f"{parsing.FIXED} at {LEARNING_RATE_FACTOR}")
        return value


class TrainingSettings(Settings):
    """Optimization, and how the run is carried out."""

    batch_size: Count = Field(64, description="windows in a step, over all processes")
    num_workers: CountOrZero = Field(2, description="loader processes for each training process; 0 loads in the training process")
    learning_rate: float = Field(1e-3, gt=0, description="highest learning rate")
    epochs: Count = Field(50, description="passes over the data set, for the objective epochs")
    patience: Count = Field(10, description="epochs without a better dev loss before training stops")
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    precision: Literal["auto", "32-true", "bf16-mixed"] = Field("auto", description="auto: bf16 where the hardware has it, else float32")
    compile: bool = Field(False, description="compile the network with torch, which needs a C++ compiler; for drawn windows")
    seed: int = Field(0, strict=True, ge=0, lt=2**32, description="of all random numbers")
    initial_model: str = Field("none", min_length=1, description="shipped model or model file to start from, or none")
    checkpoint_minutes: float = Field(5.0, gt=0, description="between saves of the state")
    scheduler: SchedulerSettings = SchedulerSettings()


class PeakSettings(Settings):
    """How picks are read from probabilities, by `scipy.signal.find_peaks`."""

    sampling_rate: Literal[100] = Field(100, description="Hz")
    height: float = Field(constants.DEFAULT_THRESHOLD, ge=0, le=1, description="lowest probability of a pick")
    distance: Count = Field(constants.DISTANCE, description="samples between two picks of one phase")


class DataSettings(Settings):
    """What to learn from."""

    name: str = Field("synthetic", min_length=1, description="class, path or name of a SeisBench data set with picks; join several with +")
    unlabelled: str = Field("", description="SeisBench data set without picks, for drawn windows; join several with +")
    continuous: tuple[str, ...] = Field((), description="miniSEED files, folders and globs, for drawn windows")
    root: str = Field("", description="folder in which the three above are looked up first")
    source_weights: dict[str, Weight] = Field(
        {"manual": 1.0},
        min_length=1,
        description="how often windows are drawn from each source: manual, automatic, unlabelled and continuous",
    )
    synthetic_records: int = Field(400, strict=True, ge=10, lt=2**31, description="number of records of the data set synthetic")
    windows_per_record: Count = Field(1, description="windows of each record in an epoch; more than 1 for small data sets")
    incomplete_statuses: tuple[str, ...] = Field(
        ("unpicked", "automatic"), description="pick statuses of records that may hold more arrivals of that phase than were picked"
    )


class DistillationSettings(Settings):
    """What to learn from the teachers."""

    teacher: str = Field(
        "stead",
        min_length=1,
        description="PhaseNet weights of SeisBench, bundled, a local file, or initial; for drawn windows also MODEL/WEIGHTS of any picker, "
        "and WEIGHTS@RATE for records given to it at another rate; join several with +; or none",
    )
    teacher_weights: dict[str, Weight] = Field({}, description="weight of each of several teachers; empty: all equal")
    delays: dict[str, Delay] = Field(
        DELAYS,
        description="samples by which a teacher's picks are late, or one number for P and one for S; removed from several teachers, "
        "and always for drawn windows",
    )
    temperature: float = Field(3.0, gt=0, description="softens the probabilities of teacher and student before they are compared")
    alpha: Probability = Field(0.5, description="weight of the distillation loss; the task loss has the rest; for the objective epochs")
    online_weight: OnlineWeight = Field(
        0.0,
        description="for drawn windows: weight of the teachers' predictions of the disturbed window against those of the whole record, or "
        "one weight for P and one for S",
    )
    online_teachers: dict[str, Weight] = Field(
        {}, description="which teachers predict disturbed windows, each with its share of them; empty: those of teacher, with their weights"
    )


class ModelSettings(Settings):
    """The network to train. Settings with a single value are fixed by design."""

    network: Literal["xiaonet", "phasenet"] = Field("xiaonet", description="xiaonet, or phasenet for a new teacher from drawn windows")
    window_len: Literal[3001] = Field(3001, description="samples")
    kernel_size: Literal[3] = Field(3, description="samples")
    encoder_levels: Literal[3] = Field(3, description="number of poolings")
    decoder_levels: Literal[3] = Field(3, description="number of upsamplings")
    in_channels: Literal[3] = Field(3, description="components E, N, Z")
    num_phases: Literal[3] = Field(3, description="P, S and noise")
    base_channels: Count = Field(constants.BASE_CHANNELS, description="channels of the first level")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of channels dropped in training")
    dilations: Literal["wide", "plain"] = Field("wide", description="wide has the larger receptive field")


class ObjectiveSettings(Settings):
    """What a run works towards: prescribed epochs over a data set, or steps or minutes over randomly drawn windows."""

    kind: Literal["epochs", "drawn_windows"] = Field("epochs", description="epochs as prescribed, or drawn_windows as in the recipes")
    steps: CountOrZero = Field(0, description="batches of drawn windows; gives the same model every time")
    minutes: float = Field(0.0, ge=0, description="training time on drawn windows, instead of steps")
    averaging_decay: float = Field(0.998, ge=0, lt=1, description="decay of the averaged weights, which are the ones that are kept")
    initial_share: float = Field(0.0, ge=0, lt=1, description="share of the initial model in the weights that are kept")


class LabelSettings(Settings):
    """How picks enter the target of a drawn window."""

    weight: Probability = Field(0.5, description="weight of a pick against the teachers")
    manual_sigma: tuple[Weight, Weight] = Field((10.0, 20.0), description="samples, for an analyst's P and S; S is less certain")
    automatic_sigma: Weight = Field(20.0, description="samples, for an automatic pick")


class AugmentationSettings(Settings):
    """Probability of each augmentation of a drawn window, and how far time is stretched."""

    onset_centred: Probability = Field(0.75, description="placed around an onset, which falls anywhere in it, edges included")
    noise_only: Probability = Field(0.12, description="replaced by a stretch of noise")
    beyond_ends: Probability = Field(0.12, description="may reach beyond the ends of the record")
    time_stretched: Probability = Field(0.3, description="stretched or compressed in time")
    largest_stretch: float = Field(1.1, ge=1, le=4, description="by which time is stretched or compressed at most")
    simulated: Probability = Field(0.0, description="replaced by a simulated earthquake on real noise, where the pool has noise")
    superposed: Probability = Field(0.12, description="a second window added, 0.3 to 3 times as high")
    real_noise: Probability = Field(0.35, description="real noise added, 0.01 to 0.4 of the peak")
    filtered: Probability = Field(0.4, description="by a causal filter, as if from another instrument or in another unit")
    synthetic_noise: Probability = Field(0.25, description="white to red noise added, 0.003 to 0.3 of each component's peak")
    vertical_only: Probability = Field(0.22, description="both horizontals missing")
    missing_horizontal: Probability = Field(0.08, description="one horizontal missing")
    rotated: Probability = Field(0.4, description="horizontals rotated by any angle")
    swapped: Probability = Field(0.2, description="horizontals exchanged")
    polarity_reversed: Probability = Field(0.5, description="of each component")
    gap: Probability = Field(0.05, description="0.03 to 10 s of zeros")
    artefact: Probability = Field(0.04, description="a spike or a step")


class Config(Settings):
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
    objective: ObjectiveSettings = ObjectiveSettings()
    labels: LabelSettings = LabelSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    note: str = Field("", description="what the model is, in one line; kept in the model file and shown by SeisBench")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.model.network == "phasenet" and self.training.initial_model != "none":
            raise ValueError(
                f"training.initial_model is {self.training.initial_model!r}, but a phasenet starts from fresh weights; wanted 'none'"
            )
        if self.objective.kind == "epochs":
            self._refuse_settings_of_drawn_windows()
            return self
        share = self.objective.initial_share
        if share and self.training.initial_model == "none":
            raise ValueError(f"objective.initial_share is {share:g}, but training.initial_model is 'none'; name a model")
        steps, minutes = self.objective.steps, self.objective.minutes
        if bool(steps) == bool(minutes):
            raise ValueError(f"objective.steps is {steps} and objective.minutes is {minutes:g}; wanted one of them above 0")
        if self.distillation.teacher.lower() == "none":
            raise ValueError("distillation.teacher is 'none', but drawn windows need a teacher, such as 'bundled'")
        return self

    def _refuse_settings_of_drawn_windows(self) -> None:
        keys = ("training.compile", "data.unlabelled", "data.continuous", "distillation.online_weight", "distillation.online_teachers")
        changed = dict(parsing.flat(self))
        for key in (*keys, "objective.steps", "objective.minutes", "objective.initial_share"):
            if changed[key]:
                raise ValueError(f"{key} is {changed[key]!r}, which needs objective.kind drawn_windows, but that is epochs")
        if self.model.network != "xiaonet":
            raise ValueError("model.network is 'phasenet', which needs objective.kind drawn_windows, but that is epochs")

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "settings") -> Self:
        """Check plain values; spellings of the previous release are accepted with a warning.

        Raises:
            ConfigError: names the source, the path of each bad setting, the value seen and the one wanted.
        """
        try:
            return cls.model_validate(migration.current(values, source))
        except ValidationError as error:
            known = [key for key, _ in parsing.flat(cls())]
            raise ConfigError(f"{source}: " + "; ".join(parsing.explain(dict(item), known) for item in error.errors())) from error
        except RecursionError as error:
            raise ConfigError(f"{source}: values are nested too deeply; wanted a section, a setting and its value") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a settings file in JSON. Settings that it leaves out keep their defaults.

        Raises:
            ConfigError: the file cannot be read, holds no JSON object, or holds a bad setting.
        """
        return cls.parse(parsing.read_object(path), str(path))

    def override(self, assignments: Iterable[str]) -> Self:
        """Return a copy with assignments such as `training.epochs=5` carried out.

        A section can be given as a JSON object; settings that it leaves out stay as they are.

        Raises:
            ConfigError: an assignment has no `=`, or a bad name or value.
        """
        values = self.model_dump(mode="json")
        renamed: dict[str, str] = {}
        for assignment in assignments:
            try:
                parsing.assign(self, values, assignment, renamed)
            except RecursionError as error:
                raise ConfigError(f"--set {parsing.shown(assignment)}: the value is nested too deeply") from error
        migration.warn(renamed, "--set")
        return self.parse(values, "--set")

    def to_json(self) -> str:
        """Return JSON with every setting, as in `config.json`."""
        return self.model_dump_json(indent=2) + "\n"

    def changes(self, other: "Config | None" = None) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ from another configuration, by default `Config()`: `{"training.epochs": (50, 5)}`."""
        before, values = dict(parsing.flat(other or Config())), dict(parsing.flat(self))
        return {key: (before[key], value) for key, value in values.items() if value != before[key]}

    def warnings(self) -> list[str]:
        """Return a line for each setting outside the range that is advised for the objective `epochs`."""
        values = dict(parsing.flat(self))
        return [
            f"{key} is {values[key]}; advised is {low:g} to {high:g}"
            for key, (low, high) in ADVISED.items()
            if self.objective.kind == "epochs" and not low <= values[key] <= high
        ]
