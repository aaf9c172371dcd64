"""Articles and the questions people asked about them: SQuAD 1.1 and 2.0, as published or as JSON Lines.

Articles are put in an order of the seed's. The first `lessons` (4) are learned; no question of theirs is among those of the
others, the holdout, which are asked with their paragraph: whether the model still reads as it did. A document is the whole
article (`facts`: its first so many paragraphs), and has no given study items, because SQuAD words every question once.
A question that its paragraph does not answer stays, with abstaining as its one right answer (2.0): "not stated" or nothing at
all scores 1, anything else 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accrete.errors import DocumentError
from accrete.evaluate.streams import ABSTAINED, Options, Stream, Task
from accrete.evaluate.streams import _files as files
from accrete.evaluate.streams._limits import counted, drawn, evenly, shuffled
from accrete.scoring import normalise
from accrete.types import Document, Probe

FILES = ("eval/squad_v1_dev_half.jsonl.xz", "dev-v1.1.json", "dev-v2.0.json", "train-v1.1.json", "train-v2.0.json")
LESSONS, HOLDOUT = 4, 200
OPTIONS = {
    "lessons": "articles that are learned [4]; the others are the holdout",
    "facts": "paragraphs of an article, its first [all]",
    "limit": "questions in all, and as many of the holdout [all, and 200]",
    "data": "SQuAD's own .json (of a folder dev-v1.1, dev-v2.0, train-v1.1 or train-v2.0, the first there is), or .jsonl lines"
    " of title, context, question, answers, is_impossible (2.0); either may be .xz",
}


@dataclass
class Article:
    """Its paragraphs in order, each once, and its questions in order."""

    title: str
    paragraphs: dict[str, None] = field(default_factory=dict)
    probes: list[Probe] = field(default_factory=list)


def make(options: Options) -> Stream:
    path = files.located(options.data, *FILES)
    articles = read(path)
    order = shuffled(sorted(articles, key=lambda article: article.title), f"{options.seed}")
    count = counted(options.lessons, min(LESSONS, max(1, len(order) // 2)), len(order), f"articles in {path.name}")
    learned, others = order[:count], order[count:]
    tasks = []
    for article, probes in zip(learned, _chosen(learned, options.limit, options), strict=True):
        text = "\n\n".join(list(article.paragraphs)[: options.facts])
        if probes:
            tasks.append(Task(article.title, Document(article.title, text, source=str(path)), tuple(probes)))
    holdout = [probe for probes in _chosen(others, options.limit or HOLDOUT, options) for probe in probes]
    about = {
        "file": path.name,
        "articles": len(articles),
        "learned": [task.name for task in tasks],
        "holdout": [article.title for article in others],
        "unanswerable": sum(probe.answers == (ABSTAINED,) for task in tasks for probe in task.probes),
        "items": "none: SQuAD words every question once",
    }
    return Stream("squad", tuple(tasks), {"holdout": tuple(holdout)} if holdout else {}, "token_f1", about)


def _chosen(articles: list[Article], limit: int | None, options: Options) -> list[list[Probe]]:
    """The questions of each article that are asked: those about paragraphs in use, up to its share of the limit."""
    asked = []
    for article in articles:
        used = set(list(article.paragraphs)[: options.facts])
        asked.append([probe for probe in article.probes if probe.context in used])
    shares = evenly(limit, [len(probes) for probes in asked])
    return [
        drawn(probes, share, f"{options.seed}:{article.title}")
        for article, probes, share in zip(articles, asked, shares, strict=True)
    ]


def read(path: Path) -> list[Article]:
    """The articles of a file in either form; those without a question are left out."""
    articles: dict[str, Article] = {}
    published = path.name.removesuffix(".xz").removesuffix(".gz").endswith(".json")
    for title, context, question, where in _published(path) if published else _lines(path):
        title = title.replace("_", " ")
        article = articles.setdefault(title, Article(title))
        article.paragraphs[context] = None
        if question is not None:
            article.probes.append(_probe(question, context, where))
    found = [article for article in articles.values() if article.probes]
    if not found:
        raise DocumentError(f"{path} holds no questions.")
    return found


def _published(path: Path) -> Iterator[tuple[str, str, Any, str]]:
    """(title, paragraph, question or None, place) of SQuAD's own JSON; None for a paragraph that nobody asked about."""
    for number, article in enumerate(files.field(files.whole(path), "data", list, str(path))):
        where = f"{path}, data[{number}]"
        title = files.field(article, "title", str, where)
        for place, paragraph in enumerate(files.field(article, "paragraphs", list, where)):
            here = f"{where}.paragraphs[{place}]"
            context = files.field(paragraph, "context", str, here)
            questions = files.field(paragraph, "qas", list, here)
            yield from ((title, context, asked, f"{here}.qas[{i}]") for i, asked in enumerate(questions))
            if not questions:
                yield title, context, None, here


def _lines(path: Path) -> Iterator[tuple[str, str, Any, str]]:
    for where, row in files.placed_rows(path, {"title": str, "context": str, "question": str}):
        yield row["title"], row["context"], row, where


def _probe(row: Any, context: str, where: str) -> Probe:
    """The question of a row whose answers are texts, or objects with a text, or a list of texts in an object."""
    question = files.field(row, "question", str, where)
    impossible = row.get("is_impossible")
    if not impossible and "answers" not in row:
        raise DocumentError(f'{where}: "answers" is missing.')
    answers = row.get("answers", [])
    given = files.field(answers, "text", list, where) if isinstance(answers, dict) else answers
    if not isinstance(given, list):
        raise DocumentError(f'{where}: "answers" is not a list.')
    texts = [files.field(one, "text", str, where) if isinstance(one, dict) else one for one in given]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise DocumentError(f"{where}: an answer is not a text, or is empty.")
    scored = [text for text in texts if normalise(text)]  # as the script of 2.0 has it: "the" or "%" alone is no answer
    if impossible or (not scored and (texts or impossible is None)):
        return Probe(question, (ABSTAINED,), context, kind="unanswerable")
    if not texts:
        raise DocumentError(f"{where}: no answers, and not marked as impossible.")
    return Probe(question, tuple(dict.fromkeys(scored)), context, kind="answerable")
