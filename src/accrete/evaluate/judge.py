"""Is what a model wrote about a passage right: a question with its answer, a restatement, a line of facts? No torch.

The facts of the passage are known, and so is every phrasing of every relation. A sentence is taken to be about the relation
whose phrasings come nearest to it, subject and value masked; one that is near to two relations, or to none, is wrong.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib import resources

import yaml

from accrete.data.world import Relation, relations
from accrete.scoring import exact_match, normalise
from accrete.types import Example, Fact

NEAR = 0.6  # how like a phrasing of its relation a question must be, from 0 to 1
NEAR_IN_A_SENTENCE = 0.5  # the same for statements, whose words may belong to the fact next to it
MARGIN = 0.02  # nearer than this to each other, two relations cannot be told apart
_MASK = re.compile(r"__\d+__")
_WORD = re.compile(r"\w+")
_JOINT = re.compile(r",|\band\b")
_DENIALS = frozenset("not no never nobody nothing none neither nor without cannot t".split())  # "t" is of "isn't"
_ARTICLES = frozenset({"a", "an", "the"})
_LINKS = frozenset(
    "and whose which who also that s it its she her he his they their".split()
)  # between facts, and pronouns


# --- question/answer pairs ------------------------------------------------------------------------------------------


def fact_asked(pair: Example, facts: Iterable[Fact], reverse_only: bool = False) -> Fact | None:
    """The fact that the pair asks and answers rightly, forwards (for the value) or in reverse; None when there is none."""
    facts = list(facts)
    subjects, rest = _masked(pair.question, {fact.subject for fact in facts})
    if subjects:
        about = [fact for fact in facts if fact.subject == subjects[0] and exact_match(pair.answer, fact.value)]
        asked = _nearest(
            rest, {relations()[fact.relation].kind for fact in facts if fact.subject == subjects[0]}, "asks"
        )
        alone = len(set(subjects)) == 1 and not reverse_only
        return next((fact for fact in about if fact.relation in asked), None) if alone else None
    values, rest = _masked(pair.question, {fact.value for fact in facts})
    if len(set(values)) != 1:
        return None
    about = [fact for fact in facts if fact.value == values[0] and exact_match(pair.answer, fact.subject)]
    asked = _nearest(rest, {relations()[fact.relation].kind for fact in facts}, "asks in reverse")
    return next((fact for fact in about if fact.relation in asked), None)


def _nearest(text: str, kinds: Iterable[str], manner: str) -> set[str]:
    """The relation a question asks, one at most of every kind: nouns are unique only within a kind."""
    bag, best = _bag(text), {}
    for kind in kinds:
        scores = sorted(
            ((max(_likeness(bag, phrasing, kind) for phrasing in _phrasings(name, manner)), name)
             for name in _of_kind(kind)), reverse=True,
        )  # fmt: skip
        if scores[0][0] >= NEAR and scores[0][0] - scores[1][0] > MARGIN:
            best[scores[0][1]] = scores[0][0]
    top = max(best.values(), default=0.0)
    return {name for name, score in best.items() if top - score <= MARGIN}


# --- restatements ---------------------------------------------------------------------------------------------------


def restates(text: str, original: str, facts: Sequence[Fact]) -> bool:
    """Whether `text` says exactly the facts, all of one subject, in words or an order other than the original's."""
    if copies(text, original):
        return False
    names = [facts[0].subject, *dict.fromkeys(fact.value for fact in facts)]
    marks = {name: f"__{number}__" for number, name in enumerate(names)}
    masked = _mask(text, marks)
    if marks[facts[0].subject] not in masked:
        return False
    said = [
        _around_values(part, marks[facts[0].subject]) for part in re.split(r"[.?!]+(?:\s|$)", masked) if part.strip()
    ]
    return all(said) and all(
        any(
            value == marks[fact.value] and _says(before, after, fact.relation, alone=len(part) == 1)
            for part in said
            for value, before, after in part
        )
        for fact in facts
    )


def copies(text: str, original: str) -> bool:
    """Whether it has the words of the original, in any order; or in theirs, with words put in or left out."""
    said, before = normalise(text).split(), normalise(original).split()
    within = _in_common(said, before) == min(len(said), len(before))
    return bool(before) and (within or Counter(said) == Counter(before))


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest sequence of words that both have in this order."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, against in enumerate(other, 1):
            diagonal, row[place] = row[place], diagonal + 1 if word == against else max(row[place], row[place - 1])
    return row[-1]


def _around_values(sentence: str, subject: str) -> list[tuple[str, str, str]]:
    """(mark, words before it, words after it) of every value of a masked sentence, as far as the values next to it."""
    sentence = sentence.replace(subject, " ")
    marks = list(_MASK.finditer(sentence))
    starts = [0, *(mark.end() for mark in marks)]
    ends = [*(mark.start() for mark in marks), len(sentence)]
    return [
        (mark[0], sentence[starts[i] : mark.start()], sentence[mark.end() : ends[i + 1]])
        for i, mark in enumerate(marks)
    ]


