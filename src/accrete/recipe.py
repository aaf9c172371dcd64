"""From a recipe (YAML) to a model directory: tokenizer, packed tokens, training, sentinels. Ends at files on disk.

Every stage leaves its result in the output folder and is skipped when it is there, so a killed run goes on.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from accrete.config import Config, build, parse_yaml
from accrete.data.corpus import WorldCorpus
from accrete.data.packing import OPEN_ROWS, pack
from accrete.data.real import Unseen, mixed, real_questions, real_text
from accrete.data.world import PROBE, STUDY
from accrete.errors import DocumentError, ModelError, UsageError
from accrete.files import replace_directory, write_atomically
from accrete.lm.decode import answer
from accrete.lm.load import choose_device, load, quiet
from accrete.lm.pretrain import Progress, TrainConfig, pretrain
from accrete.lm.tokenizer import TURN_END, TURN_START
from accrete.scoring import SENTINEL_TOKENS, exact_match
from accrete.types import Example, Probe, Query

if TYPE_CHECKING:
    import numpy
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from accrete.lm.model import LM

TOKENIZER_DOCUMENTS = 30_000
SHARD_DOCUMENTS = 20_000
BACKGROUND, BACKGROUND_DRAWN = 600, 1_200
SHORTEST = 256  # tokens that any model is to read: a question and its answer


class WorldConfig(Config):
    """The fictional world: how many persistent entities are learned closed-book, and which part of its text is drawn."""

    seed: int = 0
    entities: int = Field(600, ge=20)
    part: int = Field(0, ge=0)  # another part tells of the same persistent entities and of new others


class TextConfig(Config):
    """Real text and questions: files (with $VARIABLES), and the share of all characters that comes from them.

    `question_share` of that share are reading questions and tasks; what occurs in one of the `unseen` files is dropped.
    """

    paths: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    share: float = Field(0.35, ge=0, lt=1)
    question_share: float = Field(0.4, ge=0, lt=1)


class Recipe(Config):
    """Everything that decides what a model becomes."""

    preset: str = "nano"
    start: str | None = None  # a model directory to go on from, with its tokenizer: undecayed weights (lm/pretrain.py)
    model: dict[str, Any] = Field(default_factory=dict)
    world: WorldConfig = WorldConfig()
    text: TextConfig = TextConfig()
    train: TrainConfig = TrainConfig()


def read_recipe(path: Path) -> Recipe:
    """A recipe file; raises DocumentError when it cannot be read and UsageError when it says something unknown."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DocumentError(f"Cannot read the recipe {path}: {reason}.") from None
    recipe = build(Recipe, parse_yaml(text, str(path)), str(path))
    if recipe.train.tokens < recipe.train.batch * recipe.train.length:
        raise UsageError(
            f"{path}: {recipe.train.tokens:,} tokens are fewer than one batch of {recipe.train.batch} x {recipe.train.length}."
        )
    return recipe.model_copy(update={"start": _beside(recipe.start, path)}) if recipe.start else recipe


def _beside(start: str, recipe: Path) -> str:
    """Where a recipe starts from: a path as it is, or in the folder of the recipe, or in the one above."""
    places = (Path(os.path.expandvars(start)), recipe.parent / start, recipe.parent.parent / start)
    return next((str(place) for place in places if (place / "config.json").exists()), start)


def run(
    recipe: Recipe,
    out: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    device: str = "auto",
) -> Path:
    """Follow the recipe in folder `out`; returns the model directory `out/model`.

    `out` remembers its recipe: another one is refused rather than mixed with what is there.
    """
    import torch
    from safetensors.torch import load_file

    quiet(offline=False)
    where = choose_device(device)
    _claim(out, recipe)
    tokenizer = _tokenizer(recipe, out, announce)
    ids = _tokens(recipe, out, tokenizer, announce)
    model = _model(recipe, tokenizer, where)
    announce(f"training {sum(p.numel() for p in model.parameters()):,} parameters on {where}")
    weigh = weigher(tokenizer, recipe.train.prompt_weight)
    loss = pretrain(model, ids, recipe.train, out / "checkpoint", progress, weigh)
    announce(f"trained to a loss of {loss:.3f}")

    def write(folder: Path, world: bool = True) -> None:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if world:
            write_world(recipe, folder, load(str(folder)))

    replace_directory(out / "model", write)
    kept = out / "undecayed" / "model.safetensors"
    if kept.exists():  # what another recipe may name as its `start`
        model.load_state_dict(load_file(kept), strict=False)  # tied weights are stored once
        replace_directory(out / "start", functools.partial(write, world=False))
    return out / "model"


