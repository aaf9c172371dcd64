"""The embedded model on one GPU in calls of under ten minutes: prepared where the data is, trained there, joined here.

    PYTHONPATH=src python scripts/gpu/embedded.py prepare       # $ACCRETE_DATA -> runs/gpu/embedded/first and /second
    PYTHONPATH=src python scripts/gpu/embedded.py train         # on the GPU machine; called again, it goes on
    PYTHONPATH=src python scripts/gpu/embedded.py join PIECES   # what came back -> runs/gpu/embedded/model, start, checkpoint

The loop is that of `accrete pretrain`. It is run in legs of `save_seconds`: after each, the rows that are due next are laid
out. Ends at bf16 model directories, decayed (`model`) and undecayed (`start`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import embedded_pieces
from embedded_rows import Pool, Shares, WorldRows, packed, read_shards, write_shards

if TYPE_CHECKING:  # late: the processes that make rows read this file too, and need no torch
    import numpy
    from transformers import PreTrainedTokenizerBase

    from accrete.lm.pretrain import Progress, TrainConfig
    from accrete.recipe import Recipe


class Scale(NamedTuple):
    """How much at once."""

    sample: int = 30_000  # documents the tokenizer is trained on
    shard: int = 8_192  # real rows a shard
    chunk: int = 8_192  # world rows a chunk: some seconds of work
    pool: int = 400_000  # rows laid out for a leg; the loop orders them anew at every step, so not a million
    shortest: float = 20.0  # seconds: no leg is begun for less


PIECE = 1_700  # characters of a text: at 3.5 a token rows of 512 are 94 % full (1,500: 86 %), and 2.5 % is cut off

TINY = Scale(sample=600, shard=300, chunk=128, pool=1_500, shortest=0.5)
TINY_MODEL = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=600)
TINY_TRAIN = dict(tokens=400_000, length=128, batch=8, save_seconds=2.0, compile=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("prepare", "train", "join"))
    parser.add_argument("pieces", nargs="?", type=Path, help="join: the folder that came back")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/embedded-gpu.yaml"))
    parser.add_argument("--folder", type=Path, default=Path("runs/gpu/embedded"), help="what is carried, and came back")
    parser.add_argument("--megabytes", type=float, nargs=2, default=(24.0, 16.0), help="prepare: of first/ and second/")
    parser.add_argument("--state", type=Path, default=Path("runs/embedded-gpu"), help="train: kept between calls there")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT") or None, help="train: pieces go here [$OUT]")
    parser.add_argument("--seconds", type=float, default=540.0, help="train: this call's time")
    parser.add_argument("--reserve", type=float, default=45.0, help="train: the part of it kept for writing the pieces")
    parser.add_argument("--tokens", type=int, help="train: other than in the recipe, e.g. fewer on a slow machine")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny model on some thousand tokens: does it run at all?"
    )
    options = parser.parse_args()
    if options.stage == "join":
        return join(options)
    from accrete.errors import AccreteError

    try:
        prepare(options, read(options)) if options.stage == "prepare" else train(options, read(options))
    except AccreteError as error:
        raise SystemExit(str(error)) from None


def read(options: argparse.Namespace) -> Recipe:
    """The recipe, with what the options change."""
    from accrete.recipe import read_recipe

    recipe = read_recipe(options.recipe)
    if options.quick:
        train, world = recipe.train.model_copy(update=TINY_TRAIN), recipe.world.model_copy(update={"entities": 20})
        recipe = recipe.model_copy(update={"model": TINY_MODEL, "train": train, "world": world})
    if options.tokens:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"tokens": options.tokens})})
    return recipe


def scale(options: argparse.Namespace) -> Scale:
    return TINY if options.quick else Scale()


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


# --- here: the tokenizer and the real rows ----------------------------------------------------------------------------


def prepare(options: argparse.Namespace, recipe: Recipe) -> None:
    """Write first/ (tokenizer, questions, text) and second/ (more text), as much as they may hold."""
    from tokenizers import Tokenizer

    from accrete.data.corpus import WorldCorpus
    from accrete.data.real import Unseen, mixed, real_questions, real_text

    sizes, kept = scale(options), recipe.text
    first, second = options.folder / "first", options.folder / "second"
    say("reading the real texts and questions")
    text = list(real_text(files(kept.paths, options.quick), recipe.world.seed, PIECE))
    unseen = Unseen(files(kept.unseen, options.quick))
    asked = list(real_questions(files(kept.questions, options.quick), unseen, recipe.world.seed))
    world = iter(WorldCorpus(recipe.world.seed, recipe.world.entities, recipe.world.part))
    sample = mixed(world, mixed(iter(text), iter(asked), kept.question_share), 0.5)
    write_tokenizer(recipe, itertools.islice(sample, sizes.sample), first / "tokenizer")
    tokenizer = Tokenizer.from_file(str(first / "tokenizer" / "tokenizer.json"))
    room = {folder: int(size * 2**20) for folder, size in zip((first, second), options.megabytes, strict=True)}
    written = {"vocabulary": tokenizer.get_vocab_size()}
    for name, documents in (("questions", asked), ("text", text)):
        say(f"packing the {name}")
        rows = packed(documents, tokenizer, recipe.train.length)
        written[name] = write_shards(rows, name, sizes.shard, room) * recipe.train.length
    sizes_now = {folder.name: sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) for folder in room}
    print(json.dumps({"tokens": written, "bytes": sizes_now}))


def files(paths: tuple[str, ...], quick: bool) -> list[Path]:
    """The files of a recipe, or, to be quick, the smallest of them."""
    found = [Path(os.path.expandvars(path)) for path in paths]
    return [min(found, key=lambda path: path.stat().st_size)] if quick and found else found


def write_tokenizer(recipe: Recipe, texts: Iterator[str], folder: Path) -> None:
    """A new tokenizer, or that of the weights which the recipe starts from."""
    from transformers import AutoTokenizer

    from accrete.files import replace_directory
    from accrete.lm.presets import preset
    from accrete.lm.tokenizer import train_tokenizer

    if recipe.start:
        tokenizer = AutoTokenizer.from_pretrained(os.path.expandvars(recipe.start))
    else:
        say("training the tokenizer")
        tokenizer = train_tokenizer(texts, preset(recipe.preset, **recipe.model).vocab_size)

    def write(new: Path) -> None:
        tokenizer.save_pretrained(new)

    replace_directory(folder, write)


# --- on the GPU machine: rows and training ----------------------------------------------------------------------------


def train(options: argparse.Namespace, recipe: Recipe) -> None:
    """Go on from the checkpoint until the time of this call is over, and put into --out what is to be fetched."""
    deadline = time.monotonic() + options.seconds - options.reserve
    checkpoint, sizes = options.state / "checkpoint", scale(options)
    if not tokenizer_of(options).exists():
        raise SystemExit(f"{options.folder}/first is missing: run `prepare` where the data is, and carry it.")
    options.state.mkdir(parents=True, exist_ok=True)
    embedded_pieces.recover(checkpoint, options.folder / "checkpoint")
    step, batch = embedded_pieces.step_of(checkpoint), recipe.train.batch
    steps = recipe.train.tokens // (batch * recipe.train.length)
    pool = open_pool(options, recipe)
    first, last = pool.world_chunks(step * batch, sizes.pool), pool.world_chunks(steps * batch, sizes.pool)
    with making(pool.world, range(first.start, last.stop if step < steps else 0), options.workers) as alive:
        found = legs(options, recipe, functools.partial(pool.rows, alive=alive), deadline)
    deliver(options, recipe, finished=found["step"] == steps)
    print(json.dumps(found))
    raise SystemExit(0 if found["step"] == steps else 1)


def tokenizer_of(options: argparse.Namespace) -> Path:
    folder: Path = options.folder / "first" / "tokenizer"
    return folder


def open_pool(options: argparse.Namespace, recipe: Recipe) -> Pool:
    """What was carried, and where the world's rows will be."""
    length, config = recipe.train.length, recipe.world
    carried = (options.folder / "first", options.folder / "second")
    text, questions = (read_shards(carried, name, length) for name in ("text", "questions"))
    say(f"carried: {text.size:,} tokens of text, {questions.size:,} of questions")
    shares = Shares.of(recipe.text)
    if (shares.text and not len(text)) or (shares.questions and not len(questions)):
        raise SystemExit(f"{options.folder}/first lacks the rows of text or of questions: run `prepare`.")
    (rows := options.state / "rows").mkdir(exist_ok=True)
    file = tokenizer_of(options) / "tokenizer.json"
    world = WorldRows(rows, file, scale(options).chunk, length, config.seed, config.entities, config.part)
    return Pool(world, text, questions, shares)


