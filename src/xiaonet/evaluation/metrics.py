"""What `metrics.json` holds. `docs/metrics.schema.json` is made from this; what cannot be told is null."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Value(_Part):
    """A figure with its 95 % interval from a bootstrap over events; no interval for fewer than five of them."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Bin(_Part):
    """A class of a reliability diagram."""

    probability: float
    """Mean height of its peaks."""
    right: float
    """Share of them that have a label within 0.5 s."""
    picks: int


class CurvePoint(_Part):
    """A point of a precision-recall curve, within 0.5 s."""

    threshold: float
    precision: float
    recall: float


class PhaseMetrics(_Part):
    """How a model picks one phase on one subset. Keys `0.1` and `0.5` are tolerances in s."""

    threshold: float
    """Least probability of a pick."""
    labels: int
    """Picks that were to be found, once for each window that holds them."""
    picks: int
    precision: dict[str, Value]
    recall: dict[str, Value]
    f1: dict[str, Value]
    prescribed_f1: Value
    """Within 0.5 s at the prescribed height of 0.3."""
    average_precision: float | None
    """Within 0.5 s over all thresholds from 0.01 on."""
    mean_s: Value
    """Pick less label, of the pick nearest to each label, outliers left out; positive is late."""
    std_s: Value
    mae_s: Value
    outliers: Value
    """Share of these that are off by more than 1 s."""
    calibration_error: float | None
    """Expected calibration error over all peaks from 0.01 on."""
    reliability: list[Bin]
    within_one_sigma: float | None
    """Share of right picks within their told uncertainty of the label; 0.683 if that is a standard deviation."""
    within_two_sigma: float | None
    """Within twice that; 0.954."""
    curve: list[CurvePoint]
    residual_counts: list[int]
    """Labels by residual, from -1 to 1 s in steps of 0.02 s."""


class Stability(_Part):
    """Picks seen again in another window of the same record."""

    picks: int
    changed: float | None
    """Share with none of their phase within 0.1 s there."""
    jitter_s: float | None
    """Root mean square of the distance of those that stay."""


class FalsePicks(_Part):
    """Picks where there should be none."""

    hours: float
    per_hour: dict[str, float | None]
    """By phase, for each hour of one station."""


class Detection(_Part):
    """A task of two answers: F1 and Matthews' coefficient need a threshold from dev."""

    targets: int
    area_under_curve: float | None
    threshold: float | None
    f1: float | None
    matthews: float | None


class Onset(_Part):
    """Task 3 for one phase, in s."""

    targets: int
    mean_s: float | None
    rms_s: float | None
    mae_s: float | None


class Tasks(_Part):
    """The pick benchmark's three tasks (Münchmeyer et al. 2022)."""

    detection: Detection
    """Task 1: is there an earthquake in 30 s?"""
    identification: Detection
    """Task 2: is the phase in these 10 s P (against S)?"""
    onset: dict[str, Onset]
    """Task 3: when in these 10 s does it begin?"""


class Losses(_Part):
    """As prescribed, over one prescribed window of each record."""

    task: float
    distillation: float | None
    """KL of the softened distributions times T²; null without a teacher."""
    combined: float | None


class Class(_Part):
    """A class of a breakdown."""

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
    """SHA-256 of what decides its curves."""
    threshold_from: Literal["model", "given", "tuned"]
    thresholds: dict[str, float]
    subsets: dict[str, dict[str, PhaseMetrics]]
    """By subset (`all`, and each source with three components and with the vertical alone) and phase."""
    breakdown: dict[str, list[Class]]
    """By phase."""
    noise: FalsePicks
    """Windows before the first pick, and records without any."""
    continuous: FalsePicks | None
    """The archive given as noise, picked as a user would."""
    stability: Stability
    tasks: Tasks
    losses: Losses | None
    seconds: float | None
    """Spent on curves and peaks of all windows; null where they were kept from before."""


class Difference(_Part):
    """One model's figures less another's, on the same events. Keys are such as `f1 0.5`, `recall 0.1`, `mae`."""

    model: str
    less: str
    subset: str
    phase: str
    values: dict[str, Value]


class Metrics(_Part):
    """An evaluation."""

    format: Literal["xiaonet-metrics-1"] = "xiaonet-metrics-1"
    xiaonet: str
    created: str
    data: str
    fingerprint: str
    """Of records, picks, statuses and splits."""
    split: Literal["train", "dev", "test"]
    tuned: bool
    """Whether thresholds were chosen on these very windows."""
    seed: int
    windows: int
    records: int
    events: int
    not_judged: dict[str, int]
    """By phase, windows in which it may be there unpicked."""
    models: list[ModelMetrics]
    differences: list[Difference] = Field(default_factory=list)
