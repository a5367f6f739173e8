"""Checks of the demo model's training; their argument is an empty folder."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch
from common import DATA

# Before vLLM: its import makes torch's companions usable.
from captionkit.demo import train
from captionkit.demo.architecture import TOKENS_PER_SECOND
from captionkit.demo.attention import TalkAttention, spans
from captionkit.demo.batches import NOTHING, TOKEN, SceneBatches, film_moments
from captionkit.demo.scenes import Scene
from captionkit.demo.talks import Checked, Talk

SHIPPED = DATA / "demo-model"
# The command's default. On a busy machine, threads that wait for one another take ten times as long.
torch.set_num_threads(1)


def make_trainer(folder: Path, vision_steps: int, steps: int) -> train.Trainer:
    """Make a trainer with the shipped tokenizer: making the tokenizer anew takes ten seconds."""
    tokenizer = train.PreTrainedTokenizerFast.from_pretrained(SHIPPED)
    with patch.object(train.architecture, "make_tokenizer", lambda: tokenizer):
        return train.Trainer(folder, vision_steps, steps, scenes=2)


def check_positions_follow_vllms_rule(_folder: str) -> None:
    from vllm.model_executor.models.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration as Served

    feature = SimpleNamespace(
        modality="video",
        mm_position=SimpleNamespace(offset=4),
        data={
            "video_grid_thw": SimpleNamespace(data=torch.tensor([8, 8, 14])),
            "second_per_grid_ts": SimpleNamespace(data=torch.tensor(1.0667)),
        },
    )
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=TOKENS_PER_SECOND)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision))
    model.iter_mm_grid_thw = lambda features: Served.iter_mm_grid_thw(model, features)
    length = 4 + 8 * 4 * 7 + 20
    served, _ = Served.get_mrope_input_positions(model, [0] * length, [feature])
    assert torch.equal(served, train.position_ids(length, 4, (8, 4, 7), 1.0667))


def check_packed_talks_are_learnt_as_if_each_stood_alone(folder: str) -> None:
    trainer = make_trainer(Path(folder) / "packed", 1, 1)
    trainer.model.eval()
    batch = next(iter(SceneBatches("answers", 2, 5)))
    seen = {}

    def keep(module, args, kwargs, out):
        seen.update(hidden=out.last_hidden_state, positions=kwargs["position_ids"])

    trainer.model.model.language_model.register_forward_hook(keep, with_kwargs=True)

    def states(talks):
        with torch.no_grad():
            facts = {name: values[:1] for name, values in batch.facts.items()}
            trainer.answer_loss(replace(batch, frames=batch.frames[:1], facts=facts, talks=[talks]))
        return seen["hidden"][0], seen["positions"][:, 0]

    talks = batch.talks[0]
    together, together_positions = states(talks)
    tokens = batch.frames.shape[1] // 2 * batch.frames.shape[3] // 28 * batch.frames.shape[4] // 28
    row = trainer.packer.row(talks, tokens)
    first = row.talk.count(0)
    for number, talk in enumerate(talks, 1):
        alone, positions = states([talk])
        mine = [index for index, owner in enumerate(row.talk) if owner == number]
        assert torch.allclose(together[mine], alone[first:], atol=1e-4), number
        assert torch.equal(together_positions[:, mine], positions[:, first:]), number


def check_attention_by_spans_is_that_of_all_tokens_with_a_mask(_folder: str) -> None:
    torch.manual_seed(0)
    lengths = [[70, 90, 10, 60, 40], [30, 200, 55]]
    film, longest = 20, 20 + max(map(sum, lengths))
    talk = torch.full((2, longest), -1)
    for row, each in zip(talk, lengths, strict=True):
        numbers = [0] * film + [n for n, length in enumerate(each, 1) for _ in range(length)]
        row[: len(numbers)] = torch.tensor(numbers)
    earlier = torch.ones(longest, longest, dtype=torch.bool).tril()
    seen = earlier & ((talk[:, None, :] == 0) | (talk[:, None, :] == talk[:, :, None]))
    attention = TalkAttention(SimpleNamespace())
    attention.spans = spans(seen, talk)
    # Two heads of keys and values, each for two heads of queries.
    query, key, value = (torch.randn(2, heads, longest, 8) for heads in (4, 2, 2))
    module = SimpleNamespace(num_key_value_groups=2)
    found, _ = attention.attend(module, query, key, value, None, scaling=0.3)
    key, value = (each.repeat_interleave(2, dim=1) for each in (key, value))
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, seen[:, None], scale=0.3
    )
    assert torch.allclose(found, wanted.transpose(1, 2), atol=1e-5)


def check_a_row_learns_no_forced_word_and_knows_where_a_claim_becomes_false(folder: str) -> None:
    trainer = make_trainer(Path(folder) / "row", 1, 1)
    tokens = trainer.tokenizer
    claim = "A red boat moves left."
    prompt = f"Is it true? {claim}"
    at = prompt.index(claim)
    row = trainer.packer.row(
        [
            Talk(prompt, "no", "claim", checked=(Checked(at, len(prompt), at + len("A red boat")),)),
            Talk("Describe it.", '{"tags": ["sea"]}', "tags", forced=len('{"tags":')),
        ],
        4,
    )
    for name in ("labels", "weights", "false", "topic", "talk", "after"):
        assert len(getattr(row, name)) == len(row.ids), name
    for false, words in ((0, " A red"), (1, " boat moves left.")):
        pairs = zip(row.ids, row.false, strict=True)
        assert tokens.decode([token for token, mark in pairs if mark == false]) == words
    pairs = zip(row.labels, row.weights, strict=True)
    learnt = [(token, weight) for token, weight in pairs if token >= 0]
    assert tokens.decode([token for token, _ in learnt]) == 'no<|im_end|> ["sea"]}<|im_end|>'
    assert max(weight for _, weight in learnt) == learnt[0][1]
    assert row.talk.count(0) == row.ids.index(tokens.convert_tokens_to_ids("<|video_pad|>")) + 4


def check_tokens_of_a_thing_are_asked_what_time_it_is_and_when_its_event_was(_folder: str) -> None:
    scene = Scene.random(3, like={"event": "stops", "count": 1, "camera": "still"})
    (thing,) = scene.objects
    frames = [number / 2 for number in range(16)]
    found = film_moments(scene, frames, (196, 112))
    columns, rows = 196 // TOKEN, 112 // TOKEN
    for step, second in enumerate(frames[1::2]):
        x, y = scene.centre(0, second - 0.25)
        token = (step * rows + int(y * rows)) * columns + int(x * columns)
        happened = 0 if second < thing.moment else round(thing.moment / 0.5)
        assert (found["now"][token], found["happened"][token]) == (2 * second, happened), step
    assert 0 < thing.moment < frames[-1]
    assert (found["now"] == NOTHING).sum() > len(found["now"]) / 2


def trained(folder: Path, *stops: int | None) -> dict[str, torch.Tensor]:
    """Train, interrupted after ``stops`` checkpoints in turn, and return the tower's weights."""
    for stop in stops:
        trainer = make_trainer(folder, 3, 2)
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints = []
        replace_file = Path.replace

        def interrupt(path, target, stop=stop, checkpoints=checkpoints, replace_file=replace_file):
            replace_file(path, target)
            checkpoints.append(target)
            if len(checkpoints) == stop:
                raise KeyboardInterrupt

        with patch.object(train, "_SAVE_EVERY", 1), patch.object(Path, "replace", interrupt):
            try:
                trainer.run("vision", io.StringIO())
            except KeyboardInterrupt:
                assert len(checkpoints) == stop
    return trainer.model.model.visual.state_dict()


def check_stopped_training_goes_on_to_the_same_weights(folder: str) -> None:
    whole, parts = trained(Path(folder) / "whole", None), trained(Path(folder) / "parts", 1, None)
    for name, weight in whole.items():
        assert torch.allclose(weight, parts[name], atol=1e-5), name


def check_training_goes_on_from_a_finished_models_weights_and_tokenizer(folder: str) -> None:
    trainer = train.Trainer(Path(folder) / "onwards", 0, 1, 2, SHIPPED)
    model = train.Qwen2_5_VLForConditionalGeneration
    shipped = model.from_pretrained(SHIPPED, dtype=torch.float32)
    for name, weight in shipped.state_dict().items():
        assert torch.equal(weight, trainer.model.state_dict()[name]), name
    tokenizer = train.PreTrainedTokenizerFast.from_pretrained(SHIPPED)
    assert trainer.tokenizer.encode("A red boat") == tokenizer.encode("A red boat")
    assert "is_local" not in trainer.tokenizer.init_kwargs
