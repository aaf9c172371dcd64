"""Questions about anything, which ship with the package: any model has something to say to them. Ends at texts."""

from __future__ import annotations

from importlib import resources


def general_prompts() -> list[str]:
    """One a line, from topic to topic."""
    text = resources.files("accrete.data").joinpath("general_prompts.txt").read_text("utf-8")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
