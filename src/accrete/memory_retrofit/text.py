"""The retrofit of the papers (2412.09764, 2510.15103): next token on general text. Ends at queries, keys and gates.

V is trained beside them and thrown away. Slots that everything reads are where lessons meet, so uneven use costs something:
loss = next token + balance * KL(mean use of the half keys || even use).
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.adapters.memory_layer import MemoryAdapter, MemoryMLP
from accrete.adapters.product_keys import ProductKeys, looking_with
from accrete.data.documents import find_documents, read_document
from accrete.data.study import text_sequences
from accrete.data.world import World
from accrete.errors import DocumentError
from accrete.lm import batch
from accrete.lm.allocator import untouched
from accrete.lm.model import LM
from accrete.losses.next_token import next_token
from accrete.memory_retrofit.measure import passages
from accrete.memory_retrofit.options import Options
from accrete.memory_retrofit.wordings import WORLDS
from accrete.optim.rows import RowAdam

OPEN = 1.2785  # silu(OPEN) = 1: a gate that is born open


class Trained(nn.Module):
    """F + m in the place of a MemoryMLP, with gradients for V and for where it looks."""

    def __init__(self, memory: MemoryMLP, values_ND: Tensor):
        super().__init__()
        self.frozen, self.product_keys, self.hearing = memory.frozen, memory.product_keys, memory.hearing
        self.values = nn.Parameter(values_ND)

    def forward(self, x: Tensor) -> Tensor:
        y = self.frozen(x)
        x_TD = x.flatten(0, -2)
        self.z_TQ = looking_with(x_TD.detach(), self.hearing.now().flatten(0, -2) if self.hearing else None)
        slots_TS, weights_TS = self.product_keys.look(self.z_TQ)
        m_TD = functional.embedding_bag(slots_TS, self.values, mode="sum", per_sample_weights=weights_TS, sparse=True)
        return y + self.product_keys.give(m_TD, x_TD).view(y.shape).to(y.dtype)

    def imbalance(self, of_T: Tensor) -> Tensor:
        """KL of the mean use of the half keys by these tokens from even use, over heads and halves: nats."""
        scores_PTHn = self.product_keys.scores(self.z_TQ[of_T])
        use_PHn = torch.softmax(scores_PTHn * self.product_keys.shape.top_k**0.5, -1).mean(1)
        return (use_PHn * (use_PHn * use_PHn.shape[-1] + 1e-9).log()).sum(-1).mean()


class Text:
    """The memories of one model, and what improves where they look."""

    def __init__(self, lm: LM, options: Options):
        self.lm, self.options = lm, options
        self.texts = _windows(lm, options)
        self.data = hashlib.sha256(str([text.ids for text in self.texts]).encode()).hexdigest()
        self.adapter = MemoryAdapter(lm, options.shape(), options.layers, hears=True, seed=options.seed)
        assert lm.anatomy is not None
        self.memories = {}
        for i, memory in self.adapter.memories.items():
            _make_trainable(memory.product_keys, lm.model.config.hidden_size, options.gated)
            values_ND = untouched(options.slots, lm.model.config.hidden_size, device=lm.device, anywhere=True)
            lm.anatomy.layers[i].mlp = self.memories[i] = Trained(memory, values_ND)
        named = {f"{i}/{n}": p for i, t in self.memories.items() for n, p in t.product_keys.named_parameters()}
        self.named = named
        groups = [
            ([p for name, p in named.items() if not name.endswith("/keys")], options.rate),
            ([p for name, p in named.items() if name.endswith("/keys")], options.keys_rate),
            ([trained.values for trained in self.memories.values()], options.values_rate),
        ]
        self.optimizer = RowAdam([{"params": parameters, "lr": rate} for parameters, rate in groups], self.options.rate)

    def step(self, number: int) -> float:
        chance = random.Random(f"{self.options.seed} {number}")
        rows = chance.sample(self.texts, min(self.options.batch_size, len(self.texts)))
        whole = batch.collate(rows, self.lm.device, self.lm.pad)
        with torch.no_grad():
            hidden = self.lm.prefix(whole, self.adapter.first_layer)
        with self.lm.autocast():
            loss = next_token(self.lm, whole, self.lm.target_logits(whole, hidden))
            uneven = torch.stack([t.imbalance(whole.mask_BT.flatten()) for t in self.memories.values()]).sum()
        self.optimizer.zero_grad()
        (loss + self.options.balance * uneven).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(list(self.named.values()), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def tensors(self) -> dict[str, Tensor]:
        return {name: p.detach().bfloat16().cpu().contiguous() for name, p in self.named.items()}

    def remove(self) -> None:
        self.adapter.remove()


def _make_trainable(product_keys: ProductKeys, width: int, gated: bool) -> None:
    """Its buffers become parameters; a gate is born open."""
    tensors = dict(product_keys.named_buffers())
    device = tensors["queries"].device
    if gated:
        tensors["gate"] = torch.zeros(width, width, device=device)
        tensors["gate_offset"] = torch.full((width,), OPEN, device=device)
        tensors["out"] = torch.eye(width, device=device)
    for name, tensor in tensors.items():
        if hasattr(product_keys, name):
            delattr(product_keys, name)
        product_keys.register_parameter(name, nn.Parameter(tensor.clone()))
    product_keys.gated = gated


def _windows(lm: LM, options: Options) -> list[batch.Sequence]:
    """General text, `window` tokens at a time."""
    if not options.texts:
        return passages(lm, World(WORLDS + options.seed), 40 * options.batch_size, options.window)
    documents = [read_document(path) for path in find_documents(Path(options.texts)).documents]
    found = [window for document in documents for window in text_sequences(lm, document, options.window)]
    if not found:
        raise DocumentError(f"There is no text to train on in {options.texts}.")
    return found
