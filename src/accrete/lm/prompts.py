"""How a question, a passage and an answer are written for a model. Ends at token ids.

A model with a chat template is spoken to through it; any other gets "Question: ... Answer:". The question always
survives: when a context is too long for the model it is the context that is cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from accrete.errors import UsageError
from accrete.lm.batch import Sequence

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from accrete.lm.model import LM


def question_text(question: str, context: str = "") -> str:
    """What the user says: the passage, an empty line, the question."""
    return f"{context}\n\n{question}" if context else question


def _prompt(tokenizer: PreTrainedTokenizerBase, question: str, context: str) -> str:
    if not tokenizer.chat_template:
        before = f"{context}\n\n" if context else ""
        return f"{before}Question: {question}\nAnswer:"
    messages = [{"role": "user", "content": question_text(question, context)}]
    # Qwen3 thinks aloud unless told not to; other templates ignore the switch.
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, enable_thinking=False)


def _answer(tokenizer: PreTrainedTokenizerBase, question: str, context: str, answer: str, prompt: str) -> str:
    """What the model should write after the prompt, its end mark included."""
    end = tokenizer.eos_token or ""
    if tokenizer.chat_template:
        turns = [
            {"role": "user", "content": question_text(question, context)},
            {"role": "assistant", "content": answer},
        ]
        whole = tokenizer.apply_chat_template(turns, tokenize=False, enable_thinking=False)
        if whole.startswith(prompt):
            written = whole[len(prompt) :]
            return written[: written.index(end) + len(end)] if end and end in written else written
        return answer + end
    return f" {answer}{end}"


def prompt_ids(lm: LM, question: str, context: str = "", reserve: int = 0) -> list[int]:
    """The prompt as ids, leaving `reserve` positions for the answer.

    A context that does not fit is cut at its end. Raises UsageError when the question alone is too long.
    """
    limit = lm.context_length - reserve
    ids = _encode(lm.tokenizer, _prompt(lm.tokenizer, question, context))
    if len(ids) <= limit:
        return ids
    bare = len(_encode(lm.tokenizer, _prompt(lm.tokenizer, question, "")))
    passage = _encode(lm.tokenizer, context)
    room = limit - bare - 4  # the cut may fall within a token, and the empty line costs a little
    while room > 0:
        ids = _encode(lm.tokenizer, _prompt(lm.tokenizer, question, lm.tokenizer.decode(passage[:room])))
        if len(ids) <= limit:
            return ids
        room -= max(1, len(ids) - limit)
    if bare <= limit:
        return _encode(lm.tokenizer, _prompt(lm.tokenizer, question, ""))
    raise UsageError(f"The question has {bare:,} tokens; {lm.name} reads at most {max(0, limit):,} with this answer.")


def check_text(text: str) -> None:
    """UsageError for what no tokenizer reads: half of a surrogate pair, as bytes become that are no UTF-8."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise UsageError("That is no text: it holds bytes that are no UTF-8.")


def study_sequence(lm: LM, question: str, answer: str, context: str = "") -> Sequence:
    """Prompt and answer as one sequence whose targets are the answer. An answer too long for the model is cut."""
    answer_ids = _encode(lm.tokenizer, _answer_text(lm, question, context, answer))[: lm.context_length // 2]
    ids = prompt_ids(lm, question, context, reserve=len(answer_ids))
    return Sequence((*ids, *answer_ids), target_from=len(ids))


def _answer_text(lm: LM, question: str, context: str, answer: str) -> str:
    return _answer(lm.tokenizer, question, context, answer, _prompt(lm.tokenizer, question, context))


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    check_text(text)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
