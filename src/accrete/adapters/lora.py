"""LoRA (2106.09685) through PEFT, one adapter per domain. Ends at adapters that can be switched, fused and carried away.

    y = W x + (alpha / rank) B A x      W frozen, A random, B = 0 at birth: a new adapter changes no logit

An untaught model has no adapter at all; a domain gets its own when its first lesson opens it. Layers of PEFT stand where
the linear layers stood and hand through to them when no adapter is there.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from accrete.errors import HistoryError, UsageError
from accrete.lm.model import LM

_PEFT_ROOT = "base_model.model."  # what a saved PEFT adapter writes before every name


class LoraAdapters:
    """The adapters of a model by domain. `active` is the one that answers when nothing else is said."""

    first_layer = 0

    def __init__(self, lm: LM, rank: int, alpha: float, targets: str | list[str], generator: torch.Generator):
        self.lm, self.generator = lm, generator
        self._fresh = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, bias="none", task_type="CAUSAL_LM")
        self.configs: dict[str, LoraConfig] = {}
        self.active: str | None = None

    # --- writing and reading ------------------------------------------------------------------------------------

    def open(self, domain: str) -> dict[str, nn.Parameter]:
        """The trainable parameters of a domain, by name; an adapter that is not there is made. It becomes the active one."""
        if domain not in self.configs:
            try:
                self._install(domain, copy.deepcopy(self._fresh))
            except ValueError as error:
                raise UsageError(f"These layers cannot be adapted: {' '.join(str(error).split())[:200]}") from None
            for name, parameter in self._parameters(domain).items():
                if ".lora_A." in name:  # drawn again from our own generator, so that a lesson can be repeated
                    bound = math.sqrt(1 / parameter.shape[1])  # Kaiming uniform with a = sqrt(5), as PEFT draws it
                    drawn = torch.rand(parameter.shape, generator=self.generator)
                    parameter.data = (bound * (2 * drawn - 1)).to(parameter.device)
        self._activate(domain)
        return self._parameters(domain)

    def sizes(self) -> dict[str, int]:
        """How many parameters the adapter of each domain has."""
        return {domain: sum(p.numel() for p in self._parameters(domain).values()) for domain in self.configs}

    @contextlib.contextmanager
    def reading(self, domain: str | None) -> Iterator[None]:
        """The adapter of `domain` answers inside; the base model when it has none."""
        before = self.active
        try:
            self._activate(domain if domain in self.configs else None)
            yield
        finally:
            self._activate(before)

    def off(self) -> contextlib.AbstractContextManager[None]:
        """The base model answers inside."""
        return self.reading(None)

    def remove(self) -> None:
        """Give the model back as it was, its own layers in their places."""
        self.load_state_dict({})
        self._unwrap()
        self.lm.model.requires_grad_(False)

    # --- carrying away ------------------------------------------------------------------------------------------

    def fuse(self, domains: Sequence[str]) -> dict[str, Tensor]:
        """The model's own weights with the sum of the changes of `domains` added, under their own names."""
        fused = {}
        deltas = {
            f"{name}.weight": [layer.get_delta_weight(n) for n in map(_peft_name, domains) if n in layer.lora_A]
            for name, layer in self._layers()
        }
        for name, tensor in self.lm.model.state_dict().items():
            plain = name.replace(".base_layer.", ".")
            if ".lora_" not in name:
                changes = [delta.to(tensor.dtype) for delta in deltas.get(plain, [])]
                fused[plain] = torch.stack([tensor, *changes]).sum(0) if changes else tensor
        return fused

    def save(self, domains: Sequence[str], directory: Path) -> None:
        """Write the sum of adapters as one, as PEFT writes it: adapter_config.json and adapter_model.safetensors.

        Several become one by concatenation, [B1 B2] [A1; A2], their ranks added: exact, and nothing is trained.
        """
        if len(domains) == 1:
            config = LoraConfig(**_written(self.configs[domains[0]]) | {"inference_mode": True})
            weights = self._tensors(domains[0])
        else:
            rank = sum(self.configs[domain].r for domain in domains)
            targets = sorted({name.rpartition(".")[2] for name, _ in self._layers()})
            config = LoraConfig(
                r=rank, lora_alpha=rank, target_modules=targets, task_type="CAUSAL_LM", inference_mode=True
            )
            weights = self._concatenated(domains, rank)
        config.base_model_name_or_path = self.lm.model.config._name_or_path or self.lm.name  # AutoPeftModel looks there
        config.save_pretrained(str(directory))
        tensors = {_PEFT_ROOT + name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        save_file(tensors, directory / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})

    def _concatenated(self, domains: Sequence[str], rank: int) -> dict[str, Tensor]:
        """One A [rank, in] and one B [out, rank] a layer; where a domain does not reach, zeros."""
        weights = {}
        for name, layer in self._layers():
            there = [n for n in map(_peft_name, domains) if n in layer.lora_A]
            a = torch.cat([layer.lora_A[n].weight for n in there])
            b = torch.cat([layer.lora_B[n].weight * layer.scaling[n] for n in there], dim=1)
            missing = rank - len(a)
            weights[f"{name}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, missing))
            weights[f"{name}.lora_B.weight"] = torch.nn.functional.pad(b, (0, missing))
        return weights

    def load(self, domain: str, directory: Path) -> None:
        """Take up a plain LoRA adapter that PEFT wrote; HistoryError when it is none, or does not fit this model."""
        try:
            config = _plain(json.loads((directory / CONFIG_NAME).read_text("utf-8")))
            tensors = load_file(directory / SAFETENSORS_WEIGHTS_NAME)
            weights = {name.removeprefix(_PEFT_ROOT): tensor for name, tensor in tensors.items()}
            if not all(bool(tensor.isfinite().all()) for tensor in weights.values()):
                raise ValueError("a number in it is not finite.")
            self._drop(domain)
            self._install(domain, config)
            missing = self._tensors(domain).keys() ^ weights.keys()
            if missing:
                raise ValueError(f"{min(missing)} is on one side only.")
            set_peft_model_state_dict(self.lm.model, weights, adapter_name=_peft_name(domain))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:200]
            raise HistoryError(f"{directory} holds no plain LoRA adapter that fits this model: {reason}") from None
        self._activate(domain)

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Every domain's tensors as "domain/name", its configuration, and which domain is active."""
        if not self.configs:
            return {}
        state: dict[str, Any] = {"active": self.active}
        for domain, config in self.configs.items():
            state[f"{domain}/config"] = _written(config)
            for name, tensor in self._tensors(domain).items():
                state[f"{domain}/{name}"] = tensor.detach()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly these adapters; HistoryError when a tensor does not fit the model."""
        configs = {key.partition("/")[0]: value for key, value in state.items() if key.endswith("/config")}
        for domain in [d for d, config in self.configs.items() if configs.get(d) != _written(config)]:
            self._drop(domain)
        for domain, config in configs.items():
            if domain not in self.configs:
                self._install(domain, LoraConfig(**config))
            tensors = {
                k.partition("/")[2]: v
                for k, v in state.items()
                if k.startswith(f"{domain}/") and k != f"{domain}/config"
            }
            own = self._tensors(domain)
            if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
                raise HistoryError(f'The saved adapter of "{domain}" does not fit this model.')
            with torch.no_grad():
                for name, tensor in own.items():
                    tensor.copy_(tensors[name])
        self._activate(state.get("active"))

    # --- PEFT's layers ------------------------------------------------------------------------------------------

    def _layers(self) -> list[tuple[str, Any]]:
        return [(n, m) for n, m in self.lm.model.named_modules() if isinstance(m, BaseTunerLayer)]

    def _parameters(self, domain: str) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.lm.model.named_parameters() if f".{_peft_name(domain)}." in n}

    def _install(self, domain: str, config: LoraConfig) -> None:
        with torch.random.fork_rng(), warnings.catch_warnings():  # PEFT draws from the process's generator
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # several adapters are meant
            inject_adapter_in_model(config, self.lm.model, adapter_name=_peft_name(domain))
        self.configs[domain] = config
        for outer in (self.lm.model.get_input_embeddings(), self.lm.model.get_output_embeddings()):
            if isinstance(outer, BaseTunerLayer):
                self._drop(domain)
                self._unwrap()
                raise ValueError("the embedding and the head stay as they are.")
        self.lm.model.eval()
        for parameter in self._parameters(domain).values():
            parameter.data = parameter.data.float()  # bfloat16 would swallow small updates

    def _drop(self, domain: str) -> None:
        if self.configs.pop(domain, None):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
                for _, layer in self._layers():
                    layer.delete_adapter(_peft_name(domain))
            self.lm.model.peft_config.pop(_peft_name(domain), None)
            self.active = None if self.active == domain else self.active

    def _unwrap(self) -> None:
        """Put the model's own layers where PEFT's stand without an adapter."""
        for name, layer in self._layers():
            if not layer.lora_A and not layer.lora_embedding_A:
                parent, _, own = name.rpartition(".")
                setattr(self.lm.model.get_submodule(parent), own, layer.get_base_layer())

    def _tensors(self, domain: str) -> dict[str, Tensor]:
        """The live tensors of a domain under PEFT's names, which do not hold the adapter's."""
        return get_peft_model_state_dict(self.lm.model, adapter_name=_peft_name(domain), save_embedding_layers=False)

    def _activate(self, domain: str | None) -> None:
        if domain == self.active and domain is not None:
            return
        for _, layer in self._layers():
            if domain is None:
                layer.enable_adapters(False)
            else:
                layer.set_adapter(_peft_name(domain))
                layer.enable_adapters(True)
        self.active = domain


def _peft_name(domain: str) -> str:
    """A name that is no attribute of a ModuleDict ("keys") and holds nothing that PEFT looks for in names ("lora_")."""
    return f"domain-{domain.replace('_', '+')}"


def _written(config: LoraConfig) -> dict[str, Any]:
    """What differs from PEFT's defaults, in JSON's terms: enough to make the adapter again."""
    default = LoraConfig().to_dict() | {"inference_mode": config.inference_mode, "peft_version": None}
    plain = {key: sorted(v) if isinstance(v, set) else v for key, v in config.to_dict().items()}
    return {key: v for key, v in plain.items() if v != default.get(key) and key != "peft_version"}


# What changes W + (alpha / rank) B A only in its shape. All else in a PEFT configuration is another method.
_SHAPE = {"r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "layers_to_transform",
          "layers_pattern", "use_rslora", "fan_in_fan_out"}  # fmt: skip
_HARMLESS = {"task_type", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "auto_mapping",
             "lora_dropout", "init_lora_weights", "peft_type", "megatron_core"}  # fmt: skip


def _plain(written: dict[str, Any]) -> LoraConfig:
    """The configuration of a plain LoRA adapter; ValueError for one that is more, and would be lost when it is fused."""
    if written.get("peft_type") != "LORA":
        raise ValueError(f"it is of type {written.get('peft_type')}.")
    default = LoraConfig().to_dict()
    if written.get("init_lora_weights", True) not in (True, False, "gaussian"):  # PiSSA and its kin move the base
        raise ValueError(f"it was begun as {written['init_lora_weights']}, which changes the base model.")
    more = [key for key, v in written.items() if v and key not in _SHAPE | _HARMLESS and v != default.get(key)]
    if more:
        raise ValueError(f"it is more than plain LoRA ({more[0]}).")
    return LoraConfig(
        task_type="CAUSAL_LM", **{key: v for key, v in written.items() if key in _SHAPE and v is not None}
    )
