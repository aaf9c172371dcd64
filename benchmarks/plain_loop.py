"""Finetuning as anyone would write it with torch, transformers and peft: what `learn_throughput.py` measures accrete against.

Nothing here comes from accrete. Ends at the loss of the last step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Row = tuple[list[int], int]
"""Token ids, and the place from which on they are targets."""
Step = tuple[list[Row], int, list[Row]]
"""The rows that are learned; how many of them, the last ones, are also held to the base; and rows that are only held."""


def lora(model: Any, config: Any) -> tuple[Any, Callable[..., Tensor]]:
    """The model with a LoRA adapter of peft, and the base's logits, which peft gives when the adapter is switched off."""
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=config.targets, bias="none", task_type="CAUSAL_LM"
    )
    taught = get_peft_model(model, adapter)

    def base_logits(**inputs: Tensor) -> Tensor:
        with taught.disable_adapter():
            return taught(**inputs).logits

    return taught, base_logits


def full(model: Any, config: Any) -> tuple[Any, Callable[..., Tensor]]:
    """The model with all its weights trainable, and the base's logits, from a frozen copy."""
    base = copy.deepcopy(model).requires_grad_(False)
    model.requires_grad_(True)
    return model, lambda **inputs: base(**inputs).logits


PLAIN = {"lora_replay_ewc": lora, "full_finetune": full}
"""How the plain loop of a method is prepared; a method that is not here is measured alone."""


def plain_loop(
    plain: tuple[Any, Callable[..., Tensor]],
    steps: list[Step],
    weights: list[Tensor],
    config: Any,
    pad: int,
    mixed: bool = False,
) -> float:
    """AdamW on next token and KL to the base, an update a step, from `weights` (in parameters' order; none: as it is).

    `mixed` is bfloat16 autocast.
    """
    model, base_logits = plain
    model.config.use_cache = False
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights or parameters, strict=True):
            parameter.copy_(weight)
    optimizer = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=0.0, fused=True)
    value = float("nan")
    for rows, general, held in steps:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
            inputs, labels = padded(rows, pad, model.device)
            output = model(**inputs, labels=labels)
            total = output.loss
            if held or general:
                if held:
                    inputs, labels = padded(held, pad, model.device)
                    logits = model(**inputs).logits
                else:
                    inputs, labels = {k: v[-general:] for k, v in inputs.items()}, labels[-general:]
                    logits = output.logits[-general:]
                predicting = labels[:, 1:] != -100
                with torch.no_grad():
                    base = base_logits(**inputs)[:, :-1][predicting].float().log_softmax(-1)
                now = logits[:, :-1][predicting].float().log_softmax(-1)
                total = total + config.kl_weight * functional.kl_div(now, base, log_target=True, reduction="batchmean")
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        value = output.loss.item()
    return value


def padded(rows: list[Row], pad: int, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Rows as the inputs of a model, padded on the right, and their labels."""
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row, _ in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in rows])
    labels = torch.tensor([[-100] * start + [*row[start:]] + [-100] * (width - len(row)) for row, start in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}, labels.to(device)