def _model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, where: torch.device) -> PreTrainedModel:
    """Random weights of the recipe's shape, or the float32 of those it starts from."""
    import torch
    from transformers import AutoModelForCausalLM

    from accrete.lm.presets import preset

    # Attention written as matrix products: on a CPU the backward pass of the fused kernel takes 40 % of a step.
    attention = "eager" if where.type == "cpu" else "sdpa"
    torch.manual_seed(recipe.train.seed)
    if recipe.start:
        start = _start(recipe.start)
        return AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, attn_implementation=attention).to(where)
    # It reads what it was trained on: at 550 tokens a model of rows of 512 answers a third of what it does at 400.
    length = {"max_position_embeddings": max(SHORTEST, recipe.train.length)}
    config = preset(recipe.preset, **(length | recipe.model | {"vocab_size": len(tokenizer)}))
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).to(where)


def _start(named: str) -> str:
    start = os.path.expandvars(named)
    if not (Path(start) / "config.json").exists():
        raise ModelError(f"The recipe starts from {start}, where no model is.")
    return start


def write_world(recipe: Recipe, folder: Path, lm: LM) -> None:
    """What travels with a model of the fictional world: its sentinels and its background material.

    A sentinel is something the model knows: a drawn fact that it does not answer in each of the taught wordings is left out,
    because what is answered by luck is lost by luck. So is background that it answers wrongly: replaying that would teach.
    """
    corpus = WorldCorpus(recipe.world.seed, recipe.world.entities)
    rows = []
    for split, probes in zip(("guard", "scored"), corpus.sentinels(), strict=True):
        known = [True] * len(probes)
        for phrasing in (*STUDY, PROBE):
            asked = corpus.world.probes([probe.fact for probe in probes if probe.fact], phrasing)
            known = [before and now for before, now in zip(known, _right(lm, asked), strict=True)]
        rows += [_row(probe, split) for probe, knows in zip(probes, known, strict=True) if knows]
    background = corpus.background(BACKGROUND_DRAWN)
    right = _right(lm, [Probe(item.question, (item.answer,)) for item in background])
    kept = [item for item, knows in zip(background, right, strict=True) if knows][:BACKGROUND]
    _write_lines(folder / "sentinels.jsonl", rows)
    _write_lines(folder / "background.jsonl", [_item(example) for example in kept])


def _right(lm: LM, probes: list[Probe]) -> list[bool]:
    answers = answer(lm, [Query(probe.question) for probe in probes], max_new_tokens=SENTINEL_TOKENS)
    return [bool(exact_match(a.text, probe.answers[0])) for a, probe in zip(answers, probes, strict=True)]


def _claim(out: Path, recipe: Recipe) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = recipe.model_dump_json(indent=2)
    claimed = out / "recipe.json"
    # A recipe that failed before it made anything may be mended.
    started = (out / "tokenizer").exists() or any((out / "tokens").glob("*.npy"))
    if started and claimed.exists() and claimed.read_text() != text:
        raise UsageError(f"{out} holds the run of another recipe; choose another --out or remove it.")
    write_atomically(claimed, lambda path: _discard(path.write_text(text)))


def documents(recipe: Recipe, share: float | None = None) -> Iterator[str]:
    """The text of the recipe, world and real, without end."""
    world = iter(WorldCorpus(recipe.world.seed, recipe.world.entities, recipe.world.part))
    seed = recipe.world.seed + recipe.world.part
    if not recipe.text.paths:
        return world
    real = real_text(_files(recipe.text.paths), seed)
    if recipe.text.questions:
        asked = real_questions(_files(recipe.text.questions), Unseen(_files(recipe.text.unseen)), seed)
        real = mixed(real, asked, recipe.text.question_share)
    return mixed(world, real, recipe.text.share if share is None else share)


