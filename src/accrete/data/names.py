"""Invented names: syllables and words joined so that no reader knows them beforehand. Ends at strings.

What a name of each kind looks like stands in `world_tables/names.yaml`; "{w}" is an invented word, "{lower}" one without its
capital, "{initial}" a letter, "{version}" a digit, any other word in braces a list of that file.
"""

from __future__ import annotations

import functools
import random
import re
from importlib import resources
from typing import Any

import yaml


@functools.cache
def _tables() -> dict[str, Any]:
    return yaml.safe_load(resources.files("accrete.data").joinpath("world_tables/names.yaml").read_text("utf-8"))


class Names:
    """Draws names from one generator; what `new` gives it never gives again."""

    def __init__(self, draw: random.Random):
        self._draw = draw
        self._given: set[str] = set()

    def new(self, kind: str) -> str:
        """A name of that kind which was not given before."""
        while (name := self.any(kind)) in self._given:
            pass
        self._given.add(name)
        return name

    def any(self, kind: str) -> str:
        """A name of that kind; two calls may agree."""
        pattern = self._draw.choice(_tables()["patterns"][kind])
        return re.sub(r"\{(\w+)\}", lambda match: self._part(match[1]), pattern)

    def _part(self, part: str) -> str:
        match part:
            case "w":
                return self.word()
            case "lower":
                return self.word().lower()
            case "initial":
                return self._draw.choice("ABCDEFGHIJKLMNOPRSTVWZ")
            case "version":
                return str(self._draw.randint(2, 9))
        return self._draw.choice(_tables()["words"][part])

    def word(self) -> str:
        """One to three syllables, or the stem and the ending of a place: "Tolvane", "Ashmere"."""
        table, pick, chance = _tables()["syllables"], self._draw.choice, self._draw.random()
        if chance < 0.06:
            return f"{pick(table['stems'])}{pick(table['endings'])}"
        word = "".join(pick(table["onsets"]) + pick(table["vowels"]) for _ in range(pick((1, 2, 2, 2, 2, 3))))
        closed = len(word) < 4 or chance < 0.5
        ending = pick(table["endings"]) if chance > 0.93 else ""
        return f"{word}{pick(table['codas']) if closed else ''}{ending}".capitalize()
