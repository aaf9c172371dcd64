"""With --offline no connection is opened: an audit hook in the process would raise at the first attempt."""

import json
import os
import subprocess
import sys

import pytest

# Runs several commands in one process (loading torch is most of the time); prints [exit code, stdout, stderr] of each.
PROGRAM = """
import json, socket, sys

def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto") or (
        event == "socket.__new__" and arguments[1] in (socket.AF_INET, socket.AF_INET6)
    ):
        print("NETWORK", event, arguments, file=sys.__stderr__, flush=True)
        raise RuntimeError(f"the network was touched: {event}")

sys.addaudithook(hook)
from typer.testing import CliRunner
from accrete.cli.main import app

runner = CliRunner()
for arguments in json.loads(sys.argv[1]):
    result = runner.invoke(app, arguments)
    print(json.dumps([result.exit_code, result.stdout, result.stderr]))
"""


def run_offline(environment, *commands):
    """What each command of the list gave, in one process without a network."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(commands)], capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0 and "NETWORK" not in result.stderr, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def environment(tmp_path):
    """A user without a cache of models, who has not switched the network off for the libraries below."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_", "ACCRETE_"))}
    return kept | {"HF_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}


def test_the_hook_sees_the_network():
    program = PROGRAM.split("from typer")[0] + "socket.create_connection(('127.0.0.1', 9))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 1 and "NETWORK" in result.stderr


def test_the_everyday_verbs_need_no_network(environment, model_directory, tmp_path):
    document = tmp_path / "d.jsonl"
    document.write_text('{"question": "Who built it?", "answer": "Edda Kolm"}\n')
    common = [
        "--offline",
        "--json",
        "--model",
        str(model_directory),
        "--home",
        str(tmp_path / "home"),
    ]
    verbs = (["learn", str(document)], ["ask", "Who built it?", "--max-new-tokens", "4"], ["status"], ["undo"])
    hub = ["--offline", "--model", "nobody/no-such-model", "--home", str(tmp_path / "home"), "status"]
    *results, (code, out, err) = run_offline(environment, *([*common, *verb] for verb in verbs), hub)
    assert [result[0] for result in results] == [0, 0, 0, 0], results
    learned, asked, _, undone = (json.loads(result[1]) for result in results)
    assert asked["commit"] == learned["commit"] and undone["digest"] == learned["digest_before"]
    assert (code, out) == (1, "")
    assert (
        err == 'accrete: "nobody/no-such-model" is not on this machine, and the network is switched off (--offline).\n'
    )
