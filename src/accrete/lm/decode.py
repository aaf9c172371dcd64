"""The one generation loop: batched, cached, greedy or sampled, streaming. Ends at token ids and answers.

Methods act inside it through a `Conditioning` per row: passages before the prompt, a hand on the logits at every step.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

from accrete.lm.prompts import prompt_ids
from accrete.lm.states import entering
from accrete.lm.tasks import NOT_STATED
from accrete.scoring import normalise
from accrete.types import Answer, Passage, Query

if TYPE_CHECKING:
    from accrete.lm.model import LM

Process = Callable[[Tensor, Tensor, list[Any]], Tensor]
"""(hidden_BD, logits_BV, beside) -> logits_BV, for the rows that share this process.

`hidden_BD` are the states that enter the conditioning's `layer`, or those before the head where it names none; `beside` is
what each row's conditioning holds for its process.
"""


@dataclass(frozen=True)
class Conditioning:
    """What a method puts beside one question: text to read, and a correction of the logits with what that needs.

    `within` is a context in which the model runs for this row (the adapter of a domain, say), `reading` one that is told what
    stands beside each row that runs (slots of its own, say). Rows of one batch share them and the `layer`; `answer` forms its
    batches so, and where an answer is "not stated", it asks once more with `again` in place of this. What is answered with
    each of `also` is true as well and said with it.
    """

    passages: tuple[Passage, ...] = ()
    process: Process | None = None
    layer: int | None = None  # the block whose incoming states `process` sees (lm/states.py); rows of a batch share it
    beside: Any = None  # what `process` is handed for this row: places to read in memory, say
    within: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    reading: Callable[[list[Any]], contextlib.AbstractContextManager[None]] | None = None
    instruction: str = ""  # said before the passages
    sources: Callable[[], tuple[Passage, ...]] = tuple  # where else an answer came from, asked when it is written
    again: Conditioning | None = None
    also: tuple[Conditioning, ...] = ()


NOTHING = Conditioning()
LEAST_SHARED = 64  # tokens at the beginning of all prompts that are worth a pass of their own


@torch.no_grad()
def stream(
    lm: LM,
    prompts: SequenceOf[SequenceOf[int]],
    max_new_tokens: int = 64,
    *,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    conditionings: SequenceOf[Conditioning] = (),
) -> Iterator[list[tuple[int, int]]]:
    """Yield, step by step, the new (row, token) pairs; a row ends at an end token, which is not yielded.

    `temperature` 0 is greedy. Finished rows leave the batch; the rest keep their conditioning. The first row's `within` is
    that of all, entered step by step: between two steps the model is as it was.
    """
    if not prompts:
        return
    stops = stop_tokens(lm)
    conditionings = conditionings or [NOTHING] * len(prompts)
    alive = list(range(len(prompts)))
    cache = DynamicCache(config=lm.model.config)
    # A sliding window counts places, so that padding within a row, after what is shared, would shorten it.
    alone = any(cache.is_sliding) or conditionings[0].reading is not None
    shared = 0 if alone else _shared(prompts)
    if shared:  # a passage that all rows begin with is read once
        with running(conditionings[:1]):
            _step(lm, *_left_padded([prompts[0][:shared]], lm), cache)
        cache.batch_repeat_interleave(len(prompts))
    ids_BT, mask_BK = _left_padded([prompt[shared:] for prompt in prompts], lm)
    mask_BK = torch.cat([mask_BK.new_ones(len(prompts), shared), mask_BK], dim=1)
    for _ in range(max_new_tokens):
        of_rows = [conditionings[row] for row in alive]
        with running(of_rows), entering(lm, of_rows[0].layer) as states:
            hidden_BD, logits_BV = _step(lm, ids_BT, mask_BK, cache)
        hidden_BD = states[-1][:, -1] if states else hidden_BD
        logits_BV = conditioned(hidden_BD, logits_BV, alive, conditionings)
        chosen = _choose(logits_BV, temperature, generator)
        going = [i for i, token in enumerate(chosen.tolist()) if token not in stops]
        if going:
            yield [(alive[i], int(chosen[i])) for i in going]
        else:
            return
        if len(going) < len(alive):
            keep = torch.tensor(going, device=lm.device)
            cache.batch_select_indices(keep)
            chosen, mask_BK = chosen[keep], mask_BK[keep]
            alive = [alive[i] for i in going]
        ids_BT = chosen[:, None]
        mask_BK = torch.cat([mask_BK, torch.ones_like(mask_BK[:, :1])], dim=1)


@contextlib.contextmanager
def running(conditionings: SequenceOf[Conditioning]) -> Iterator[None]:
    """The context in which a pass over rows of these conditionings runs: what they share, and what stands beside each."""
    first = conditionings[0]
    reading = first.reading([one.beside for one in conditionings]) if first.reading else contextlib.nullcontext()
    with first.within(), reading:
        yield


def generate(lm: LM, prompts: SequenceOf[SequenceOf[int]], max_new_tokens: int = 64, **options: Any) -> list[list[int]]:
    """The new tokens of every prompt; options as in `stream`."""
    written: list[list[int]] = [[] for _ in prompts]
    for pairs in stream(lm, prompts, max_new_tokens, **options):
        for row, token in pairs:
            written[row].append(token)
    return written


def answer(
    lm: LM,
    queries: SequenceOf[Query],
    *,
    conditionings: SequenceOf[Conditioning] = (),
    max_new_tokens: int = 48,
    batch_size: int = 64,
    **options: Any,
) -> list[Answer]:
    """Answer questions in batches of similar length, each after the passages of its conditioning and its own context.

    The sources of an answer are the passages that it was given to read, but for one that had no room in the prompt, and those
    that its conditioning names.
    """
    conditionings = conditionings or [NOTHING] * len(queries)
    options |= {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    if any(one.also for one in conditionings):
        every = [(query, each) for query, one in zip(queries, conditionings, strict=True) for each in apart(one)]
        found = iter(answer(lm, [q for q, _ in every], conditionings=[each for _, each in every], **options))
        return [_together([next(found) for _ in apart(one)]) for one in conditionings]
    return _answer_each(lm, queries, conditionings, **options)


def apart(conditioning: Conditioning) -> list[Conditioning]:
    """A conditioning and what is also said, each alone."""
    return [replace(conditioning, also=()), *conditioning.also]


def listed(texts: Iterable[str]) -> str:
    """Different answers in one: "Ada, Bo and Cy"."""
    different = list({normalise(text): text for text in texts if text}.values())
    return " and ".join(filter(None, (", ".join(different[:-1]), *different[-1:])))


def _together(answers: SequenceOf[Answer]) -> Answer:
    if len(answers) == 1:
        return answers[0]
    sources = dict.fromkeys(source for one in answers for source in one.sources)
    return Answer(listed(one.text for one in answers), sum(one.tokens for one in answers), tuple(sources))


def _answer_each(
    lm: LM,
    queries: SequenceOf[Query],
    conditionings: SequenceOf[Conditioning],
    max_new_tokens: int,
    batch_size: int,
    **options: Any,
) -> list[Answer]:
    prompts = [
        prompt_ids(lm, query.question, context_of(query, conditioning), reserve=max_new_tokens)
        for query, conditioning in zip(queries, conditionings, strict=True)
    ]
    answers: list[Answer] = [Answer("")] * len(queries)
    for rows in alike(prompts, conditionings, batch_size):
        written = generate(
            lm,
            [prompts[i] for i in rows],
            max_new_tokens,
            conditionings=[conditionings[i] for i in rows],
            **options,
        )
        for i, ids in zip(rows, written, strict=True):
            sources = _read(lm, queries[i], conditionings[i], prompts[i]) + conditionings[i].sources()
            answers[i] = Answer(readable(lm, ids), len(ids), sources)
    again = {i: c.again for i, c in enumerate(conditionings) if c.again and abstains(answers[i].text)}
    if again:
        options |= {"conditionings": list(again.values()), "max_new_tokens": max_new_tokens, "batch_size": batch_size}
        answers_again = answer(lm, [queries[i] for i in again], **options)
        for i, other in zip(again, answers_again, strict=True):
            answers[i] = other
    return answers


def abstains(text: str) -> bool:
    """Whether an answer says that there is none in what was read."""
    return normalise(text).startswith(NOT_STATED)


def may_abstain(text: str) -> bool:
    """Whether an answer that begins so may still come to say that there is none."""
    begun = normalise(text)
    return begun.startswith(NOT_STATED) or NOT_STATED.startswith(begun)


def alike(
    prompts: SequenceOf[SequenceOf[int]], conditionings: SequenceOf[Conditioning], batch_size: int
) -> Iterator[list[int]]:
    """Rows that may run together: in one `within` and `reading`, looked at in one `layer`, of similar length."""
    groups: dict[tuple[int, int, int | None], list[int]] = {}
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        one = conditionings[i]
        groups.setdefault((id(one.within), id(one.reading), one.layer), []).append(i)
    for order in groups.values():
        yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def context_of(query: Query, conditioning: Conditioning) -> str:
    """What is read before a question: the passages a method found, then what the asker gave."""
    said = [conditioning.instruction, *(passage.text for passage in conditioning.passages), query.context]
    return "\n\n".join(filter(None, said))


def _read(lm: LM, query: Query, conditioning: Conditioning, prompt: SequenceOf[int]) -> tuple[Passage, ...]:
    """The passages of which at least the beginning is in the prompt: it was cut at the end of its context."""
    passages = conditioning.passages
    if not passages:
        return ()
    room = len(prompt) - len(prompt_ids(lm, query.question)) - lm.count_tokens(conditioning.instruction)
    before = itertools.accumulate((lm.count_tokens(passage.text) for passage in passages), initial=0)
    return tuple(passage for passage, used in zip(passages, before, strict=False) if used < room)


def text_stream(lm: LM, prompt: SequenceOf[int], max_new_tokens: int, **options: Any) -> Iterator[str]:
    """What comes after one prompt, piece by piece, whole characters only; options as in `stream`."""
    written: list[int] = []
    shown = ""
    for pairs in stream(lm, [prompt], max_new_tokens, **options):
        written.append(pairs[0][1])
        text = str(lm.tokenizer.decode(written, skip_special_tokens=True))
        if not text.endswith("\ufffd"):  # half a character: wait for the rest of it
            yield text[len(shown) :]
            shown = text


def readable(lm: LM, ids: SequenceOf[int]) -> str:
    """Tokens as an answer; without a chat template a line break ends it."""
    text = str(lm.tokenizer.decode(ids, skip_special_tokens=True))
    return (text if lm.tokenizer.chat_template else text.split("\n")[0]).strip()


def stop_tokens(lm: LM) -> set[int]:
    """Every id that ends an answer: of the tokenizer, of the model's config and of its generation config."""
    found = {lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id}
    for config in (lm.model.config, lm.model.generation_config):
        ends = getattr(config, "eos_token_id", None)
        found.update(ends if isinstance(ends, list) else [ends])
    return {token for token in found if token is not None}


