"""An S3 server on loopback, and what can go wrong with one."""

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="needs obstore: pip install 'xiaonet[archive]'")

from archives.servers import Handler, Proxy
from archives.test_exact import csv_of, picked
from xiaonet.archives.storage import Storage
from xiaonet.errors import ConfigError, StorageError


def first_times(number: int, harm):
    """Harm only the first requests for each object."""
    seen: dict[str, int] = {}

    def some(handler: Handler) -> bool:
        seen[handler.path] = seen.get(handler.path, 0) + 1
        return handler.command == "GET" and seen[handler.path] <= number and harm(handler)

    return some


def unavailable(handler: Handler) -> bool:
    return handler.refuse(503, "SlowDown")


def cut_off(handler: Handler) -> bool:
    """Send half of the content of a file and hang up."""
    if "/data/sds/" not in handler.path:
        return False
    status, content, headers = handler.behind()
    headers.pop("X-Length", None)
    handler.answer(status, content[: len(content) // 2], headers, len(content))
    handler.close_connection = True
    return True


def slow(handler: Handler) -> bool:
    time.sleep(0.3)
    return False


@pytest.mark.parametrize("harm", [first_times(2, unavailable), first_times(1, cut_off), slow], ids=["503", "cut off", "slow"])
def test_what_passes_is_repeated_and_changes_nothing(ask, s3: Proxy, expected: bytes, tmp_path: Path, harm) -> None:
    s3.harm = harm
    request = ask(source="s3://data/sds", out="s3://mine/run")
    assert {} == picked(request, tmp_path / "plan").failures
    s3.harm = lambda handler: False
    assert expected == csv_of("s3://mine/run")


def test_an_object_that_changes_midway_fails_its_station_and_is_picked_by_the_next_run(ask, s3: Proxy, expected: bytes, tmp_path) -> None:
    source, key = Storage("s3://data/sds"), "2020/YY/DEF/EHZ.D/YY.DEF.10.EHZ.D.2020.259"
    content = source.read(key)
    assert content

    def change(handler: Handler) -> bool:
        if handler.command == "GET" and key in handler.path:
            s3.harm = lambda handler: False
            source.write(key, content[:512])
        return False

    s3.harm = change
    request = ask(source="s3://data/sds", out="s3://mine/run")
    totals = picked(request, tmp_path / "plan")
    assert {"StorageError: it has changed since it was listed; repeat the run with --resume": 1} == totals.failures
    assert (2, 5) == (totals.failed, totals.done)  # the other station went on
    source.write(key, content)
    assert (2, 5) == (picked(request, tmp_path / "plan", resume=True).done, totals.done)
    assert expected == csv_of("s3://mine/run")


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (404, "NoSuchBucket", "s3://data/sds/ cannot be listed: there is no such bucket; correct its name"),
        (
            403,
            "AccessDenied",
            "s3://data/sds/ cannot be listed: you have no right to do this; check the credentials",
        ),
        (
            301,
            "PermanentRedirect",
            "s3://data/sds/ cannot be listed: it is in another region; add ?region=NAME",
        ),
        (400, "AuthorizationHeaderMalformed", "s3://data/sds/ cannot be listed: it is in another region; add ?region=NAME"),
        (403, "RequestTimeTooSkewed", "s3://data/sds/ cannot be listed: the clock of this machine is off; set it, by NTP for example"),
    ],
)
def test_a_refusal_names_its_cause_and_the_fix(s3: Proxy, status: int, code: str, told: str, run) -> None:
    s3.harm = lambda handler: handler.refuse(status, code)
    ended, lines = run("pick", "s3://data/sds", "--layout", "sds", "--out", "s3://mine/run")
    assert 1 == ended
    assert told in lines


def test_a_bucket_that_is_missing_is_named(s3: Proxy, run) -> None:
    ended, lines = run("pick", "s3://nothere/sds", "--layout", "sds", "--out", "s3://mine/run")
    assert (1, True) == (ended, "s3://nothere/sds/ cannot be listed: there is no such bucket; correct its name" in lines)


def test_an_empty_prefix_is_told(s3: Proxy, run) -> None:
    ended, lines = run("pick", "s3://data/empty", "--layout", "sds", "--out", "s3://mine/run")
    assert (1, True) == (ended, "nothing to pick in s3://data/empty: no objects were found there" in lines)


def test_no_secret_is_written_anywhere(ask, s3: Proxy, tmp_path: Path) -> None:
    picked(ask(source="s3://data/sds?region=us-east-1", out="s3://mine/run", stations=["DEF"]), tmp_path / "plan")
    out = Storage("s3://mine/run")
    written = [out.read(found.key) or b"" for found in out.list()]
    assert len(written) > 3
    assert not any(os.environ["AWS_SECRET_ACCESS_KEY"].encode() in content or b"region" in content for content in written)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://data/sds?secret_access_key=x", "the option secret_access_key in a URL is unknown; wanted region, endpoint"),
        ("https://me:secret@data.org/sds", "the URL holds a user name or a password; wanted credentials in the environment"),
        ("ftp://data.org/sds", "ftp:// is unknown; wanted a folder or one of s3://, gs://"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_its_secret(url: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Storage(url)
    assert told in str(caught.value)
    assert "secret@" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere cannot be opened: there is no such folder; wanted a folder that exists, or s3://"):
        Storage(str(tmp_path / "nowhere"))