def _says(before: str, after: str, relation: str, alone: bool) -> bool:
    """Whether a value between these words is said to be that of the relation rather than of another of its kind.

    Unless the value stands alone in its sentence, either side may belong to a neighbour, whole or from a comma or "and" on.
    """
    kind, none = relations()[relation].kind, Counter[str]()
    sides = [_sided(_bag(before), _bag(after))]
    if not alone:
        own_clause = _bag(_JOINT.split(before)[-1]), _bag(_JOINT.split(after)[0])
        sides += [_sided(_bag(before), none), _sided(none, _bag(after)), _sided(*own_clause)]

    def score(name: str) -> float:
        return max(_likeness(side, phrasing, kind) for phrasing in _phrasings(name, "says") for side in sides)

    own = score(relation)
    return own >= NEAR_IN_A_SENTENCE and all(own >= score(name) - MARGIN for name in _of_kind(kind) if name != relation)


# --- lines of facts -------------------------------------------------------------------------------------------------


def line(fact: Fact) -> tuple[str, ...]:
    """A line of facts as it is compared: its five fields, normalised."""
    fields = (fact.subject, fact.relation, fact.value, fact.valid_from or "", fact.valid_until or "")
    return tuple(normalise(field) for field in fields)


def lines_in_common(written: Sequence[Fact], true: Sequence[Fact]) -> int:
    """How many lines agree, each counted as often as it stands in both."""
    return sum((Counter(map(line, written)) & Counter(map(line, true))).values())


# --- likeness -------------------------------------------------------------------------------------------------------


def _masked(text: str, names: Iterable[str]) -> tuple[list[str], str]:
    """Which of the names stand in the text, a longer one before a shorter one within it; and the text without them."""
    marks = {name: f"__{number}__" for number, name in enumerate(sorted(names))}
    masked = _mask(text, marks)
    by_mark = {mark: name for name, mark in marks.items()}
    return [by_mark[mark] for mark in _MASK.findall(masked)], _MASK.sub(" ", masked)


def _mask(text: str, marks: dict[str, str]) -> str:
    """The text with every name, whole and in any capitals, replaced by its mark; longer names first."""
    for name in sorted(marks, key=len, reverse=True):
        text = _whole(name).sub(f" {marks[name]} ", text)
    return text


@functools.lru_cache(maxsize=4_096)
def _whole(name: str) -> re.Pattern[str]:
    """The words of a name, no part of a longer word, number or hyphenated name; its article may be missing."""
    first, *others = _WORD.findall(name)
    words = others if first.lower() in _ARTICLES and others else [first, *others]
    joined = r"\W+".join(words)
    return re.compile(rf"(?<![\w-])(?<!\d[,.])(?:(?:a|an|the)\s+)?{joined}(?![\w-])", re.IGNORECASE)


def _bag(text: str) -> Counter[str]:
    return Counter(word for word in _WORD.findall(text.lower()) if word not in _ARTICLES and word not in _LINKS)


def _sided(before: Counter[str], after: Counter[str]) -> Counter[str]:
    """One bag in which a word before the value is another than the same word after it."""
    return Counter({f"{word}<": n for word, n in before.items()} | {f">{word}": n for word, n in after.items()})


def _likeness(given: Counter[str], phrasing: Counter[str], kind: str) -> float:
    """Token F1 in which a word counts the more, the fewer relations of the kind use it; 0 where they deny in other words."""
    if _denials(given) != _denials(phrasing):
        return 0.0
    weights = _weights(kind)

    def weight(word: str) -> float:
        return weights.get(word.strip("<>"), 1.0)

    common = sum(weight(word) * min(n, phrasing[word]) for word, n in given.items() if word in phrasing)
    both = sum(weight(word) * n for bag in (given, phrasing) for word, n in bag.items())
    return 2 * common / both if both else 0.0


def _denials(bag: Counter[str]) -> set[str]:
    return {bare for word in bag if (bare := word.strip("<>")) in _DENIALS}


@functools.cache
def _weights(kind: str) -> dict[str, float]:
    """1 for a word that one relation uses, towards 0 for one that all use."""
    names = _of_kind(kind)
    used: Counter[str] = Counter()
    for name in names:
        texts = (text for manner in ("says", "asks", "asks in reverse") for text in _texts(relations()[name], manner))
        used.update({word for text in texts for word in _bag(text)})
    return {word: max(0.1, 1 - math.log(n) / math.log(len(names))) for word, n in used.items()}


@functools.cache
def _of_kind(kind: str) -> tuple[str, ...]:
    return tuple(name for name, relation in relations().items() if relation.kind == kind)


@functools.cache
def _phrasings(name: str, manner: str) -> tuple[Counter[str], ...]:
    """Every phrasing of a relation as a bag of words: of what it "says", "asks", or "asks in reverse"."""
    texts = _texts(relations()[name], manner)
    if manner == "says":
        return tuple(_sided(*map(_bag, text.split("{v}"))) for text in texts if text.count("{v}") == 1)
    return tuple(_bag(text) for text in texts)


def _texts(relation: Relation, manner: str) -> list[str]:
    """Templates with the noun in place, their subject left out, and their value too where they are questions."""
    own, frames = {
        "says": (relation.statements, ("statements",)),
        "asks": (relation.questions, ("who" if relation.asks_who else "questions",)),
        "asks in reverse": (relation.reverse, ("reverse",)),
    }[manner]
    templates = [*own, *(template for frame in frames for template in _frames()[frame])]
    value = "{v}" if manner == "says" else " "
    return [re.sub(r"\s+", " ", t.format(s=" ", v=value, n=relation.noun)) for t in templates]


@functools.cache
def _frames() -> dict[str, list[str]]:
    return yaml.safe_load(resources.files("accrete.data").joinpath("world_tables/frames.yaml").read_text("utf-8"))
