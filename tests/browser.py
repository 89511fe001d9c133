"""A page in a headless Chromium, and what it refers to."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
QUIET = ("--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


class Outline(HTMLParser):
    """What a page refers to, and how many of its elements there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.counts: dict[str, int] = {}
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [value for name, value in attributes if name in ("href", "src", "xlink:href") and value]
        self.ids += [value for name, value in attributes if name == "id" and value]


def open_page(page: Path, folder: Path, *options: str) -> str:
    """The elements of a page after two seconds of its own time; no script may have failed. `folder` is for the browser."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--enable-logging=stderr",
            *QUIET,
            f"--user-data-dir={folder}",
            "--virtual-time-budget=2000",
            *options,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    failures = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [] == failures
    return done.stdout
