"""What somebody expects of a model, whatever it learns: prompts, and what must or must not be in the answer. Ends at verdicts.

home/expectations/<base digest>.jsonl, a line each; every lesson that loses one is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from accrete.errors import UsageError
from accrete.files import json_lines, read_json_lines, write_text
from accrete.scoring import contains
from accrete.store.home import plain_errors, writing

FIELDS = {"prompt", "contains", "not_contains", "judge"}
Judge = Callable[[str], bool]
"""A question to a teacher that is answered yes or no."""


@dataclass(frozen=True)
class Expectation:
    """An answer to `prompt` has `contains` in it on word boundaries, has not `not_contains`, and is what `judge` says."""

    prompt: str
    contains: str = ""
    not_contains: str = ""
    judge: str = ""

    def met(self, answer: str, judge: Judge | None = None) -> bool | None:
        """Whether an answer is as expected; None where only a teacher could say and there is none."""
        if self.contains and not contains(answer, self.contains):
            return False
        if self.not_contains and contains(answer, self.not_contains):
            return False
        if not self.judge:
            return True
        return judge(f"{self.prompt}\n\n{answer}\n\nIs this true of the answer: {self.judge}?") if judge else None

    def __str__(self) -> str:
        said = [f'has "{self.contains}"'] * bool(self.contains) + [f'has no "{self.not_contains}"'] * bool(
            self.not_contains
        )
        return " and ".join([*said, *[f"is judged: {self.judge}"] * bool(self.judge)])


class Expectations:
    """Those of one base model in one home."""

    def __init__(self, home: Path, base: str):
        self.home, self.path = home, home / "expectations" / f"{base[:16]}.jsonl"

    def all(self) -> list[Expectation]:
        """UsageError for a file that was changed into something else."""
        rows, whole = read_json_lines(self.path)
        texts = all(set(row) <= FIELDS and all(isinstance(value, str) for value in row.values()) for row in rows)
        if self.path.exists() and not (whole and texts and all(row.get("prompt") for row in rows)):
            raise UsageError(f"{self.path} is no list of expectations any more; mend or remove it.")
        return [Expectation(**row) for row in rows]

    def add(self, expectation: Expectation) -> None:
        """One more; what was expected of the same prompt besides, in other ways, stays."""
        known = self.all()
        before = next((asdict(one) for one in known if one.prompt == expectation.prompt), {})
        merged = before | {name: text for name, text in asdict(expectation).items() if text}
        self._write([one for one in known if one.prompt != expectation.prompt] + [Expectation(**merged)])

    def remove(self, prompt: str) -> None:
        """UsageError where nothing is expected of this prompt."""
        left = [one for one in self.all() if one.prompt != prompt]
        if len(left) == len(self.all()):
            raise UsageError(f'Nothing is expected of the prompt "{prompt}"; `accrete expect` lists what is.')
        self._write(left)

    def _write(self, expectations: Sequence[Expectation]) -> None:
        with writing(self.home), plain_errors(self.home):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json_lines([asdict(one) for one in expectations]))
