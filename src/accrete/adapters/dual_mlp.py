"""A trainable twin beside the MLP of every late block (TTT-E2E, 2512.23675). Ends at the neurons that lessons have taught.

    y = F(x) + (1 - alpha) T(x)         F: the block's own MLP, frozen         T(x) = down (silu(gate x) * (up x))

Neuron j of T is born as neuron j of F, or as a start that came with the model has it, with a silent output (its column of
down is zero): installing it changes no logit, and the first gradient reaches it. T holds the neurons that some lesson has
opened and no others, so what a gate leaves closed cannot move, under any optimiser, and costs nothing.

Shape suffixes: N neurons, D width of the model. Every matrix of T has a row for each neuron; down is stored transposed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from accrete.errors import HistoryError, ModelError
from accrete.lm.model import LM
from accrete.optim.outer_products import Product

MATRICES = ("gate", "up", "down")


class Neurons(nn.Module):
    """Some neurons of a twin, by their numbers in F, in rising order."""

    def __init__(self, numbers_N: Tensor, gate_ND: Tensor, up_ND: Tensor, down_ND: Tensor):
        super().__init__()
        self.numbers_N = numbers_N
        self.gate, self.up, self.down = (nn.Parameter(t.detach()) for t in (gate_ND, up_ND, down_ND))

    def __len__(self) -> int:
        return len(self.numbers_N)

    def forward(
        self, x: Tensor, activation: Callable[[Tensor], Tensor], products: list[Product] | None = None
    ) -> Tensor:
        """T(x); how it came about is noted in `products`."""
        x = x.to(self.gate.dtype)
        gate, up = functional.linear(x, self.gate), functional.linear(x, self.up)
        active = activation(gate) * up
        y = active @ self.down
        if products is not None:
            products += [
                Product(self.gate, gate, x),
                Product(self.up, up, x),
                Product(self.down, y, active, output_is_left=False),
            ]
        return y

    def tensors(self) -> dict[str, Tensor]:
        return {"neurons": self.numbers_N} | {name: getattr(self, name).detach() for name in MATRICES}


class DualMLP(nn.Module):
    """F and T in the place of F. `opened` is what a lesson trains, `taught` what earlier ones left."""

    frozen: Any  # with gate_proj, up_proj and down_proj
    start: tuple[Tensor, Tensor]

    def __init__(
        self,
        frozen: Any,
        activation: Callable[[Tensor], Tensor],
        strength: float,
        start: tuple[Tensor, Tensor] | None = None,
    ):
        super().__init__()
        self.frozen, self.activation, self.strength = frozen, activation, strength
        self.start = start or (frozen.gate_proj.weight, frozen.up_proj.weight)  # a plain attribute: no state of T's
        self.on = True
        self.products: list[Product] | None = None
        self.taught = self.opened = self.born(torch.arange(0))

    def forward(self, x: Tensor) -> Tensor:
        y = self.frozen(x)
        for neurons, products in ((self.taught, None), (self.opened, self.products)):
            if self.on and len(neurons):
                y = y + (self.strength * neurons(x, self.activation, products)).to(y.dtype)
        return y

    def born(self, numbers_N: Tensor) -> Neurons:
        """These neurons as they are before any lesson, in float32: bfloat16 would swallow small updates."""
        gate_JD, up_JD = self.start
        rows = numbers_N.to(gate_JD.device)
        return Neurons(
            rows, gate_JD[rows].float(), up_JD[rows].float(), gate_JD.new_zeros(len(rows), gate_JD.shape[1]).float()
        )

    def active(self, x_BTD: Tensor) -> Tensor:
        """[B, T, J]: how active all of them would be, as they are born."""
        gate_JD, up_JD = (tensor.to(x_BTD.dtype) for tensor in self.start)
        return self.activation(functional.linear(x_BTD, gate_JD)) * functional.linear(x_BTD, up_JD)

    @torch.no_grad()
    def open(self, numbers_N: Tensor) -> None:
        """Make these neurons, and no others, trainable."""
        self.close()
        held, wanted = self.taught.numbers_N, numbers_N.to(self.taught.numbers_N.device).sort().values
        opened = _joined(_chosen(self.taught, torch.isin(held, wanted)), self.born(wanted[~torch.isin(wanted, held)]))
        self.taught = _chosen(self.taught, ~torch.isin(held, wanted)).requires_grad_(False)
        self.opened = opened

    @torch.no_grad()
    def close(self) -> None:
        """One set of neurons again, in their order: how they were opened leaves no trace in the sums."""
        if len(self.opened):
            self.taught, self.opened = _joined(self.taught, self.opened), self.born(torch.arange(0))


class DualMLPAdapter:
    """The twins of the blocks from `first_layer` on: the last quarter, or from that share of the depth.

    `start` says how they are born: "LAYER/gate" and "LAYER/up", [J, D], and "LAYER/rates", how fast gate, up and down should
    learn beside each other; without it they are copies. ModelError for an architecture that `anatomy` does not know, or a
    start of another shape.
    """

    def __init__(self, lm: LM, alpha: float, depth: float = 0.75, start: Mapping[str, Tensor] = MappingProxyType({})):
        if lm.anatomy is None:
            raise ModelError(f'Models of type "{lm.model.config.model_type}" have no MLP that is known here.')
        _ = lm.digest  # of the base, whose modules change their names below
        self.lm, self.alpha, self.start = lm, alpha, dict(start)
        layers = lm.anatomy.layers
        self.first_layer = min(int(depth * len(layers)), len(layers) - 1)
        self.twins: dict[int, DualMLP] = {}
        if self.start and not any(name.partition("/")[0] in map(str, range(len(layers))) for name in self.start):
            raise ModelError("The start of the dual MLPs is of another model: it has none of the layers of this one.")
        born = {
            i: self._born(i, layers[i].mlp) for i in range(self.first_layer, len(layers))
        }  # before any is installed
        for i, found in born.items():
            mlp = layers[i].mlp
            layers[i].mlp = self.twins[i] = DualMLP(mlp, mlp.act_fn, 1 - alpha, found)

    def _born(self, layer: int, mlp: Any) -> tuple[Tensor, Tensor] | None:
        """gate and up as the start has them; None where it has none for this layer."""
        found = [self.start.get(f"{layer}/{name}") for name in ("gate", "up")]
        if found == [None, None]:
            return None
        shape = mlp.gate_proj.weight.shape
        if any(tensor is None or tensor.shape != shape for tensor in (*found,)):
            raise ModelError(f"The start of the dual MLPs does not fit this model: layer {layer} is of another shape.")
        gate, up = (cast(Tensor, tensor).to(self.lm.device) for tensor in found)
        return gate, up

    @property
    def taught(self) -> bool:
        """Whether any lesson opened a neuron."""
        return any(len(twin.taught) for twin in self.twins.values())

    @property
    def started(self) -> bool:
        """Whether any of them was born otherwise than as a copy."""
        return any(f"{i}/gate" in self.start for i in self.twins)

    def rates(self) -> list[float]:
        """How fast each of the opened parameters should learn beside the others, in their order."""
        return [rate for i in self.twins for rate in self.start.get(f"{i}/rates", torch.ones(3)).tolist()]

    # --- writing and reading ------------------------------------------------------------------------------------

    def open(self, neurons: Mapping[int, Tensor] | None = None) -> list[nn.Parameter]:
        """The parameters that a lesson may train: of these neurons by layer, or of all."""
        for i, twin in self.twins.items():
            everything = torch.arange(twin.frozen.gate_proj.weight.shape[0])
            twin.open(everything if neurons is None else neurons[i])
        return [p for twin in self.twins.values() for p in twin.opened.parameters()]

    def close(self) -> None:
        for twin in self.twins.values():
            twin.close()

    @torch.no_grad()
    def move_alpha(self, alpha: float) -> None:
        """Another share for F. What was taught is scaled, so that the function stays what it is."""
        for twin in self.twins.values():
            twin.close()
            twin.taught.down.mul_((1 - self.alpha) / (1 - alpha))
            twin.strength = 1 - alpha
        self.alpha = alpha

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """The base model answers inside."""
        before = [twin.on for twin in self.twins.values()]
        try:
            for twin in self.twins.values():
                twin.on = False
            yield
        finally:
            for twin, on in zip(self.twins.values(), before, strict=True):
                twin.on = on

    @contextlib.contextmanager
    def noting(self) -> Iterator[list[Product]]:
        """Every use of an opened parameter inside is noted in the list."""
        noted: list[Product] = []
        try:
            for twin in self.twins.values():
                twin.products = noted
            yield noted
        finally:
            for twin in self.twins.values():
                twin.products = None

    def remove(self) -> None:
        """Give the model back as it was."""
        assert self.lm.anatomy is not None
        for i, twin in self.twins.items():
            self.lm.anatomy.layers[i].mlp = twin.frozen
        self.twins = {}

    # --- carrying away ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def fuse(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights of a plain model with a wider MLP, and what its configuration says otherwise.

        Exact: a SwiGLU is a sum over neurons. Plain models have one width for all blocks, so the others get silent neurons.
        """
        self.close()
        weights = {name.replace(".mlp.frozen.", ".mlp."): t for name, t in self.lm.model.state_dict().items()}
        weights = {name: t for name, t in weights.items() if ".mlp.taught." not in name and ".mlp.opened." not in name}
        more = max(len(twin.taught) for twin in self.twins.values())
        parts = {"gate_proj": 0, "up_proj": 0, "down_proj": 1}  # and the dimension of the neurons
        for name in [name for name in weights if ".mlp." in name and name.endswith("_proj.weight")]:
            layer, part = int(name.split(".layers.")[1].split(".")[0]), name.split(".")[-2]
            added = _projection(self.twins[layer], part) if layer in self.twins else None
            weights[name] = _widened(weights[name], added, parts[part], more)
            if (bias := name.replace(".weight", ".bias")) in weights and part != "down_proj":
                weights[bias] = functional.pad(weights[bias], (0, more))
        return weights, {"intermediate_size": self.lm.model.config.intermediate_size + more}

    # --- state --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """alpha, and for every layer with taught neurons their numbers [N] and matrices [N, D]."""
        self.close()
        state: dict[str, Any] = {"alpha": self.alpha}
        for i, twin in self.twins.items():
            if len(twin.taught):
                state |= {f"{i}/{name}": tensor for name, tensor in twin.taught.tensors().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become exactly this; HistoryError for other layers or shapes, and then nothing changes."""
        found: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            if key != "alpha":
                layer, _, name = key.partition("/")
                found.setdefault(int(layer), {})[name] = tensor
        loaded = {}
        for i, twin in self.twins.items():
            blank = twin.born(torch.arange(0))
            loaded[i] = _read(found.pop(i), blank, twin) if i in found else blank
        if found:
            raise HistoryError(
                f"What is saved here was taught to other layers ({', '.join(map(str, sorted(found)))}): the option depth is"
                " another than then."
            )
        self.alpha = float(state["alpha"])
        for i, twin in self.twins.items():
            twin.taught, twin.opened, twin.strength = loaded[i], twin.born(torch.arange(0)), 1 - self.alpha


def _chosen(neurons: Neurons, which_N: Tensor) -> Neurons:
    tensors = neurons.tensors()
    return Neurons(tensors.pop("neurons")[which_N], *(tensors[name][which_N] for name in MATRICES))


def _joined(one: Neurons, other: Neurons) -> Neurons:
    numbers, order = torch.cat([one.numbers_N, other.numbers_N]).sort()
    pairs = [(one.tensors()[name], other.tensors()[name]) for name in MATRICES]
    return Neurons(numbers, *(torch.cat(pair)[order] for pair in pairs))


def _read(tensors: Mapping[str, Tensor], blank: Neurons, twin: DualMLP) -> Neurons:
    """Neurons as they were saved; HistoryError where they are none of this block's."""
    limit, width = twin.frozen.gate_proj.weight.shape
    numbers = tensors.get("neurons", torch.empty(0))
    whole = set(tensors) == {"neurons", *MATRICES} and numbers.dtype == torch.int64 and numbers.ndim == 1
    if not whole or any(tensors[name].shape != (len(numbers), width) for name in MATRICES):
        raise HistoryError("The saved state does not fit this model: its neurons are of another shape.")
    if len(numbers) and (bool((numbers.diff() <= 0).any()) or not 0 <= int(numbers[0]) <= int(numbers[-1]) < limit):
        raise HistoryError("The saved state does not fit this model: it has neurons that this model has not.")
    device = blank.gate.device
    return Neurons(*[tensors[name].to(device, copy=True) for name in ("neurons", *MATRICES)])


def _projection(twin: DualMLP, part: str) -> Tensor:
    """What T adds to a projection of F, as the projection stores it: [N, D], or [D, N] for down."""
    if part == "down_proj":
        return (twin.strength * twin.taught.down).T
    return twin.taught.gate if part == "gate_proj" else twin.taught.up


def _widened(weight: Tensor, added: Tensor | None, dimension: int, more: int) -> Tensor:
    parts = [weight] if added is None else [weight, added.to(weight.device, weight.dtype)]
    missing = list(weight.shape)
    missing[dimension] = weight.shape[dimension] + more - sum(part.shape[dimension] for part in parts)
    return torch.cat([*parts, weight.new_zeros(missing)], dim=dimension)
