"""The verb that trains a base model from a recipe."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from accrete.cli.session import Session, verb


@verb
def pretrain(
    session: Session,
    config: Annotated[Path, typer.Argument(help="A recipe (YAML), like recipes/embedded.yaml.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Where the run lives; resumed when it exists [runs/NAME].")] = None,
) -> None:
    """Train a base model from scratch; killed and called again, it goes on."""
    from accrete.lm.allocator import keep_freed_memory

    keep_freed_memory()
    from accrete import recipe

    chosen = recipe.read_recipe(config)
    folder = out or Path("runs") / config.stem
    bar = _Bar(sys.stderr.isatty())
    started = time.monotonic()
    model = recipe.run(chosen, folder, bar, bar.say, device=session.device or "auto")
    seconds = round(time.monotonic() - started, 1)
    result = {"model": str(model), "tokens": chosen.train.tokens, "loss": bar.loss, "seconds": seconds}
    session.print(
        result, lambda console: console.print(f"the model is in {model}; use it with --model {model}", markup=False)
    )


class _Bar:
    """Progress on stderr: a rewritten line on a terminal, a line every 20 seconds elsewhere."""

    def __init__(self, live: bool):
        self.live, self._shown = live, 0.0
        self.loss: float | None = None  # of a run that had ended before nothing is known

    def __call__(self, progress) -> None:  # type: ignore[no-untyped-def]
        self.loss = round(progress.loss, 4)
        now = time.monotonic()
        if now - self._shown < (0.5 if self.live else 20.0) and progress.step < progress.steps:
            return
        self._shown = now
        minutes, seconds = divmod(int(progress.seconds_left), 60)
        line = (
            f"step {progress.step:,}/{progress.steps:,}  loss {progress.loss:.3f}  "
            f"{progress.tokens_per_second:,.0f} tokens/s  {minutes}:{seconds:02d} left"
        )
        print(f"\r\x1b[K{line}" if self.live else line, end="" if self.live else "\n", file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        print(f"\r\x1b[K{sentence}" if self.live else sentence, file=sys.stderr, flush=True)
