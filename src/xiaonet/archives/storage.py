"""Folders and object storage by URL: list, fetch, read, write.

All of it is done by obstore, which repeats requests that fail with growing pauses and finds credentials as the clients of the clouds
do: in environment variables, in the file of a web identity, or from the machine it runs on.
"""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from xiaonet.errors import ConfigError, StorageError
from xiaonet.extras import import_for

SCHEMES = ("s3", "gs", "az", "https", "http", "file")
OPTIONS = ("region", "endpoint", "skip_signature", "request_payer", "virtual_hosted_style_request")  # in a URL, after `?`
SLOWEST_S = 300  # of one request
FETCH_TRIES = 4  # of an object whose content breaks off
NEEDS = "an archive or a dataset of --layout"
CHUNK = 2**20  # bytes of an object that are in memory
LISTED = 1000  # objects at once
CAUSES = (  # text in a message of obstore, what is wrong, and the fix
    ("NoSuchBucket", "there is no such bucket", "correct its name"),
    ("RequestTimeTooSkewed", "the clock of this machine is off", "set it, by NTP for example"),
    ("AuthorizationHeaderMalformed", "it is in another region", "add ?region=NAME to the URL, or set AWS_REGION"),
    ("PermanentRedirect", "it is in another region", "add ?region=NAME to the URL, or set AWS_REGION"),
    ("redirect", "it is in another region", "add ?region=NAME to the URL, or set AWS_REGION"),
    ("169.254", "no credentials were found", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; for public data add ?skip_signature=true"),
    ("403", "you have no right to do this", "check the credentials and the policy of the bucket"),
    ("401", "you have no right to do this", "check the credentials and the policy of the bucket"),
    ("Connection refused", "nobody answers there", "check the address"),
    ("dns error", "there is no such host", "check the address"),
)


class Object(NamedTuple):
    """An object as it was listed. `stamp` is its ETag, or the time of its last change where it has none."""

    key: str
    size: int
    stamp: str


class Storage:
    """A folder or a prefix of a bucket.

    Args:
        url: a folder that exists, or `s3://BUCKET/PREFIX`, `gs://`, `az://ACCOUNT/CONTAINER/PREFIX` or `https://`, with options such as
            `?region=us-west-2&skip_signature=true`.
        create: make the folder if it is missing.

    Attributes:
        url: the same without options.
        folder: of local storage; None for other storage.

    Raises:
        ConfigError: the URL has an unknown scheme or option, or it holds a password.
        MissingPackageError: obstore is not installed.
        StorageError: there is no such folder, or it cannot be made.
    """

    def __init__(self, url: str, *, create: bool = False) -> None:
        stores = import_for(NEEDS, "obstore.store")
        parts = urlsplit(url)
        self.folder = None
        self.url = url.partition("?")[0].rstrip("/")
        try:
            if parts.scheme in ("", "file"):
                self.folder = Path(parts.path if parts.scheme else url).resolve()
                self.url = str(self.folder)
                if not create and not self.folder.is_dir():
                    raise ValueError("there is no such folder")
                self._store: Any = stores.LocalStore(self.folder, mkdir=create)
                return
            self._store = stores.from_url(
                self.url,
                **_options(url),
                client_options={"timeout": timedelta(seconds=SLOWEST_S), "allow_http": True},
                retry_config={"max_retries": 8, "backoff": {"init_backoff": timedelta(milliseconds=200)}},
            )
        except (ValueError, OSError, stores_errors()) as error:
            if isinstance(error, ConfigError):
                raise
            wanted = "a folder that exists, or s3://BUCKET/PREFIX, gs:// or az://"
            raise StorageError(f"{self.url} cannot be opened: {_first_line(error)}; wanted {wanted}") from error

    def list(self, prefix: str = "") -> Iterator[Object]:
        """All objects below a prefix, a folder of the names. Hidden ones are left out.

        Raises:
            StorageError: it cannot be listed.
        """
        try:
            for chunk in self._store.list(prefix or None, chunk_size=LISTED):
                for found in chunk:
                    if "/." not in f"/{found['path']}":
                        yield Object(found["path"], found["size"], found["e_tag"] or found["last_modified"].isoformat())
        except FileNotFoundError:
            return
        except stores_errors() as error:
            raise _explained(f"{self.url}/{prefix} cannot be listed", error) from error

    def fetch(self, wanted: Object, folder: Path) -> Path:
        """A local file with the content of an object; a copy in `folder` unless the storage is local.

        Raises:
            StorageError: it cannot be read, or it has changed since it was listed.
        """
        changed = f"{self.url}/{wanted.key} cannot be used: it has changed since it was listed; repeat the run with --resume"
        try:
            if self.folder is not None or not wanted.stamp.startswith('"'):
                found = self._store.head(wanted.key)
                if (found["size"], found["e_tag"] or found["last_modified"].isoformat()) != wanted[1:]:
                    raise StorageError(changed)
            if self.folder is not None:
                return self.folder / wanted.key
            target = folder / wanted.key
            target.parent.mkdir(parents=True, exist_ok=True)
            self._download(wanted, target)
            return target
        except FileNotFoundError as error:
            gone = f"{self.url}/{wanted.key} cannot be used: it is gone since it was listed; repeat the run with --resume"
            raise StorageError(gone) from error
        except stores_errors() as error:
            if type(error).__name__ == "PreconditionError":
                raise StorageError(changed) from error
            raise _explained(f"{self.url}/{wanted.key} cannot be read", error) from error

    def _download(self, wanted: Object, target: Path) -> None:
        """Download an object, again where its content breaks off."""
        options = {"if_match": wanted.stamp} if wanted.stamp.startswith('"') else {}
        for number in range(FETCH_TRIES):
            try:
                with target.open("wb") as file:
                    for chunk in self._store.get(wanted.key, options=options).stream(min_chunk_size=CHUNK):
                        file.write(chunk)
                if (size := target.stat().st_size) == wanted.size:
                    return
                broken: Exception = StorageError(f"{self.url}/{wanted.key} breaks off: {size} bytes arrived; wanted {wanted.size}")
            except stores_errors() as error:
                if type(error).__name__ != "GenericError":
                    raise
                broken = error
            time.sleep(0.2 * 4**number)
        raise broken

    def read(self, key: str) -> bytes | None:
        """The content of an object; None if there is none.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return bytes(self._store.get(key).bytes())
        except FileNotFoundError:
            return None
        except stores_errors() as error:
            raise _explained(f"{self.url}/{key} cannot be read", error) from error

    def write(self, key: str, content: bytes, *, new: bool = False) -> bool:
        """Write an object as a whole. With `new`, it is not written if there is one already, and False is returned.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            self._store.put(key, content, mode="create" if new else "overwrite")
        except FileExistsError:
            return False
        except stores_errors() as error:
            if type(error).__name__ == "AlreadyExistsError":
                return False
            raise _explained(f"{self.url}/{key} cannot be written", error) from error
        return True

    def delete(self, key: str) -> None:
        """Delete an object, if it is there.

        Raises:
            StorageError: it cannot be deleted.
        """
        try:
            with suppress(FileNotFoundError):
                self._store.delete(key)
        except stores_errors() as error:
            raise _explained(f"{self.url}/{key} cannot be deleted", error) from error


def located(url: str) -> str:
    """The same URL; of a folder its whole path, which workers with another working folder understand."""
    return url if urlsplit(url).scheme else str(Path(url).resolve())


def stores_errors() -> Any:
    """The base of what obstore raises."""
    return import_for(NEEDS, "obstore.exceptions").BaseError


def _options(url: str) -> dict[str, str]:
    """The options in a URL."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"{parts.scheme}:// is unknown; wanted a folder or one of {', '.join(f'{name}://' for name in SCHEMES)}")
    if "@" in parts.netloc:
        raise ConfigError("the URL holds a user name or a password; wanted credentials in the environment, such as AWS_ACCESS_KEY_ID")
    options = dict(parse_qsl(parts.query))
    if strange := [name for name in options if name not in OPTIONS]:
        raise ConfigError(
            f"the option {strange[0]} in a URL is unknown; wanted {', '.join(OPTIONS)}; credentials belong in the environment"
        )
    return options


def _explained(what: str, error: Exception) -> StorageError:
    """An error that names the cause and the fix, where the message of obstore shows it."""
    text = str(error)
    for sign, cause, fix in CAUSES:
        if sign in text:
            return StorageError(f"{what}: {cause}; {fix}")
    return StorageError(f"{what}: {_first_line(error)}; check the URL and the network")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
