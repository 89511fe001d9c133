"""What the names of the objects of an archive tell: network, station, location, channel and day."""

import re
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import product
from typing import Final, NamedTuple

from xiaonet.errors import ConfigError

LAYOUTS: Final = {
    "sds": "{year}/{network}/{station}/{channel}.{type}/{network}.{station}.{location}.{channel}.{type}.{year}.{doy}",
    "scedc": "{year}/{year}_{doy}/{network:2}{station:5}{channel:3}{location:3}{year}{doy}.ms",
    "ncedc": "{network}/{year}/{year}.{doy}/{station}.{network}.{channel}.{location}.D.{year}.{doy}",
    "earthscope": "{network}/{year}/{doy}/{station}.{network}.{year}.{doy}{version}",
}
FIELDS: Final = {
    "year": r"\d{4}",
    "doy": r"\d{3}",
    "month": r"\d{2}",
    "day": r"\d{2}",
    "network": r"[^./]+",
    "station": r"[^./]+",
    "location": r"[^./]*",
    "channel": r"[^./]+",
    "type": r"[A-Z]",
    "version": r"(?:#\d+)?",
}
FIELD: Final = re.compile(r"\{(\w+)(?::(\d+))?\}")
DATED: Final = ("year", "doy", "month", "day")
PAD: Final = "_"  # fills a field of a fixed width
EPOCH: Final = date(1970, 1, 1)


class Named(NamedTuple):
    """What the name of an object tells. `channel` is None where an object holds all channels of a station. `day` counts from 1970."""

    station: str
    location: str
    channel: str | None
    day: int


class Layout:
    """How the names of an archive are made.

    Args:
        text: `sds`, `scedc`, `ncedc`, `earthscope`, or a format such as `{network}/{station}/{year}/{doy}/{channel}.{location}.mseed`;
            `*` stands for anything but a slash, and `{station:5}` for five letters that `_` fills.

    Raises:
        ConfigError: a field is unknown, or the format lacks a network, a station or a day.
    """

    def __init__(self, text: str) -> None:
        self.text = LAYOUTS.get(text, text)
        names = [match[1] for match in FIELD.finditer(self.text)]
        has_day = "year" in names and ("doy" in names or {"month", "day"} <= set(names))
        if strange := [name for name in names if name not in FIELDS]:
            raise ConfigError(f"--layout has the field {{{strange[0]}}}; wanted {', '.join(f'{{{name}}}' for name in FIELDS)}")
        if not (has_day and {"network", "station"} <= set(names)):
            wanted = f"{', '.join(LAYOUTS)}, or a format with {{network}}, {{station}}, {{year}} and {{doy}}, or {{month}} and {{day}}"
            raise ConfigError(f"--layout is {text!r}; wanted {wanted}")
        self._pattern = re.compile(_pattern(self.text))

    def parse(self, key: str) -> Named | None:
        """What the name of an object tells; None if it does not fit."""
        match = self._pattern.fullmatch(key)
        if match is None:
            return None
        found = {name: value.rstrip(PAD) for name, value in match.groupdict().items()}
        try:
            if "doy" in found:
                day = date(int(found["year"]), 1, 1) + timedelta(days=int(found["doy"]) - 1)
            else:
                day = date(int(found["year"]), int(found["month"]), int(found["day"]))
        except (ValueError, OverflowError):
            return None
        station = f"{found['network']}.{found['station']}"
        return Named(station, found.get("location", ""), found.get("channel"), (day - EPOCH).days)

    def prefixes(self, days: range | None, networks: Sequence[str]) -> Iterator[str]:
        """The folders to list for these days and networks, so that nothing else is listed; all folders if None or none are given."""
        seen: dict[str, None] = {}
        dates: list[date | None] = [None] if days is None else [EPOCH + timedelta(days=day) for day in days]
        names: list[str | None] = [*networks] or [None]
        for day, network in product(dates, names):
            seen[self._prefix(day, network)] = None
        yield from (prefix for prefix in seen if not any(other != prefix and prefix.startswith(other) for other in seen))

    def _prefix(self, day: date | None, network: str | None) -> str:
        """The whole folders at the start of a name that these values determine."""
        values = {} if day is None else {"year": f"{day:%Y}", "doy": f"{day:%j}", "month": f"{day:%m}", "day": f"{day:%d}"}
        if network is not None:
            values["network"] = network
        folders = []
        for folder in self.text.split("/")[:-1]:
            if "*" in folder or any(match[1] not in values or match[2] for match in FIELD.finditer(folder)):
                break
            folders.append(FIELD.sub(lambda match: values[match[1]], folder) + "/")
        return "".join(folders)


def _pattern(text: str) -> str:
    """A regular expression for a format; a field that is repeated must have the same value."""
    seen: set[str] = set()
    parts, at = [], 0
    for match in FIELD.finditer(text):
        parts.append(re.escape(text[at : match.start()]).replace(r"\*", "[^/]*"))
        name, width = match[1], match[2]
        parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{f'[^./]{{{width}}}' if width else FIELDS[name]})")
        seen.add(name)
        at = match.end()
    return "".join(parts) + re.escape(text[at:]).replace(r"\*", "[^/]*")
