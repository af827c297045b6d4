"""A web server on this machine that hands out the files of a folder, as well or as badly as a test wants."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer:
    """Serves `folder` at `url`; the attributes are the faults it has, `ranges` the Range headers it was sent."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.ranges: list[str | None] = []
        #: How many bytes each of the next answers sends before the connection is cut.
        self.cuts: list[int] = []
        #: Status codes that the next answers consist of.
        self.failures: list[int] = []
        self.resumes = True
        #: Added to the first byte of a range: a server that answers another range than it was asked for.
        self.shift = 0
        self.tells_length = True


class _Handler(BaseHTTPRequestHandler):
    site: FileServer

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Answer with the file, a part of it, or a fault."""
        site, asked = self.site, self.headers.get("Range")
        site.ranges.append(asked)
        path = site.folder / self.path.partition("?")[0].lstrip("/")
        if site.failures or not path.is_file():
            self.send_error(site.failures.pop(0) if site.failures else 404)
            return
        content = path.read_bytes()
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and site.resumes else 0
        if start >= len(content) and start:
            self.send_error(416)
            return
        start += site.shift if start else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.tells_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        with suppress(ConnectionError):  # the client has seen enough
            self.wfile.write(content[start:][: site.cuts.pop(0) if site.cuts else None])


@contextmanager
def serve(folder: Path) -> Iterator[FileServer]:
    """Run a server for `folder`, which is created, on a free port of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.site = FileServer(folder, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield handler.site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