@contextlib.contextmanager
def making(world: WorldRows, numbers: range, workers: int) -> Iterator[Callable[[], bool]]:
    """Processes that make these chunks in order, ended at the end; gives whether any is at work."""
    context = multiprocessing.get_context("spawn")
    shares = [numbers[worker::workers] for worker in range(workers)]
    made = [context.Process(target=world.write, args=(share, os.getpid()), daemon=True) for share in shares if share]
    for process in made:
        process.start()
    try:
        yield lambda: any(process.is_alive() for process in made)
    finally:
        for process in made:
            process.terminate()


def legs(
    options: argparse.Namespace, recipe: Recipe, layout: Callable[[int, int], numpy.ndarray], deadline: float
) -> dict[str, Any]:
    """Train in legs until the deadline or the last step; each ends right after a save, so that none of it is lost.

    `layout` gives the rows that are due after so many, and how many of them.
    """
    import torch
    from transformers import AutoTokenizer

    from accrete.lm.load import choose_device, quiet
    from accrete.lm.pretrain import pretrain
    from accrete.recipe import _model, weigher

    quiet(offline=True)
    torch.set_float32_matmul_precision("high")
    where, checkpoint = choose_device(options.device), options.state / "checkpoint"
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of(options))
    model = _model(recipe, tokenizer, where)
    say(f"training {sum(p.numel() for p in model.parameters()):,} parameters on {where}")
    weigh = weigher(tokenizer, recipe.train.prompt_weight)
    watch = Watch(checkpoint, options.state / "curve.jsonl", recipe.train.batch * recipe.train.length)
    steps = recipe.train.tokens // watch.step_tokens
    while (step := embedded_pieces.step_of(checkpoint)) < steps:
        ids = layout(step * recipe.train.batch, watch.due(recipe.train, scale(options).pool)).reshape(-1)
        left = deadline - time.monotonic()
        if left < scale(options).shortest:
            break
        seconds = left / max(1, round(left / recipe.train.save_seconds))
        config = recipe.train.model_copy(update={"save_seconds": seconds})
        with contextlib.suppress(LegOver):
            pretrain(model, ids, config, checkpoint, watch, weigh)
    peak = torch.cuda.max_memory_allocated() / 2**30 if where.type == "cuda" else 0.0
    name = torch.cuda.get_device_name() if where.type == "cuda" else "cpu"
    return {"step": step, "steps": steps, "device": name, "peak_gpu_gb": round(peak, 2)} | watch.last


