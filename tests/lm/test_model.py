"""The split of a model in prefix and suffix: whatever the architecture, the parts make the whole."""

from __future__ import annotations

import functools

import pytest
import torch
from conftest import FAMILIES, tiny_lm, tokenizer
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from accrete.errors import ModelError
from accrete.lm.batch import Batch, Sequence, collate
from accrete.lm.model import LM, Hidden, SuffixCache, weights_digest

LAYERS = 4
MODELS = {family: (family, {}) for family in FAMILIES} | {
    "mistral, sliding window": ("mistral", {"sliding_window": 5}),
    "qwen2, sliding window": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
}


@functools.cache
def model(name: str, attention: str = "sdpa", dtype: torch.dtype = torch.float32) -> LM:
    family, overrides = MODELS[name]
    lm = tiny_lm(family, layers=LAYERS, **overrides)
    lm.model.set_attn_implementation(attention)
    lm.model.to(dtype)
    return lm


def batch_of(*lengths: int, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    return collate([Sequence(tuple(torch.randint(3, 4000, (n,), generator=draw).tolist())) for n in lengths])


def whole(lm: LM, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT.long(), use_cache=False).logits


def window(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(batch.ids_BT[:, start:stop], batch.mask_BT[:, start:stop], batch.labels_BT[:, start:stop])


def gpt2() -> LM:
    torch.manual_seed(0)
    ends = dict(eos_token_id=tokenizer().eos_token_id, bos_token_id=None)
    config = GPT2Config(vocab_size=len(tokenizer()), n_embd=32, n_layer=2, n_head=2, n_positions=64, **ends)
    return LM(GPT2LMHeadModel(config), tokenizer(), "tiny gpt2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
def test_prefix_and_suffix_make_the_whole(name: str, attention: str, dtype: torch.dtype) -> None:
    lm = model(name, attention, dtype)
    tolerance = 2e-5 if dtype == torch.float32 else 0.1
    for batch in (batch_of(11, 11), batch_of(12, 7, 3)):  # without and with padding
        expected = whole(lm, batch)[batch.mask_BT]
        assert expected.std() > 0.1
        for layer in range(LAYERS + 1):
            with torch.no_grad():
                parts = lm.suffix(lm.prefix(batch, layer))
            torch.testing.assert_close(parts[batch.mask_BT], expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", [name for name in MODELS if "sliding" in name])
def test_the_sliding_window_matters_here(name: str) -> None:
    """Otherwise the test above would say nothing about it."""
    family, _ = MODELS[name]
    batch = batch_of(12)
    narrow, wide = whole(model(name), batch), whole(model(family), batch)
    torch.testing.assert_close(narrow[:, :5], wide[:, :5], atol=2e-5, rtol=2e-5)
    assert not torch.allclose(narrow[:, 5:], wide[:, 5:], atol=1e-3)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("layer", [0, 3, LAYERS])
def test_windows_with_caches_make_the_whole(name: str, attention: str, layer: int) -> None:
    lm, batch = model(name, attention), batch_of(14, 11, 14)
    expected = whole(lm, batch)
    below, above = SuffixCache(), SuffixCache()
    pieces = []
    with torch.no_grad():
        for start, stop in [(0, 6), (6, 7), (7, 14)]:  # the padding lies in the last window
            hidden = lm.prefix(window(batch, start, stop), layer, offset=start, cache=below)
            pieces.append(lm.suffix(hidden, cache=above))
    torch.testing.assert_close(torch.cat(pieces, dim=1)[batch.mask_BT], expected[batch.mask_BT], atol=2e-5, rtol=2e-5)


def test_a_cache_of_suffix_layers_alone() -> None:
    """The prefix is run once over the whole text, only the suffix goes window by window."""
    lm, batch, layer = model("qwen2"), batch_of(12, 12), 3
    cache, pieces = SuffixCache(), []
    with torch.no_grad():
        hidden = lm.prefix(batch, layer)
        for start, stop in [(0, 5), (5, 12)]:
            tensors = (hidden.h_BTD, hidden.mask_BT, hidden.position_ids_BT)
            part = Hidden(*(tensor[:, start:stop] for tensor in tensors), layer=layer)
            pieces.append(lm.suffix(part, cache=cache))
    assert cache.keys_values.get_seq_length(0) == 0
    assert cache.keys_values.get_seq_length(layer) == 12
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole(lm, batch), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stops", [(14,), (6, 14), (2, 14)], ids=["whole", "windows", "a window of padding"])
def test_padding_on_the_left_is_not_seen(name: str, stops: tuple[int, ...]) -> None:
    """Where later tokens could attend to padding, now or through the cache, the mask must forbid it."""
    lm, layer, cache = model(name), 2, SuffixCache()
    alone, long = batch_of(9), batch_of(14, seed=1)
    ids, mask = long.ids_BT.repeat(2, 1), torch.ones(2, 14, dtype=torch.bool)
    ids[1, 5:], mask[1, :5] = alone.ids_BT[0], False
    pieces, start = [], 0
    with torch.no_grad():
        hidden = lm.prefix(Batch(ids, mask, ids), layer)
        for stop in stops:
            tensors = (hidden.h_BTD, hidden.mask_BT, hidden.position_ids_BT)
            part = Hidden(*(tensor[:, start:stop] for tensor in tensors), layer=layer)
            pieces.append(lm.suffix(part, cache=cache))
            start = stop
    logits = torch.cat(pieces, dim=1)
    torch.testing.assert_close(logits[0], whole(lm, long)[0], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(logits[1, 5:], whole(lm, alone)[0], atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("detached", [True, False])
def test_detach_cuts_the_graph(detached: bool) -> None:
    lm, batch, cache = tiny_lm(layers=2), batch_of(8), SuffixCache()
    value = lm.anatomy.attention(1).v_proj.weight.requires_grad_()
    hidden = lm.prefix(window(batch, 0, 4), 1)
    lm.suffix(hidden, cache=cache)
    if detached:
        cache.detach()
    later = lm.prefix(window(batch, 4, 8), 1, offset=4)
    value.requires_grad_(False)  # so that only the cache can bring a gradient into the later window
    assert lm.suffix(later, cache=cache).requires_grad is not detached


def test_gradients_stay_in_the_suffix() -> None:
    lm, batch, layer = tiny_lm(), batch_of(9, 6), 3
    lm.model.requires_grad_(True)
    with torch.no_grad():
        hidden = lm.prefix(batch, layer)
    lm.suffix(hidden)[batch.mask_BT].square().mean().backward()
    after = {n for n, p in lm.model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    last = ("model.layers.3.", "model.norm.", "lm_head.")
    assert after == {name for name, _ in lm.model.named_parameters() if name.startswith(last)}


def test_score_is_cross_entropy_whatever_the_batch() -> None:
    lm = model("qwen2")
    rows = [tuple(row[:n]) for row, n in zip(batch_of(15, 15, 15).ids_BT.tolist(), (15, 4, 9), strict=True)]
    sequences = [Sequence(rows[0], 5), Sequence(rows[1]), Sequence(rows[2], 8)]
    by_hand = []
    for sequence in sequences:
        ids = torch.tensor([sequence.ids])
        shares = functional.log_softmax(lm.model(ids).logits[0], -1)
        predicted = range(max(1, sequence.target_from), len(sequence.ids))
        by_hand.append((-sum(float(shares[t - 1, sequence.ids[t]]) for t in predicted), len(predicted)))
    for size in (1, 2, 16):
        scored = lm.score(sequences, batch_size=size)
        assert [count for _, count in scored] == [10, 3, 1] == [s.targets for s in sequences]
        for (total, _), (expected, _) in zip(scored, by_hand, strict=True):
            assert total == pytest.approx(expected, rel=1e-5)
    assert lm.mean_loss(sequences) == pytest.approx(sum(total for total, _ in by_hand) / 14, rel=1e-5)


def test_the_digest_is_of_every_weight() -> None:
    first, same, other = tiny_lm(layers=1), tiny_lm(layers=1), tiny_lm(layers=1, seed=1)
    assert first.digest == same.digest != other.digest
    before = first.digest
    with torch.no_grad():
        first.model.model.norm.weight[3] += 1e-6
    assert weights_digest(dict(first.model.named_parameters())) != before
    assert first.digest == before  # of the base: what is learned later is not part of it


def test_an_unknown_architecture_runs_whole() -> None:
    lm, batch = gpt2(), batch_of(8, 5)
    assert lm.anatomy is None
    for row, length in enumerate((8, 5)):
        alone = lm.logits(collate([Sequence(tuple(batch.ids_BT[row, :length].tolist()))]))
        torch.testing.assert_close(lm.logits(batch)[row, :length], alone[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="gpt2"):
        lm.prefix(batch, 1)


def test_bfloat16_for_a_while_leaves_no_trace(make_lm):
    lm = make_lm(tie_word_embeddings=True)
    before, kept = lm.digest, {name: p.data_ptr() for name, p in lm.model.named_parameters()}
    with lm.in_bfloat16():
        assert lm.dtype == torch.float32  # not where learning does not multiply so either
    lm.mixed = True
    with pytest.raises(RuntimeError, match="in the middle"), lm.in_bfloat16():
        assert lm.dtype == torch.bfloat16
        lm.logits(collate([Sequence((1, 2, 3))]))
        raise RuntimeError("in the middle")
    assert weights_digest(dict(lm.model.named_parameters())) == before
    assert {name: p.data_ptr() for name, p in lm.model.named_parameters()} == kept
