"""accrete teaches a language model new documents while it is in use, and proves that it forgot nothing.

    from accrete import Learner

    learner = Learner("embedded")
    learner.learn("handbook.md")
    learner.ask("Who approves travel?").text
    learner.undo()

Importing this package imports no torch: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accrete.data.world import World
    from accrete.errors import AccreteError
    from accrete.learner import Learner
    from accrete.lm.load import load
    from accrete.lm.model import LM
    from accrete.types import Answer, Document, Example, Fact, Lesson, Passage, Probe, Query, Report

__version__ = "0.1.0"

_HOMES = {
    "Learner": "learner",
    "load": "lm.load",
    "LM": "lm.model",
    "World": "data.world",
    "AccreteError": "errors",
    **dict.fromkeys(
        ("Answer", "Document", "Example", "Fact", "Lesson", "Passage", "Probe", "Query", "Report"), "types"
    ),
}
__all__ = ["LM", "AccreteError", "Answer", "Document", "Example", "Fact", "Learner", "Lesson", "Passage", "Probe",
           "Query", "Report", "World", "load"]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'accrete' has no attribute {name!r}")
    return getattr(importlib.import_module(f"accrete.{_HOMES[name]}"), name)
