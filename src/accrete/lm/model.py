"""A language model that can be run whole or in two parts, prefix and suffix. Knows tokens, not documents.

                 prefix(batch, layer)                        suffix(hidden, cache)
    ids -> embedding -> blocks 0..layer-1 -> Hidden -> blocks layer.. -> final norm -> head -> logits

What lies before the first trained layer never changes, so its output can be computed once and used many times.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from accrete.errors import ModelError
from accrete.lm.anatomy import Anatomy, anatomy
from accrete.lm.batch import IGNORED, Batch, Sequence, collate
from accrete.lm.head import frozen_head_loss


@dataclass(frozen=True)
class Hidden:
    """What enters block `layer`: states, which positions are real, and their rotary positions."""

    h_BTD: Tensor
    mask_BT: Tensor
    position_ids_BT: Tensor
    layer: int

    def part(self, row: int, start: int, end: int) -> Hidden:
        """Of one row the tokens from `start` to before `end`."""
        of = slice(row, row + 1), slice(start, end)
        return Hidden(self.h_BTD[of], self.mask_BT[of], self.position_ids_BT[of], self.layer)


@dataclass
class SuffixCache:
    """Keys and values of the blocks from some layer on, and the mask of the tokens they stand for.

    transformers asks a cache for its length through layer 0, which such a cache never fills: the mask here is the truth.
    """

    keys_values: DynamicCache = field(default_factory=DynamicCache)
    mask_BK: Tensor | None = None

    def crop(self, length: int) -> None:
        """Forget the tokens from place `length` on."""
        for layer in self.keys_values.layers:
            if getattr(layer, "keys", None) is not None:
                layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]
        self.mask_BK = None if self.mask_BK is None or not length else self.mask_BK[:, :length]

    def detach(self) -> None:
        """Cut the graph of earlier windows; to be called after every update."""
        for layer in self.keys_values.layers:
            if getattr(layer, "keys", None) is not None:
                layer.keys, layer.values = layer.keys.detach(), layer.values.detach()


class LM:
    """A causal language model of transformers with its tokenizer.

    `sentinels` and `background` travel with a model that brings them: questions it must go on answering, as
    (question, answers, split) with split "guard" or "scored", and general (question, answer) material for replay. So do
    `starts`: tensors, by the name of an adapter, from which it learns faster than from its own beginning.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name
        self.anatomy: Anatomy | None = anatomy(model)
        self.sentinels: tuple[tuple[str, tuple[str, ...], str], ...] = ()
        self.background: tuple[tuple[str, str], ...] = ()
        self.starts: dict[str, dict[str, Tensor]] = {}
        self.mixed = False  # whether learning multiplies in bfloat16, with weights that stay as they are
        self.taught_by: str | None = None  # the method of the learner that writes into this model
        model.requires_grad_(False)

    def to_device(self, device: torch.device) -> LM:
        self.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    def trainable_layers(self) -> int:
        """How many blocks an update may change; all of them in an unknown architecture with anything trainable."""
        if self.anatomy is None:
            return self.layers if any(p.requires_grad for p in self.model.parameters()) else 0
        return sum(any(p.requires_grad for p in layer.parameters()) for layer in self.anatomy.layers)

    @property
    def context_length(self) -> int:
        return int(self.model.config.max_position_embeddings)

    def count_tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    @property
    def pad(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0

    @functools.cached_property
    def digest(self) -> str:
        """Identity of the BASE weights, taken when first asked for: before anything is trained."""
        return weights_digest(dict(self.model.named_parameters()))

    def autocast(self, beside: bool = False) -> torch.autocast:
        """The context of a learning step: bfloat16 products of float32 weights where `mixed`, else nothing.

        With `beside` also where the base is in bfloat16 and what is trained beside it in float32. Answers and measures are not
        taken in it.
        """
        mixed = self.mixed or (beside and self.dtype == torch.bfloat16)
        # Without a cache of cast weights: within one step an adapter may point a parameter at its base and back.
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed, cache_enabled=False)

    @contextlib.contextmanager
    def in_bfloat16(self, frozen: bool = False) -> Iterator[None]:
        """Weights rounded to bfloat16 meanwhile, where `mixed`: three times as fast for a small batch on a CPU that can.

        Only the `frozen` ones: what is trained stays as it is, and no step rounds the others anew. For text that is checked
        afterwards and for learning, not for answers and measures. The weights come back bit for bit.
        """
        if not self.mixed or self.dtype != torch.float32:
            yield
            return
        whole = [(p, p.data) for p in self.model.parameters() if not (frozen and p.requires_grad)]
        try:
            for parameter, data in whole:
                parameter.data = data.bfloat16()
            yield
        finally:
            for parameter, data in whole:
                parameter.data = data

    def facts(self) -> dict[str, Any]:
        """What it is and where: JSON's terms."""
        parameters = list(self.model.parameters())
        modified = self.trainable_layers()
        return {
            "model": self.name,
            "base_digest": self.digest,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "mixed": self.mixed,
            "layers": {"total": self.layers, "modified": modified, "frozen": self.layers - modified},
            "parameters": {
                "total": sum(p.numel() for p in parameters),
                "trainable": sum(p.numel() for p in parameters if p.requires_grad),
            },
        }

    # --- running ------------------------------------------------------------------------------------------------

    def logits(self, batch: Batch) -> Tensor:
        """[B, T, V], the whole pass."""
        mask = None if bool(batch.mask_BT.all()) else batch.mask_BT.long()
        return self.model(input_ids=batch.ids_BT, attention_mask=mask, use_cache=False).logits

    def target_logits(self, batch: Batch, hidden: Hidden | None = None) -> Tensor:
        """[N, V] where a target is predicted, row after row, going on from `hidden` where it is given.

        The head runs nowhere else: of a large vocabulary it is the most expensive layer.
        """
        if self.anatomy is None:
            return self.logits(batch)[batch.predicting_BT]
        if hidden is None:
            mask = None if bool(batch.mask_BT.all()) else batch.mask_BT.long()
            output = self.anatomy.body(input_ids=batch.ids_BT, attention_mask=mask, use_cache=False)
            states_BTD = cast(Tensor, output.last_hidden_state)
        else:
            states_BTD = self.suffix_states(hidden)
        return cast(Tensor, self.anatomy.head(states_BTD[batch.predicting_BT]))

    def hidden(self, batch: Batch, layer: int) -> Tensor:
        """[B, T, D], the states that enter block `layer`."""
        return self.prefix(batch, layer).h_BTD

    def prefix(self, batch: Batch, layer: int, offset: int = 0, cache: SuffixCache | None = None) -> Hidden:
        """Run the blocks before `layer`, for right-padded rows.

        Of a text in windows, `cache` carries the keys and values of the earlier ones and `offset` is the position of
        this window's first token, one number for all rows: only the last window of a row may be padded.
        """
        parts = self._parts()
        positions = (batch.mask_BT.long().cumsum(-1) - 1).clamp(min=0) + offset
        hidden = Hidden(parts.embedding(batch.ids_BT), batch.mask_BT, positions, 0)
        return replace(hidden, h_BTD=self._blocks(hidden, layer, cache), layer=layer)

    def suffix(self, hidden: Hidden, cache: SuffixCache | None = None) -> Tensor:
        """[B, T, V]: go on from `hidden` to logits. With `cache`, attends to the tokens in it and joins them."""
        return self._parts().head(self.suffix_states(hidden, cache))

    def suffix_states(self, hidden: Hidden, cache: SuffixCache | None = None) -> Tensor:
        """[B, T, D]: the same up to what the head reads."""
        parts = self._parts()
        return parts.final_norm(self._blocks(hidden, len(parts.layers), cache))

    def head_loss(self, states_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean nats over the targets that are not IGNORED, through the frozen head: no logits are kept (lm/head.py)."""
        weight_VD = cast(Tensor, self._parts().head.weight)
        return frozen_head_loss(states_BTD.flatten(0, 1), weight_VD, targets_BT.flatten())

    def _blocks(self, hidden: Hidden, end: int, cache: SuffixCache | None) -> Tensor:
        """The states after blocks hidden.layer .. end-1."""
        parts, h_BTD = self._parts(), hidden.h_BTD
        if hidden.layer == end:
            return h_BTD
        mask_BK = hidden.mask_BT if cache is None or cache.mask_BK is None else None
        if mask_BK is None:
            assert cache is not None and cache.mask_BK is not None
            mask_BK = torch.cat([cache.mask_BK, hidden.mask_BT], dim=1)
        rotary = parts.rotary(h_BTD, hidden.position_ids_BT)
        masks = {kind: self._mask(kind, mask_BK, h_BTD) for kind in set(parts.layer_types[hidden.layer : end])}
        for i in range(hidden.layer, end):
            h_BTD = parts.layers[i](
                h_BTD,
                attention_mask=masks[parts.layer_types[i]],
                position_ids=hidden.position_ids_BT,
                past_key_values=None if cache is None else cache.keys_values,
                use_cache=cache is not None,
                position_embeddings=rotary,
            )
        if cache is not None:
            cache.mask_BK = mask_BK
        return h_BTD

    def _mask(self, kind: str, mask_BK: Tensor, h_BTD: Tensor) -> Tensor | None:
        """Additive [B, 1, T, K]: causal, without padding, within the window; None where plain causality is all."""
        window = self._parts().sliding_window if kind == "sliding_attention" else None
        keys, queries = mask_BK.shape[1], h_BTD.shape[1]
        plain = keys == queries and (window is None or keys <= window) and bool(mask_BK.all())
        if plain and self.model.config._attn_implementation == "sdpa":
            return None
        query = torch.arange(keys - queries, keys, device=mask_BK.device)[:, None]
        key = torch.arange(keys, device=mask_BK.device)[None, :]
        visible = key <= query if window is None else (key <= query) & (key > query - window)
        visible_B1TK = visible[None, None] & mask_BK[:, None, None, :]
        shut = torch.finfo(h_BTD.dtype).min
        return torch.zeros(visible_B1TK.shape, dtype=h_BTD.dtype, device=h_BTD.device).masked_fill(~visible_B1TK, shut)

    def _parts(self) -> Anatomy:
        if self.anatomy is None:
            raise ModelError(f'Models of type "{self.model.config.model_type}" can only be run whole.')
        return self.anatomy

    # --- measuring ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, sequences: SequenceOf[Sequence], batch_size: int = 16) -> list[tuple[float, int]]:
        """For each sequence the sum of the negative log-likelihoods of its targets (nats), and their number."""
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].ids))
        scored: list[tuple[float, int]] = [(0.0, 0)] * len(sequences)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([sequences[i] for i in rows], self.device, self.pad)
            labels_BT = batch.labels_BT[:, 1:]
            losses_BT = functional.cross_entropy(
                self.logits(batch)[:, :-1].transpose(1, 2).float(), labels_BT, ignore_index=IGNORED, reduction="none"
            )
            for row, total, count in zip(rows, losses_BT.sum(-1), (labels_BT != IGNORED).sum(-1), strict=True):
                scored[row] = (float(total), int(count))
        return scored

    def mean_loss(self, sequences: SequenceOf[Sequence]) -> float:
        """Nats per target token over all sequences."""
        scored = self.score(sequences)
        return sum(total for total, _ in scored) / max(1, sum(count for _, count in scored))


def weights_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 over names, types, shapes and bytes, in the order of the names."""
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        hasher.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        if tensor.numel():
            hasher.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()
