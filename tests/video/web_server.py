"""A web server of this machine: serves a folder, counts what it is asked, fails or stalls where it is told to."""

import functools
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class WebServer:
    """What tests see of it.

    Attributes:
        address: such as http://127.0.0.1:1234.
        asked: methods and paths, with queries.
        answers: status by path, in the place of the file, as often as the number says.
        stalls: paths that never answer, until `go_on` is set.
    """

    def __init__(self) -> None:
        self.address = ""
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, list[int]] = {}
        self.stalls: set[str] = set()
        self.go_on = threading.Event()


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args: Any, facts: WebServer, **options: Any) -> None:
        self.facts = facts
        super().__init__(*args, **options)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_head(self) -> Any:
        path = self.path.partition("?")[0]
        self.facts.asked[f"{self.command} {self.path}"] += 1
        if path in self.facts.stalls and self.command == "GET":
            self.facts.go_on.wait(30)
        if self.command == "GET" and self.facts.answers.get(path):
            self.send_error(self.facts.answers[path].pop(0))
            return None
        return super().send_head()


@contextmanager
def serving(folder: Path) -> Iterator[WebServer]:
    """Serve a folder."""
    facts = WebServer()
    handler = functools.partial(_Handler, facts=facts, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        facts.address = f"http://127.0.0.1:{server.server_port}"
        yield facts
        facts.go_on.set()
        server.shutdown()
