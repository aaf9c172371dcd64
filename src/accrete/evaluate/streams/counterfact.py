"""Edits of what a model knows, asked in other words, and their neighbours, which must stay: CounterFact.

A lesson makes `facts` edits (10): the new statements as a text, and each prompt with its new target as a study item. It is
asked the prompt itself (kind "studied") and a rephrasing (kind "rephrase"). The limit counts questions, and what it leaves
out is not taught either. Kept: for every edit a prompt about another subject for which the truth edited away still holds,
"locality". Its floor is the share of these truths that the base model knows, and no more than that can be lost: a model
that knows none of them shows nothing here.

Most rephrasings of the file open another text rather than say the same ("One can get to Lyon by navigating"). First in line
are those that are one of the file's own prompts after a sentence of noise, which is cut off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accrete.evaluate.streams import Options, Stream, Task
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._limits import counted, evenly, shuffled
from accrete.types import Document, Example, Fact, Probe

FILES = ("eval/counterfact.jsonl.xz",)
LESSONS, EDITS = 10, 10
_FIELDS = "prompt target_new subject rephrase_prompt locality_prompt locality_ground_truth".split()
OPTIONS = {
    "lessons": "groups of edits [10]",
    "facts": "edits a lesson [10]",
    "limit": "questions in all, two an edit",
    "data": "counterfact.json(l)(.xz): rows of " + ", ".join(_FIELDS),
}
_NOISE_END = re.compile(r"[.?!)\]\"']\s+(?:\d+\.\s+)?|\n\s*(?:\d+\.\s+)?")


@dataclass(frozen=True)
class Edit:
    """`paraphrase`: whether the rephrasing is known to say the same as the prompt."""

    subject: str
    prompt: str
    target: str
    rephrasing: str
    paraphrase: bool
    neighbour: Probe

    @property
    def statement(self) -> str:
        return f"{self.prompt} {self.target}."


def make(options: Options) -> Stream:
    path = files.located(options.data, *FILES)
    found = read(path)
    edits = sorted(shuffled(found, f"{options.seed}"), key=lambda edit: not edit.paraphrase)
    lessons = counted(options.lessons, LESSONS, len(edits), f"edits in {path.name}")
    size = counted(options.facts, EDITS, len(edits) // lessons, f"edits a lesson in {path.name}")
    used = edits[: lessons * size]
    if options.limit is not None:
        used = used[: max(1, options.limit // 2)]
    tasks, start = [], 0
    for number, share in enumerate(evenly(len(used), [size] * lessons), 1):
        mine, start = used[start : start + share], start + share
        if mine:
            tasks.append(_task(f"edits {number}", mine, path, options.limit))
    about = {
        "file": path.name,
        "edits": len(used),
        "edits_with_a_paraphrase": sum(edit.paraphrase for edit in used),
        "probes": "rephrase: in other words; studied: the study prompts themselves",
    }
    return Stream("counterfact", tuple(tasks), {"locality": _locality(used)}, "contains", about)


def read(path: Path) -> list[Edit]:
    """The edits of a file, one a subject."""
    found = files.rows(path, dict.fromkeys(_FIELDS, str))
    prompts = {_template(row["prompt"], row["subject"]) for row in found}
    edits: dict[str, Edit] = {}
    for row in found:
        edits.setdefault(row["subject"], _edit(row, prompts))
    return list(edits.values())


def _edit(row: dict[str, Any], prompts: set[str]) -> Edit:
    subject, prompt, rephrasing = row["subject"], row["prompt"].strip(), row["rephrase_prompt"].strip()
    noise = [match.end() for match in _NOISE_END.finditer(rephrasing, 0, max(0, rephrasing.rfind(subject)))]
    spoken = rephrasing[noise[-1] :] if noise else rephrasing
    template = _template(spoken, subject)
    same = bool(noise) and template in prompts and template != _template(prompt, subject)
    neighbour = Probe(row["locality_prompt"].strip(), (row["locality_ground_truth"],))
    return Edit(subject, prompt, row["target_new"], spoken if same else rephrasing, same, neighbour)


def _template(prompt: str, subject: str) -> str:
    return prompt.strip().replace(subject, "{}")


def _task(name: str, edits: list[Edit], path: Path, limit: int | None) -> Task:
    items = tuple(Example(edit.prompt, edit.target) for edit in edits)
    text = "\n\n".join(edit.statement for edit in edits)  # about things that have nothing to do with one another
    probes = [
        Probe(question, (edit.target,), edit.statement, Fact(edit.subject, edit.prompt, edit.target), kind)
        for edit in edits
        for kind, question in (("rephrase", edit.rephrasing), ("studied", edit.prompt))
    ]
    return Task(name, Document(name, text, items, str(path)), tuple(probes[:limit]))


def _locality(edits: list[Edit]) -> tuple[Probe, ...]:
    """Their neighbours, each once, without those that are edited themselves."""
    neighbours = dict.fromkeys(edit.neighbour for edit in edits)
    return tuple(probe for probe in neighbours if not any(edit.subject in probe.question for edit in edits))
