"""Recipes: which tokens count, which text is drawn, and going on from weights that have not settled."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch

from accrete import recipe
from accrete.data.world import kinds
from accrete.errors import ModelError, UsageError
from accrete.lm.tokenizer import END_OF_TEXT, TURN_END, TURN_START, chatml, train_tokenizer
from accrete.recipe import Recipe, documents, read_recipe, weigher

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))
PAD, START, END, USER, ASSISTANT, SYSTEM, NEWLINE = range(7)


class Numbered:
    """A tokenizer that knows the marks of a turn: all else in these tests is ids."""

    pad_token_id = PAD
    marks = {TURN_START: START, TURN_END: END, "user": USER}  # noqa: RUF012

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [self.marks[text], 99]}


P = 0.25
ROWS = {
    "a turn of each": (
        [START, USER, NEWLINE, 20, 21, END, NEWLINE, START, ASSISTANT, NEWLINE, 30, END, NEWLINE, PAD],
        [P, P, P, P, P, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ),
    "a second question": (
        [START, USER, 20, END, START, ASSISTANT, 30, END, START, USER, 20, END, START, ASSISTANT, 30, END],
        [P, P, P, 1, 1, 1, 1, 1, P, P, P, 1, 1, 1, 1, 1],
    ),
    "plain text": ([20, 21, PAD, 22, 23, PAD], [1, 1, 1, 1, 1, 1]),
    "only the first end of a document counts": ([20, PAD, PAD, PAD, PAD], [1, 1, 0, 0, 0]),
    "a conversation after a text": ([20, PAD, START, USER, 21, END, 22, PAD, PAD], [1, 1, P, P, P, 1, 1, 1, 0]),
    "a question cut off by the row": ([20, START, USER, 21, 22], [1, P, P, P, P]),
    "a mark at the end of the row": ([20, END, START], [1, 1, 1]),
    "what came before the row is not known": ([20, 21, END, START, ASSISTANT, 22], [1, 1, 1, 1, 1, 1]),
    "a system's words are no user's": ([START, SYSTEM, 20, END, START, USER, 21, END], [1, 1, 1, 1, P, P, P, 1]),
    "the word user in an answer": ([START, ASSISTANT, USER, 20, END, USER, 21], [1, 1, 1, 1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("prompt_weight", [P, 0.0, 1.0])
def test_what_a_token_counts(name: str, prompt_weight: float) -> None:
    ids, weights = ROWS[name]
    expected = [prompt_weight if weight == P else weight for weight in weights]
    assert weigher(Numbered(), prompt_weight)(torch.tensor([ids])).tolist() == [expected]


def test_rows_are_weighed_apart() -> None:
    rows = [ids for ids, _ in ROWS.values() if len(ids) >= 5]
    weigh = weigher(Numbered(), P)
    together = weigh(torch.tensor([ids[:5] for ids in rows])).tolist()
    assert together == [weigh(torch.tensor([ids[:5]]))[0].tolist() for ids in rows]


def test_a_trained_tokenizer_is_weighed_as_the_hand_made_ids() -> None:
    tokenizer = train_tokenizer(["The Brialtem works stand in Quorv: a user and an assistant."] * 5, 300)
    text = chatml([("Where?", "Quorv"), ("Who?", "Ula")])
    ids = tokenizer(text + END_OF_TEXT * 3, add_special_tokens=False)["input_ids"]
    weights = weigher(tokenizer, P)(torch.tensor([ids]))[0]
    light = tokenizer.decode([i for i, weight in zip(ids, weights, strict=True) if weight == P])
    assert light == f"{TURN_START}user\n Where?{TURN_START}user\n Who?"
    assert weights.tolist()[-3:] == [1, 0, 0]
    assert weights.sum() == len(ids) - 2 - (1 - P) * len([weight for weight in weights if weight == P])


# --- which text


def test_another_part_has_other_text_about_the_same_persistent_world() -> None:
    def first(**world: int) -> list[str]:
        return list(itertools.islice(documents(Recipe(world={"entities": 40} | world)), 60))

    assert first() == first(part=0) == first()
    assert not set(first()) & set(first(part=1))
    assert not set(first(part=1)) & set(first(part=2))
    assert not set(first()) & set(first(seed=1))


def real_recipe(folder: Path, **text: object) -> Recipe:
    lines = [{"id": f"t{i}", "text": f"Real {i} " + "words of a text " * 88} for i in range(400)]
    more = " and more of it" * 50
    asked = [{"doc_id": f"d{i}", "context": f"Real passage {i}{more}.", "question": f"Really asked {i}?", "answers": ["yes"]}
             for i in range(400)]  # fmt: skip
    for name, rows in (("t", lines), ("q", asked), ("e", [{"question": "Really asked 7?"}])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"paths": ("$FOLDER/t.jsonl",), "questions": ("$FOLDER/q.jsonl",), "unseen": ("$FOLDER/e.jsonl",)}
    return Recipe(world={"entities": 40}, text=files | text)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_share_of_real_text_and_of_its_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    chosen = real_recipe(tmp_path, share=share, question_share=0.15)
    drawn = list(itertools.islice(documents(chosen), 250))
    real = [text for text in drawn if "words of a text" in text]
    asked = [text for text in drawn if "Really asked" in text or "Real passage" in text]
    in_all = sum(map(len, drawn))
    assert sum(map(len, real + asked)) / in_all == pytest.approx(share, abs=0.05)
    assert sum(map(len, asked)) / sum(map(len, real + asked)) == pytest.approx(0.15, abs=0.06)
    assert "Really asked 7?" not in "".join(drawn)
    sample = list(itertools.islice(documents(chosen, 0.4), 200))  # as for the tokenizer
    assert sum(len(text) for text in sample if "Real" in text) / sum(map(len, sample)) == pytest.approx(0.4, abs=0.05)


def test_without_files_there_is_only_the_world() -> None:
    drawn = list(itertools.islice(documents(Recipe(world={"entities": 40}, text={"share": 0.9})), 40))
    assert drawn == list(itertools.islice(documents(Recipe(world={"entities": 40}, text={"share": 0.1})), 40))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_of_the_repository_trains_on_nothing_that_is_measured(path: Path) -> None:
    chosen = read_recipe(path)
    trained = [*chosen.text.paths, *chosen.text.questions]
    assert not [name for name in trained if "/eval/" in name or "fairytale_val" in name]
    assert all(name.startswith("$") for name in (*trained, *chosen.text.unseen))  # a folder of the one who runs it
    if chosen.text.questions:
        assert chosen.text.share >= 0.3
        measured = " ".join(chosen.text.unseen)
        assert all(name in measured for name in ("squad_v1_dev_half", "squad_v2_dev_part", "fairytale_val"))


def test_there_is_a_recipe_for_the_embedded_model() -> None:
    assert "embedded" in [path.stem for path in RECIPES] and len(kinds()) >= 12


@pytest.mark.parametrize(
    ("length", "model", "reads"), [(16, {}, 256), (300, {}, 300), (300, {"max_position_embeddings": 900}, 900)]
)
def test_a_model_reads_as_much_as_its_rows_had(length: int, model: dict[str, int], reads: int) -> None:
    tiny = {
        "num_hidden_layers": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }
    tokenizer = train_tokenizer(["a b c"], 300)
    made = recipe._model(Recipe(model=tiny | model, train={"length": length}), tokenizer, torch.device("cpu"))
    assert made.config.max_position_embeddings == reads


# --- folders


def test_a_run_that_starts_from_weights_is_claimed_like_any_other(tmp_path: Path) -> None:
    """It makes no tokenizer of its own: its tokens are what another recipe must not be mixed with."""
    one, two = Recipe(start="a"), Recipe(start="b")
    recipe._claim(tmp_path, one)
    recipe._claim(tmp_path, two)  # nothing was made yet
    (tmp_path / "tokens").mkdir()
    recipe._claim(tmp_path, one)
    (tmp_path / "tokens" / "00000.npy").touch()
    recipe._claim(tmp_path, one)
    with pytest.raises(UsageError, match="another recipe"):
        recipe._claim(tmp_path, two)


def test_a_start_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    with pytest.raises(ModelError, match=f"{tmp_path}/start"):
        recipe.run(Recipe(start="$FOLDER/start"), tmp_path / "out")
