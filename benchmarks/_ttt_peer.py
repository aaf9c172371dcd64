"""The published package's updates of a document, timed alone: PyPI's continual-learning-slm 0.2.0 (MIT), as it comes.

    python benchmarks/_ttt_peer.py --shape embedded|qwen2.5-0.5b|qwen2.5-1.5b [--updates 20] [--threads 2]
                                    [--device cuda] [--peer-dir DIR]

`ttt_throughput.py` starts this in a process of its own, so that its peak memory is the peer's and no setting of accrete
reaches it: nothing of accrete is imported. Keys: tokens_per_second (targets, of the median update: on a machine that has
other things to do single updates take a hundred times as long), peak_mb, layers_modified, update_tokens, note; and shape,
layers, trained, updates, update_seconds, losses (of the first and the last update), threads.

Its own code does everything that is timed. `inject_dual_mlps` puts the dual MLPs in, with the values of its
DEFAULT_CONFIG; `TTTEngine.learn`, built as its command line builds it, learns one document, and the clock is read in the
callback that it calls after every update. What is ours:

- The model has the real shape and random weights (seed 0) in float32, eval mode, as its `load_modified_model` loads one; that
  function itself is passed over, because it fetches a model and its tokenizer.
- A stand-in for the tokenizer gives random token ids, one to start with and 32 more for every update.
- The layers are the last quarter, given by number. Its default numbers, 21 to 27, are that quarter in Qwen2.5-1.5B only;
  in the other two not all of them exist, and it fails.
- jax stands in its list of dependencies, but none of its modules imports it, so nothing had to be replaced. The package is
  installed without dependencies, and a run that finds jax loaded at its end fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from learn_throughput import SHAPES, peak_mb

PACKAGE, VERSION = "continual-learning-slm", "0.2.0"
EMBEDDED = Path(__file__).parents[1] / "src" / "accrete" / "lm" / "embedded"
CHOICES = ("embedded", *SHAPES)
WARM_UP = 2  # updates before the clock starts: Adam makes its moments in the first


def shape_config(shape: str) -> Any:
    """The Qwen2Config of a shape; `embedded` is that of the model that accrete ships."""
    from transformers import Qwen2Config

    if shape == "embedded":
        return Qwen2Config.from_pretrained(EMBEDDED, local_files_only=True)
    width, mlp, layers, heads, kv_heads = SHAPES[shape]
    return Qwen2Config(
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
    )


def random_model(shape: str) -> Any:
    """A model of the shape in float32 and eval mode; the same weights every time."""
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    return Qwen2ForCausalLM._from_config(shape_config(shape), dtype=torch.float32).eval()


# --- the package -------------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where the package is kept between runs: below the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "accrete-peers" / f"{PACKAGE}-{VERSION}"


def provide(folder: Path) -> None:
    """Make `continual_learning` of just this version importable; install it into `folder` where it is missing."""
    installed = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.dist-info"
    if not installed.is_dir():
        install = ["-m", "pip", "install", "--no-deps", "--target", str(folder), f"{PACKAGE}=={VERSION}"]
        ran = subprocess.run([sys.executable, *install], stdout=sys.stderr)
        if ran.returncode or not installed.is_dir():
            raise SystemExit(
                f"{PACKAGE} {VERSION} could not be installed into {folder}; where a package index can be reached run "
                f'"python {" ".join(install)}", and name that folder with --peer-dir.'
            )
    sys.path.insert(0, str(folder))


class RandomTokens:
    """Stands for the tokenizer: whatever the text, `count` random ids below `vocabulary`, at most `max_length`."""

    def __init__(self, vocabulary: int, count: int):
        self.vocabulary, self.count = vocabulary, count

    def __call__(self, text: str, *, max_length: int, **options: Any) -> dict[str, torch.Tensor]:
        random = torch.Generator().manual_seed(1)
        return {"input_ids": torch.randint(0, self.vocabulary, (1, min(self.count, max_length)), generator=random)}


# --- measured ----------------------------------------------------------------------------------------------------------


def memory_mb(device: str) -> int:
    """The most memory held: by this process, or on a GPU by its tensors."""
    return torch.cuda.max_memory_allocated() // 2**20 if device == "cuda" else peak_mb()


def measure(shape: str, updates: int, device: str) -> dict[str, Any]:
    """One document of `updates` timed updates and a few before them, learned by the package's own engine."""
    from continual_learning.config import DEFAULT_CONFIG  # type: ignore[import-not-found]
    from continual_learning.model.modified_qwen import (  # type: ignore[import-not-found]
        get_modified_layer_indices,
        inject_dual_mlps,
    )
    from continual_learning.training.ttt_engine import TTTEngine  # type: ignore[import-not-found]

    ttt, alpha = DEFAULT_CONFIG["ttt"], DEFAULT_CONFIG["alpha"]
    batch = ttt["mini_batch_size"]
    if (tokens := (WARM_UP + updates) * batch + 1) > ttt["max_tokens_per_document"]:
        longest = (ttt["max_tokens_per_document"] - 1) // batch - WARM_UP
        raise SystemExit(
            f"A document of the peer holds at most {longest} timed updates; ask for no more with --updates."
        )

    model = random_model(shape).to(device)
    depth = model.config.num_hidden_layers
    layers = get_modified_layer_indices(depth, depth - depth // 4, depth)
    inject_dual_mlps(model, layers, alpha["initial"], DEFAULT_CONFIG["tfidf_gate"]["threshold"])
    engine = TTTEngine(
        model=model,
        tokenizer=RandomTokens(model.config.vocab_size, tokens),
        dual_mlps=[model.model.layers[index].mlp for index in layers],
        learning_rate=ttt["learning_rate"],
        mini_batch_size=batch,
        gradient_steps=ttt["gradient_steps"],
        max_tokens=ttt["max_tokens_per_document"],
    )

    ends: list[float] = []

    def callback(batch_idx: int, loss: float, tokens_so_far: int) -> None:
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    learned = engine.learn("", callback=callback)
    seconds = [after - before for before, after in zip(ends[WARM_UP - 1 :], ends[WARM_UP:], strict=False)]
    if len(seconds) != updates or learned["tokens_processed"] != tokens - 1:
        raise SystemExit(
            f"The peer made {len(ends)} updates of {WARM_UP + updates}: this is not the package that was read."
        )
    if "jax" in sys.modules:
        raise SystemExit("Something imported jax, which this measurement must not do; uninstall jax here.")
    optimizer = engine.optimizer
    return {
        "tokens_per_second": round(batch / statistics.median(seconds), 2),
        "peak_mb": memory_mb(device),
        "layers_modified": len(layers),
        "update_tokens": batch,
        "note": f"{PACKAGE} {VERSION}: {type(optimizer).__name__}, rate {optimizer.param_groups[0]['lr']:g}, float32, "
        f"independent windows of {batch} targets ({batch + 1} tokens read), gate not calibrated, random weights",
        "shape": shape,
        "layers": layers,
        "trained": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "updates": updates,
        "update_seconds": [round(took, 4) for took in seconds],
        "losses": [learned["losses"][0], learned["losses"][-1]],
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=CHOICES, default="embedded")
    parser.add_argument("--updates", type=int, default=20, help="timed, after two that are not")
    parser.add_argument("--threads", type=int, help="of torch; else as torch chooses")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--peer-dir", type=Path, default=cache_folder(), help="where the package is, or is to be installed"
    )
    parser.add_argument("--json", action="store_true", help="accepted; there is no other output")
    options = parser.parse_args()
    if options.updates < 1 or (options.threads is not None and options.threads < 1):
        parser.error("--updates and --threads begin at 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    provide(options.peer_dir)
    print(json.dumps(measure(options.shape, options.updates, options.device)))


if __name__ == "__main__":
    main()