class LegOver(Exception):
    """The loop has just saved: time to lay out the next rows, or to stop."""


class Watch:
    """Writes a line of progress now and then, and ends the leg at a step that was saved."""

    def __init__(self, checkpoint: Path, curve: Path, step_tokens: int):
        self.checkpoint, self.curve, self.step_tokens = checkpoint, curve, step_tokens
        self.last: dict[str, Any] = {}
        self._shown = 0.0

    def __call__(self, progress: Progress) -> None:
        saved = embedded_pieces.step_of(self.checkpoint) == progress.step
        now = time.monotonic()
        if saved or now - self._shown > 10 or progress.step == progress.steps:
            self._shown = now
            self.last = {"tokens": progress.step * self.step_tokens, "loss": round(progress.loss, 4)}
            self.last |= {key: round(getattr(progress, key)) for key in ("tokens_per_second", "seconds_left")}
            line = json.dumps({"step": progress.step, "steps": progress.steps} | self.last)
            say(line)
            with self.curve.open("a") as file:
                file.write(line + "\n")
        if saved:
            raise LegOver

    def due(self, train: TrainConfig, most: int) -> int:
        """How many rows a leg will about read at the speed seen so far: more would be laid out in vain."""
        if not self.last:
            return most
        return min(
            most, max(train.batch, int(1.2 * self.last["tokens_per_second"] * train.save_seconds / train.length))
        )


def deliver(options: argparse.Namespace, recipe: Recipe, finished: bool) -> None:
    """The pieces of this call: the model, or the light checkpoint to go on from; the undecayed weights when they exist."""
    state, out = options.state, options.out or options.folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    if finished:
        for old in embedded_pieces.pieces(out, "checkpoint"):  # of an earlier call
            old.unlink()
        write_model(options, recipe, state / "checkpoint", state / "model", world=True)
        embedded_pieces.split(state / "model", "model", out)
    elif (state / "checkpoint").exists():
        embedded_pieces.lighten(state / "checkpoint", state / "light")
        embedded_pieces.split(state / "light", "checkpoint", out)
    if (state / "undecayed").exists():
        write_model(options, recipe, state / "undecayed", state / "start", world=False)
        embedded_pieces.split(state / "start", "start", out)
    if (state / "curve.jsonl").exists():
        shutil.copy(state / "curve.jsonl", out)


def write_model(options: argparse.Namespace, recipe: Recipe, weights: Path, folder: Path, world: bool) -> None:
    """A bf16 model directory from saved weights, with the world's sentinels where they are wanted."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from accrete.files import replace_directory
    from accrete.lm.load import choose_device, load
    from accrete.recipe import _model, write_world

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tokenizer_of(options))
    model = _model(recipe, tokenizer, choose_device(options.device))
    model.load_state_dict(load_file(weights / "model.safetensors"), strict=False)  # tied weights are stored once

    def write(new: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(new)
        tokenizer.save_pretrained(new)
        if world:
            write_world(recipe, new, load(str(new), device=options.device))

    replace_directory(folder, write)


# --- here again -------------------------------------------------------------------------------------------------------


def join(options: argparse.Namespace) -> None:
    """Model directories from the pieces that came back; those of a checkpoint are kept as they are, to be carried."""
    if options.pieces is None or not options.pieces.is_dir():
        raise SystemExit("join which folder of pieces?")
    joined = [
        str(options.folder / name)
        for name in ("model", "start")
        if embedded_pieces.join(options.pieces, name, options.folder / name)
    ]
    if found := embedded_pieces.pieces(options.pieces, "checkpoint"):
        kept = options.folder / "checkpoint"
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        joined += [str(shutil.copy(path, kept)) for path in found]
    print(json.dumps({"joined": joined}))
    raise SystemExit(0 if joined else 1)


if __name__ == "__main__":
    main()
