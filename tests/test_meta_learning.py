"""Meta-learned starts: silent, resumable to the step, learned through the reading, and worth something."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_lm
from safetensors.torch import load_file, save_file

from accrete.adapters.dual_mlp import DualMLPAdapter
from accrete.errors import ModelError
from accrete.lm.load import load, start_of
from accrete.meta_learning import MetaLearning, Options, meta_learn

SHORT = {"episodes": 1, "entities": 1, "questions": 4, "general": 2, "save_seconds": 0.0}


def options(**given) -> Options:
    return Options(**(SHORT | {"steps": 3} | given))


def test_a_killed_run_goes_on_as_if_never_killed(tmp_path):
    whole = load_file(meta_learn(tiny_lm(layers=4), tmp_path / "whole", options()))

    def killed(step: int, loss: float) -> None:
        if step == 2 and not seen:
            seen.append(step)
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        meta_learn(tiny_lm(layers=4), tmp_path / "killed", options(), killed)
    again = load_file(meta_learn(tiny_lm(layers=4), tmp_path / "killed", options()))
    assert seen and whole.keys() == again.keys() == {"3/gate", "3/up", "3/rates"}
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not torch.equal(whole["3/rates"], torch.ones(3))


def test_a_start_is_silent_and_is_used(tmp_path):
    lm = tiny_lm(layers=4)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        before = lm.model(input_ids=ids).logits
    start = load_file(meta_learn(lm, tmp_path, options()))
    adapter = DualMLPAdapter(lm, 0.5, start=start)
    with torch.no_grad():
        assert torch.equal(lm.model(input_ids=ids).logits, before)
    born = adapter.twins[3].born(torch.arange(128))
    assert torch.equal(born.gate, start["3/gate"].float()) and not torch.equal(
        born.gate, lm.anatomy.layers[3].mlp.frozen.gate_proj.weight
    )
    assert adapter.rates() == pytest.approx(start["3/rates"].tolist()) and adapter.started
    assert not DualMLPAdapter(tiny_lm(layers=4), 0.5).started


def test_the_gradient_goes_through_the_reading():
    """It is that of the whole, but for the scale of clipping, a given: a step along it changes the loss as it says."""
    torch.manual_seed(0)
    learning = MetaLearning(tiny_lm(layers=4), options(inner_clip=1e9, inner_rate=0.3))
    texts, questions, general = learning.episode(0)
    name = next(n for n in learning.start if n.endswith("up"))
    direction = torch.randn_like(learning.start[name])

    def loss() -> torch.Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return learning.ask(learning.read(texts), questions, general)[0]

    (gradient,) = torch.autograd.grad(loss(), learning.start[name])
    with torch.no_grad():
        size = 0.02
        learning.start[name].add_(direction, alpha=size)
    up = float(loss().detach())
    with torch.no_grad():
        learning.start[name].add_(direction, alpha=-2 * size)
    down = float(loss().detach())
    assert (up - down) / (2 * size) == pytest.approx(float((gradient * direction).sum()), rel=0.03, abs=1e-4)


def test_what_is_asked_is_of_the_texts_and_no_evaluation_draws_its_worlds():
    learning = MetaLearning(tiny_lm(layers=4), options(entities=6, texts=3, questions=100))
    decode = learning.lm.tokenizer.decode
    for number in range(4):
        texts, questions, general = learning.episode(number)
        read = " ".join(decode(text.ids) for text in texts)
        assert questions and len(general) == 2
        assert all(decode(q.ids[q.target_from : -1]).strip(". ") in read for q in questions[:3])
        assert texts == learning.episode(number)[0]
    assert learning.episode(0)[0] != learning.episode(1)[0]


def test_a_start_of_another_shape_or_none_at_all(tmp_path):
    with pytest.raises(ModelError, match="another shape"):
        DualMLPAdapter(tiny_lm(layers=4), 0.5, start={"3/gate": torch.zeros(4, 4), "3/up": torch.zeros(4, 4)})
    with pytest.raises(ModelError, match="another shape"):
        DualMLPAdapter(tiny_lm(layers=4), 0.5, start={"3/gate": torch.zeros(128, 64)})
    with pytest.raises(ModelError, match="Cannot read the start"):
        start_of(tiny_lm(), "dual_mlp", str(tmp_path / "nowhere.safetensors"))
    assert start_of(tiny_lm(), "dual_mlp", "auto") == start_of(tiny_lm(), "dual_mlp", "none") == {}


def test_a_start_beside_a_model_is_loaded_with_it_and_a_damaged_one_is_refused(make_lm, tmp_path):
    lm = make_lm()
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    tensors = {"3/rates": torch.ones(3)}
    save_file(tensors, tmp_path / "dual_mlp.start.safetensors")
    loaded = load(str(tmp_path), device="cpu", offline=True)
    assert loaded.starts.keys() == {"dual_mlp"} and loaded.starts["dual_mlp"].keys() == tensors.keys()
    (tmp_path / "dual_mlp.start.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"dual_mlp\.start\.safetensors beside the model"):
        load(str(tmp_path), device="cpu", offline=True)