def _files(paths: Iterable[str]) -> list[Path]:
    return [Path(os.path.expandvars(path)) for path in paths]


def _tokenizer(recipe: Recipe, out: Path, announce: Callable[[str], None]) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    from accrete.lm.presets import preset
    from accrete.lm.tokenizer import train_tokenizer

    folder = out / "tokenizer"
    if recipe.start:
        return AutoTokenizer.from_pretrained(_start(recipe.start))
    if not folder.exists():
        announce("training the tokenizer")
        # Half real text: on the world alone the merges would be whole invented names, which no model can copy.
        sample = itertools.islice(documents(recipe, 0.5), TOKENIZER_DOCUMENTS)
        trained = train_tokenizer(sample, preset(recipe.preset, **recipe.model).vocab_size)
        replace_directory(folder, lambda new: _discard(trained.save_pretrained(new)))
    return AutoTokenizer.from_pretrained(folder)


def _tokens(
    recipe: Recipe, out: Path, tokenizer: PreTrainedTokenizerBase, announce: Callable[[str], None]
) -> numpy.ndarray:
    """Packed ids: rows of whole documents (`data/packing.py`).

    They are written in shards, so that a killed run loses at most one. The documents of a finished shard are drawn again
    all the same: the stream goes on from them.
    """
    import numpy

    folder, kind = out / "tokens", "uint32" if len(tokenizer) > 65_535 else "uint16"
    folder.mkdir(exist_ok=True)
    announce(f"preparing {recipe.train.tokens:,} tokens")
    enough = (recipe.train.tokens + OPEN_ROWS * recipe.train.length) // 50  # few documents are shorter than 50 tokens
    shards: list[numpy.ndarray] = []
    stream, filled = documents(recipe), 0
    while filled < recipe.train.tokens:
        texts = list(itertools.islice(stream, min(SHARD_DOCUMENTS, enough)))
        path = folder / f"{len(shards):05}.npy"
        if not path.exists():
            encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
            rows = pack(encoded, recipe.train.length, tokenizer.pad_token_id)
            ids = numpy.fromiter(itertools.chain.from_iterable(rows), dtype=kind)
            write_atomically(path, functools.partial(_save_array, array=ids))
        shards.append(numpy.load(path, mmap_mode="r"))
        filled += len(shards[-1])
    return numpy.concatenate(shards)[: recipe.train.tokens]


def weigher(tokenizer: PreTrainedTokenizerBase, prompt_weight: float) -> Callable[[Tensor], Tensor]:
    """What a token counts as a target: `prompt_weight` in what a user says, nothing where it only fills a row, else 1."""
    import torch

    def first(text: str) -> int:
        return int(tokenizer(text, add_special_tokens=False)["input_ids"][0])

    start, end, user, pad = first(TURN_START), first(TURN_END), first("user"), tokenizer.pad_token_id

    def weigh(ids_BT: Tensor) -> Tensor:
        places = torch.arange(ids_BT.shape[1], device=ids_BT.device).expand_as(ids_BT)
        opened = torch.where(ids_BT == start, places, -1).cummax(1).values
        closed = torch.where(ids_BT == end, places, -1).cummax(1).values
        role = ids_BT.gather(1, (opened + 1).clamp(max=ids_BT.shape[1] - 1))
        asked = (opened >= 0) & (opened > closed) & (role == user)
        weights = torch.where(asked, prompt_weight, 1.0)
        filler = ids_BT == pad
        filler[:, 1:] &= ids_BT[:, :-1] == pad
        return weights.masked_fill(filler, 0.0)

    return weigh


def _discard(_: object) -> None:
    """Lets a writer be a lambda."""


def _save_array(path: Path, array: numpy.ndarray) -> None:
    import numpy

    with path.open("wb") as file:
        numpy.save(file, array)


def _row(probe: Probe, split: str) -> dict[str, Any]:
    return {"question": probe.question, "answers": list(probe.answers), "split": split}


def _item(example: Example) -> dict[str, Any]:
    return {"question": example.question, "answer": example.answer}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False) + "\n"
            file.write(line)