def _left_padded(prompts: SequenceOf[SequenceOf[int]], lm: LM) -> tuple[Tensor, Tensor]:
    """Ids and mask [B, T], padded on the left so that every row ends where its answer begins."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), lm.pad)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt), dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    return ids.to(lm.device), mask.to(lm.device)


def _shared(prompts: SequenceOf[SequenceOf[int]]) -> int:
    """How many tokens all prompts begin with, short of the last of any; 0 where that would save little."""
    least, most = min(map(tuple, prompts)), max(map(tuple, prompts))  # as in a dictionary: what these share, all do
    end = min(map(len, prompts)) - 1
    count = next((i for i in range(end) if least[i] != most[i]), max(0, end))
    return count if count >= LEAST_SHARED and len(prompts) > 1 else 0


def _step(lm: LM, ids_BT: Tensor, mask_BK: Tensor, cache: DynamicCache) -> tuple[Tensor, Tensor]:
    """States [B, D] and logits [B, V] after the last token of `ids_BT`; the cache grows by its tokens."""
    positions = (mask_BK.cumsum(-1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
    inputs = dict(
        input_ids=ids_BT, attention_mask=mask_BK, position_ids=positions, past_key_values=cache, use_cache=True
    )
    if lm.anatomy is None:  # an unknown architecture may do more between body and head than we know
        output = lm.model(**inputs, output_hidden_states=True)
        return output.hidden_states[-1][:, -1], output.logits[:, -1].float()
    hidden_BD = lm.anatomy.body(**inputs).last_hidden_state[:, -1]
    return hidden_BD, lm.anatomy.head(hidden_BD).float()


def conditioned(
    hidden_BD: Tensor, logits_BV: Tensor, alive: list[int], conditionings: SequenceOf[Conditioning]
) -> Tensor:
    """Let every distinct `process` correct the logits of its own rows, all of them at once."""
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(alive):
        if conditionings[row].process is not None:
            groups.setdefault(id(conditionings[row].process), []).append(i)
    for places in groups.values():
        process = conditionings[alive[places[0]]].process
        assert process is not None
        beside = [conditionings[alive[i]].beside for i in places]
        if len(places) == len(alive):
            return process(hidden_BD, logits_BV, beside).to(logits_BV.dtype)
        index = torch.tensor(places, device=logits_BV.device)
        corrected = process(hidden_BD[index], logits_BV[index], beside)
        logits_BV = logits_BV.index_copy(0, index, corrected.to(logits_BV.dtype))
    return logits_BV


def _choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """One token per row [B]. Drawn on the CPU, so that a seed means the same on every device."""
    if temperature <= 0:
        return logits_BV.argmax(-1)
    shares = torch.softmax(logits_BV / temperature, dim=-1).cpu()
    return torch.multinomial(shares, 1, generator=generator)[:, 0].to(logits_BV.device)
