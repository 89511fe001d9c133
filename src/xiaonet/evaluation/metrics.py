"""The content of `metrics.json`. A figure that is unknown is null. `docs/metrics.schema.json` is made from these classes."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ThresholdSource = Literal["model", "given", "tuned"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Value(_Part):
    """A figure with its 95 % interval from a bootstrap over events; no interval for fewer than five events."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Bin(_Part):
    """One class of a reliability diagram."""

    probability: float
    """Mean height of the peaks in it."""
    right: float
    """Share of these peaks that have a label within 0.5 s."""
    picks: int


class CurvePoint(_Part):
    """One point of a precision-recall curve, within 0.5 s."""

    threshold: float
    precision: float
    recall: float


class PhaseMetrics(_Part):
    """How a model picks one phase on one subset. Keys `0.1` and `0.5` are tolerances in s."""

    threshold: float
    """Lowest probability of a pick."""
    labels: int
    """Labels that should be found. A label counts once for each window that holds it."""
    picks: int
    precision: dict[str, Value]
    recall: dict[str, Value]
    f1: dict[str, Value]
    prescribed_f1: Value
    """F1 within 0.5 s at the prescribed threshold of 0.3."""
    average_precision: float | None
    """Within 0.5 s, over all thresholds from 0.01 up."""
    mean_s: Value
    """Mean of pick minus label, for the pick nearest to each label, without outliers. Positive means a late pick."""
    std_s: Value
    mae_s: Value
    outliers: Value
    """Share of nearest picks that are more than 1 s from the label."""
    calibration_error: float | None
    """Expected calibration error over all peaks from 0.01 up."""
    reliability: list[Bin]
    within_one_sigma: float | None
    """Share of right picks whose label is within one uncertainty of the pick; 0.683 if the uncertainty is a standard deviation."""
    within_two_sigma: float | None
    """The same for two uncertainties; 0.954."""
    curve: list[CurvePoint]
    residual_counts: list[int]
    """Histogram of residuals from -1 to 1 s in steps of 0.02 s."""


class Stability(_Part):
    """Picks compared with those of another window of the same record."""

    picks: int
    changed: float | None
    """Share of picks without a pick of the same phase within 0.1 s in the other window."""
    jitter_s: float | None
    """Root mean square of the shift of the other picks."""


class FalsePicks(_Part):
    """Picks where there is no earthquake."""

    hours: float
    per_hour: dict[str, float | None]
    """By phase, per hour of one station."""


class Detection(_Part):
    """A task with two possible answers. F1 and Matthews' correlation coefficient need a threshold tuned on dev."""

    targets: int
    area_under_curve: float | None
    threshold: float | None
    f1: float | None
    matthews: float | None


class Onset(_Part):
    """Task 3 for one phase: onset minus label, in s."""

    targets: int
    mean_s: float | None
    rms_s: float | None
    mae_s: float | None


class Tasks(_Part):
    """The three tasks of the pick benchmark (Münchmeyer et al. 2022)."""

    detection: Detection
    """Task 1: is there an earthquake in these 30 s?"""
    identification: Detection
    """Task 2: is the phase in these 10 s P or S? P is the positive answer."""
    onset: dict[str, Onset]
    """Task 3: when does the phase in these 10 s begin?"""


class Losses(_Part):
    """The prescribed losses, over one prescribed window of each record."""

    task: float
    distillation: float | None
    """KL divergence of the softened probabilities, times T²; null without a teacher."""
    combined: float | None


class Class(_Part):
    """Records of one class of a trait, such as those of magnitude 1 to 2."""

    trait: str
    name: str
    labels: int
    f1: float
    """Within 0.5 s."""


class ModelMetrics(_Part):
    """One model."""

    name: str
    description: str
    digest: str
    """SHA-256 of everything that decides its probabilities."""
    threshold_from: ThresholdSource
    """Source of the thresholds: `tuned` if any was tuned on these windows, else `given` if any was given, else `model`."""
    threshold_sources: dict[str, ThresholdSource] = Field(default_factory=dict)
    """By phase. A phase without labels cannot be tuned. Empty in files of older versions."""
    thresholds: dict[str, float]
    subsets: dict[str, dict[str, PhaseMetrics]]
    """By subset and phase. Subsets are `all` windows and those of each source by components."""
    breakdown: dict[str, list[Class]]
    """By phase."""
    noise: FalsePicks
    """In windows before the first pick, and in records without picks."""
    continuous: FalsePicks | None
    """In continuous records without earthquakes, picked as a user would."""
    stability: Stability
    tasks: Tasks
    losses: Losses | None
    seconds: float | None
    """Time for probabilities and peaks of all windows; null if they were kept from an earlier evaluation."""


class Difference(_Part):
    """Figures of one model minus those of another (`less`), on the same events. Keys are `f1 0.5`, `recall 0.1`, `mae` and so on."""

    model: str
    less: str
    subset: str
    phase: str
    values: dict[str, Value]


class Metrics(_Part):
    """One evaluation."""

    format: Literal["xiaonet-metrics-1"] = "xiaonet-metrics-1"
    xiaonet: str
    created: str
    data: str
    fingerprint: str
    """Digest of records, picks, statuses and splits."""
    split: Literal["train", "dev", "test"]
    tuned: bool
    """Whether thresholds were tuned on these windows."""
    seed: int
    windows: int
    records: int
    events: int
    not_judged: dict[str, int]
    """By phase, number of windows where the phase may be present without a pick."""
    models: list[ModelMetrics]
    differences: list[Difference] = Field(default_factory=list)
