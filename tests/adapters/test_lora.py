"""LoRA through PEFT: silent at birth, domains apart, the base model untouched, and directories that plain PEFT shares."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES, tiny_lm
from peft import LoraConfig, PeftModel, get_peft_model

from accrete.adapters.lora import LoraAdapters
from accrete.errors import HistoryError
from accrete.lm import decode
from accrete.lm.batch import Sequence, collate
from accrete.lm.model import LM


def adapters(lm: LM, rank: int = 4, alpha: float = 8.0, targets="all-linear", seed: int = 0) -> LoraAdapters:
    return LoraAdapters(lm, rank, alpha, targets, torch.Generator().manual_seed(seed))


def teach(ours: LoraAdapters, domain: str, seed: int = 1) -> None:
    """Noise on every parameter of a domain: after it the adapter answers differently."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in ours.open(domain).values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator).to(parameter)


def logits(lm_or_model) -> torch.Tensor:
    batch = collate([Sequence(tuple(range(5, 25)))])
    with torch.no_grad():
        if isinstance(lm_or_model, LM):
            return lm_or_model.logits(batch)
        return lm_or_model(input_ids=batch.ids_BT).logits


def copied(state: dict) -> dict:
    return {key: value.clone() if torch.is_tensor(value) else value for key, value in state.items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(v, other[k]) if torch.is_tensor(v) else v == other[k] for k, v in one.items()
    )


def read(ours: LoraAdapters, domain: str | None) -> torch.Tensor:
    with ours.reading(domain):
        return logits(ours.lm)


def written_by_peft(directory: Path, family: str = "qwen2", noise: float = 0.05, **config) -> torch.Tensor:
    """An adapter as plain PEFT makes and writes one; returns what its model says."""
    fields = {"r": 3, "lora_alpha": 5, "task_type": "CAUSAL_LM", "target_modules": ["q_proj", "down_proj"]} | config
    model = get_peft_model(tiny_lm(family, layers=2).model, LoraConfig(**fields)).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter += noise * torch.randn(parameter.shape, generator=generator)
    said = logits(model)
    model.save_pretrained(directory)
    return said


# --- birth and death ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_no_bit(family: str) -> None:
    lm = tiny_lm(family, layers=2)
    before = logits(lm)
    ours = adapters(lm)
    assert ours.state_dict() == {} and torch.equal(logits(lm), before)
    parameters = ours.open("sea")
    assert torch.equal(logits(lm), before) and ours.active == "sea"
    assert parameters and all(parameter.requires_grad for parameter in parameters.values())
    assert {id(p) for p in lm.model.parameters() if p.requires_grad} == {id(p) for p in parameters.values()}
    assert ours.sizes() == {"sea": sum(p.numel() for p in parameters.values())}


def test_the_processs_random_numbers_are_left_alone_and_do_not_matter() -> None:
    drawn = []
    for seed in (1, 2):
        lm = tiny_lm(layers=1)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        drawn.append({n: p.detach().clone() for n, p in adapters(lm).open("sea").items()})
        assert torch.equal(torch.get_rng_state(), before)
    assert same(*drawn)
    other = adapters(tiny_lm(layers=1), seed=9).open("sea")
    assert not same(drawn[0], {n: p.detach() for n, p in other.items()}), "our own generator decides"


def test_remove_gives_the_model_back() -> None:
    lm, plain = tiny_lm(layers=2), tiny_lm(layers=2)
    before, ours = logits(lm), adapters(lm)
    for domain in ("sea", "land"):
        teach(ours, domain)
    assert not torch.equal(logits(lm), before)
    ours.remove()
    assert {n: type(m) for n, m in lm.model.named_modules()} == {n: type(m) for n, m in plain.model.named_modules()}
    assert same(dict(lm.model.state_dict()), dict(plain.model.state_dict()))
    assert torch.equal(logits(lm), before)
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())


