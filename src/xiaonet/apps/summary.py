"""The summary of a run of `xiaonet pick`, by station, and its file beside the picks."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xiaonet.constants import SAMPLING_RATE
from xiaonet.files import write_atomically
from xiaonet.picking.quality import Quality

SUFFIX = ".json"  # added to the name of the file of picks


@dataclass
class StationSummary:
    """What was found at a station.

    Attributes:
        name: NET.STA.
        instruments: quality of each instrument, by name. An instrument is recorded where any of its channels is.
        channels: quality of each channel.
        picks: number of picks by phase.
        lone_s: number of S picks without a P within 30 s before them.
        dropped_s: number of them that were left out.
        problems: what was skipped and why.
    """

    name: str
    instruments: dict[str, Quality] = field(default_factory=dict)
    channels: dict[str, Quality] = field(default_factory=dict)
    picks: Counter[str] = field(default_factory=Counter)
    lone_s: int = 0
    dropped_s: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def quality(self) -> Quality:
        """That of all instruments together."""
        return sum(self.instruments.values(), Quality())

    @property
    def gaps(self) -> int:
        """Number of gaps of more than 10 s between the first and the last sample of each instrument."""
        return sum(quality.gaps for quality in self.instruments.values())


@dataclass(frozen=True)
class Summary:
    """What was found in an archive.

    Attributes:
        by_station: in order of their name.
        problems: what was skipped and why, of all stations and files.
    """

    by_station: Sequence[StationSummary]
    problems: Sequence[str]

    @property
    def stations(self) -> int:
        """Number of stations."""
        return len(self.by_station)

    @property
    def instruments(self) -> int:
        """Number of instruments."""
        return sum(len(station.instruments) for station in self.by_station)

    @property
    def quality(self) -> Quality:
        """That of all instruments together."""
        return sum((station.quality for station in self.by_station), Quality())

    @property
    def hours(self) -> float:
        """Hours of data, without bridged gaps."""
        return self.quality.hours

    @property
    def gaps(self) -> int:
        """Number of gaps of more than 10 s."""
        return sum(station.gaps for station in self.by_station)

    @property
    def picks(self) -> Counter[str]:
        """Number of picks by phase."""
        return sum((station.picks for station in self.by_station), Counter())

    @property
    def lone_s(self) -> int:
        """Number of S picks without a P, before any were left out."""
        return sum(station.lone_s for station in self.by_station)

    @property
    def dropped_s(self) -> int:
        """Number of S picks that were left out because they have no P."""
        return sum(station.dropped_s for station in self.by_station)


def write_summary(summary: Summary, out: Path, provenance: Mapping[str, object]) -> None:
    """Write a summary as JSON beside a file of picks, such as `picks.csv.json`.

    Raises:
        OutputError: it cannot be written.
    """
    text = json.dumps({"provenance": provenance, **contents(summary, out)}, indent=1, ensure_ascii=False) + "\n"
    write_atomically(out.with_name(out.name + SUFFIX), lambda file: file.write(text.encode()))


def contents(summary: Summary, out: Path) -> dict[str, object]:
    """A summary of the picks in a file, for JSON. Times in hours or seconds as the names say."""
    return {
        "picks": str(out),
        "totals": {
            "stations": summary.stations,
            "instruments": summary.instruments,
            **_numbers(summary.quality, summary.gaps),
            **_picks(summary),
        },
        "stations": [
            {
                "station": station.name,
                **_numbers(station.quality, station.gaps),
                **_picks(station),
                "instruments": {name: _numbers(quality, quality.gaps) for name, quality in station.instruments.items()},
                "channels": {name: _channel(quality) for name, quality in station.channels.items()},
                "warnings": station.problems,
            }
            for station in summary.by_station
        ],
        "warnings": list(summary.problems),
    }


def _numbers(quality: Quality, gaps: int) -> dict[str, float]:
    return {
        "hours": round(quality.hours, 6),
        "gaps": gaps,
        "bridged_gaps": quality.bridges,
        "bridged_s": quality.bridged / SAMPLING_RATE,
    }


def _picks(found: StationSummary | Summary) -> dict[str, int]:
    written_s = found.picks["S"] - found.dropped_s
    return {"p": found.picks["P"], "s": written_s, "s_without_p": found.lone_s, "s_dropped": found.dropped_s}


def _channel(quality: Quality) -> dict[str, float]:
    left_out = {"unchanging_s": quality.still, "written_zeros_s": quality.written, "disagreeing_s": quality.disputed}
    return {**_numbers(quality, quality.gaps), **{name: samples / SAMPLING_RATE for name, samples in left_out.items()}}
