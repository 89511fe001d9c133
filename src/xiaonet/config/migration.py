"""Spellings of the previous release. They are accepted for one release, with a warning that names the new ones."""

from collections.abc import Mapping
from typing import Any

from xiaonet import console
from xiaonet.errors import ConfigError

RENAMED = {
    "training.start": "training.initial_model",
    "distillation.shares": "distillation.teacher_weights",
    "distillation.late": "distillation.delays",
}
# A recipe was a flat file with names and defaults of its own.
RECIPE = {
    "note": "note",
    "labels": "labels",
    "labelled": "data.name",
    "unlabelled": "data.unlabelled",
    "continuous": "data.continuous",
    "shares": "data.source_weights",
    "teachers": "distillation.teacher_weights",
    "late": "distillation.delays",
    "temperature": "distillation.temperature",
    "anew": "distillation.online_weight",
    "chances": "augmentation",
    "network": "model.network",
    "base_channels": "model.base_channels",
    "start": "training.initial_model",
    "batch_size": "training.batch_size",
    "learning_rate": "training.learning_rate",
    "precision": "training.precision",
    "compile": "training.compile",
    "seed": "training.seed",
    "steps": "objective.steps",
    "minutes": "objective.minutes",
    "average": "objective.averaging_decay",
}
RECIPE_DEFAULTS = {
    "objective.kind": "drawn_windows",
    "data.name": "labelled",
    "distillation.delays": {},
    "distillation.temperature": 1.0,
    "training.batch_size": 32,
    "training.learning_rate": 3e-3,
    "training.precision": "32-true",
}
RECIPE_ONLY = RECIPE.keys() - {"note", "labels"}
SECTIONS = {key.partition(".")[0] for key in RECIPE.values()} - {"note", "labels"} | {"device", "peak_detection"}
AUGMENTATIONS = {
    "aimed": "onset_centred",
    "silent": "noise_only",
    "padded": "beyond_ends",
    "stretched": "time_stretched",
    "doubled": "superposed",
    "noisy": "real_noise",
    "coloured": "synthetic_noise",
    "vertical": "vertical_only",
    "one_horizontal": "missing_horizontal",
    "flipped": "polarity_reversed",
}


def current(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return settings in the spelling of this release.

    Args:
        values: plain values, also those of an old recipe.
        source: names them in the warning.

    Raises:
        ConfigError: an old and a new spelling of one setting are both given, or the weights of an old recipe's teachers do not sum to 1.
    """
    renamed: dict[str, str] = {}
    is_recipe = set(values) & RECIPE_ONLY and not set(values) & SECTIONS
    found = _from_recipe(values, renamed) if is_recipe else with_new_names(values, renamed)
    warn(renamed, source)
    return found


def warn(renamed: Mapping[str, str], source: str) -> None:
    """Print one warning that names the new spellings of old ones, if there are any."""
    if renamed:
        names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
        console.warn("Settings", "old spelling", f"{source}: {names}; the next release will not accept the old ones")


def new_name(key: str) -> str:
    """Return the new spelling of a full name such as `distillation.late.stead`."""
    section, _, rest = key.partition(".")
    name, dot, item = rest.partition(".")
    return RENAMED.get(f"{section}.{name}", f"{section}.{name}") + dot + item if rest else key


def with_new_names(values: Mapping[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    """Return settings under their new names; the old ones that were found are added to `renamed`."""
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for old, new in RENAMED.items():
        section, name = old.split(".")
        if isinstance(found.get(section), dict) and name in found[section]:
            last = new.partition(".")[2]
            if last in found[section]:
                raise ConfigError(f"{old} and {new} are both given, but they are one setting; wanted {new} alone")
            found[section] = {last if key == name else key: value for key, value in found[section].items()}
            renamed[old] = new
    distillation = found.get("distillation")
    if isinstance(distillation, dict) and isinstance(distillation.get("teacher"), str):
        names = [name.strip() for name in distillation["teacher"].split("+")]
        if "start" in names:
            distillation["teacher"] = "+".join("initial" if name == "start" else name for name in names)
            renamed["the teacher start"] = "the teacher initial"
    return found


def _from_recipe(values: Mapping[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    flat = RECIPE_DEFAULTS | {RECIPE.get(key, key): value for key, value in values.items()}
    renamed.update({key: RECIPE[key] for key in values if key in RECIPE_ONLY})
    if isinstance(teachers := flat.get("distillation.teacher_weights"), Mapping):
        weights = [weight for weight in teachers.values() if isinstance(weight, int | float)]
        if len(weights) == len(teachers) and abs(sum(weights) - 1) > 1e-6:
            raise ConfigError(f"the weights of the teachers {dict(teachers)} do not sum to 1, as they must in an old recipe")
        flat["distillation.teacher"] = "+".join(teachers)
        renamed["teachers"] = "distillation.teacher and distillation.teacher_weights"
        if len(teachers) == 1:
            del flat["distillation.teacher_weights"]
    if flat.get("training.initial_model") == "":
        flat["training.initial_model"] = "none"
    if isinstance(chances := flat.get("augmentation"), Mapping):
        flat["augmentation"] = {AUGMENTATIONS.get(name, name): value for name, value in chances.items()}
    found: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.partition(".")
        if name:
            found.setdefault(section, {})[name] = value
        else:
            found[section] = value
    return found
