"""Learning through accrete against the plain loop that makes the same updates, beside what the machine can multiply.

    python benchmarks/learn_throughput.py [--model embedded|DIRECTORY|SHAPE] [--method NAME] [--set key=value] [--json]

Every method that trains weights learns a fixed lesson through `method.learn`, with all its own losses, replay and looking
for the end. The rows of each of its steps are noted, and a plain loop (torch and transformers; peft for LoRA) makes the same
updates from the same weights: next token on the same rows, KL to the base on the same general rows. Both in one process, in
turns; the figure that counts is the ratio of their seconds, and the difference of their last losses shows that they did the
same. Peak memory is taken in a process for each. A SHAPE is a real model's shape with random weights: nothing is fetched.

Model operations a token: a full update 6 N, a LoRA update 4 N + 6 n (no gradients of frozen weights), a pass of the base for
the KL term 2 N; N counts the weights of the linear layers with the head, n those of the adapters. Attention's own products
and padding are not counted.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from plain_loop import PLAIN, Step, plain_loop
from torch import nn

if TYPE_CHECKING:
    from accrete.lm.model import LM

# name: width, MLP width, layers, query heads, key/value heads; all with 151,936 tokens and tied embeddings
SHAPES = {
    "qwen2.5-0.5b": (896, 4_864, 24, 14, 2),
    "qwen2.5-1.5b": (1_536, 8_960, 28, 12, 2),
}


# --- the model, the method and the lesson ------------------------------------------------------------------------------


def load_lm(name: str, device: str, dtype: str) -> LM:
    """A model by name or directory, or of a shape: random weights, with the embedded model's tokenizer and background."""
    from accrete.lm.load import DTYPES, choose_device, load

    if name not in SHAPES:
        return load(name, device=device, dtype=dtype, offline=True)
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from accrete.lm.model import LM

    width, mlp, layers, heads, kv_heads = SHAPES[name]
    config = Qwen2Config(
        hidden_size=width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=151_936,
        max_position_embeddings=32_768,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
    )
    companion = load("embedded", device="cpu", offline=True)
    torch.manual_seed(0)
    with torch.device(choose_device(device)):
        model = Qwen2ForCausalLM._from_config(config, dtype=DTYPES[dtype])
    lm = LM(model, companion.tokenizer, name)
    lm.background, lm.sentinels = companion.background, companion.sentinels
    return lm


def make_config(name: str, options: argparse.Namespace) -> Any:
    """The options of a method: defaults and `--set`, and exactly `--steps` steps; what it does not have is left out."""
    from accrete.config import build
    from accrete.methods import base
    from accrete.settings import parse_value

    schema = base.find(name).Config
    given = {key: parse_value(value, key) for key, _, value in (text.partition("=") for text in options.set)}
    fixed = {"max_steps": options.steps, "max_epochs": options.steps, "enough": 0.0}
    wanted = {key: value for key, value in (fixed | given).items() if key in schema.model_fields}
    return build(schema, wanted, f"the options of {name}")


