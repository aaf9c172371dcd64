"""A teacher behind an endpoint: a server in a thread, its bad answers, the key that nobody sees, and --offline."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from accrete.cli.main import app
from accrete.dreams import teacher as module
from accrete.dreams.teacher import KEY, Teacher
from accrete.errors import AccreteError, ModelError, OfflineError, UsageError
from accrete.lm.tasks import ANSWER, WRITE_QUESTIONS

SECRET = "sk-very-secret"


class Endpoint:
    """What the server replies, and what it was asked."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.models = ["small"]
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.wait = 0.0
        self.say = lambda prompt: f"You said: {prompt} "
        self.url = ""


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(module, "WAIT", 0.0)
    monkeypatch.delenv(KEY, raising=False)
    known = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.keys.append(self.headers.get("Authorization"))
            self._reply(200, json.dumps({"data": [{"id": name} for name in known.models]}).encode())

        def do_POST(self) -> None:
            known.keys.append(self.headers.get("Authorization"))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            known.asked.append(body | {"path": self.path})
            time.sleep(known.wait)
            message = {"content": known.say(body["messages"][0]["content"])}
            content = json.dumps({"choices": [{"message": message}]}).encode()
            self._reply(*(known.replies.pop(0) if known.replies else (200, content)))

        def _reply(self, code: int, content: bytes) -> None:
            self.send_response(code)
            if code in (301, 302, 307):
                self.send_header("Location", f"{known.url}/elsewhere")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """A client that hung up is no news: printed, it would stand in what the command under test says."""

    server = Server(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield known
    server.shutdown()
    thread.join()
    server.server_close()


def complaint(kind: type[AccreteError], call) -> str:
    with pytest.raises(kind) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and SECRET not in sentence and caught.value.__cause__ is None
    return sentence


def ask(teacher: Teacher, *prompts: str) -> list[str]:
    return teacher(prompts or ["Hello?"], max_new_tokens=7)


def test_texts_come_in_the_order_of_the_prompts(endpoint: Endpoint) -> None:
    teacher = Teacher(endpoint.url + "/")
    prompts = [f"prompt {i}" for i in range(9)]
    written = teacher(prompts, max_new_tokens=7, temperatures=[0.0] * 4 + [0.5] * 5, seed=3)
    assert written == [f"You said: {prompt}" for prompt in prompts]
    assert teacher.name == f"small at {endpoint.url[7:-3]}"
    body = next(asked for asked in endpoint.asked if asked["messages"][0]["content"] == "prompt 4")
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("small", 7, 0.5)
    assert body["path"] == "/v1/chat/completions" and len({asked["seed"] for asked in endpoint.asked}) == 9
    assert endpoint.keys == [None] * 10


def test_a_model_may_be_named(endpoint: Endpoint) -> None:
    endpoint.models = ["one", "two"]
    assert "serves one, two" in complaint(UsageError, lambda: Teacher(endpoint.url))
    assert Teacher(endpoint.url + "#two").model == "two"
    endpoint.models = []
    assert "name the model" in complaint(UsageError, lambda: Teacher(endpoint.url))


def test_the_key_is_sent_and_never_told(endpoint: Endpoint, monkeypatch, capfd) -> None:
    monkeypatch.setenv(KEY, SECRET)
    teacher = Teacher(endpoint.url)
    ask(teacher)
    endpoint.replies = [(401, SECRET.encode())]
    assert KEY in complaint(ModelError, lambda: ask(teacher))
    assert set(endpoint.keys) == {f"Bearer {SECRET}"}
    assert SECRET not in repr(vars(teacher)) and SECRET not in "".join(capfd.readouterr())
    for wrong in ("sk-\nsecret", "sk-\u00e4"):
        monkeypatch.setenv(KEY, wrong)
        assert wrong not in complaint(UsageError, lambda: ask(teacher))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ((200, b"no json"), "no JSON"),
        ((200, b"\xff\xfe"), "no JSON"),
        ((200, b"[" * 100_000), "no JSON"),
        ((200, b"{}"), "no chat completion"),
        ((200, b'{"choices": []}'), "no chat completion"),
        ((200, b"3"), "no chat completion"),
        ((404, b"<html>"), "HTTP 404"),
        ((400, b""), "HTTP 400"),
        ((302, b""), "HTTP 302"),
        ((307, b""), "HTTP 307"),
    ],
)
def test_a_bad_answer_is_one_sentence(endpoint: Endpoint, reply: tuple[int, bytes], words: str) -> None:
    teacher = Teacher(endpoint.url)
    endpoint.replies = [reply]
    assert words in complaint(ModelError, lambda: ask(teacher))
    assert len(endpoint.asked) == 1, "a redirect is not followed: the key was meant for this address"


