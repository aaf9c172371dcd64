"""scripts/gpu/embedded*.py: which rows are read when, and that what is cut in pieces comes back. No training here."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from accrete.errors import UsageError
from accrete.lm.load import embedded_directory
from accrete.recipe import TextConfig, read_recipe

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "gpu"))

embedded_pieces = importlib.import_module("embedded_pieces")
embedded_rows = importlib.import_module("embedded_rows")
Pool, Shares, WorldRows = embedded_rows.Pool, embedded_rows.Shares, embedded_rows.WorldRows

TOKENIZER = embedded_directory() / "tokenizer.json"


def numbered(count: int, start: int = 0, length: int = 8) -> numpy.ndarray:
    """Rows that say which they are."""
    return numpy.repeat(numpy.arange(start, start + count, dtype="uint16")[:, None], length, 1)


@pytest.fixture
def world(tmp_path):
    """Chunks of ten rows that are there already."""
    found = WorldRows(tmp_path, TOKENIZER, rows=10, length=8, seed=0, entities=20, part=0)
    for number in range(5):
        numpy.save(found.path(number), numbered(10, 10 * number))
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(TOKENIZER))


def never() -> bool:
    return False


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first, count", [(0, 10), (3, 4), (7, 20), (10, 10), (49, 1)])
def test_the_rows_of_the_world_are_read_across_chunks(world, first, count):
    assert world.read(first, count, never)[:, 0].tolist() == list(range(first, first + count))


def test_a_chunk_that_nobody_makes_is_an_error_and_not_an_endless_wait(world):
    with pytest.raises(UsageError, match="world-00005"):
        world.read(45, 10, never)


def test_a_chunk_depends_on_its_number_alone_and_is_not_made_twice(tmp_path, tokenizer):
    world = WorldRows(tmp_path, TOKENIZER, rows=3, length=64, seed=0, entities=20, part=0)
    assert (world.chunk(4, tokenizer) == world.chunk(4, tokenizer)).all()
    assert (world.chunk(4, tokenizer) != world.chunk(5, tokenizer)).any()
    numpy.save(world.path(1), numbered(3))
    world.write([0, 1], parent=os.getppid())
    assert numpy.load(world.path(0)).shape == (3, 64) and (numpy.load(world.path(1)) == numbered(3)).all()


def test_a_process_whose_parent_is_gone_makes_nothing_more(tmp_path):
    world = WorldRows(tmp_path, TOKENIZER, rows=3, length=64, seed=0, entities=20, part=0)
    world.write([0], parent=-1)
    assert list(tmp_path.iterdir()) == []


def test_legs_read_every_kind_in_its_share_and_on_from_where_the_last_ended(world):
    pool = Pool(
        world,
        numbered(6, 100),
        numbered(4, 200),
        Shares.of(TextConfig(share=0.5, question_share=0.4, questions=("q",))),
    )
    legs = [pool.rows(read, 20, never)[:, 0].tolist() for read in (0, 20, 40)]
    assert [sorted(row for row in leg if row < 100) for leg in legs] == [
        list(range(0, 10)), list(range(10, 20)), list(range(20, 30))]  # fmt: skip
    assert [[row - 100 for row in leg if 100 <= row < 200] for leg in legs] == [[0, 1, 2, 3, 4, 5]] * 3
    assert [[row - 200 for row in leg if row >= 200] for leg in legs] == [[0, 1, 2, 3]] * 3
    assert pool.world_chunks(20, 20) == range(1, 2)


def test_the_chunks_that_are_announced_are_those_that_are_read(world):
    pool = Pool(world, numbered(6, 100), numbered(0), Shares.of(TextConfig(share=0.37)))
    for read in range(0, 40, 7):
        for chunk in pool.world_chunks(read, 13):
            assert world.path(chunk).exists()
        touched = {row // 10 for row in pool.rows(read, 13, never)[:, 0].tolist() if row < 100}
        assert touched == set(pool.world_chunks(read, 13))


def test_shares_without_questions_leave_it_all_to_the_text():
    assert Shares.of(TextConfig(share=0.25, question_share=0.4)) == (0.75, 0.25, 0.0)
    assert sum(Shares.of(TextConfig(share=0.36, question_share=0.4, questions=("q",)))) == pytest.approx(1)


def test_shards_come_back_in_order_and_stay_within_their_folders(tmp_path):
    rows = numpy.random.default_rng(0).integers(0, 6_000, (40, 64)).tolist()
    size = len(embedded_rows.compressed(rows[:8]))
    room = {tmp_path / "first": 2 * size + 100, tmp_path / "second": size + 100}
    assert embedded_rows.write_shards(iter(rows), "text", 8, room) == 24  # the fourth shard has no place
    assert embedded_rows.read_shards(room, "text", 64).tolist() == rows[:24]
    assert embedded_rows.read_shards([tmp_path / "first"], "text", 64).tolist() == rows[:16]
    assert all(left >= 0 for left in room.values())


def test_shards_of_an_earlier_preparation_go(tmp_path):
    rows = numbered(30, length=64).tolist()
    embedded_rows.write_shards(iter(rows), "text", 8, {tmp_path: 100_000})
    assert embedded_rows.write_shards(iter(rows[:10]), "text", 8, {tmp_path: 100_000}) == 10
    assert embedded_rows.read_shards([tmp_path], "text", 64).tolist() == rows[:10]
    assert embedded_rows.read_shards([tmp_path], "questions", 64).shape == (0, 64)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_folder_comes_back_from_its_pieces(tmp_path):
    (folder := tmp_path / "model").mkdir()
    content = {"weights": os.urandom(5_000), "config.json": b"{}", "empty": b""}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    made = embedded_pieces.split(folder, "model", tmp_path / "out", size=1_000)
    assert len(made) > 4 and max(path.stat().st_size for path in made) == 1_000
    assert embedded_pieces.join(tmp_path / "out", "model", tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == content
    assert not embedded_pieces.join(tmp_path / "out", "start", tmp_path / "start")


def test_pieces_of_a_larger_folder_do_not_stay_behind(tmp_path):
    (folder := tmp_path / "model").mkdir()
    (folder / "weights").write_bytes(os.urandom(5_000))
    embedded_pieces.split(folder, "model", tmp_path / "out", size=1_000)
    (folder / "weights").write_bytes(b"small")
    embedded_pieces.split(folder, "model", tmp_path / "out", size=1_000)
    assert embedded_pieces.join(tmp_path / "out", "model", tmp_path / "again")
    assert (tmp_path / "again" / "weights").read_bytes() == b"small"


def test_a_light_checkpoint_brings_back_the_step_and_the_weights_in_bf16(tmp_path):
    (checkpoint := tmp_path / "there" / "checkpoint").mkdir(parents=True)
    weights = {"a": torch.randn(3, 4)}
    save_file(weights, checkpoint / "model.safetensors")
    save_file({"muon/a/momentum_buffer": torch.ones(3, 4)}, checkpoint / "optimizer.safetensors")
    (checkpoint / "step.json").write_text('{"step": 7, "loss": 2.5}')
    embedded_pieces.lighten(checkpoint, tmp_path / "there" / "light")
    embedded_pieces.split(tmp_path / "there" / "light", "checkpoint", tmp_path / "carried")

    here = tmp_path / "here" / "checkpoint"
    embedded_pieces.recover(here, tmp_path / "carried")
    assert embedded_pieces.step_of(here) == 7 and load_file(here / "optimizer.safetensors") == {}
    found = load_file(here / "model.safetensors")["a"]
    assert found.dtype == torch.float32 and torch.equal(found, weights["a"].bfloat16().float())


def test_the_checkpoint_on_the_machine_is_preferred_to_the_carried_one(tmp_path):
    for name, step in (("here", 9), ("light", 7)):
        (folder := tmp_path / name).mkdir()
        save_file({"a": torch.ones(2)}, folder / "model.safetensors")
        (folder / "step.json").write_text(f'{{"step": {step}, "loss": 1.0}}')
    embedded_pieces.split(tmp_path / "light", "checkpoint", tmp_path / "carried")
    embedded_pieces.recover(tmp_path / "here", tmp_path / "carried")
    assert embedded_pieces.step_of(tmp_path / "here") == 9 and embedded_pieces.step_of(tmp_path / "none") == 0


def test_the_recipe_keeps_to_fifteen_million_parameters():
    from transformers import AutoModelForCausalLM

    from accrete.lm.presets import preset

    recipe = read_recipe(ROOT / "recipes" / "embedded-gpu.yaml")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(preset(recipe.preset, **recipe.model))
    assert 14e6 < sum(p.numel() for p in model.parameters()) <= 15e6
