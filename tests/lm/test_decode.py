"""The generation loop: batched and cached, yet every row as if it were alone."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from conftest import FAMILIES, tiny_lm, tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from accrete.lm.decode import Conditioning, answer, context_of, generate, readable, stop_tokens, stream
from accrete.lm.model import LM
from accrete.types import Passage, Query

PROMPTS = [[5, 6, 7], [900, 31, 44, 2001, 77, 8, 1234, 60, 61], [77], [50, 51, 52, 53, 54]]
SLIDING = {
    "mistral, sliding window": ("mistral", {"sliding_window": 4}),
    "qwen2, sliding window": ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
}
MODELS = {family: (family, {}) for family in FAMILIES} | SLIDING


@functools.cache
def model(name: str) -> LM:
    if name == "gpt2":
        torch.manual_seed(0)
        ends = dict(eos_token_id=tokenizer().eos_token_id, bos_token_id=None)
        config = GPT2Config(vocab_size=len(tokenizer()), n_embd=32, n_layer=2, n_head=2, n_positions=64, **ends)
        return LM(GPT2LMHeadModel(config), tokenizer(), name)
    family, overrides = MODELS[name]
    return tiny_lm(family, layers=2, **overrides)


def naive(lm: LM, prompt: list[int], count: int) -> list[int]:
    """One whole pass per token, no cache, no batch."""
    ids, stops = list(prompt), stop_tokens(lm)
    for _ in range(count):
        with torch.no_grad():
            token = int(lm.model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
        if token in stops:
            break
        ids.append(token)
    return ids[len(prompt) :]


def forcing(lm: LM, scripts: dict[int, list[int]], seen: list[list[int]] | None = None):
    """A `process` under which row r writes scripts[r]; a script that is over writes the end token."""
    steps = dict.fromkeys(scripts, 0)

    def process(hidden_BD: torch.Tensor, logits_BV: torch.Tensor, rows: list[int]) -> torch.Tensor:
        assert hidden_BD.shape == (len(rows), lm.model.config.hidden_size)
        if seen is not None:
            seen.append(rows)
        forced = torch.full_like(logits_BV, -1e9)
        for i, row in enumerate(rows):
            script = [*scripts[row], lm.tokenizer.eos_token_id]
            forced[i, script[steps[row]]] = 0.0
            steps[row] += 1
        return forced

    return process


@pytest.mark.parametrize("name", [*MODELS, "gpt2"])
def test_batched_greedy_is_the_naive_loop(name: str) -> None:
    lm = model(name)
    expected = [naive(lm, prompt, 10) for prompt in PROMPTS]
    assert len({tuple(row) for row in expected}) > 1
    assert generate(lm, PROMPTS, 10) == expected


def test_rows_that_end_leave_the_others_undisturbed() -> None:
    """Rows 1 and 3 are forced and end after 2 and 4 tokens; rows 0 and 2 go on as if alone."""
    lm, seen = model("qwen2"), []
    process = forcing(lm, {1: [100, 101], 3: [300, 301, 302, 303]}, seen)
    conditionings = [Conditioning(process=process if row in (1, 3) else None, beside=row) for row in range(4)]
    written = generate(lm, PROMPTS, 8, conditionings=conditionings)
    assert written[1] == [100, 101]
    assert written[3] == [300, 301, 302, 303]
    assert [written[0], written[2]] == [naive(lm, PROMPTS[0], 8), naive(lm, PROMPTS[2], 8)]
    assert seen == [[1, 3], [1, 3], [1, 3], [3], [3]]


def test_every_row_has_its_own_process() -> None:
    lm = model("mistral, sliding window")
    scripts = {0: [10], 1: [20, 21, 22, 23, 24, 25, 26], 2: [], 3: [40, 41]}
    conditionings = [Conditioning(process=forcing(lm, {row: script}), beside=row) for row, script in scripts.items()]
    assert generate(lm, PROMPTS, 12, conditionings=conditionings) == list(scripts.values())


def test_what_remains_after_a_drop_is_conditioned_on_its_own_tokens() -> None:
    """After rows 0 and 2 are gone, rows 1 and 3 must still read their own cache."""
    lm = model("qwen3")
    stopping = forcing(lm, {0: [9], 2: []})
    conditionings = [Conditioning(process=stopping if row in (0, 2) else None, beside=row) for row in range(4)]
    written = generate(lm, PROMPTS, 9, conditionings=conditionings)
    assert written == [[9], naive(lm, PROMPTS[1], 9), [], naive(lm, PROMPTS[3], 9)]


def test_stop_tokens_of_tokenizer_config_and_generation_config() -> None:
    lm = tiny_lm(layers=1)
    lm.model.config.eos_token_id, lm.model.generation_config.eos_token_id = 7, [8, 9]
    assert stop_tokens(lm) == {lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id, 7, 8, 9}
    for stop in (7, 9, lm.tokenizer.eos_token_id):
        process = forcing(lm, {0: [50, stop, 51]})
        assert generate(lm, [[5, 6]], 5, conditionings=[Conditioning(process=process, beside=0)]) == [[50]]


def test_sampling_repeats_with_its_seed() -> None:
    lm = model("llama")

    def sampled(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return generate(lm, PROMPTS, 8, temperature=1.0, generator=generator)

    assert sampled(1) == sampled(1) != sampled(2)


def test_a_low_temperature_is_greedy() -> None:
    lm = model("llama")
    assert generate(lm, PROMPTS, 6, temperature=1e-4) == generate(lm, PROMPTS, 6)


def test_the_stream_is_what_generate_returns() -> None:
    lm = model("qwen2")
    written: list[list[int]] = [[] for _ in PROMPTS]
    steps = list(stream(lm, PROMPTS, 6))
    for pairs in steps:
        for row, token in pairs:
            written[row].append(token)
    assert len(steps) == 6
    assert written == generate(lm, PROMPTS, 6)


def test_nothing_asked_nothing_written() -> None:
    lm = model("qwen2")
    assert generate(lm, []) == []
    assert generate(lm, PROMPTS, 0) == [[]] * 4
    assert answer(lm, []) == []


def test_answers_come_in_the_order_of_the_questions() -> None:
    lm = model("qwen2")
    words = ["violet", "a somewhat longer answer", "seven", "x"]
    scripts = [lm.tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in words]
    queries = [Query("Who was it? " * n) for n in (5, 1, 9, 3)]  # the order of length is another
    passages = (Passage("Some text.", "a document", 0, 10),)

    def scripted(script: list[int]):
        steps = iter([*script, lm.tokenizer.eos_token_id])

        def process(hidden_BD: torch.Tensor, logits_BV: torch.Tensor, rows: list[int]) -> torch.Tensor:
            return torch.full_like(logits_BV, -1e9).index_fill(1, torch.tensor([next(steps)]), 0.0)

        return process

    conditionings = [Conditioning(passages, scripted(script)) for script in scripts]
    answers = answer(lm, queries, conditionings=conditionings, batch_size=2)
    assert [a.text for a in answers] == words
    assert [a.tokens for a in answers] == [len(script) for script in scripts]
    assert all(a.sources == passages for a in answers)


def test_without_a_template_a_line_break_ends_an_answer() -> None:
    lm = tiny_lm(layers=1)
    ids = lm.tokenizer(" One.\nTwo.<|im_end|>", add_special_tokens=False)["input_ids"]
    assert readable(lm, ids) == "One.\nTwo."
    lm.tokenizer = copy.deepcopy(lm.tokenizer)
    lm.tokenizer.chat_template = None
    assert readable(lm, ids) == "One."


def test_passages_are_read_before_the_context_of_the_question() -> None:
    conditioning = Conditioning((Passage("One.", "d", 0, 4), Passage("Two.", "d", 5, 9)))
    assert context_of(Query("?", "Three."), conditioning) == "One.\n\nTwo.\n\nThree."
    assert context_of(Query("?"), Conditioning()) == ""
    assert context_of(Query("?"), Conditioning(conditioning.passages, instruction="Read.")) == "Read.\n\nOne.\n\nTwo."


def saying(lm: LM, text: str):
    """A `process` under which every row writes `text`, a row at a time."""
    script = [*lm.tokenizer(f" {text}", add_special_tokens=False)["input_ids"], lm.tokenizer.eos_token_id]
    step = -1

    def process(hidden_BD: torch.Tensor, logits_BV: torch.Tensor, beside: list) -> torch.Tensor:
        nonlocal step
        step += 1
        return torch.full_like(logits_BV, -1e9).index_fill(1, torch.tensor([script[step]]), 0.0)

    return process


@pytest.mark.parametrize("first", ["not stated", "Not stated."])
def test_what_abstains_is_asked_again_and_names_no_source(first):
    lm = model("qwen2")
    passages = (Passage("Some text.", "a document", 0, 10),)
    other = (Passage("Another.", "another document", 0, 8),)
    again = Conditioning(other, process=saying(lm, "blue"))
    asked = [
        Conditioning(passages, process=saying(lm, first), again=again),
        Conditioning(passages, process=saying(lm, "green"), again=again),
        Conditioning(passages, process=saying(lm, first)),
        Conditioning(passages, process=saying(lm, first), again=Conditioning(process=saying(lm, "red"))),
    ]
    answers = answer(lm, [Query("Which?")] * 4, conditionings=asked)
    assert [(a.text, a.sources) for a in answers] == [
        ("blue", other),
        ("green", passages),
        (first, passages),
        ("red", ()),
    ]


def test_only_what_was_read_is_a_source():
    lm = tiny_lm(layers=1)
    passages = tuple(Passage(f"Passage {n} says this and that.", "d", n, n + 1) for n in range(3))
    conditioning = Conditioning(passages, instruction="Read this.")
    query = Query("Which?", "And this of mine.")
    counts = []
    for length in range(20, 90, 4):
        lm.model.config.max_position_embeddings = length
        (one,) = answer(lm, [query], conditionings=[conditioning], max_new_tokens=2)
        assert one.sources == passages[: len(one.sources)]
        counts.append(len(one.sources))
    assert counts == sorted(counts) and set(counts) == {0, 1, 2, 3}


# --- a beginning that all prompts share -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, "gpt2"])
@pytest.mark.parametrize("ends", [[[5, 6, 7], [900], [77, 8, 9, 10, 11]], [[], [900, 31]], [[4], [4]]])
def test_what_all_prompts_begin_with_is_read_once_and_changes_no_answer(name, ends, monkeypatch):
    lm = model(name)
    beginning = [50, 51, 52, 53, 54, 55, 56]
    prompts = [beginning + end for end in ends]
    alone = [naive(lm, prompt, 6) for prompt in prompts]
    monkeypatch.setattr("accrete.lm.decode.LEAST_SHARED", 3)
    widths = []
    embedding = lm.model.get_input_embeddings()
    hook = embedding.register_forward_hook(lambda module, inputs, output: widths.append(tuple(inputs[0].shape)))
    written = generate(lm, prompts, 6)
    hook.remove()
    assert written == alone
    first, second = (1, len(beginning) - (not all(ends))), len(prompts)  # the last token of a row is its own
    assert name in SLIDING or (widths[0], widths[1][0]) == (first, second)


def test_a_short_beginning_is_not_worth_a_pass(monkeypatch):
    lm, calls = model("qwen2"), []
    hook = lm.model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    generate(lm, [[50, 51, 52, 5], [50, 51, 52, 6]], 1)
    hook.remove()
    assert len(calls) == 1
