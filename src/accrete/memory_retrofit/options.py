"""What a retrofit of memories can be told. Ends at the numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from accrete.adapters.product_keys import Depths, Shape
from accrete.config import Config


class Options(Config):
    as_in_lessons: ClassVar = ("layers", "slots", "heads", "top_k", "key_width")  # it is made for these
    objective: Literal["wordings", "text"] = "wordings"  # questions in other words look alike; or next token on text
    steps: int = Field(600, ge=1)  # in all; more of them go on with a run that is there
    # the memory
    layers: Depths = (0.375, 0.5)  # this and the next four as the lessons will have them
    slots: int = Field(1_048_576, ge=4)
    heads: int = Field(4, ge=1)
    top_k: int = Field(8, ge=1)
    key_width: int = Field(64, ge=2)
    # wordings
    entities: int = Field(400, ge=8)  # fictional ones, whose facts are asked
    wordings: int = Field(6, ge=2)  # of every question
    dated: int = Field(4, ge=0)  # questions of each, at most, that are about one date
    at_once: int = Field(24, ge=2)  # entities a step
    general: int = Field(256, ge=0)  # states of general questions beside them
    listen_rate: float = Field(1e-2, gt=0)  # of Adam, for which tokens are heard
    align: float = Field(5.0, ge=0)  # how much two wordings are drawn together, beside being told from others
    sharpness: float = Field(8.0, gt=0)  # of the half keys: how much fewer slots share a look
    # text
    texts: str = ""  # a file or a folder; without it passages of the fictional world
    batch_size: int = Field(16, ge=1)  # windows of text a step
    window: int = Field(128, ge=2)  # tokens of one
    gated: bool = False  # W_g and W_o are trained as well
    keys_rate: float = Field(3e-3, gt=0)  # of Adam, for the half keys
    values_rate: float = Field(1e-2, gt=0)  # and for V, which is thrown away
    balance: float = Field(0.01, ge=0)  # weight of the half keys being used evenly
    # both
    rate: float = Field(1e-3, gt=0)  # of Adam, falling to nothing over the second half
    save_seconds: float = Field(60.0, ge=0)  # between two checkpoints
    seed: int = Field(0, ge=0)  # of the fictional worlds, and of what is drawn

    def shape(self) -> Shape:
        return Shape(self.slots, self.heads, self.top_k, self.key_width)
