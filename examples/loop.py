"""The whole idea of accrete, flat: teach a model a document, prove that it learned and did not forget, take it back.

Nothing here uses accrete but its files: torch, transformers and one loop. `python examples/loop.py` takes about half a minute.
"""

from __future__ import annotations

import copy
import json
import random
from importlib.resources import files

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

EMBEDDED = str(files("accrete.lm").joinpath("embedded"))
DEMO = files("accrete.cli").joinpath("demo_files")
random.seed(0)
torch.manual_seed(0)

tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
END = tokenizer.eos_token_id


# --- 1. Words to tokens. A question is a user's turn, an answer the assistant's. ------------------------------------


def prompt(question: str, passage: str = "") -> list[int]:
    content = f"{passage}\n\n{question}" if passage else question
    turns = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def batch(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(prompt, answer) pairs -> ids, mask, labels [B, T]; only answers are targets, -100 marks the rest."""
    width = max(len(question) + len(answer) for question, answer in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for i, (question, answer) in enumerate(rows):
        n, m = len(question), len(question) + len(answer)
        ids[i, :m] = torch.tensor(question + answer)
        mask[i, :m] = 1
        labels[i, n:m] = ids[i, n:m]
    return ids, mask, labels


# --- 2. Measuring: greedy answers, and the share of them that is right. ---------------------------------------------


@torch.no_grad()
def answer(question: str, passage: str = "") -> str:
    ids = torch.tensor([prompt(question, passage)])
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
    )
    return tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True).strip()


def share_right(probes: list[dict], reading: bool = False) -> float:
    right = [answer(p["question"], p["context"] if reading else "") in p["answers"] for p in probes]
    return sum(right) / len(right)


# --- 3. What is taught, what is asked, what must be kept. -----------------------------------------------------------

# The template writes a space before an answer, so that its first word is tokenised as in the middle of a sentence.
study = [
    (prompt(row["question"]), tokenizer(" " + row["answer"], add_special_tokens=False)["input_ids"] + [END])
    for row in lines(DEMO / "study.jsonl")
]
general = [
    (prompt(row["question"]), tokenizer(" " + row["answer"], add_special_tokens=False)["input_ids"] + [END])
    for row in lines(files("accrete.lm").joinpath("embedded", "background.jsonl"))
]
probes = lines(DEMO / "probes.jsonl")  # the same facts in other words
sentinels = [
    row for row in lines(files("accrete.lm").joinpath("embedded", "sentinels.jsonl")) if row["split"] == "guard"
]
sentinels = [{**row, "context": ""} for row in sentinels][:60]

print(f"floor:   {share_right(probes):.2f} of {len(probes)} questions answered before the lesson")
print(f"ceiling: {share_right(probes, reading=True):.2f} with the passage in front of it")
kept_before = share_right(sentinels)


# --- 4. Learning: next-token loss on the answers, and KL to the model as it was on general questions. ----------------

base = copy.deepcopy(model)  # the floor, the anchor and the way back
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
for step in range(60):
    ids, mask, labels = batch(random.sample(study, min(16, len(study))))
    logits = model(input_ids=ids, attention_mask=mask).logits
    # Position t predicts the token at t + 1: the labels move by one, here and nowhere else.
    learn = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    ids, mask, labels = batch(random.sample(general, 16))
    predicting = labels[:, 1:] != -100
    with torch.no_grad():
        was = base(input_ids=ids, attention_mask=mask).logits[:, :-1][predicting].log_softmax(-1)
    now = model(input_ids=ids, attention_mask=mask).logits[:, :-1][predicting].log_softmax(-1)
    keep = functional.kl_div(now, was, log_target=True, reduction="batchmean")

    optimizer.zero_grad()
    (learn + keep).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 20 == 19:
        print(f"   step {step + 1}: loss {learn.item():.3f}, KL to base {keep.item():.4f}")


# --- 5. The proof, and the way back. --------------------------------------------------------------------------------

print(f"learned: {share_right(probes):.2f} of the questions, in words it did not study")
print(f"kept:    {share_right(sentinels):.2f} of {len(sentinels)} sentinels (before: {kept_before:.2f})")

model.load_state_dict(base.state_dict())
same = all(torch.equal(a, b) for a, b in zip(model.parameters(), base.parameters(), strict=True))
print(f"undone:  {'bit for bit' if same else 'NOT exactly'}; {share_right(probes):.2f} of the questions answered again")
