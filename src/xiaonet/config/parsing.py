"""Reading settings from JSON and from `name=value`, and saying what is wrong with them."""

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from xiaonet.config import migration
from xiaonet.errors import ConfigError

FIXED = "is fixed by design"
SHOWN_CHARACTERS = 200  # of a value in an error message


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises ConfigError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise ConfigError(f"{path} cannot be read as JSON: its values are nested too deeply") from error
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no JSON, or an integer of more than 4,300 digits
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f'{path} holds a {type(values).__name__}; wanted an object such as {{"training": {{"epochs": 5}}}}')
    return values


def assign(settings: BaseModel, values: dict[str, Any], assignment: str, renamed: dict[str, str]) -> None:
    """Carry out `name=value` on plain values.

    Args:
        settings: says which names are sections.
        values: plain values of the settings; changed in place.
        assignment: such as `training.epochs=5` or `training={"epochs": 5}`.
        renamed: old spellings that were used are added to it, with the new ones.

    Raises:
        ConfigError: there is no `=`, the name has parts below a value, or the value cannot be read.
    """
    key, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(f"--set {shown(assignment)} has no '='; wanted e.g. --set training.epochs=5")
    key = key.strip()
    value: Any = _value(key, text.strip())
    for name in reversed(key.split(".")):
        value = {name: value}
    value = migration.with_new_names(value, renamed)
    place = values
    *sections, last = migration.new_name(key).split(".")
    for section in sections:
        value = value[section]
        place = place.setdefault(section, {})
        settings = getattr(settings, section, None)  # type: ignore[assignment]
        if not isinstance(place, dict):
            raise ConfigError(f"--set {key}: {section} holds a value, not settings")
    _merge(settings, place, {last: value[last]})


def _merge(settings: Any, values: dict[str, Any], new: dict[str, Any]) -> None:
    """Sections are merged; any other value, also a dictionary of weights, is replaced."""
    for name, value in new.items():
        section = getattr(settings, name, None)
        if isinstance(section, BaseModel) and isinstance(value, dict) and isinstance(values[name], dict):
            _merge(section, values[name], value)
        else:
            values[name] = value


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
    except ValueError as error:
        raise ConfigError(f"--set {key}: the value has {len(text)} characters, which are too many digits for a number") from error


def flat(settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full name and the value of each setting, tuples as lists."""
    for key, value in settings:
        if isinstance(value, BaseModel):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, list(value) if isinstance(value, tuple) else value


def delay(value: object) -> int | tuple[int, int]:
    """Check the delay of a teacher in samples: one number, or one for P and one for S. Raises ValueError otherwise."""
    found: int | tuple[int, int] = _by_phase(
        value,
        lambda number: type(number) is int and abs(number) < 1000,
        "wanted whole samples below 1000: one number, or one for P and one for S",
    )
    return found


def online_weight(value: object) -> float | tuple[float, float]:
    """Check the weight of online teachers: a number from 0 to 1, or one for P and one for S. Raises ValueError otherwise."""

    def valid(number: object) -> bool:
        return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= 1

    found: float | tuple[float, float] = _by_phase(value, valid, "wanted a number from 0 to 1, or one for P and one for S")
    return found


def _by_phase(value: object, valid: Callable[[object], bool], wanted: str) -> Any:
    """One value for both phases, or one for P and one for S."""
    both = tuple(value) if isinstance(value, list | tuple) else (value,)
    if len(both) not in (1, 2) or not all(map(valid, both)):
        raise ValueError(wanted)
    return both if len(both) == 2 else both[0]


def explain(error: dict[str, Any], known: Sequence[str]) -> str:
    """Put an error of pydantic's into words.

    Args:
        error: as in `ValidationError.errors()`.
        known: full names of all settings, such as `training.epochs`.
    """
    path = ".".join(map(str, error["loc"]))
    reason: str = error["msg"].removeprefix("Value error, ")
    if not path:
        return reason
    if error["type"] == "extra_forbidden":
        return f"unknown setting {shown(path, quote=False)}; " + _suggestion(path, known)
    value = shown(error["input"])
    if error["type"] == "literal_error" and " or " not in error["ctx"]["expected"]:
        return f"{path} is {value}, but {FIXED} at {error['ctx']['expected']}"
    return f"{path} is {value}" + (f", but {reason}" if reason.startswith(FIXED) else f": {reason}")


def _suggestion(path: str, known: Sequence[str]) -> str:
    sections = {key.rpartition(".")[0] for key in known} - {""}
    last = {key.rpartition(".")[2]: key for key in reversed(known)}
    name = path.rpartition(".")[2]
    near = [last[name]] if name in last else difflib.get_close_matches(path, [*known, *sorted(sections)], n=1)
    if not near:  # the section may be missing
        near = [last[match] for match in difflib.get_close_matches(name, last, n=1, cutoff=0.8)]
    return f"did you mean {near[0]}?" if near else f"known settings are {', '.join(known)}"


def shown(value: object, *, quote: bool = True) -> str:
    """Return the value as it would be written in Python, cut short if it is long."""
    try:
        text = repr(value) if quote else str(value)
    except (RecursionError, ValueError):  # ValueError: an integer of more than 4,300 digits
        return f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} …"
