"""`xiaonet associate` and `xiaonet convert`."""

from pathlib import Path
from typing import Annotated

import typer

from xiaonet import __version__, console
from xiaonet.cli.options import usable_cores
from xiaonet.constants import EventFormat

PicksFile = Annotated[Path, typer.Argument(metavar="PICKS", help="Picks: the .csv, .xml or .parquet file of xiaonet pick.")]
PickOrEventFile = Annotated[Path, typer.Argument(metavar="FILE", help="Picks of xiaonet pick, or events of xiaonet associate in QuakeML.")]
FormatOption = Annotated[EventFormat, typer.Option("--to", help="Format.")]


def associate(
    picks: PicksFile,
    inventory: Annotated[Path, typer.Option(help="StationXML with the places of the stations.")],
    out: Annotated[Path, typer.Option(help="File of the events: .csv, with arrivals in a file beside it, or .xml (QuakeML).")] = Path(
        "events.csv"
    ),
    p_velocity: Annotated[float, typer.Option(help="Velocity of P in km/s.")] = 6.0,
    s_velocity: Annotated[float | None, typer.Option(help="Velocity of S in km/s.", show_default="that of P / 1.73")] = None,
    depth: Annotated[float, typer.Option(help="Depth of the deepest events in km.")] = 30.0,
    margin: Annotated[float, typer.Option(help="How far outside the stations to look for events, in km.")] = 15.0,
    tolerance: Annotated[float, typer.Option(help="Largest difference between a pick and its expected time in s.")] = 1.5,
    min_picks: Annotated[int, typer.Option(help="Smallest number of picks of an event.")] = 10,
) -> None:
    """Find the earthquakes that picks belong to, with PyOcto.

    The places are preliminary. To locate the events with other programs, see xiaonet convert.
    """
    from xiaonet.events.association import AssociationSettings
    from xiaonet.events.association import associate as find_events
    from xiaonet.events.event import arrivals_path, check_event_file, write_events
    from xiaonet.io.inventory import load_inventory
    from xiaonet.io.picks import read_pick_file

    check_event_file(out)
    settings = AssociationSettings(p_velocity, s_velocity, depth, margin, tolerance, min_picks)
    found = read_pick_file(picks)
    stations, name = load_inventory(inventory)
    with console.busy("Associating"):
        events, unknown, notes = find_events(found, stations, settings, usable_cores())
    for station in unknown:
        console.warn("Stations", f"{station} is not in {inventory.name}", "its picks are left out")
    for note in notes:
        console.warn("Stations", note)
    write_events(events, out, {"xiaonet": __version__, "picks": picks.name, "inventory": name, "associator": f"PyOcto, {settings}"})
    used = sum(len(event.arrivals) for event in events)
    console.ok("Picks", f"{used} of {len(found)}", "belong to events")
    beside = f", arrivals in {arrivals_path(out)}" if out.suffix.lower() == ".csv" else ""
    console.ok("Events", f"{len(events)}", f"{out}{beside}")


def convert(
    file: PickOrEventFile, form: FormatOption, out: Annotated[Path, typer.Option(help="File to write; for real, a folder.")]
) -> None:
    """Write picks or events in the format of another program.

    nonlinloc and hypoinverse: phase files to locate events with NonLinLoc and HYPOINVERSE-2000.
    scml: SeisComP. real: folders of picks to associate with REAL. pyrocko: markers for Snuffler.

    Programs that locate take all picks of a file for one event, so use xiaonet associate first.
    """
    from xiaonet.events.event import read_events
    from xiaonet.events.formats import convert as write

    events = read_events(file)
    write(events, form, out)
    located = sum(event.hypocentre is not None for event in events)
    picks = sum(len(event.arrivals) for event in events)
    console.ok("Converted", f"{picks} picks of {located} events" if located else f"{picks} picks", f"{out}, {form}")
