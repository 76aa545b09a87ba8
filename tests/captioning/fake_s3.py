"""As much of S3 as reading takes: folders are listed, objects have a size, a tag and a content."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DATE = "Mon, 01 Jan 2024 00:00:00 GMT"


class _Handler(http.server.BaseHTTPRequestHandler):
    objects: dict[str, bytes]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body may wait 40 ms behind its headers

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = parse_qs(parts.query, keep_blank_values=True)
        if "list-type" in query:
            self._list(bucket, query.get("prefix", [""])[0], query.get("delimiter", [""])[0])
        elif (content := self.objects.get(f"{bucket}/{key}")) is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
        else:
            self._answer(200, content, {"ETag": _tag(content), "Last-Modified": DATE})

    def _list(self, bucket: str, prefix: str, delimiter: str) -> None:
        keys = sorted(name.partition("/")[2] for name in self.objects if name.startswith(f"{bucket}/{prefix}"))
        folders = {prefix + rest[: rest.index("/") + 1] for key in keys if "/" in (rest := key[len(prefix) :])}
        shown = [key for key in keys if not delimiter or "/" not in key[len(prefix) :]]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>"
            f"{escape(_tag(self.objects[f'{bucket}/{key}']))}</ETag><Size>{len(self.objects[f'{bucket}/{key}'])}</Size>"
            "</Contents>"
            for key in shown
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders))
        self._answer(
            200,
            f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name><Prefix>'
            f"{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated><KeyCount>{len(shown)}</KeyCount>{contents}"
            f"{common if delimiter else ''}</ListBucketResult>".encode(),
            {"Content-Type": "application/xml"},
        )

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@contextmanager
def serving(objects: dict[str, bytes]) -> Iterator[str]:
    """Serve objects, by bucket and key; gives the address of the server."""
    handler = type("Handler", (_Handler,), {"objects": objects})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
