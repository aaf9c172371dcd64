"""Settings: four layers, the later winning, each value with its source; and what is wrong is one sentence naming the layer."""

from __future__ import annotations

import math
import subprocess
import sys
from importlib import resources

import pytest
from pydantic import Field

from accrete.config import Config
from accrete.errors import HomeError, UsageError
from accrete.settings import FILE, Settings, read_file, resolve, variable_for, write_file


class Options(Config):
    rate: float = Field(0.1, gt=0)
    steps: int = 3


@pytest.fixture
def write(home):
    """Write the home's config.yaml, text or bytes."""
    home.mkdir()
    return lambda content: (home / FILE).write_bytes(content if isinstance(content, bytes) else content.encode())


def complaint(home, flags=(), environment=(), kind=UsageError):
    with pytest.raises(kind) as caught:
        resolve(home, dict(flags), dict(environment))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


# --- layers ---------------------------------------------------------------------------------------------------------


def test_defaults(home):
    resolved = resolve(home, {}, {})
    assert resolved.settings == Settings() and resolved.settings.max_forgetting == 0.05
    assert set(resolved.sources.values()) == {"default"} and "options" not in resolved.sources
    assert not home.exists(), "asking creates nothing"


def test_the_later_layer_wins_and_is_named(home, write):
    write("model: one\ndevice: cpu\ndtype: float32\noptions:\n  method_a: {rate: 1e-3, steps: 4}\n")
    environment = {"ACCRETE_DEVICE": "cuda", "ACCRETE_DTYPE": "float16", "ACCRETE_METHOD_A__STEPS": "5", "PATH": "x"}
    resolved = resolve(home, {"dtype": "bfloat16", "offline": None, "clean": False}, environment)
    s, path = resolved.settings, str(home / FILE)
    assert (s.model, s.device, s.dtype, s.offline, s.clean) == ("one", "cuda", "bfloat16", False, False)
    wanted = {
        "model": path, "device": "environment ACCRETE_DEVICE", "dtype": "flag --dtype", "offline": "default",
        "clean": "flag --clean", "method_a.rate": path, "method_a.steps": "environment ACCRETE_METHOD_A__STEPS",
    }  # fmt: skip
    assert wanted.items() <= resolved.sources.items()
    flagged = resolved.with_options("method_a", {"rate": 7}, "flag --set")
    assert flagged.method_config("method_a", Options) == Options(rate=7, steps=5)
    assert flagged.sources["method_a.rate"] == "flag --set"
    assert resolved.method_config("method_a", Options) == Options(rate=1e-3, steps=5), "the first is as it was"


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("ACCRETE_MAX_FORGETTING", "1e-4", "max_forgetting", 1e-4),
        ("accrete_Max_Forgetting", "1", "max_forgetting", 1.0),
        ("ACCRETE_OFFLINE", "1", "offline", True),
        ("ACCRETE_OFFLINE", "no", "offline", False),
        ("ACCRETE_CLEAN", "false", "clean", False),
        ("ACCRETE_DOMAIN", "no", "domain", "no"),
        ("ACCRETE_MODEL", "2024", "model", "2024"),
        ("ACCRETE_MODEL", "", "model", "embedded"),
    ],
)
def test_variables_are_text_and_become_values(home, variable, text, key, value):
    found = getattr(resolve(home, {}, {variable: text}).settings, key)
    assert found == value and type(found) is type(value)


def test_variables_of_methods(home):
    environment = {"ACCRETE_METHOD_A__RATE": "1e-3", "accrete_method_a__steps": "9"}
    assert resolve(home, {}, environment).method_config("method_a", Options) == Options(rate=1e-3, steps=9)
    assert variable_for("method_a.steps", environment) == "accrete_method_a__steps"
    assert variable_for("model", environment) is None


def test_some_variables_are_no_settings(home):
    resolve(home, {}, {"ACCRETE_HOME": "x", "ACCRETE_DEBUG": "1", "ACCRETE_ALLOCATOR": "default", "ACCRETE_DATA": "x"})


@pytest.mark.parametrize("content", ["", "\n# only words\n", "\ufeffmodel: embedded\n", "{}\n"])
def test_files_that_say_little(home, write, content):
    write(content)
    assert resolve(home, {}, {}).settings == Settings()


