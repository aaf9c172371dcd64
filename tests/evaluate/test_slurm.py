"""scripts/slurm_compare.sh with a made-up sbatch and accrete: what is submitted, what a task runs, what is joined."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm_compare.sh"
SBATCH = """#!/bin/bash
printf '%s\\n' "$*" >>"$(dirname "$0")/submitted"
echo "$((40 + $(wc -l <"$(dirname "$0")/submitted")));cluster"
"""
ACCRETE = """#!/bin/bash
here=$(dirname "$0")
if [ "$1" = methods ]; then
    echo '[{"name": "ant", "summary": "the \\"name\\"", "capabilities": ["name"]}, {"name": "bee_two", "summary": ""}]'
    exit
fi
if [ "$1" = streams ]; then
    if [ "$2" = nosuch ]; then echo "no stream" >&2; exit 2; fi
    exit
fi
printf '%s\\n' "$@" >"$here/called"
exit "${FAILS:-0}"
"""


@pytest.fixture
def slurm(tmp_path):
    """Runs the script with both beside it on the path; the environment may say that it runs as a task."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("sbatch", SBATCH), ("accrete", ACCRETE)):
        (tools / name).write_text(text)
        (tools / name).chmod((tools / name).stat().st_mode | stat.S_IXUSR)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_", "ACCRETE"))}

    def call(*arguments, **environment):
        path = {"PATH": f"{tools}:{os.environ['PATH']}", "ACCRETE": str(tools / "accrete")}
        return subprocess.run(
            ["bash", SCRIPT, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path,
            env=clean | path | environment,
        )  # fmt: skip

    call.told = lambda name: (tools / name).read_text().splitlines() if (tools / name).exists() else []
    return call


def test_the_script_is_sound_shell():
    assert subprocess.run(["bash", "-n", SCRIPT]).returncode == 0 and os.access(SCRIPT, os.X_OK)


def test_all_methods_are_an_array_and_the_merge_waits_for_it(slurm, tmp_path):
    result = slurm(
        "--stream", "temporal", "--limit", 60, "--methods", "all", "--out", "a b", SBATCH_OPTIONS="--time=9 -p x"
    )
    assert result.returncode == 0, result.stderr
    out = tmp_path / "a b"
    assert (out / "methods.txt").read_text() == "ant\nbee_two\n"
    array, merge = slurm.told("submitted")
    assert "--time=9 -p x" in array and "--array=0-1" in array
    assert array.endswith(f"{SCRIPT} --stream temporal --limit 60 --out {out}")
    assert "--dependency=afterany:41" in merge and merge.endswith(f"{SCRIPT} --merge --out {out}")
    assert "Job 41 measures 2 methods, job 42 joins them" in result.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--stream", "nosuch"), "no stream"),
        (("--stream=nosuch",), "no stream"),
        (("--stream", "world", "--methods", "cat,ant"), "There is no method cat; known: ant bee_two."),
        (("--stream", "world", "--methods", "all,cat"), "There is no method cat; known: ant bee_two."),
        (("--stream", "world", "--methods", "nosuch,ant"), "There is no method nosuch"),
        (("--stream", "world", "--methods", ","), "There is no method to measure; known: ant bee_two."),
        (("--stream",), "Name a stream with --stream"),
        (("--document", "nowhere.md"), "There is no document nowhere.md."),
        (("--limit", "3"), "Name a stream with --stream, or a document with --document."),
    ],
)
@pytest.mark.parametrize("dry", ["", "1"])
def test_what_every_task_would_stumble_over_is_said_before_anything_is_submitted(slurm, tmp_path, given, said, dry):
    result = slurm("--out", "o", *given, DRY_RUN=dry)
    assert result.returncode == 2 and said in result.stderr and slurm.told("submitted") == []
    assert result.stderr.count("\n") == 1 and "sbatch" not in result.stdout and not (tmp_path / "o").exists()


@pytest.mark.slow
def test_the_real_command_says_which_streams_and_methods_there_are(slurm):
    """Not only the made-up one: what `accrete methods --json` writes is what is read here."""
    real = {"ACCRETE": str(Path(sys.executable).parent / "accrete"), "DRY_RUN": "1", "OMP_NUM_THREADS": "1"}
    wrong = slurm("--stream", "nosuch", "--methods", "nosuch,retrieve", "--out", "o", **real)
    assert wrong.returncode == 2 and 'There is no stream "nosuch"' in wrong.stderr
    wrong = slurm("--stream", "world", "--methods", "nosuch,retrieve", "--out", "o", **real)
    assert wrong.returncode == 2 and "There is no method nosuch; known: " in wrong.stderr and "retrieve" in wrong.stderr
    assert slurm("--stream", "world", "--methods", "retrieve", "--out", "o", **real).stderr.count("sbatch ") == 2