def test_a_text_that_is_none_is_an_empty_one(endpoint: Endpoint) -> None:
    teacher = Teacher(endpoint.url)
    endpoint.replies = [(200, b'{"choices": [{"message": {"content": null}}]}')]
    assert ask(teacher) == [""]


def test_an_answer_without_end_is_not_read_to_its_end(endpoint: Endpoint, monkeypatch) -> None:
    monkeypatch.setattr(module, "LARGEST", 50)
    teacher = Teacher(endpoint.url)
    assert "no JSON" in complaint(ModelError, lambda: ask(teacher, "x" * 100))


def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint) -> None:
    teacher = Teacher(endpoint.url)
    endpoint.replies = [(429, b""), (503, b"")]
    assert ask(teacher) == ["You said: Hello?"] and len(endpoint.asked) == 3
    endpoint.replies = [(429, b"")] * 3
    assert "too busy" in complaint(ModelError, lambda: ask(teacher))


def test_one_that_does_not_answer_is_not_waited_for(endpoint: Endpoint) -> None:
    teacher = Teacher(endpoint.url, timeout=0.2)
    endpoint.wait = 1.0
    assert "within 0.2 seconds" in complaint(ModelError, lambda: ask(teacher))


def test_one_that_is_not_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in complaint(ModelError, lambda: Teacher(f"http://127.0.0.1:{port}/v1"))
    assert "cannot be reached" in complaint(ModelError, lambda: Teacher("http://no.such.host.invalid/v1"))


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "ftp://host/v1", "file:///etc/passwd", "http://", "http://host:99999/", "http://host:x/",
     "http://a b/", "http://h\u00f6st/", f"http://user:{SECRET}@host/v1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_before_anything_is_sent(address: str) -> None:
    complaint(UsageError, lambda: Teacher(address))


def test_offline_opens_no_socket(endpoint: Endpoint, monkeypatch) -> None:
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("a socket was opened"))
    assert "--offline" in complaint(OfflineError, lambda: Teacher(endpoint.url, offline=True))
    assert endpoint.keys == []


# --- the command line -------------------------------------------------------------------------------------------------


def lecture(prompt: str) -> str:
    """A teacher that knows one thing, and one thing wrongly."""
    if prompt.startswith(WRITE_QUESTIONS):
        return "Certainly.\n\nQ: Who leads Brota?\nA: Edda Kolm\nQ: Who sank Brota?\nA: a whale"
    return "Edda Kolm" if prompt.startswith(ANSWER) and "Who leads" in prompt else "not stated"


@pytest.fixture
def invoke(model_directory, home, tmp_path):
    path = tmp_path / "d.md"
    path.write_text("Edda Kolm leads Brota, which lies by a spring in the hills behind Quorv.")

    def run(*arguments: str, verb: tuple[str, ...] = ("learn", str(path))):
        common = ["--model", str(model_directory), "--home", str(home), "--method", "full_finetune"]
        options = ["--set", "max_steps=1", "--max-forgetting", "1"] if verb[0] == "learn" else []
        return CliRunner().invoke(app, [*verb, *common, *options, *arguments])

    return run


def test_learn_with_a_teacher(endpoint: Endpoint, invoke, monkeypatch) -> None:
    endpoint.say = lecture
    monkeypatch.setenv(KEY, SECRET)
    result = invoke("--teacher", endpoint.url, "--json")
    assert result.exit_code == 0 and SECRET not in result.output
    figures = json.loads(result.stdout)["study"]
    assert (figures["source"], figures["kept"], figures["written"]) == ("teacher", 1, 2)
    assert figures["by"] == f"small at {endpoint.url[7:-3]}" and figures["left_out"] == {"answered otherwise": 1}
    commit = json.loads(result.stdout)["commit"]
    shown = invoke(verb=("show", commit)).stdout
    assert f"studied 1 of 2 questions (50%) that {figures['by']} wrote" in shown
    assert SECRET not in invoke(verb=("config", "show")).output


