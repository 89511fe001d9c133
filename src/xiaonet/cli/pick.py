"""`xiaonet pick`."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xiaonet import console
from xiaonet.cli.archive import check_objects, check_plain, parse_shard, pick_objects
from xiaonet.cli.options import RUNTIME, Components, Prefer, Stations, renamed, split_stations, time_ns, usable_cores
from xiaonet.constants import Runtime, Stacking
from xiaonet.errors import ConfigError, WaveformError

if TYPE_CHECKING:
    from xiaonet.apps.pick_archive import OnChunk
    from xiaonet.apps.summary import StationSummary, Summary
    from xiaonet.io.archive import Archive
    from xiaonet.picker import Picker
    from xiaonet.picking.amplitudes import Deconvolution
    from xiaonet.picking.segments import Instrument

SHOWN_STATIONS = 12  # in the table at the end

# Groups of options in the help.
_speed, _amplitudes, _archives = (
    partial(typer.Option, rich_help_panel=name) for name in ("Speed and windows", "Amplitudes", "Archives that outgrow one machine")
)

Threshold = Annotated[
    str | None,
    typer.Option(
        help="Lowest probability of a pick, such as 0.3, or one each: P=0.3,S=0.2.", show_default="the model's own, one for each phase"
    ),
]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Pick from this UTC time, such as 2014-05-01T06:00.")]
Prefilter = Annotated[str | None, _speed(help="Smaller model that runs first, such as xiaonet-nano. Faster where earthquakes are few.")]
NotCentred = Annotated[
    bool, _speed("--not-centred", help="Read picks in the windows of the grid alone: faster, but they may move with the clock.")
]
StackingOption = Annotated[Stacking | None, _speed(help="What is averaged where windows overlap.", show_default="as the model file says")]
Workers = Annotated[int | None, _speed(min=1, help="Number of days to pick at the same time.", show_default="number of cores")]
InventoryFile = Annotated[
    Path | None, _amplitudes(help="StationXML with responses: amplitudes in m/s or m/s**2.", show_default="amplitudes in counts")
]
Deconvolve = Annotated[bool, _amplitudes("--deconvolve", help="Remove the whole response from amplitudes, not only the sensitivity.")]
WaterLevel = Annotated[float | None, _amplitudes(help="Of --deconvolve, in dB below the peak of the response.", show_default="60")]
Corners = Annotated[
    str | None,
    _amplitudes(metavar="F1,F2,F3,F4", help="Of --deconvolve: ObsPy's pre_filt in Hz, such as 0.5,1,40,45.", show_default="none"),
]
DropLoneS = Annotated[bool, typer.Option("--drop-s-without-p", help="Leave out S picks without a P on their station in the 30 s before.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run of the same command, if there is one.")]
Layout = Annotated[
    str | None,
    _archives(help="Pick an archive by its names, into a dataset: sds, scedc, ncedc, earthscope, or {network}/{station}/{year}/{doy}/…"),
]
Cluster = Annotated[str | None, _archives(help="Pick with Dask: local, slurm, or tcp://… of a scheduler.", show_default="this process")]
Shard = Annotated[str | None, _archives(metavar="N/TOTAL", help="Pick one share of the stations, such as 3/100, in a job of its own.")]
Price = Annotated[float | None, _archives(min=0, help="$ for an hour of a core, such as 0.0133, to estimate the cost.")]
Json = Annotated[bool, typer.Option("--json", help="Print progress and results as JSON, one object a line.")]


def pick(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="miniSEED files, globs, folders or SDS archives; also SAC, .zip, …")],
    model: Annotated[str, typer.Option(help="Shipped model or model file; join several with + to average them.")] = "xiaonet",
    threshold: Threshold = None,
    out: Annotated[str, typer.Option(help="File of the picks: .csv, .xml (QuakeML) or .parquet. With --layout a dataset.")] = "picks.csv",
    first: From = None,
    last: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Pick up to this UTC time.")] = None,
    stations: Stations = None,
    components: Components = None,
    prefer: Prefer = "",
    drop_s_without_p: DropLoneS = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw every day of every instrument, in a folder beside the picks.")] = False,
    workers: Workers = None,
    runtime: Annotated[Runtime, _speed(help=RUNTIME)] = "auto",
    prefilter: Prefilter = None,
    not_centred: NotCentred = False,
    stacking: StackingOption = None,
    inventory: InventoryFile = None,
    deconvolve: Deconvolve = False,
    water_level: WaterLevel = None,
    corners: Corners = None,
    scout: Annotated[str | None, typer.Option(hidden=True)] = None,
    resume: Resume = False,
    layout: Layout = None,
    cluster: Cluster = None,
    shard: Shard = None,
    price: Price = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only warnings and errors, to standard error.")] = False,
    json: Json = False,
) -> None:
    """Pick P and S in continuous records.

    The shipped models are xiaonet, xiaonet-nano, xiaonet-int8 and xiaonet-nano-int8.

    Exit status: 0 after picking, even if nothing was found; 1 after an error; 2 for a wrong option; 130 after Ctrl-C.
    """
    from xiaonet.io.picks import check_format
    from xiaonet.picker import Picker

    _choose_form(quiet, json)
    workers, thresholds, spectral = workers or usable_cores(), _thresholds(threshold), _deconvolution(deconvolve, water_level, corners)
    prefilter = renamed("--scout", scout, "--prefilter", prefilter)
    how: dict[str, Any] = {"runtime": runtime, "prefilter": prefilter, "centred": not not_centred, "stacking": stacking}
    if layout is not None:
        from xiaonet.archives import planning, storage

        check_objects(paths, cluster, shard)
        limits = (time_ns("--from", first), time_ns("--to", last), split_stations(stations), components, prefer, parse_shard(shard))
        picker = Picker(model, thresholds, inventory=inventory, deconvolve=spectral, **how)
        _tell_model(picker)
        more: dict[str, Any] = {"deconvolve": spectral, "drop_lone_s": drop_s_without_p, "plot": plot}
        source, target = map(storage.located, (paths[0], out))
        request = planning.Request(source, layout, target, model, picker.thresholds, how, picker.provenance, *limits, **more)
        pick_objects(request, inventory=inventory, cluster=cluster, workers=workers, resume=resume, price=price)
        return
    check_plain(cluster=cluster, shard=shard, price=price)
    check_format(Path(out))
    archive, tasks = _find(paths, first, last, stations, components, prefer, workers)
    picker = Picker(model, thresholds, threads=max(1, workers // tasks), inventory=inventory, deconvolve=spectral, **how)
    _pick_files(archive, picker, Path(out), plot, workers=workers, resume=resume, drop_lone_s=drop_s_without_p)


def _choose_form(quiet: bool, json: bool) -> None:
    if quiet and json:
        raise ConfigError("--quiet and --json: these options exclude each other; use one of them")
    console.choose_form("json" if json else "quiet" if quiet else "text")


def _tell_model(picker: "Picker") -> None:
    from xiaonet.picking import averaging

    model, note = picker.predictor.description, picker.predictor.note
    thresholds = ", ".join(f"{phase} from {value:g}" for phase, value in picker.thresholds.items())
    console.ok("Model", f"{model} ({note})" if note else model, thresholds)
    if problem := averaging.problem():
        console.warn("Averaging", "is slower in NumPy", problem)


def _pick_files(archive: "Archive", picker: "Picker", out: Path, plot: bool, **options: Any) -> None:
    """Pick an archive of files, and tell what was done."""
    _tell_model(picker)
    started = time.monotonic()
    drawing = _day_plots(out, picker.thresholds) if plot else None
    summary = _pick(archive, picker, out, on_chunk=drawing, **options)
    _tell(summary, out, time.monotonic() - started)


def _day_plots(out: Path, thresholds: Mapping[str, float]) -> "OnChunk":
    from xiaonet.apps.day_plots import DayPlots

    return DayPlots(out.with_name(f"{out.stem}_plots"), thresholds)


def _pick(archive: "Archive", picker: "Picker", out: Path, **options: Any) -> "Summary":
    """Pick an archive and show the progress."""
    from xiaonet.apps.pick_archive import pick_archive
    from xiaonet.picking.preference import doubles

    def begin(instruments: "list[Instrument]", more: float) -> None:
        progress.extend(more)
        for note in doubles(instruments):
            console.warn("Stations", note, "an arrival may have several picks; for one set each: --prefer HH,BH,EH,HN")

    try:
        with console.DataProgress(sum(map(archive.expected_seconds, archive.station_names()))) as progress:
            return pick_archive(archive, picker, out, on_progress=progress.update, on_station=begin, **options)
    except KeyboardInterrupt:
        console.warn("Picking", "stopped", "finished days are kept; repeat the command with --resume to continue")
        raise


def _tell(summary: "Summary", out: Path, seconds: float) -> None:
    """Print what was skipped, a table of the stations and the totals."""
    from xiaonet.apps.summary import contents
    from xiaonet.picking.quality import spell

    details = f"{out.name}.json"
    console.skipped(summary.problems, f"all are in {details}")
    length = f"{summary.hours:.1f} hours" if summary.hours >= 1 else f"{summary.hours * 60:.1f} minutes"
    bridges = summary.quality.bridges
    bridged = f", {console.counted(bridges, 'short gap')} bridged ({spell(summary.quality.bridged)})" if bridges else ""
    numbers = ((summary.stations, "station"), (summary.instruments, "instrument"), (summary.gaps, "gap"))
    console.ok("Data", length, ", ".join(console.counted(*pair) for pair in numbers) + bridged)
    if summary.stations <= SHOWN_STATIONS:
        heads = ("station", "hours", "gaps", "bridged", "P", "S", "S without P", "warnings")
        console.table(heads, [_row(station) for station in summary.by_station])
    else:
        console.ok("Stations", f"{summary.stations}", f"each is described in {details}")
    found_s = summary.picks["S"]
    if summary.lone_s:
        share = f"{summary.lone_s} of {found_s} ({summary.lone_s / found_s:.0%})"
        console.ok("S without P", share, "left out" if summary.dropped_s else "no P on the station in the 30 s before; --drop-s-without-p")
    console.ok("Picks", f"{summary.picks['P']} P, {found_s - summary.dropped_s} S", f"{out}, in {seconds:.1f} s")
    console.result(contents(summary, out))


def _row(station: "StationSummary") -> list[str]:
    numbers = (station.gaps, station.quality.bridges, station.picks["P"], station.picks["S"], station.lone_s, len(station.problems))
    return [station.name, f"{station.quality.hours:.2f}", *map(str, numbers)]


def _thresholds(text: str | None) -> float | dict[str, float] | None:
    """A threshold for both phases, or one for each, from an option such as `0.3` or `P=0.3,S=0.2`."""
    try:
        if text is None or "=" not in text:
            return None if text is None else float(text)
        return {phase.strip(): float(value) for phase, value in (item.split("=") for item in text.split(","))}
    except ValueError as error:
        raise ConfigError(f"--threshold is {text!r}; wanted a probability such as 0.3, or one each such as P=0.3,S=0.2") from error


def _deconvolution(wanted: bool, water_level: float | None, corners: str | None) -> "Deconvolution | None":
    """How to remove responses, from the options that say so."""
    from xiaonet.picking.amplitudes import Deconvolution

    if not wanted:
        if water_level is not None or corners is not None:
            raise ConfigError("--water-level and --corners are of --deconvolve; add it, or leave them out")
        return None
    try:
        pre_filt = tuple(map(float, corners.split(","))) if corners else None
    except ValueError as error:
        raise ConfigError(f"--corners is {corners!r}; wanted four frequencies in Hz such as 0.5,1,40,45") from error
    return Deconvolution(60.0 if water_level is None else water_level, pre_filt)


def _find(
    paths: list[str], first: str | None, last: str | None, stations: list[str] | None, components: str | None, prefer: str, workers: int
) -> "tuple[Archive, int]":
    """The records that were asked for, and the number of days to pick, up to the number of workers."""
    from xiaonet.apps.nothing_to_pick import why_nothing_to_pick
    from xiaonet.apps.pick_archive import first_tasks
    from xiaonet.io.archive import Archive

    start_ns, end_ns = time_ns("--from", first), time_ns("--to", last)
    if start_ns is not None and end_ns is not None and start_ns >= end_ns:
        raise WaveformError(f"nothing to pick in {', '.join(paths)}: --from {first} is not before --to {last}; exchange them")
    with console.FileProgress("Reading headers") as progress:
        archive = Archive(paths, start_ns, end_ns, split_stations(stations), components, prefer, progress.update)
        tasks = first_tasks(archive, workers)
    if not tasks:
        console.skipped(list(archive.problems))
        raise WaveformError(f"nothing to pick in {', '.join(paths)}: {why_nothing_to_pick(archive)}")
    if archive.formats:
        numbers = ", ".join(f"{number} of {name}" for name, number in archive.formats.items())
        console.ok("Files", f"{numbers} are read by ObsPy", "it takes longer than miniSEED")
    return archive, len(tasks)