def test_without_slurm_it_says_so_and_help_is_the_head_of_the_file(slurm):
    bare = slurm("--stream", "world", "--out", "o", PATH="/usr/bin:/bin")
    assert bare.returncode == 1 and bare.stderr.count("\n") == 1 and "no sbatch here" in bare.stderr
    helped = slurm("--help")
    assert (
        helped.returncode == 0
        and helped.stdout.startswith("`accrete compare` on a Slurm cluster")
        and "set -e" not in helped.stdout
    )


def test_named_methods_and_a_dry_run(slurm, tmp_path):
    result = slurm("--out=o", "--methods=bee_two, ant", "--stream", "world", DRY_RUN="1")
    assert result.returncode == 0 and slurm.told("submitted") == []
    assert result.stderr.count("sbatch ") == 2 and "afterany:ID" in result.stderr
    assert (tmp_path / "o" / "methods.txt").read_text() == "bee_two\nant\n"


def test_a_task_measures_its_method_with_the_same_command(slurm, tmp_path):
    out = tmp_path / "o"
    slurm("--out", out, "--stream", "temporal")
    assert slurm("--stream", "temporal", "--set", "rate=1 2", "--out", out, SLURM_ARRAY_TASK_ID="1").returncode == 0
    assert slurm.told("called") == [
        "compare", "--stream", "temporal", "--set", "rate=1 2", "--methods", "bee_two", "--out", f"{out}/bee_two",
    ]  # fmt: skip
    assert slurm("--out", out, SLURM_ARRAY_TASK_ID="1", FAILS="1").returncode == 1
    beyond = slurm("--out", out, SLURM_ARRAY_TASK_ID="2")
    assert beyond.returncode == 2 and "no method 2" in beyond.stderr


def test_a_task_leaves_the_options_of_other_methods_to_theirs(slurm, tmp_path):
    """`compare` refuses an option of a method that it does not measure; one that there is not is still refused."""
    out = tmp_path / "o"
    slurm("--out", out, "--stream", "x")
    given = (
        "--set",
        "ant.rate=1",
        "--set=bee_two.rate=0.5",
        "--stream",
        "x",
        "--set",
        "bee_two.note=a.b=c",
        "--set",
        "bea.x=1",
    )
    slurm(*given, "--set", "size=1.5", "--out", out, SLURM_ARRAY_TASK_ID="1")
    assert slurm.told("called") == [
        "compare", "--set=bee_two.rate=0.5", "--stream", "x", "--set", "bee_two.note=a.b=c", "--set", "bea.x=1",
        "--set", "size=1.5", "--methods", "bee_two", "--out", f"{out}/bee_two",
    ]  # fmt: skip
    slurm(*given, "--out", out, SLURM_ARRAY_TASK_ID="0")
    assert slurm.told("called")[:6] == ["compare", "--set", "ant.rate=1", "--stream", "x", "--set"]


def test_the_merge_takes_what_is_there_and_names_what_is_not(slurm, tmp_path):
    out = tmp_path / "o"
    slurm("--out", out, "--stream", "temporal")
    assert slurm("--merge", "--out", out).returncode == 2 and slurm.told("called") == []
    for name in ("ant", "bee_two"):
        result = slurm("--merge", "--out", out)
        (out / name).mkdir()
        (out / name / "results.json").write_text("{}")
    assert result.returncode == 1 and "bee_two has no results" in result.stderr
    assert slurm.told("called") == ["compare", "--merge", f"{out}/ant", "--out", str(out)]
    assert slurm("--merge", "--out", out).returncode == 0
    assert slurm.told("called") == ["compare", "--merge", f"{out}/ant", f"{out}/bee_two", "--out", str(out)]
    assert slurm("--merge", "--out", out, FAILS="1").returncode == 1  # a row with an error


@pytest.mark.parametrize(
    "arguments", [("--stream", "x"), ("--out",), ("--merge", "--out", "nowhere"), ("--out", "o", "--methods", "")]
)
def test_what_is_missing_is_one_sentence(slurm, arguments):
    result = slurm(*arguments)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and slurm.told("submitted") == []
