"""`xiaonet look`."""

import os
import sys
import webbrowser
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from xiaonet import console
from xiaonet.cli.options import Components, Prefer, Stations, split_stations
from xiaonet.errors import ConfigError

LARGE = 200e6  # bytes that browsers open slowly


def look(
    picks: Annotated[Path, typer.Argument(metavar="PICKS", help="Picks: the .csv, .xml or .parquet file of xiaonet pick.")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="The records: miniSEED files, globs, folders or SDS archives.")],
    out: Annotated[Path, typer.Option(help="File of the page.")] = Path("look.html"),
    stations: Stations = None,
    components: Components = None,
    prefer: Prefer = "",
    day: Annotated[str | None, typer.Option(help="UTC day, such as 2014-05-01.", show_default="the day with most picks")] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Look at picks on their records, in a page for the browser.

    The page is one file and needs no network. It shows a day of each instrument. Drag over the record to zoom in.
    Give --components and --prefer as you gave them to xiaonet pick.
    """
    from xiaonet.apps.look import choose_day, find_views, write_page
    from xiaonet.io.archive import is_chosen
    from xiaonet.io.picks import read_pick_file
    from xiaonet.picking.channels import instrument_name, parse_components

    names, codes = split_stations(stations), parse_components(components)
    found = [pick for pick in read_pick_file(picks) if is_chosen(instrument_name(pick.seed_id, codes), names)]
    shown_day = _date(day) or choose_day(found)
    with console.FileProgress("Reading headers") as headers:
        look_at = find_views(found, paths, shown_day, names, codes, prefer, headers.update)
    for instrument, number in look_at.without_record.items():
        console.warn("Picks", f"{number} of {instrument} have no record in {', '.join(paths)}", "they are not shown")
    with console.DataProgress(look_at.seconds, "Drawing") as progress:
        write_page(look_at, out, picks.name, on_progress=progress.update)
    console.skipped(list(look_at.archive.problems))
    shown = sum(len(view.picks) for view in look_at.views)
    rest = f"; {len(found) - shown} others are not: choose another --day" if len(found) > shown else ""
    console.ok("Day", f"{shown_day}", f"{console.counted(len(look_at.views), 'instrument')}, {console.counted(shown, 'pick')} shown{rest}")
    size = out.stat().st_size
    console.ok("Page", f"{size / 1e6:.1f} MB", f"{out}")
    if size > LARGE:
        console.warn("Page", "is large", "if your browser opens it slowly, choose fewer --stations")
    if open_page and not _open(out):
        console.warn("Browser", "none found", f"open {out} in a browser yourself")


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise ConfigError(f"--day is {text!r}; wanted a date such as 2014-05-01") from error


def _open(page: Path) -> bool:
    """Open a page in a browser with windows; false if there is none. A browser in the terminal would not show it."""
    windows = sys.platform in ("win32", "darwin") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    return windows and webbrowser.open(page.resolve().as_uri())