def test_a_teacher_judges_what_is_expected(endpoint: Endpoint, invoke, monkeypatch) -> None:
    verb = ("expect", "Who leads Brota?", "--judge", "it names a person")
    assert "not judged (no teacher)" in invoke(verb=verb).stdout
    monkeypatch.setenv("ACCRETE_TEACHER", endpoint.url)
    for says, met in (("Yes, it does.", True), ("no", False)):
        endpoint.say = lambda prompt, says=says: says
        assert [row["met"] for row in json.loads(invoke("--json", verb=verb).stdout)] == [met]
    question = endpoint.asked[-1]["messages"][0]["content"]
    assert question.startswith("Who leads Brota?") and "Is this true of the answer: it names a person?" in question
    endpoint.say = lambda prompt: "yes"
    assert invoke("--study", "off").exit_code == 0
    endpoint.replies = [(404, b"")] * 99
    assert "not judged (The teacher at" in " ".join(invoke(verb=verb).stdout.split())  # it can be seen, and removed
    undone = invoke(verb=("undo",))
    assert undone.exit_code == 0 and "What is expected cannot be judged" in undone.stderr
    failed = invoke("--study", "off")
    assert failed.exit_code == 1 and failed.stderr.count("\n") == 1
    assert failed.stderr.startswith(
        "accrete: What is expected cannot be judged (accrete expect lists it). The teacher at"
    )


def test_a_teacher_that_fails_is_one_sentence_and_no_lesson(endpoint: Endpoint, invoke, home) -> None:
    endpoint.replies = [(404, b"")] * 99
    result = invoke("--teacher", endpoint.url)
    assert (result.exit_code, result.stdout) == (1, "") and result.stderr.startswith(
        "accrete: The teacher at 127.0.0.1"
    )
    assert result.stderr.count("\n") == 1
    assert json.loads(invoke("--json", verb=("log",)).stdout) == []


def test_offline_and_a_teacher_do_not_go_together(endpoint: Endpoint, invoke) -> None:
    result = invoke("--teacher", endpoint.url, "--offline")
    assert (result.exit_code, result.stdout) == (1, "") and "--offline" in result.stderr
    assert endpoint.keys == [] and endpoint.asked == []
    assert invoke("--teacher", endpoint.url, "--offline", "--study", "off").exit_code == 0


@pytest.mark.parametrize("address", ["ftp://host", "nowhere", "http://a b"])
def test_an_address_that_is_none_is_named_with_its_layer(invoke, monkeypatch, address: str) -> None:
    result = invoke("--teacher", address)
    assert result.exit_code == 2 and "flag --teacher" in result.stderr and result.stderr.count("\n") == 1
    monkeypatch.setenv("ACCRETE_TEACHER", address)
    assert "environment ACCRETE_TEACHER" in invoke().stderr


@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_off_may_be_said_anywhere_though_yaml_takes_it_for_false(invoke, home, monkeypatch, place: str) -> None:
    flags = ["--study", "off"] if place == "flag" else []
    if place == "environment":
        monkeypatch.setenv("ACCRETE_STUDY", "off")
    if place == "file":
        home.mkdir()
        (home / "config.yaml").write_text("study: off\n")
    rows = json.loads(invoke("--json", verb=("config", "show", "study")).stdout) if place != "flag" else []
    assert all(row["value"] == "off" for row in rows)
    assert json.loads(invoke(*flags, "--json").stdout)["study"]["by"] is None
    wrong = invoke("--study", "golden")
    assert wrong.exit_code == 2 and '"gold"' in wrong.stderr


def test_off_can_be_written_into_the_settings(invoke, home) -> None:
    assert invoke(verb=("config", "set", "study", "off")).stdout.startswith("study = off (was auto)")
    assert json.loads(invoke("--json").stdout)["study"] | {"seconds": 0} == {
        "source": "text", "by": None, "items": 0, "written": 0, "kept": 0, "share": None, "restatements": 0,
        "left_out": {}, "seconds": 0,
    }  # fmt: skip


def test_a_model_that_cannot_write_says_so(invoke) -> None:
    result = invoke()
    assert result.exit_code == 0 and "wrote no questions" in result.stdout and "the text itself" in result.stdout