def test_a_bfloat16_model_has_float32_adapters() -> None:
    lm = tiny_lm(layers=1)
    lm.model.to(torch.bfloat16)
    before, ours = logits(lm), adapters(lm)
    assert {parameter.dtype for parameter in ours.open("sea").values()} == {torch.float32}
    assert torch.equal(logits(lm), before)
    teach(ours, "sea")
    state, taught = copied(ours.state_dict()), logits(lm)
    assert taught.dtype == torch.bfloat16 and not torch.equal(taught, before)
    again = tiny_lm(layers=1)
    again.model.to(torch.bfloat16)
    fresh = adapters(again)
    fresh.load_state_dict(state)
    assert torch.equal(logits(again), taught)
    assert {tensor.dtype for tensor in fresh.state_dict().values() if torch.is_tensor(tensor)} == {torch.float32}


# --- domains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [("sea", "land"), ("sea", "seaside"), ("keys", "values"), ("lora_x", "x"), ("a_b", "a-b"), ("A", "a"),
     ("base_layer", "weight"), ("active", "config"), ("lora_A", "lora_B"), ("default", "0")],
)  # fmt: skip
def test_domains_are_apart(one: str, other: str) -> None:
    lm = tiny_lm(layers=1)
    base, ours = logits(lm), adapters(lm)
    teach(ours, one, seed=1)
    alone, answers = copied(ours.state_dict()), logits(lm)
    teach(ours, other, seed=2)
    mine = {key: value for key, value in ours.state_dict().items() if key.startswith(f"{one}/")}
    assert same(mine, {key: value for key, value in alone.items() if key != "active"})
    assert torch.equal(read(ours, one), answers) and torch.equal(read(ours, None), base)
    assert not torch.equal(read(ours, other), answers)
    state, said = copied(ours.state_dict()), read(ours, other)
    fresh = adapters(tiny_lm(layers=1))
    fresh.load_state_dict(state)
    assert torch.equal(read(fresh, one), answers) and torch.equal(read(fresh, other), said)


def test_opening_another_domain_trains_that_one_alone() -> None:
    ours = adapters(tiny_lm(layers=1))
    first, second = ours.open("one"), ours.open("two")
    assert not any(p.requires_grad for p in first.values()) and all(p.requires_grad for p in second.values())
    assert all(p is first[name] and p.requires_grad for name, p in ours.open("one").items())


def test_reading_switches_and_restores() -> None:
    lm = tiny_lm(layers=1)
    base, ours = logits(lm), adapters(lm)
    teach(ours, "one", 1)
    one = logits(lm)
    teach(ours, "two", 2)
    two = logits(lm)
    assert not torch.equal(one, two) and not torch.equal(one, base)
    with ours.reading("one"):
        assert torch.equal(logits(lm), one)
        with ours.off():
            assert torch.equal(logits(lm), base)
            with ours.reading("two"):
                assert torch.equal(logits(lm), two)
            assert torch.equal(logits(lm), base)
        assert torch.equal(logits(lm), one)
    assert torch.equal(logits(lm), two) and ours.active == "two"
    with ours.reading("never taught"):
        assert torch.equal(logits(lm), base)
    assert torch.equal(logits(lm), two)


@pytest.mark.parametrize("context", ["reading", "off"])
def test_what_was_active_comes_back_when_an_exception_passes(context: str) -> None:
    lm = tiny_lm(layers=1)
    ours = adapters(lm)
    teach(ours, "one", 1)
    teach(ours, "two", 2)
    two, parameters = logits(lm), ours.open("two")
    with pytest.raises(KeyboardInterrupt), ours.reading("one") if context == "reading" else ours.off():
        raise KeyboardInterrupt
    assert ours.active == "two" and torch.equal(logits(lm), two)
    assert all(parameter.requires_grad for parameter in parameters.values())


# --- state ----------------------------------------------------------------------------------------------------------


def test_state_comes_back_with_different_ranks(tmp_path: Path) -> None:
    written_by_peft(tmp_path / "theirs", r=7)
    ours = adapters(tiny_lm(layers=2), rank=2)
    teach(ours, "own")
    ours.load("theirs", tmp_path / "theirs")
    state, said = copied(ours.state_dict()), {domain: read(ours, domain) for domain in ("own", "theirs", None)}
    json.dumps({key: value for key, value in state.items() if not torch.is_tensor(value)})
    for present in ((), ("own",), ("third", "theirs")):  # whatever is there before, this state takes its place
        fresh = adapters(tiny_lm(layers=2), rank=5, seed=4)
        for domain in present:
            teach(fresh, domain, seed=8)
        fresh.load_state_dict(state)
        assert same(copied(fresh.state_dict()), state) and fresh.sizes() == ours.sizes()
        assert fresh.active == "theirs" and torch.equal(logits(fresh.lm), said["theirs"])
        assert all(torch.equal(read(fresh, domain), expected) for domain, expected in said.items())


