"""`xiaonet pick --layout`: archives that outgrow one machine; and `xiaonet picks`, which asks their results."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xiaonet import console
from xiaonet.cli.options import Stations, split_stations, time_ns
from xiaonet.errors import ConfigError

if TYPE_CHECKING:
    from xiaonet.archives.planning import Plan, Request
    from xiaonet.archives.running import RunTotals

SHOWN_FAILURES = 10


def pick_objects(
    request: "Request", *, inventory: Path | None, cluster: str | None, workers: int, resume: bool, price: float | None
) -> None:
    """Pick an archive in object storage or a folder into a dataset, and tell what was done.

    Raises:
        typer.Exit: with status 1, where a block failed.
    """
    from xiaonet.archives.dataset import Dataset
    from xiaonet.archives.engines import open_engine
    from xiaonet.archives.planning import Plan
    from xiaonet.archives.running import run
    from xiaonet.archives.storage import Storage

    started = time.monotonic()
    source = Storage(request.source)
    with tempfile.TemporaryDirectory(prefix="xiaonet-") as folder:
        with console.busy("Listing"):
            plan = Plan(source, request, Path(folder))
        with plan:
            _tell_plan(plan)
            dataset = Dataset(Storage(request.out, create=True))
            dataset.begin(request, resume)
            if inventory is not None:
                request = replace(request, inventory=dataset.keep_inventory(inventory))
            with open_engine(cluster, workers) as engine:
                console.ok("Workers", engine.where)
                with console.ArchiveProgress(plan.station_days, price) as bar:
                    totals = run(
                        plan,
                        request,
                        engine,
                        lambda now, cores: bar.update(now.done, now.known, now.failed, now.processor_s, cores),
                    )
    _tell(totals, request, time.monotonic() - started)
    if totals.failures:
        raise typer.Exit(1)


def parse_shard(text: str | None) -> tuple[int, int]:
    """The share of an option such as `3/100`.

    Raises:
        ConfigError: this is no share.
    """
    number, _, total = (text or "1/1").partition("/")
    if not (number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ConfigError(f"--shard is {text!r}; wanted a share such as 3/100, from 1/100 to 100/100")
    return int(number), int(total)


def check_objects(paths: Sequence[str], cluster: str | None, shard: str | None) -> None:
    """Check that the options of `xiaonet pick --layout` fit each other.

    Raises:
        ConfigError: they do not.
    """
    if len(paths) > 1:
        raise ConfigError(f"{len(paths)} paths were given; wanted one folder or URL with --layout")
    if cluster and shard:
        raise ConfigError("--shard and --cluster: these options exclude each other; a cluster shares out the work itself")


def check_plain(**given: object) -> None:
    """Check that no option of archives was given without `--layout`.

    Raises:
        ConfigError: one was.
    """
    if used := [f"--{name}" for name, value in given.items() if value is not None]:
        raise ConfigError(
            f"{used[0]} needs --layout, which says how the archive names its files: sds, scedc, ncedc, earthscope or a format"
        )


def picks(
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="The --out of xiaonet pick --layout: a folder or s3://BUCKET/PREFIX.")],
    out: Annotated[str | None, typer.Option(help="File to write: .csv, .xml (QuakeML) or .parquet.", show_default="a table here")] = None,
    stations: Stations = None,
    first: Annotated[str | None, typer.Option("--from", metavar="TIME", help="Picks from this UTC time on.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Picks up to this UTC time.")] = None,
    phase: Annotated[str | None, typer.Option(help="P or S.", show_default="both")] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV file that lists the complete station-days.")] = None,
) -> None:
    """Find picks in a dataset that xiaonet pick --layout wrote."""
    from xiaonet.archives.dataset import Dataset
    from xiaonet.archives.storage import Storage
    from xiaonet.io.picks import Picks, check_format, write_picks

    if phase not in (None, "P", "S"):
        raise ConfigError(f"--phase is {phase!r}; wanted P or S")
    if out is not None:
        check_format(Path(out))
    found = Dataset(Storage(dataset))
    if manifest is not None:
        console.ok("Manifest", console.counted(found.write_manifest(manifest), "station-day"), f"{manifest}")
    chosen = found.find(split_stations(stations), time_ns("--from", first), time_ns("--to", last), phase)
    if out is None and manifest is None:
        console.say(repr(Picks(chosen)))
    elif out is not None:
        provenance = {name: f"{value}" for name, value in (found.run or {}).items()}
        console.ok("Picks", f"{write_picks(chosen, Path(out), provenance)}", out)


def _tell_plan(plan: "Plan") -> None:
    if plan.unfit:
        console.warn("Names", f"{plan.unfit} do not fit --layout {plan.request.layout} and are left out", ", ".join(plan.strange))
    for reason, number in plan.left_out.most_common(SHOWN_FAILURES):
        console.warn("Skipped", console.counted(number, "object"), reason)
    console.ok("Plan", console.counted(plan.station_days, "station-day"))


def _tell(totals: "RunTotals", request: "Request", seconds: float) -> None:
    console.skipped(totals.problems)
    for reason, number in totals.failures.most_common(SHOWN_FAILURES):
        console.fail("Failed", console.counted(number, "block"), reason)
    if totals.known:
        console.ok("Known", f"{console.counted(totals.known, 'station-day')} complete before")
    if totals.dropped_s:
        console.ok("S without P", f"{totals.dropped_s}", "left out")
    memory = max((usage.memory for usage in totals.workers.values()), default=0.0)
    each = f", {totals.processor_s / totals.done:.2f} vCPU-s each, {memory:.0f} MB a worker at most" if totals.done else ""
    console.ok("Picks", f"{totals.picks} of {console.counted(totals.done, 'station-day')}", f"{request.out}, in {seconds:.1f} s{each}")
    console.result(_contents(totals, request, seconds, memory))
    if totals.failures:
        console.warn("Not complete", console.counted(totals.failed, "station-day"), "repeat the command with --resume to try them again")


def _contents(totals: "RunTotals", request: "Request", seconds: float, memory: float) -> Mapping[str, object]:
    return {
        "dataset": request.out,
        "station_days": totals.station_days,
        "picked": totals.done,
        "known": totals.known,
        "failed": totals.failed,
        "failures": dict(totals.failures),
        "picks": totals.picks,
        "dropped_s": totals.dropped_s,
        "seconds": round(seconds, 3),
        "processor_s": round(totals.processor_s, 3),
        "memory_mb": round(memory, 1),
    }
