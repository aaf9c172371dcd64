"""What every method is: a Config, `learn`, and named parts that hold its state. Ends where one is found by file name."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from accrete import methods
from accrete.beliefs import Beliefs
from accrete.config import Config
from accrete.errors import UsageError, did_you_mean
from accrete.lm.model import LM, weights_digest
from accrete.types import Lesson, Query, Report

PartState = Mapping[str, Any]
"""key -> tensor, or anything JSON can hold."""
State = dict[str, PartState]
"""part name -> its state."""

CAPABILITIES = ("condition", "calibrate", "retrofit", "forget", "domains", "fuse", "save_adapter", "load_adapter")


class Progress(Protocol):
    """Told as a lesson goes on: how many steps, at what loss (nats), how many tokens of a text were read, `of` how many."""

    def __call__(self, step: int, loss: float, tokens: int = 0, of: int = 0, /) -> None: ...


def silent(step: int, loss: float, tokens: int = 0, of: int = 0, /) -> None:
    """Tells nobody."""


class Part(Protocol):
    """Anything with state: an adapter, a replay buffer, the random generator."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Method(ABC):
    """A way of learning. A subclass is a file of this package: `<name>.py` holds the one class, its docstring the summary.

    `parts` names the attributes that hold state; saving, loading, undo and digests follow from them. Optional
    capabilities are methods named in CAPABILITIES, found by their presence; so are the hooks of Derives, Reads, Believes and
    Cites. `beliefs` is what the learner has read of the facts of documents; it travels with the parts, once there is any.
    """

    Config: ClassVar[type[Config]]
    parts: ClassVar[tuple[str, ...]]

    @functools.cached_property
    def beliefs(self) -> Beliefs:
        """What documents state, as far as it was read."""
        return Beliefs()

    @abstractmethod
    def __init__(self, lm: LM, config: Any): ...

    @abstractmethod
    def learn(self, lesson: Lesson, progress: Progress) -> Report:
        """Take the lesson in, or raise and let the caller restore the parts."""


class Conditions(Protocol):
    """The capability of methods that act while an answer is written."""

    def condition(self, queries: Sequence[Query]) -> list[Any]: ...


class Derives(Protocol):
    """The hooks of methods that keep files made from their state (an index): the state is what counts."""

    def derive_in(self, folder: Path) -> None:
        """Called once, before any state is restored: such files may lie in this folder, which may vanish at any time."""

    def tidy(self) -> None:
        """Called where a state was taken back: nothing may stay in the files that the state does not hold."""


class Reads(Protocol):
    """The mark of methods that put a document's own text before the question: they need no study items that are made up."""

    reads: bool


class Fuses(Protocol):
    """The capability of methods whose model is a plain one again: its weights, and what its configuration says otherwise."""

    def fuse(self, domains: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, Any]]: ...


class Tells(Protocol):
    """The hook of methods that have more to say of their state than how large it is: what `status` shows, in JSON's terms."""

    def about(self) -> Mapping[str, Any]: ...


class Calibrates(Protocol):
    """The capability of methods whose gate learns from many general texts what a lesson should leave alone."""

    def calibrate(self, texts: Sequence[str]) -> None: ...


class Forgets(Protocol):
    """The capability of methods that can take one document out, exactly: None, or what there is to say of it."""

    def forget(self, sha256: str, progress: Progress = silent) -> Mapping[str, Any] | None: ...


class Retrofits(Protocol):
    """The capability of methods whose new parts can be trained before any lesson: `retrofit` writes what lies beside a model.

    `RetrofitConfig` are its options; those that it names `as_in_lessons` have to be the method's. It trains in a folder, goes
    on where it was killed, and returns the file and its figures.
    """

    RetrofitConfig: type[Config]

    @staticmethod
    def retrofit(lm: LM, folder: Path, config: Any, progress: Progress) -> tuple[Path, Mapping[str, Any]]: ...


class Believes(Protocol):
    """The mark of methods that learn what a document states: its facts are read, and are in `beliefs` before a lesson."""

    believes: bool


class Cites(Protocol):
    """The mark of methods whose answers name the documents they came from; one that names none is the base model's own."""

    cites: bool


class RandomState:
    """A method's random generator as a part, so that a lesson repeated after an undo is the same lesson."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["state"])


def state_of(method: Method) -> State:
    """The state of every part; tensors are the live ones."""
    state = {part: getattr(method, part).state_dict() for part in method.parts}
    return state | ({"beliefs": method.beliefs.state_dict()} if method.beliefs else {})


def about(method: Method) -> dict[str, Any]:
    """What the method tells of its state; nothing where it has nothing to tell."""
    tell = getattr(method, "about", None)
    return dict(tell()) if tell else {}


def restore(method: Method, state: State) -> None:
    """Put every part back into `state`."""
    for part in method.parts:
        getattr(method, part).load_state_dict(state.get(part, {}))
    method.beliefs.load_state_dict(state.get("beliefs", {}))


def digest(method: Method) -> str:
    """sha256 over the canonical content of all parts."""
    hasher = hashlib.sha256()
    for part, state in state_of(method).items():
        tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
        rest = {key: value for key, value in state.items() if not isinstance(value, Tensor)}
        hasher.update(f"{part}:{weights_digest(tensors)}:{json.dumps(rest, sort_keys=True)};".encode())
    return hasher.hexdigest()


# --- finding methods ---------------------------------------------------------------------------------------------------


def names() -> list[str]:
    """Every method there is: the modules of this package but this one."""
    return sorted(m.name for m in pkgutil.iter_modules(methods.__path__) if m.name != "base")


def check_name(name: str) -> str:
    """`name` itself when there is such a method; else UsageError."""
    if name not in names():
        raise UsageError(f'There is no method "{name}".{did_you_mean(name, names())}')
    return name


@functools.cache
def find(name: str) -> type[Method]:
    """The class of a method."""
    module = importlib.import_module(f"accrete.methods.{check_name(name)}")
    (found,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
    ]
    return found


def summary(name: str) -> str:
    """The first line of the method's docstring."""
    return (find(name).__doc__ or "").strip().splitlines()[0]


def capabilities(name: str) -> list[str]:
    return [capability for capability in CAPABILITIES if callable(getattr(find(name), capability, None))]
