"""`xiaonet pick`."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xiaonet import console
from xiaonet.cli.options import RUNTIME, Stations, renamed, split_stations, usable_cores
from xiaonet.constants import Runtime
from xiaonet.errors import ConfigError, WaveformError

if TYPE_CHECKING:
    from xiaonet.apps.pick_archive import Task
    from xiaonet.io.archive import Archive


def pick(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="miniSEED files, globs, folders or SDS archives; also SAC, .zip, …")],
    model: Annotated[str, typer.Option(help="Shipped model or model file; join several with + to average them.")] = "xiaonet",
    threshold: Annotated[
        float | None, typer.Option(help="Lowest probability of a P or S pick.", show_default="the model's own, one for each phase")
    ] = None,
    out: Annotated[Path, typer.Option(help="File of the picks: .csv, .xml (QuakeML) or .parquet.")] = Path("picks.csv"),
    first: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Pick from this UTC time, such as 2014-05-01T06:00.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Pick up to this UTC time.")] = None,
    stations: Stations = None,
    components: Annotated[
        str | None, typer.Option(metavar="E=…,N=…,Z=…", help="Channels whose names do not show their component: E=HHX,N=HHY,Z=HHZ.")
    ] = None,
    prefer: Annotated[
        str,
        typer.Option(help="One set of picks for each station, of its best instrument: HH,BH,EH,HN.", show_default="all instruments"),
    ] = "",
    plot: Annotated[bool, typer.Option("--plot", help="Draw every day of every instrument, in a folder beside the picks.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of days to pick at the same time.", show_default="number of cores")
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help=RUNTIME)] = "auto",
    prefilter: Annotated[
        str | None, typer.Option(help="Smaller model that runs first, such as xiaonet-nano. Faster where earthquakes are few.")
    ] = None,
    scout: Annotated[str | None, typer.Option(hidden=True)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run of the same command.")] = False,
) -> None:
    """Pick P and S in continuous records.

    The shipped models are xiaonet, xiaonet-nano, xiaonet-int8 and xiaonet-nano-int8.
    """
    from xiaonet.apps.pick_archive import pick_archive
    from xiaonet.io.picks import check_format
    from xiaonet.picker import Picker

    prefilter = renamed("--scout", scout, "--prefilter", prefilter)
    check_format(out)
    archive, tasks = _find(paths, first, last, stations, components, prefer)
    workers = workers or usable_cores()
    picker = Picker(model, threshold, runtime=runtime, prefilter=prefilter, threads=max(1, workers // len(tasks)))
    on_chunk = None
    if plot:
        from xiaonet.apps.day_plots import DayPlots

        on_chunk = DayPlots(out.with_name(f"{out.stem}_plots"), picker.thresholds)
    thresholds = ", ".join(f"{phase} from {value:g}" for phase, value in picker.thresholds.items())
    console.ok("Model", picker.predictor.description, thresholds)
    started = time.monotonic()
    try:
        with console.DataProgress(sum(task.seconds for task in tasks)) as progress:
            summary = pick_archive(archive, picker, out, workers=workers, resume=resume, on_progress=progress.update, on_chunk=on_chunk)
    except KeyboardInterrupt:
        console.warn("Picking", "stopped", "finished days are kept; repeat the command with --resume to continue")
        raise
    console.skipped(list(archive.problems))
    length = f"{summary.hours:.1f} hours" if summary.hours >= 1 else f"{summary.hours * 60:.1f} minutes"
    console.ok("Data", length, f"{summary.stations} stations, {summary.instruments} instruments, {summary.gaps} gaps")
    console.ok("Picks", f"{summary.picks['P']} P, {summary.picks['S']} S", f"{out}, in {time.monotonic() - started:.1f} s")


def _find(
    paths: list[str], first: str | None, last: str | None, stations: list[str] | None, components: str | None, prefer: str
) -> "tuple[Archive, list[Task]]":
    """The records that were asked for, and the work of picking them."""
    from xiaonet.apps.pick_archive import plan
    from xiaonet.io.archive import Archive
    from xiaonet.picking.preference import doubles

    with console.busy("Reading headers"):
        archive = Archive(paths, _time_ns("--from", first), _time_ns("--to", last), split_stations(stations), components, prefer)
        tasks = plan(archive)
    if not tasks:
        console.skipped(list(archive.problems))
        raise WaveformError(
            f"nothing to pick in {', '.join(paths)}; wanted miniSEED with components E, N, Z or 1, 2, Z at 20 Hz or more, "
            "from the chosen times and stations"
        )
    if archive.formats:
        numbers = ", ".join(f"{number} of {name}" for name, number in archive.formats.items())
        console.ok("Files", f"{numbers} are read by ObsPy", "it takes longer than miniSEED")
    for note in doubles(archive.instruments):
        console.warn("Stations", note, "an arrival may have several picks; for one set each: --prefer HH,BH,EH,HN")
    return archive, tasks


def _time_ns(option: str, text: str | None) -> int | None:
    """Nanoseconds since 1970-01-01 of a UTC time on the command line."""
    if text is None:
        return None
    try:
        time_utc = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option} is {text!r}; wanted a UTC time such as 2014-05-01 or 2014-05-01T06:00:00") from error
    return round((time_utc if time_utc.tzinfo else time_utc.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000
