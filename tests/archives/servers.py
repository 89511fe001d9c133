"""An S3 server on loopback, and a proxy before it that does harm."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REGION = "us-east-1"
Harm = Callable[["Handler"], bool]  # true if it has answered


def harmless(handler: "Handler") -> bool:
    return False


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the server at a port, unless `harm` answers them."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.harm, self.requests = port, harmless, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: str) -> bool:
        """Answer with an error of S3."""
        self.answer(status, f"<Error><Code>{code}</Code><Message>harm</Message></Error>".encode())
        return True

    def behind(self) -> tuple[int, bytes, dict[str, str]]:
        """The answer of the server behind."""
        size = int(self.headers.get("Content-Length") or 0)
        connection = HTTPConnection("127.0.0.1", self.server.behind)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection",)}
        connection.request(self.command, self.path, self.rfile.read(size), headers)
        response = connection.getresponse()
        content = response.read()
        kept = {
            name: value
            for name, value in response.getheaders()
            if name.lower() in ("etag", "last-modified", "content-type", "content-range")
        }
        length = response.getheader("Content-Length")
        connection.close()
        return response.status, content, kept | ({"X-Length": length} if length else {})

    def pass_on(self) -> None:
        self.server.requests += 1
        if self.server.harm(self):
            return
        status, content, headers = self.behind()
        length = headers.pop("X-Length", None)
        self.answer(status, content, headers, int(length) if self.command == "HEAD" and length else None)

    def log_message(self, *_: object) -> None:
        pass


for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
    setattr(Handler, f"do_{method}", Handler.pass_on)


@contextmanager
def s3_server() -> Iterator[Proxy]:
    """A proxy before an S3 server without buckets."""
    from moto.moto_api._internal.models import moto_api_backend
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    moto_api_backend.reset()
    _, port = server.get_host_and_port()
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.stop()


def make_bucket(proxy: Proxy, name: str) -> None:
    connection = HTTPConnection("127.0.0.1", proxy.behind)
    connection.request("PUT", f"/{name}")
    assert 200 == connection.getresponse().status
    connection.close()


def upload(folder: Path, url: str) -> None:
    """Copy a folder to object storage."""
    from xiaonet.archives.storage import Storage

    storage = Storage(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.write(str(path.relative_to(folder)), path.read_bytes())
