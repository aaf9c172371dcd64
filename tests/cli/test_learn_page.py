"""`accrete learn https://...`: pages beside files and folders, learned once, cleaned like files, refused in one sentence."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from accrete.cli.desk import Desk, short, sources
from accrete.cli.main import app
from accrete.data import extract, formats
from accrete.errors import OfflineError

ONE = "Edda Kolm keeps the lighthouse of Norvik, and every evening she writes down each ship that passes by the cape."
OTHER = "Bertil Raun repairs the nets of the harbour in winter, and in summer he sells smoked fish beside the old quay."
PAGES = {"/norvik": f"<h1>Norvik</h1><p>{ONE}</p>", "/harbour": f"<h1>Harbour</h1><p>{ONE}</p><p>{OTHER}</p>"}


@pytest.fixture
def in_this_process(monkeypatch):
    """HTML is read without a child process, which costs most of the time here."""
    monkeypatch.setattr(formats, "extract", lambda kind, raw, name: extract.READERS[kind](raw, extract.Clock()))


@pytest.fixture
def place():
    """The address of a server of two pages; /moved leads to the first, all else is 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302 if self.path == "/moved" else 200 if self.path in PAGES else 404)
            self.send_header("Location", "/norvik")
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f"<html><body><article>{PAGES.get(self.path, '')}</article></body></html>".encode())

        def log_message(self, *arguments): ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def learn(model_directory, home):
    def run(*arguments):
        common = ["--model", model_directory, "--home", home, "--method", "retrieve", "--study", "off"]
        return CliRunner().invoke(app, [str(part) for part in ("learn", *arguments, *common)])

    return run


def test_pages_and_files_in_one_call(learn, place, tmp_path):
    file = tmp_path / "notes.md"
    file.write_text("The cape of Norvik is steep, and in 1874 the keeper built a railing of oak along its edge.\n")
    result = learn(f"{place}/norvik", file, f"{place}/none", "--allow-private", "--json")
    page, notes, failed = map(json.loads, result.stdout.splitlines())
    assert page["document"] == "127.0.0.1/norvik" and notes["document"] == "notes.md"
    assert failed["document"] == f"{place}/none" and "404" in failed["error"]
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    again = json.loads(learn(f"{place}/moved", "--allow-private", "--json").stdout)
    assert again["already_learned"] and again["commit"] == page["commit"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--offline", "https://example.org/"], "the network is switched off (--offline)"),
        (["ftp://x"], "only http and https"),
        (["https://user:secret@example.org/"], "no name or password"),
        (["PLACE/norvik"], "no public address; --allow-private"),
    ],
)
def test_a_page_that_is_not_fetched_is_one_sentence(learn, place, arguments, said):
    result = learn(*(word.replace("PLACE", place) for word in arguments))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("accrete: ") and result.stderr.count("\n") == 1
    assert said in result.stderr and "secret" not in result.stderr


def test_offline_no_socket_is_opened_whoever_says_so(learn, monkeypatch, tmp_path):
    for name in ("getaddrinfo", "socket"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("the network was touched"))
    monkeypatch.setenv("ACCRETE_OFFLINE", "1")
    (tmp_path / "notes.md").write_text(ONE)
    result = learn(tmp_path / "notes.md", "https://example.org/")
    assert (result.exit_code, result.stdout) == (1, "") and "(--offline)" in result.stderr  # before the first lesson
    with pytest.raises(OfflineError):
        Desk(offline=True).read("https://example.org/")


def test_pages_are_cleaned_like_files_and_forgotten_by_where_they_were_found(place, in_this_process):
    desk = Desk(allow_private=True)
    assert ONE in desk.read(f"{place}/moved")[0].text
    second, left_out = desk.read(f"{place}/harbour")
    assert OTHER in second.text and ONE not in second.text and len(left_out) == 1
    desk.forget(f"{place}/moved")
    desk.forget(f"{place}/harbour")
    assert ONE in desk.read(f"{place}/harbour")[0].text
    assert ONE in Desk(clean=False, allow_private=True).read(f"{place}/harbour")[0].text


def test_the_queue_holds_each_once(tmp_path):
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(ONE)
    named = [str(tmp_path / "b.md"), "HTTPS://Example.org:443/x#one", str(tmp_path), "https://example.org/x#two"]
    queue = sources(named)
    assert queue == [tmp_path / "b.md", "https://example.org/x", tmp_path / "a.md"]
    assert [short(source) for source in queue] == ["b.md", "example.org/x", "a.md"]