def test_a_state_is_not_the_live_tensors_after_loading() -> None:
    ours = adapters(tiny_lm(layers=1))
    teach(ours, "sea")
    state, said = copied(ours.state_dict()), logits(ours.lm)
    ours.load_state_dict(state)
    teach(ours, "sea", seed=5)
    ours.load_state_dict(state)
    assert torch.equal(logits(ours.lm), said)


def test_an_empty_state_is_the_base_model() -> None:
    lm = tiny_lm(layers=1)
    base, ours = logits(lm), adapters(lm)
    teach(ours, "sea")
    ours.load_state_dict({})
    assert ours.state_dict() == {} and ours.sizes() == {} and torch.equal(logits(lm), base)


def test_a_state_that_does_not_fit_is_refused() -> None:
    ours = adapters(tiny_lm(layers=1))
    teach(ours, "sea")
    state = copied(ours.state_dict())
    with pytest.raises(HistoryError, match='"sea" does not fit'):
        adapters(tiny_lm(layers=1, hidden_size=32, head_dim=8)).load_state_dict(state)
    key = next(key for key in state if key.endswith("lora_A.weight"))
    with pytest.raises(HistoryError, match='"sea" does not fit'):
        ours.load_state_dict(state | {key: torch.zeros(1, 1)})


# --- fusing and merging ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_fused_weights_load_into_a_plain_model(family: str) -> None:
    lm, plain = tiny_lm(family, layers=2), tiny_lm(family, layers=2)
    ours = adapters(lm)
    teach(ours, "sea")
    fused = ours.fuse(["sea"])
    assert fused.keys() == plain.model.state_dict().keys()
    plain.model.load_state_dict(fused)
    torch.testing.assert_close(logits(plain), logits(lm), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(logits(plain), logits(tiny_lm(family, layers=2)), atol=1e-3)
    assert same(ours.fuse([]), dict(tiny_lm(family, layers=2).model.state_dict()))


def three_domains(directory: Path) -> LoraAdapters:
    """Two domains of our own, and one of PEFT's with another rank, scale and reach."""
    ours = adapters(tiny_lm(layers=2), rank=2)
    for seed, domain in enumerate(("one", "two")):
        teach(ours, domain, seed)
    written_by_peft(directory, r=5, use_rslora=True)
    ours.load("three", directory)
    return ours


@pytest.mark.parametrize("domains", [["one", "two"], ["two", "three"], ["one", "two", "three"]])
def test_several_domains_become_their_sum(tmp_path: Path, domains: list[str]) -> None:
    ours = three_domains(tmp_path / "theirs")
    base = tiny_lm(layers=2).model.state_dict()
    alone = {domain: ours.fuse([domain]) for domain in domains}
    together = ours.fuse(domains)
    for name, tensor in base.items():
        expected = tensor + sum(alone[domain][name] - tensor for domain in domains)
        torch.testing.assert_close(together[name], expected, atol=1e-6, rtol=1e-5)
    plain = tiny_lm(layers=2)
    plain.model.load_state_dict(together)
    ours.save(domains, tmp_path / "merged")
    theirs = PeftModel.from_pretrained(tiny_lm(layers=2).model, tmp_path / "merged").eval()
    torch.testing.assert_close(logits(theirs), logits(plain), atol=1e-5, rtol=1e-4)


# --- PEFT's directories ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_peft_reads_what_we_write(family: str, tmp_path: Path) -> None:
    ours = adapters(tiny_lm(family, layers=2))
    teach(ours, "a_b", 1)
    teach(ours, "keys", 2)
    said, state = read(ours, "a_b"), copied(ours.state_dict())
    ours.save(["a_b"], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    theirs = PeftModel.from_pretrained(tiny_lm(family, layers=2).model, tmp_path / "out").eval()
    torch.testing.assert_close(logits(theirs), said, atol=1e-6, rtol=1e-5)
    assert same(ours.state_dict(), state), "writing changes nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_we_read_what_plain_peft_writes(family: str, tmp_path: Path) -> None:
    said = written_by_peft(tmp_path / "theirs", family)
    ours = adapters(tiny_lm(family, layers=2))
    ours.load("sea", tmp_path / "theirs")
    assert ours.active == "sea"
    torch.testing.assert_close(logits(ours.lm), said, atol=1e-6, rtol=1e-5)


CONFIGS = {
    "all-linear": {"target_modules": "all-linear"},
    "an expression": {"target_modules": r".*\.[qv]_proj"},
    "one layer": {"target_modules": ["q_proj"], "layers_to_transform": [1], "layers_pattern": "layers"},
    "ranks of their own": {
        "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 7}, "alpha_pattern": {"v_proj": 2},
    },
    "rank-stabilised": {"use_rslora": True},
    "dropout": {"lora_dropout": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_plain_kind_is_read_kept_fused_and_written_again(kind: str, tmp_path: Path) -> None:
    said = written_by_peft(tmp_path / "theirs", **CONFIGS[kind])
    ours, plain = adapters(tiny_lm(layers=2)), tiny_lm(layers=2)
    ours.load("sea", tmp_path / "theirs")
    torch.testing.assert_close(logits(ours.lm), said, atol=1e-6, rtol=1e-5)
    plain.model.load_state_dict(ours.fuse(["sea"]))
    torch.testing.assert_close(logits(plain), said, atol=1e-5, rtol=1e-4)
    fresh = adapters(tiny_lm(layers=2))
    fresh.load_state_dict(copied(ours.state_dict()))
    assert torch.equal(logits(fresh.lm), logits(ours.lm))
    ours.save(["sea"], tmp_path / "again")
    theirs = PeftModel.from_pretrained(tiny_lm(layers=2).model, tmp_path / "again").eval()
    torch.testing.assert_close(logits(theirs), said, atol=1e-6, rtol=1e-5)


def test_an_adapter_that_is_loaded_again_takes_the_place_of_the_first(tmp_path: Path) -> None:
    written_by_peft(tmp_path / "one", r=2)
    said = written_by_peft(tmp_path / "two", r=6, target_modules=["up_proj"])
    ours = adapters(tiny_lm(layers=2))
    for name in ("one", "two"):
        ours.load("sea", tmp_path / name)
    torch.testing.assert_close(logits(ours.lm), said, atol=1e-6, rtol=1e-5)
    assert list(ours.sizes()) == ["sea"]


def test_an_adapter_on_the_embedding_is_fused_or_refused(tmp_path: Path) -> None:
    said = written_by_peft(tmp_path / "theirs", target_modules=["embed_tokens", "q_proj"])
    ours, plain = adapters(tiny_lm(layers=2)), tiny_lm(layers=2)
    try:
        ours.load("sea", tmp_path / "theirs")
    except HistoryError:
        return
    plain.model.load_state_dict(ours.fuse(["sea"]))
    torch.testing.assert_close(logits(plain), said, atol=1e-5, rtol=1e-4)


def test_an_adapter_on_the_head_answers_or_is_refused(tmp_path: Path) -> None:
    written_by_peft(tmp_path / "theirs", noise=0.5, target_modules=["lm_head"])
    ours = adapters(tiny_lm(layers=2))
    try:
        ours.load("sea", tmp_path / "theirs")
    except HistoryError:
        return
    prompt = tuple(range(5, 25))
    expected = int(ours.lm.logits(collate([Sequence(prompt)]))[0, -1].argmax())
    assert decode.generate(ours.lm, [prompt], 1) == [[expected]]


@pytest.mark.parametrize("start", ["pissa", "olora", "gaussian"])
def test_an_adapter_never_changes_the_base_model(start: str, tmp_path: Path) -> None:
    """PiSSA and OLoRA move part of the weights into the adapter when it is made: undo would not bring it back."""
    written_by_peft(tmp_path / "theirs", init_lora_weights=start)
    lm = tiny_lm(layers=2)
    before, ours = logits(lm), adapters(lm)
    with contextlib.suppress(HistoryError):
        ours.load("sea", tmp_path / "theirs")
    with ours.off():
        assert torch.equal(logits(lm), before)
    ours.remove()
    assert torch.equal(logits(lm), before)