def lessons(items: int) -> tuple[Any, Any]:
    """An earlier lesson, so that there is something to replay, and the one that is measured."""
    from accrete.data.world import World
    from accrete.types import Document, Lesson

    world = World(77)
    facts = [fact for entity in world.entities(items // 5 + 1) for fact in entity.facts]
    studied = world.items(facts, (0, 1))
    documents = [Document("earlier", items=tuple(studied[-items:])), Document("measured", items=tuple(studied[:items]))]
    first, second = (Lesson(document, items=document.items) for document in documents)
    return first, second


@contextmanager
def noted(lm: LM) -> Iterator[tuple[list[Any], list[torch.Tensor]]]:
    """The rows of every batch that a method makes inside, and the trainable weights as they were at the first."""
    from accrete.lm import batch

    made: list[Any] = []
    weights: list[torch.Tensor] = []
    collate = batch.collate

    def spy(rows: Any, *arguments: Any) -> Any:
        if not made:
            weights.extend(p.detach().clone() for p in lm.model.parameters() if p.requires_grad)
        result = collate(rows, *arguments)
        made.append(([(row.ids, max(1, row.target_from)) for row in rows], result.general))
        return result

    with mock.patch.object(batch, "collate", spy):
        yield made, weights


def as_steps(made: list[Any], steps: int) -> list[Step]:
    """Batches as steps: a KL term with batches of its own makes one after each batch of rows."""
    if steps and len(made) == 2 * steps:
        return [(rows, 0, held) for (rows, _), (held, _) in zip(made[::2], made[1::2], strict=True)]
    if len(made) == steps:
        return [(rows, general, []) for rows, general in made]
    raise SystemExit(f"{len(made)} batches in {steps} steps: a plain loop cannot follow.")


# --- timing ------------------------------------------------------------------------------------------------------------


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of `work`, whatever it started on a GPU included, and its result."""
    started = _now()
    result = work()
    return _now() - started, result


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One method against its plain loop: rounds in turns, medians, what both reach of the ceiling, and peak memory."""
    from accrete.methods import base

    lm, config = load_lm(options.model, options.device, options.dtype), make_config(name, options)
    linear = Counter((m.in_features, m.out_features) for m in lm.model.modules() if isinstance(m, nn.Linear))
    plain = PLAIN[name](copy.deepcopy(lm.model), config) if name in PLAIN else None
    method, (earlier, lesson) = base.find(name)(lm, config), lessons(options.items)

    def quiet(step: int, loss: float) -> None: ...

    method.learn(earlier, quiet)  # warms up as well
    state = {part: copied(values) for part, values in base.state_of(method).items()}
    with noted(lm) as (made, weights):
        report = method.learn(lesson, quiet)
    steps = as_steps(made, report.steps)
    seconds: dict[str, list[float]] = {"accrete": [], "plain": []}
    ceilings: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    checking, losses = [], (float("nan"), float("nan"))
    if plain:
        plain_loop(plain, steps[:2], weights, config, lm.pad, lm.mixed)  # warms up
    for _ in range(options.rounds):
        base.restore(method, state)
        with clocked(lm, "mean_loss") as spent:
            took, report = timed(lambda: method.learn(lesson, quiet))
        seconds["accrete"].append(took)
        checking.append(spent[0])
        if plain:
            took, last = timed(lambda: plain_loop(plain, steps, weights, config, lm.pad, lm.mixed))
            seconds["plain"].append(took)
            losses = (report.loss_after or 0.0, last)
        for dtype, rates in ceilings.items():
            rates.append(products(linear, tokens_a_step(steps), dtype, lm.device))
    n = sum(p.numel() for p in lm.model.parameters() if p.requires_grad)
    work = operations(
        steps, sum(i * o * count for (i, o), count in linear.items()), 0 if name == "full_finetune" else n
    )
    found: dict[str, Any] = {"method": name, "steps": report.steps, "trained": n} | counts(steps)
    ceiling = {dtype: statistics.median(rates) for dtype, rates in ceilings.items()}
    found["ceiling_gflops"] = {dtype: round(rate, 1) for dtype, rate in ceiling.items()}
    own = str(lm.dtype).removeprefix("torch.")
    for loop in ("accrete", "plain") if plain else ("accrete",):
        median = statistics.median(seconds[loop])
        found[loop] = {
            "seconds": round(median, 3),
            "tokens_per_second": round(found["tokens"] / median, 1),
            "targets_per_second": round(found["targets"] / median, 1),
            "gflops": round(work / median / 1e9, 1),
            "of_ceiling": round(work / median / 1e9 / ceiling.get(own, ceiling["float32"]), 3),
            "rounds": [round(s, 3) for s in seconds[loop]],
        }
    found["accrete"]["checking_seconds"] = round(statistics.median(checking), 3)
    if plain:
        ratios = [p / a for a, p in zip(seconds["accrete"], seconds["plain"], strict=True)]
        found |= {"ratio": round(statistics.median(ratios), 3), "last_losses": [round(loss, 5) for loss in losses]}
    if not options.no_memory:
        found["memory"] = {loop: memory(name, loop, steps, options) for loop in ("accrete", "plain") if found.get(loop)}
    return found


def copied(state: Any) -> dict[str, Any]:
    """A part's state with tensors of its own."""
    return {key: value.detach().clone() if isinstance(value, torch.Tensor) else value for key, value in state.items()}


@contextmanager
def clocked(thing: Any, name: str) -> Iterator[list[float]]:
    """The seconds spent in one function of `thing` inside, as the only entry of a list."""
    spent, function = [0.0], getattr(thing, name)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        took, result = timed(lambda: function(*arguments, **named))
        spent[0] += took
        return result

    with mock.patch.object(thing, name, wrapper):
        yield spent


# --- what was done, and what the machine can do ------------------------------------------------------------------------


def counts(steps: list[Step]) -> dict[str, int]:
    """Tokens of the trained rows, the targets among them, and the tokens that are held to the base, there or in other rows."""
    rows = [row for trained, _, _ in steps for row in trained]
    held = [row for trained, general, held in steps for row in (held or trained[len(trained) - general :])]
    return {
        "tokens": sum(len(ids) for ids, _ in rows),
        "targets": sum(len(ids) - start for ids, start in rows),
        "kl_tokens": sum(len(ids) for ids, _ in held),
        "rows_per_step": round(len(rows) / len(steps)),
    }


def tokens_a_step(steps: list[Step]) -> int:
    """The usual number of tokens in a batch, its padding included: the rows of the matrices that are multiplied."""
    return int(statistics.median(len(rows) * max(len(ids) for ids, _ in rows) for rows, _, _ in steps))


def operations(steps: list[Step], linear: int, adapter: int) -> float:
    """Model operations of all steps, counted as the top of this file says. `adapter` 0 means that all weights learn."""
    a_token = 4 * linear + 6 * adapter if adapter else 6 * linear
    trained = sum(len(ids) for rows, _, held in steps for ids, _ in (*rows, *held))
    return trained * a_token + counts(steps)["kl_tokens"] * 2 * linear


@torch.no_grad()
def products(linear: Counter[tuple[int, int]], rows: int, dtype: str, device: torch.device) -> float:
    """GFLOP/s of the matrix products of one forward pass, each shape measured alone for a twentieth of a second."""
    total = work = 0.0
    for (inputs, outputs), count in linear.items():
        x = torch.randn(rows, inputs, dtype=getattr(torch, dtype), device=device)
        w = torch.randn(outputs, inputs, dtype=getattr(torch, dtype), device=device)
        x @ w.T
        once, _ = timed(lambda x=x, w=w: x @ w.T)
        repeats = max(3, int(0.05 / max(once, 1e-6)))
        took, _ = timed(lambda x=x, w=w, repeats=repeats: [x @ w.T for _ in range(repeats)] and None)
        total += count * took / repeats
        work += count * 2.0 * rows * inputs * outputs
    return work / total / 1e9


def memory(name: str, loop: str, steps: list[Step], options: argparse.Namespace) -> dict[str, float]:
    """Peak MB of one loop in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "steps.json")
        rows.write_text(json.dumps(steps))
        child = [sys.executable, __file__, *sys.argv[1:], "--alone", name, loop, str(rows)]
        ran = subprocess.run(child, env=os.environ, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"The memory of {name} ({loop}) could not be measured:\n{ran.stderr[-2000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


def alone(name: str, loop: str, rows: str, options: argparse.Namespace) -> dict[str, float]:
    """Peak MB of this process, which does nothing else than one loop."""
    from accrete.methods import base

    lm, config = load_lm(options.model, options.device, options.dtype), make_config(name, options)
    if loop == "accrete":
        method = base.find(name)(lm, config)
        for lesson in lessons(options.items):
            method.learn(lesson, lambda step, loss: None)
    else:
        plain_loop(PLAIN[name](lm.model, config), json.loads(Path(rows).read_text()), [], config, lm.pad, lm.mixed)
    peak = {"peak_mb": peak_mb()}
    if lm.device.type == "cuda":
        peak["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
    return peak


def peak_mb() -> int:
    """The most memory that this process held. Linux hands ru_maxrss on from the process that started this one."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 1024)


# --- telling -----------------------------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    """One method in lines for reading."""
    ceiling = ", ".join(f"{dtype} {rate:,.0f}" for dtype, rate in found["ceiling_gflops"].items())
    lines = [
        f"{found['method']}: {found['steps']} steps of {found['rows_per_step']} rows, {found['tokens']:,} tokens of which"
        f" {found['targets']:,} targets, {found['kl_tokens']:,} held to the base; {found['trained']:,} weights learn",
        f"  matrix products of this model: {ceiling} GFLOP/s",
        "  loop         seconds  tokens/s  targets/s  GFLOP/s  of ceiling  peak MB",
    ]
    for loop in ("accrete", "plain"):
        if row := found.get(loop):
            peak = found.get("memory", {}).get(loop, {})
            lines.append(
                f"  {loop:<8}{row['seconds']:>12.2f}{row['tokens_per_second']:>10,.0f}{row['targets_per_second']:>11,.0f}"
                f"{row['gflops']:>9,.0f}{row['of_ceiling']:>12.3f}{peak.get('peak_gpu_mb', peak.get('peak_mb', 0)):>9,}"
            )
    if "ratio" in found:
        a, b = found["last_losses"]
        lines.append(f"  ratio accrete/plain {found['ratio']:.2f}   (last losses {a:.5f} and {b:.5f})")
    lines.append(
        f"  of accrete's seconds, looking for the end of the lesson: {found['accrete']['checking_seconds']:.2f}"
    )
    return "\n".join(lines)


def main() -> None:
    from accrete.methods import base

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded", help=f"embedded, a directory, or {', '.join(SHAPES)}")
    parser.add_argument(
        "--method", choices=base.names(), action="append", help="repeatable; else all with a plain loop"
    )
    parser.add_argument("--set", action="append", default=[], metavar="key=value", help="an option of the methods")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--items", type=int, default=48, help="study items of the lesson")
    parser.add_argument("--steps", type=int, help="36; with --quick 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="do not measure peak memory")
    parser.add_argument("--quick", action="store_true", help="six items, one round: does it run at all?")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    known = {key for name in base.names() for key in base.find(name).Config.model_fields}
    if unknown := [text for text in options.set if text.partition("=")[0] not in known]:
        parser.error(f"no method has an option {unknown[0]}")
    options.steps = options.steps or (4 if options.quick else 36)
    if options.quick:
        options.items, options.rounds = 6, 1
    if options.alone:
        print(json.dumps(alone(*options.alone, options)))
        return
    for name in options.method or sorted(PLAIN):
        found = compare(name, options)
        gc.collect()  # the models of this method make room for those of the next
        torch.cuda.empty_cache()
        print(json.dumps(found) if options.json else table(found), flush=True)


if __name__ == "__main__":
    main()
