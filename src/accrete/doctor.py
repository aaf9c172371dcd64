"""Which methods work on a model here, and what a lesson costs: tried, not guessed. Ends at a table of facts.

Every method takes a short lesson in a process of its own, so that its peak memory can be told from that of the others and
one that dies takes nothing with it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from accrete.errors import AccreteError, ModelError
from accrete.methods import base as method_base

STEPS, EXPECTED_STEPS = 3, 40  # tried; what a lesson of twenty questions takes on the embedded model
PATIENCE = 600  # seconds for one method


def examine(
    model: str, device: str, dtype: str, offline: bool, progress: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """{"model": facts, "methods": [{"method", "works", "seconds_a_step", "seconds_expected", "memory_gb" or "reason"}]}."""
    found: dict[str, Any] = {"model": {}, "methods": []}
    for name in method_base.names():
        progress(f"trying {name}")
        result = _in_a_process(model, name, device, dtype, offline)
        if "model_error" in result:
            raise ModelError(result["model_error"])
        found["model"] = result.pop("model", found["model"])
        found["methods"].append({"method": name} | result)
    return found


def _in_a_process(model: str, method: str, device: str, dtype: str, offline: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "accrete.doctor", model, method, device, dtype, str(int(offline))]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"works": False, "reason": f"took more than {PATIENCE} seconds for {STEPS} steps"}
    if ran.returncode < 0:
        return {"works": False, "reason": "was killed by the system: probably too little memory"}
    try:
        return json.loads(ran.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        reason = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"works": False, "reason": reason[:200]}


def _try(model: str, method: str, device: str, dtype: str, offline: bool) -> dict[str, Any]:
    """One lesson of a few steps on eight questions."""
    from accrete.learner import Learner
    from accrete.lm.load import load
    from accrete.types import Document, Example, Lesson

    try:
        lm = load(model, device=device, dtype=dtype, offline=offline)
    except AccreteError as error:
        return {"works": False, "model_error": str(error)}
    facts = {
        "model": f"{lm.name} ({lm.digest[:12]})",
        "architecture": lm.model.config.model_type + ("" if lm.anatomy else " (not known here: it is run whole)"),
        "parameters": f"{sum(p.numel() for p in lm.model.parameters()):,}",
        "layers": lm.layers,
        "context": f"{lm.context_length:,} tokens",
        "device": f"{lm.device}, {str(lm.dtype).removeprefix('torch.')}",
        "chat_template": "yes" if lm.tokenizer.chat_template else "no: questions are put as plain text",
        "sentinels": f"{len(lm.sentinels)} of its own" if lm.sentinels else "made by itself at the first lesson",
    }
    options = {"max_steps": STEPS} if "max_steps" in method_base.find(method).Config.model_fields else {}
    items = tuple(Example(f"What is the name of the ship number {i}?", f"It is called Vessel {i}.") for i in range(16))
    document = Document("trial", items=items)
    with tempfile.TemporaryDirectory() as home:
        learner = Learner(lm, method=method, home=home, config=options)
        times = [time.monotonic()]
        report = learner.method.learn(Lesson(document, items=items), lambda *told: times.append(time.monotonic()))
    steps = max(1, report.steps)
    a_step = (times[-1] - times[1]) / (steps - 1) if steps > 1 and len(times) > 2 else times[-1] - times[0]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if lm.device.type == "cuda":
        import torch

        memory = torch.cuda.max_memory_allocated()
    return {
        "model": facts,
        "works": True,
        "seconds_a_step": round(a_step, 3),
        "seconds_expected": round(a_step * EXPECTED_STEPS, 1),
        "memory_gb": round(memory / 1e9, 2),
    }


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    name, method_name, on, kind, no_network = sys.argv[1:]
    try:
        result = _try(name, method_name, on, kind, bool(int(no_network)))
    except (AccreteError, RuntimeError, MemoryError, ValueError) as problem:
        result = {"works": False, "reason": (str(problem).splitlines() or [type(problem).__name__])[0][:200]}
    sys.stdout.write(json.dumps(result) + "\n")
