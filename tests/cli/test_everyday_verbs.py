"""The verbs of everyday on a tiny model: folders, domains, checkpoints, export, forgetting, doctor, and every bad input."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from conftest import tiny_lm, tokenizer
from transformers import AutoTokenizer
from typer.testing import CliRunner

from accrete import Document, Example, Learner, doctor, reader
from accrete.cli.main import app
from accrete.store import sentinels

METHOD = "lora_replay_ewc"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The tokenizer is read once, and guard questions are answered in a few tokens."""
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer())
    monkeypatch.setattr(reader, "SENTINEL_TOKENS", 4)
    monkeypatch.setattr(sentinels, "SENTINEL_TOKENS", 4)


@pytest.fixture(scope="module")
def model_directory(tmp_path_factory) -> Path:
    """A model of one layer as a directory."""
    folder, lm = tmp_path_factory.mktemp("models") / "tiny", tiny_lm(layers=1)
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    rows = [{"question": q, "answers": list(answers), "split": split} for q, answers, split in lm.sentinels]
    (folder / "sentinels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"question": question, "answer": answer} for question, answer in lm.background]
    (folder / "background.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def items(number: int, word: str = "thing") -> str:
    rows = [{"question": f"What is part {i} of {word} {number}?", "answer": f"Value {number}{i}."} for i in range(3)]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def invoke(model_directory, home):
    """Run `accrete ...` on the tiny model and the scratch home."""

    def run(*arguments, method=METHOD, model=model_directory, home=home, input=None):
        common = ["--model", model, "--home", home, "--method", method, "--offline"]
        return CliRunner().invoke(app, [str(part) for part in (*arguments, *common)], input=input)

    return run


@pytest.fixture
def learn(invoke):
    def run(*arguments, **options):
        return invoke("learn", *arguments, "--set", "max_steps=1", "--max-forgetting", 1, **options)

    return run


def parsed(result):
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def assert_one_sentence(result, *words, codes=(1, 2)):
    assert result.exit_code in codes and result.stdout == ""
    assert result.stderr.startswith("accrete: ") and result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr and "Internal error" not in result.stderr and len(result.stderr) < 700
    for word in words:
        assert word in result.stderr


@pytest.fixture
def document(tmp_path) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_text(items(1))
    return path


@pytest.fixture
def status(invoke):
    return lambda **options: parsed(invoke("status", "--json", **options))


# --- folders --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    top = tmp_path / "documents"
    (top / "below").mkdir(parents=True)
    for name, number in (("a.jsonl", 1), ("c.jsonl", 3), ("below/d.jsonl", 4)):
        (top / name).write_text(items(number))
    (top / "b.md").write_bytes(b"\x7fELF\0\0\0\1")
    (top / ".hidden.md").write_text("hidden")
    (top / "picture.png").write_bytes(b"\x89PNG")
    return top


def test_a_folder_is_learned_file_by_file_and_a_bad_one_does_not_stop_the_rest(learn, invoke, folder):
    result = learn(folder)
    assert result.exit_code == 1
    assert "4 documents: 3 learned, 1 not read" in result.stdout and result.stdout.count("learned ") == 3
    assert (
        "b.md is a binary file" in result.stderr and "1 (hidden)" in result.stderr and "1 (an image)" in result.stderr
    )
    logged = parsed(invoke("log", "--json"))
    assert [row["document"] for row in logged[::-1]] == ["a.jsonl", "d.jsonl", "c.jsonl"]
    again = learn(folder)
    assert "1 not read" in again.stdout and "3 known already" in again.stdout
    assert parsed(invoke("log", "--json")) == logged
    (folder / "e.jsonl").write_text(items(5))
    assert "1 learned" in learn(folder).stdout


def test_a_bad_file_among_others_is_exit_code_1_and_no_internal_error(learn, folder):
    result = learn(folder)
    assert result.exit_code == 1 and "Internal error" not in result.stderr


def test_in_json_every_file_is_a_line(learn, folder):
    rows = [json.loads(line) for line in learn(folder, "--json").stdout.splitlines()]
    assert ["error" in row for row in rows[:4]] == [False, True, False, False]
    assert rows[1]["document"].endswith("b.md") and rows[0]["document"] == "a.jsonl"


def test_a_folder_of_good_files_ends_well(learn, folder):
    (folder / "b.md").unlink()
    result = learn(folder, folder / "a.jsonl")
    assert result.exit_code == 0 and "3 documents: 3 learned" in result.stdout, "a file named twice is learned once"


def test_a_stopped_folder_goes_on_where_it_was(learn, invoke, folder, monkeypatch):
    (folder / "b.md").unlink()
    original, calls = Learner.learn, []

    def stop(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", stop)
        result = learn(folder)
        assert result.exit_code == 130 and "what was committed stands" in result.stderr
    assert "3 documents: 1 known already, 2 learned" in learn(folder).stdout
    assert len(parsed(invoke("log", "--json"))) == 3


def test_a_folder_without_a_document_is_one_sentence(learn, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_one_sentence(learn(tmp_path / "empty"), "no document in")


# --- documents that do harm -----------------------------------------------------------------------------------------


def bomb() -> bytes:
    """A page whose content is 100 MB of spaces, packed into some kilobytes."""
    import pypdf
    from pypdf.generic import DecodedStreamObject, NameObject

    writer, out = pypdf.PdfWriter(), io.BytesIO()
    page = writer.add_blank_page(100, 100)
    stream = DecodedStreamObject()
    stream.set_data(b" " * 100_000_000)
    page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "words"),
    [("sparse.txt", "larger than 64 MB"), ("broken.pdf", "broken.pdf"), ("bomb.pdf", "bomb.pdf")],
)
def test_a_document_that_does_harm_is_one_sentence_and_costs_nothing(learn, home, tmp_path, name, words):
    path = tmp_path / name
    if "sparse" in name:
        with path.open("wb") as file:
            file.truncate(200 * 2**20)
    else:
        path.write_bytes(bomb() if "bomb" in name else b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog")
    assert path.stat().st_blocks * 512 < 2**20
    assert_one_sentence(learn(path), words, codes=(1,))
    assert not (home / "journal.sqlite").exists()


# --- general replay and domains -------------------------------------------------------------------------------------


def test_general_replay_for_methods_that_have_it(invoke, learn, document):
    commit = parsed(learn(document, "--replay-general", 0.5, "--json"))["commit"]
    assert parsed(invoke("show", commit, "--json"))["config"]["replay_general"] == 0.5
    assert_one_sentence(learn(document, "--replay-general", 0.5, method="full_finetune"), "replay_general", codes=(2,))
    for share in ("nan", "1.5"):
        assert_one_sentence(learn(document, "--replay-general", share), "replay_general", codes=(2,))


def test_ask_reads_from_the_domain_named_or_from_where_the_words_are(invoke, learn, tmp_path):
    for number, (domain, word) in enumerate((("sea", "lighthouse"), ("law", "treaty"))):
        (tmp_path / f"{domain}.jsonl").write_text(items(number, word))
        parsed(learn(tmp_path / f"{domain}.jsonl", "--domain", domain, "--set", "rate=0.05", "--json"))

    def ask(question, *arguments):
        return parsed(invoke("ask", question, "--json", "--max-new-tokens", 8, *arguments))["answer"]

    sea, law = (ask("What of the lighthouse?", "--domain", domain) for domain in ("sea", "law"))
    assert sea != law and ask("What of the lighthouse?") == sea
    assert ask("What of the treaty?") == ask("What of the treaty?", "--domain", "law")
    rows = parsed(invoke("domains", "--json"))
    assert [(r["domain"], r["lessons"], r["last"]) for r in rows] == [("sea", 1, "sea.jsonl"), ("law", 1, "law.jsonl")]
    assert all(row["parameters"] > 1000 for row in rows)
    shown = invoke("domains").stdout
    assert "sea" in shown and f"{rows[0]['parameters']:,}" in shown
    assert_one_sentence(invoke("ask", "Who?", "--domain", "see"), 'no domain "see"', 'Did you mean "sea"', codes=(2,))


def test_domains_of_a_method_that_shares_its_weights(invoke, learn, document):
    assert "No lessons yet" in invoke("domains", method="full_finetune").stdout
    parsed(learn(document, "--domain", "sea", "--json", method="full_finetune"))
    (row,) = parsed(invoke("domains", "--json", method="full_finetune"))
    assert (row["domain"], row["parameters"]) == ("sea", None)
    assert "shared" in invoke("domains", method="full_finetune").stdout
    assert_one_sentence(
        invoke("ask", "Who?", "--domain", "sea", method="full_finetune"), "without a domain", codes=(2,)
    )


@pytest.mark.parametrize("domain", ["../x", "", "ünï", "x" * 65])
def test_a_domain_has_a_plain_name(learn, document, home, domain):
    assert_one_sentence(learn(document, "--domain", domain), codes=(2,))
    assert not (home / "journal.sqlite").exists()


def test_a_question_that_is_no_text_is_one_sentence(invoke):
    assert_one_sentence(invoke("ask", "Who \udcff?"))


# --- forgetting -----------------------------------------------------------------------------------------------------


def test_forgetting_is_what_was_last_measured(invoke, learn, document):
    empty = parsed(invoke("forgetting", "--json"))
    assert (empty["lessons"], empty["domains"], empty["worst"], empty["max_forgetting"]) == (0, [], None, 0.05)
    assert "nothing was forgotten" in invoke("forgetting").stdout
    lesson = parsed(learn(document, "--json"))
    found = parsed(invoke("forgetting", "--json"))
    assert found["domains"][0]["kept_now"] == lesson["kept_after"] and found["last"]["steps"] == 1
    assert found["worst"]["commit"] == lesson["commit"] and "measured" not in found
    measured = parsed(invoke("forgetting", "--measure", "--json"))["measured"]
    assert measured == [{"domain": "default", "guard": lesson["kept_after"], "scored": None}]
    assert "measured now, default: guard" in invoke("forgetting", "--measure").stdout


def test_forgetting_measures_what_a_model_made_itself(invoke, learn, document, model_directory, tmp_path, monkeypatch):
    few = sentinels.general_prompts()[:9]
    monkeypatch.setattr(sentinels, "general_prompts", lambda: few)
    bare = tmp_path / "bare"
    shutil.copytree(model_directory, bare, ignore=lambda *_: ["sentinels.jsonl", "background.jsonl"])
    lesson = parsed(learn(document, "--json", model=bare))
    assert lesson["kept_before"] == 1.0
    (row,) = parsed(invoke("forgetting", "--measure", "--json", model=bare))["measured"]
    assert row["guard"] == lesson["kept_after"]


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home_with_a_checkpoint(model_directory, tmp_path_factory) -> Path:
    """A home with a checkpoint of one lesson; the lesson itself is taken back."""
    home = tmp_path_factory.mktemp("saved") / "home"
    learner = Learner(
        str(model_directory), method=METHOD, home=home, config={"max_steps": 1}, max_forgetting=1.0, offline=True
    )
    learner.learn(Document("d.jsonl", items=(Example("What is part 1 of thing 1?", "Value 11."),)))
    learner.save_checkpoint(home / "checkpoints" / "one")
    learner.undo()
    return home


@pytest.fixture
def saved(home_with_a_checkpoint, home) -> Path:
    shutil.copytree(home_with_a_checkpoint, home)
    return home / "checkpoints" / "one"


@pytest.mark.parametrize("method", [METHOD, "full_finetune"])
def test_save_list_load_undo(invoke, learn, status, document, home, method):
    assert "No checkpoints" in invoke("checkpoints").stdout
    birth, lesson = status(method=method)["digest"], parsed(learn(document, "--json", method=method))
    kept = parsed(invoke("save", "one", "--json", method=method))
    assert kept["digest"] == lesson["digest_after"] and Path(kept["path"]) == home / "checkpoints" / "one"
    (row,) = parsed(invoke("checkpoints", "--json", method=method))
    assert (row["name"], row["method"], row["lessons"], row["bytes"]) == ("one", method, 1, kept["bytes"])
    assert "one" in invoke("checkpoints").stdout
    parsed(invoke("undo", "--json", method=method))
    loaded = parsed(invoke("load", "one", "--json", method=method))
    assert (loaded["digest_before"], loaded["digest_after"]) == (birth, lesson["digest_after"])
    assert parsed(invoke("load", "one", "--json", method=method))["already_learned"]
    assert "present state already" in invoke("load", "one", method=method).stdout
    assert parsed(invoke("undo", "--json", method=method))["digest"] == birth


def test_a_name_in_use_wants_replace(invoke, learn, saved, tmp_path):
    before = (saved / "manifest.json").read_bytes()
    assert_one_sentence(invoke("save", "one"), "already", "--replace", codes=(1,))
    assert (saved / "manifest.json").read_bytes() == before
    parsed(invoke("save", "one", "--replace", "--json"))
    assert json.loads((saved / "manifest.json").read_text())["lessons"] == 0
    (saved.parent / "mine").mkdir()
    (saved.parent / "mine" / "notes.txt").write_text("precious")
    assert_one_sentence(invoke("save", "mine", "--replace"), "no checkpoint")


NAMES = ["../x", "/absolute", "", ".", "x" * 5000, "東京"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_none_is_refused(invoke, home, tmp_path, name):
    before = sorted(tmp_path.rglob("*"))
    assert_one_sentence(invoke("save", name), "cannot name a checkpoint", codes=(2,))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "name",
    [*NAMES, "/", "two"],
    ids=lambda name: name[:12],
)  # fmt: skip
def test_loading_what_is_no_checkpoint_is_one_sentence(invoke, saved, status, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    digest = status()["digest"]
    assert_one_sentence(invoke("load", name), codes=(1, 2))
    assert status()["digest"] == digest


def edited(**changes):
    def change(path: Path) -> None:
        manifest = path / "manifest.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))

    return change


def flipped(path: Path) -> None:
    raw = bytearray((path / "state.safetensors").read_bytes())
    raw[len(raw) // 2] ^= 1
    (path / "state.safetensors").write_bytes(raw)


def without_digest(path: Path) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["digest"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def linked_out(path: Path) -> None:
    outside = path.parent.parent / "outside.safetensors"
    (path / "state.safetensors").rename(outside)
    (path / "state.safetensors").symlink_to(outside)


TAMPERED = {
    "a bit flipped": (flipped, "damaged: state.safetensors"),
    "a file missing": (lambda path: (path / "values.json").unlink(), "no complete checkpoint"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "no complete checkpoint"),
    "another method": (edited(method="full_finetune"), 'method "full_finetune"'),
    "another base": (edited(base="0" * 64), "another base model"),
    "newer": (edited(schema=999), "another version"),
    "a file of elsewhere": (edited(files={"../one/state.safetensors": "0"}), "no complete checkpoint"),
    "another digest": (edited(digest="0" * 64), "checkpoint"),
    "no digest": (without_digest, "checkpoint"),
    "a file too many": (lambda path: (path / "more.bin").write_bytes(b"x"), "checkpoint"),
    "a link out of the folder": (linked_out, "checkpoint"),
}


@pytest.mark.parametrize("damage", TAMPERED)
def test_a_tampered_checkpoint_is_one_sentence_and_changes_nothing(invoke, saved, status, damage):
    before = status()["digest"], parsed(invoke("log", "--json"))
    change, words = TAMPERED[damage]
    change(saved)
    assert_one_sentence(invoke("load", "one"), words)
    assert (status()["digest"], parsed(invoke("log", "--json"))) == before


@pytest.mark.parametrize("metrics", [[], {"kept_after": "much"}])
def test_the_list_stands_whatever_a_manifest_says(invoke, saved, metrics):
    edited(metrics=metrics)(saved)
    result = invoke("checkpoints")
    assert result.exit_code == 0 and "one" in result.stdout


def test_a_checkpoint_of_another_method_or_model_is_refused(invoke, saved, status, tmp_path, make_lm):
    assert_one_sentence(invoke("load", saved, method="full_finetune"), "--method", codes=(1,))
    lm = make_lm(layers=1, seed=5)
    lm.model.save_pretrained(tmp_path / "other")
    lm.tokenizer.save_pretrained(tmp_path / "other")
    assert_one_sentence(invoke("load", "one", model=tmp_path / "other"), "another base model", codes=(1,))


def test_a_checkpoint_is_carried_to_another_home(invoke, saved, status, tmp_path):
    digest = json.loads((saved / "manifest.json").read_text())["digest"]
    loaded = parsed(invoke("load", saved, "--json", home=tmp_path / "other"))
    assert loaded["digest_after"] == digest == status(home=tmp_path / "other")["digest"]
    assert_one_sentence(invoke("load", saved, "--domain", "sea"), "--domain is for PEFT adapters", codes=(2,))


# --- export ---------------------------------------------------------------------------------------------------------


def test_an_exported_model_is_a_model_that_answers_the_same(invoke, learn, document, tmp_path):
    parsed(learn(document, "--json"))
    written = parsed(invoke("export", tmp_path / "out", "--json"))
    assert (written["format"], written["domains"]) == ("hf", ["default"]) and written["bytes"] > 100_000
    asked = ("ask", "What is part 1 of thing 1?", "--max-new-tokens", 8, "--json")
    answers = [parsed(invoke(*asked))["answer"], parsed(invoke(*asked, model=tmp_path / "out"))["answer"]]
    assert answers[0] == answers[1] != ""


def test_an_exported_adapter_is_loaded_into_a_domain(invoke, learn, status, document, tmp_path):
    parsed(learn(document, "--json"))
    written = parsed(invoke("export", tmp_path / "adapter", "--format", "peft", "--json"))
    assert written["bytes"] < 500_000
    loaded = parsed(invoke("load", tmp_path / "adapter", "--domain", "sea", "--json", home=tmp_path / "other"))
    assert loaded["document"] == "adapter adapter"
    asked = ("ask", "What is part 1 of thing 1?", "--max-new-tokens", 8, "--json")
    answers = [parsed(invoke(*asked))["answer"], parsed(invoke(*asked, home=tmp_path / "other"))["answer"]]
    assert answers[0] == answers[1]
    assert parsed(invoke("domains", "--json", home=tmp_path / "other"))[0]["domain"] == "sea"
    parsed(invoke("undo", "--json", home=tmp_path / "other"))
    assert parsed(invoke("domains", "--json", home=tmp_path / "other")) == []


def test_several_domains_want_merge(invoke, learn, document, tmp_path):
    assert_one_sentence(invoke("export", tmp_path / "out"), "Nothing was taught", codes=(2,))
    other = tmp_path / "other.jsonl"
    other.write_text(items(2))
    parsed(learn(document, "--domain", "sea", "--json"))
    parsed(learn(other, "--domain", "law", "--json"))
    assert_one_sentence(invoke("export", tmp_path / "out"), "--merge", codes=(2,))
    assert_one_sentence(invoke("export", tmp_path / "out", "--domain", "see"), 'Did you mean "sea"', codes=(2,))
    assert not (tmp_path / "out").exists()
    for form in ("hf", "peft"):
        merged = parsed(invoke("export", tmp_path / f"all {form}", "--merge", "--format", form, "--json"))
        assert merged["domains"] == ["sea", "law"]
        assert parsed(invoke("export", tmp_path / f"one {form}", "--domain", "law", "--json"))["domains"] == ["law"]


def test_export_refuses_a_place_in_use_and_what_it_cannot_write(invoke, learn, document, tmp_path):
    parsed(learn(document, "--json"))
    assert_one_sentence(invoke("export", tmp_path), "not empty", codes=(1,))
    assert_one_sentence(invoke("export", document), "not empty", codes=(1,))
    assert_one_sentence(invoke("export", tmp_path / "out", "--format", "gguf"), "choose hf or peft", codes=(2,))
    assert_one_sentence(
        invoke("export", tmp_path / "out", "--format", "peft", method="full_finetune"), "save_adapter", codes=(2,)
    )
    assert document.read_text() == items(1) and not (tmp_path / "out").exists()


# --- doctor ---------------------------------------------------------------------------------------------------------


def test_doctor_says_which_methods_work(model_directory, home, monkeypatch):
    """Each method in this process: the processes of its own are for the slow lane."""
    monkeypatch.setattr(doctor, "_in_a_process", lambda *arguments: doctor._try(*arguments))
    command = ["doctor", str(model_directory), "--home", str(home), "--offline", "--device", "cpu"]
    found = parsed(CliRunner().invoke(app, [*command, "--json"]))
    assert {row["method"] for row in found["methods"]} >= {METHOD, "full_finetune"}
    assert all(row["works"] and row["seconds_a_step"] >= 0 and row["memory_gb"] > 0 for row in found["methods"])
    assert found["model"]["architecture"] == "qwen2" and found["model"]["layers"] == 1
    shown = CliRunner().invoke(app, command).stdout
    assert METHOD in shown and "yes" in shown and "context" in shown
    assert not home.exists()


def test_doctor_tells_what_does_not_work(model_directory, home, monkeypatch):
    def fail(model, method, *_):
        return {"works": False, "reason": "too little memory"} if method == METHOD else {
            "works": True, "seconds_a_step": 0.5, "seconds_expected": 20.0, "memory_gb": 1.0, "model": {"model": "x"}
        }  # fmt: skip

    monkeypatch.setattr(doctor, "_in_a_process", fail)
    result = CliRunner().invoke(app, ["doctor", str(model_directory), "--home", str(home), "--offline"])
    assert result.exit_code == 0 and "no: too little memory" in result.stdout and "about 20 s" in result.stdout


def test_doctor_of_a_model_that_nothing_works_on_is_exit_code_1(model_directory, home, monkeypatch):
    monkeypatch.setattr(doctor, "_in_a_process", lambda *_: {"works": False, "reason": "too little memory"})
    result = CliRunner().invoke(app, ["doctor", str(model_directory), "--home", str(home), "--offline"])
    assert result.exit_code == 1 and result.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["{tiny}", "./nowhere"])
def test_doctor_in_processes_of_its_own(model_directory, home, model):
    name = model.format(tiny=model_directory)
    result = CliRunner().invoke(app, ["doctor", name, "--home", str(home), "--offline", "--json"])
    if model == "./nowhere":
        assert result.exit_code == 1 and 'no model directory at "./nowhere"' in json.loads(result.stdout)["error"]
    else:
        assert all(row["works"] for row in parsed(result)["methods"])


def test_doctor_of_a_missing_model_is_one_sentence(home, monkeypatch):
    monkeypatch.setattr(doctor, "_in_a_process", lambda *arguments: doctor._try(*arguments))
    result = CliRunner().invoke(app, ["doctor", "./nowhere", "--home", str(home), "--offline"])
    assert_one_sentence(result, "no model directory", codes=(1,))