# --- what is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({}, {"ACCRETE_MAX_FORGETING": "0"}, ['"ACCRETE_MAX_FORGETING"', 'Did you mean "ACCRETE_MAX_FORGETTING"?']),
        ({}, {"ACCRETE_OPTIONS": "{}"}, ['"ACCRETE_OPTIONS"']),
        ({}, {"ACCRETE___X": "1"}, ['"ACCRETE___X"']),
        ({}, {"ACCRETE_": "1"}, ['"ACCRETE_"']),
        ({}, {"ACCRETE_OFFLINE": "perhaps"}, ["offline", "environment ACCRETE_OFFLINE"]),
        ({}, {"ACCRETE_OFFLINE": "[1"}, ["environment ACCRETE_OFFLINE", "no value"]),
        ({}, {"ACCRETE_OFFLINE": "2024-13-45"}, ["environment ACCRETE_OFFLINE", "no value"]),
        ({}, {"ACCRETE_A__RATE": "[" * 5000}, ["environment ACCRETE_A__RATE", "no value"]),
        ({"modle": "x"}, {}, ['"modle" in flag --modle', 'Did you mean "model"?']),
        ({"max_forgetting": 2}, {}, ["flag --max-forgetting", "less than or equal to 1"]),
        ({"model": ""}, {}, ["flag --model"]),
    ],
)
def test_wrong_flags_and_variables(home, flags, environment, words):
    sentence = complaint(home, flags, environment)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", ".nan", ".inf", "-0.1", "1.1", "true", "much", "[0.1]", "null"]
)
def test_max_forgetting_is_a_share(home, write, value):
    assert "max_forgetting" in complaint(home, environment={"ACCRETE_MAX_FORGETTING": value})
    write(f"max_forgetting: {value}\n")
    assert "max_forgetting" in complaint(home)


@pytest.mark.parametrize("value", [math.nan, math.inf, True])
def test_max_forgetting_as_a_flag(home, value):
    assert "flag --max-forgetting" in complaint(home, {"max_forgetting": value})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("modle: x\n", ['Unknown key "modle"', 'Did you mean "model"?']),
        ("method_a:\n  rate: 1\n", ['"method_a"', 'under "options"']),
        ("options: {method_a: 3}\n", ["options.method_a"]),
        ("options: 3\n", ["options"]),
        ("1: x\n", ['"1"']),
        ("- a\n", ["keys and values"]),
        ("a: [\n", ["not valid YAML"]),
        ("model: 2024-13-45\n", ["not valid YAML"]),
        ("x: " + "[" * 5000, ["not valid YAML"]),
        ("model: [1]\n", ["model"]),
        ("model: !!python/name:os.system\n", ["not valid YAML"]),
        (b"\x7fELF\xff\xfe\0\0", ["not UTF-8"]),
        (b"\0\0\0", ["not valid YAML"]),
        (b"a" * 2_000_000, ["too large"]),
    ],
)
def test_a_wrong_file_is_one_sentence(home, write, content, words):
    write(content)
    sentence = complaint(home)
    assert str(home / FILE) in sentence and all(word in sentence for word in words), sentence


def test_a_file_that_is_a_directory(home):
    (home / FILE).mkdir(parents=True)
    assert "is a directory" in complaint(home, kind=HomeError)


def test_wrong_methods_and_options_name_their_layer(home, write):
    write("method: method_b\noptions: {method_c: {rate: 1}}\n")
    resolved = resolve(home, {}, {"ACCRETE_METHOD_A__RAT": "1", "ACCRETE_METHOD_A__STEPS": "3"})
    with pytest.raises(UsageError, match=r'"method_b" \(.*config\.yaml\)\. Did you mean "method_'):
        resolved.check_methods(["method_a", "method_c"])
    with pytest.raises(UsageError, match=r'"method_c" \(.*config\.yaml\)'):
        resolved.check_methods(["method_a", "method_b"])
    resolved.check_methods(["method_a", "method_b", "method_c"])
    with pytest.raises(UsageError, match=r'"rat".*\(environment ACCRETE_METHOD_A__RAT\)\. Did you mean "rate"'):
        resolved.method_config("method_a", Options)
    for value in ("inf", math.inf):
        with pytest.raises(UsageError, match=r'"rate".*method_c \(flag --set\) is not a finite number'):
            resolved.with_options("method_c", {"rate": value}, "flag --set").method_config("method_c", Options)


# --- writing --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(home, write, tmp_path):
    write("")
    real = tmp_path / "elsewhere.yaml"
    (home / FILE).rename(real)
    (home / FILE).symlink_to(real)
    values = {"domain": "Gr\u00fc\u00dfe: no", "max_forgetting": 1e-5, "options": {"method_a": {"rate": 1e-7}}}
    write_file(home, values)
    assert read_file(home) == values and (home / FILE).is_symlink() and real.stat().st_size
    assert [path.name for path in home.iterdir()] == [FILE]


def test_settings_are_light():
    code = "import sys, accrete.settings; assert not {'torch', 'numpy', 'transformers', 'rich'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the general prompts, whose answers a model must keep ------------------------------------------------------------


def test_the_general_prompts():
    text = resources.files("accrete.data").joinpath("general_prompts.txt").read_text("utf-8")
    lines = text.splitlines()
    prompts = [line for line in lines if not line.startswith("#")]
    assert lines[0].startswith("#") and len(prompts) == len(lines) - 1 == 300
    assert len({" ".join(prompt.lower().split()) for prompt in prompts}) == 300
    for prompt in prompts:
        assert prompt == prompt.strip() and 10 < len(prompt) < 120 and prompt[-1] in "?.:", prompt
