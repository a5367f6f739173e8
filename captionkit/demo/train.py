"""Trains the demo model from nothing: ``python -m captionkit.demo.train``.

Two lessons. First the vision tower alone, on two frames at a time, with throw-away heads that ask
for each fact: form, colour and motion are learnt there, cheaply. Then the language model learns to
answer prompts about films of four to twenty frames: to caption them, to confirm or deny statements, to
judge pairs of captions and to fill the ready schemas. Training goes through the same processor, chat
template and position rule as serving. Stop it at any time: the same command resumes from the last
checkpoint. Needs the extra ``cpu`` or ``gpu``.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from captionkit.engine.torch_companions import reconcile

reconcile()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from transformers import (  # noqa: E402
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
)

from captionkit.demo import architecture  # noqa: E402
from captionkit.demo.attention import TalkAttention, spans  # noqa: E402
from captionkit.demo.batches import (  # noqa: E402
    MOMENTS,
    NOTHING,
    OBJECT_FACTS,
    SCENE_FACTS,
    Batch,
    loader,
)
from captionkit.demo.pace import has_bfloat16, learning_rate, optimisers_of  # noqa: E402
from captionkit.demo.packing import TOPICS, Packer, position_ids  # noqa: E402

_SAVE_EVERY = 50
_LOG_EVERY = 25
# Weight in the loss of telling, word by word, whether a statement has become false.
_FALSE = 0.5
# Layers of the language model behind which that is told: the last one has to read it.
_FALSE_AFTER = 3
# Weight of telling, at each video token of a thing, what time it is and when the thing's event
# happened, and the layers behind which both are told.
_WHEN = 0.25
_WHEN_AFTER = 2


class FactHeads(nn.Module):
    """Throw-away heads on each video token: whether a thing is here, and its facts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.here = nn.Linear(width, 1)
        every = {**OBJECT_FACTS, **SCENE_FACTS}
        self.name = nn.ModuleDict(
            {name: nn.Linear(width, len(values)) for name, values in every.items()}
        )


class Trainer:
    """The model, its lessons, and the checkpoints to resume from."""

    def __init__(
        self,
        work: Path,
        vision_steps: int,
        steps: int,
        scenes: int,
        origin: Path | None = None,
    ) -> None:
        self.work = work
        self.lengths = {"vision": vision_steps, "answers": steps}
        # Two frames of a scene in the first lesson, up to twenty in the second.
        self.scenes = {"vision": scenes * 4, "answers": scenes}
        self.generation = 0
        history = _history(origin)
        while history:
            self.generation, history = self.generation + 1, history.get("from")
        # Weights belong to the tokenizer that they were trained with.
        self.tokenizer = (
            PreTrainedTokenizerFast.from_pretrained(origin) if origin else architecture.make_tokenizer()
        )
        for name in ("is_local", "local_files_only"):
            # Arguments of this loading, not of the tokenizer.
            self.tokenizer.init_kwargs.pop(name, None)
        self.processor = architecture.make_processor(self.tokenizer)
        self.config = architecture.make_config(self.tokenizer)
        self.model = architecture.make_model(self.config)
        if origin:
            model = Qwen2_5_VLForConditionalGeneration.from_pretrained(origin, dtype=torch.float32)
            self.model.load_state_dict(model.state_dict())
        self.heads = FactHeads(self.config.vision_config.out_hidden_size)
        # Thrown away: whether the statement that a prompt holds has become false at a token. The answer
        # to a claim is one word; without this help it says little about where to look.
        self.false = nn.Linear(self.config.text_config.hidden_size, 1)
        # Thrown away too: moments. Times of events are a few digits among hundreds of words.
        width = self.config.text_config.hidden_size
        self.when = nn.ModuleDict({name: nn.Linear(width, MOMENTS) for name in ("now", "happened")})
        self.attention = TalkAttention(self.model.model.language_model.config)
        self.packer = Packer(self.tokenizer, self.config.text_config.vocab_size)
        embed = self.model.model.visual.patch_embed
        weight = embed.proj.weight
        # A linear layer gives the sum of a convolution whose stride is its size. On the CPU it is a
        # fifth faster.
        embed.forward = lambda patches: functional.linear(patches, weight.view(len(weight), -1))

    def _pixels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        films = list(torch.from_numpy(batch.frames))
        out = self.processor.video_processor(films, do_resize=False, return_tensors="pt")
        return out["pixel_values_videos"], out["video_grid_thw"]

    def vision_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of the first lesson and the share of right answers by fact."""
        pixels, grid = self._pixels(batch)
        tokens = self.model.model.visual(pixels, grid_thw=grid).pooler_output
        tokens = tokens.view(len(batch.frames), -1, tokens.shape[-1])
        facts = {name: torch.from_numpy(values) for name, values in batch.facts.items()}
        here = self.heads.here(tokens).squeeze(-1)
        there = facts["kind"] != NOTHING
        loss = functional.binary_cross_entropy_with_logits(here, there.float())
        right = {"here": ((here > 0) == there).float().mean().item()}
        for name, truth in facts.items():
            known = truth != NOTHING
            logits = self.heads.name[name](tokens[known])
            loss = loss + functional.cross_entropy(logits, truth[known])
            right[name] = (logits.argmax(-1) == truth[known]).float().mean().item()
        return loss, right

    def answer_loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Compute the loss of the second lesson and the share of fact words predicted right.

        All talks about a film stand in one row behind the film. Each sees the film and itself only,
        at the positions that it would have alone.
        """
        pixels, grid = self._pixels(batch)
        steps, high, wide = (int(part) for part in grid[0])
        merged = (steps, high // 2, wide // 2)
        rows = [self.packer.row(talks, math.prod(merged)) for talks in batch.talks]
        longest = max(len(row.ids) for row in rows)

        def joined(name: str, filler: int) -> Tensor:
            lists = [getattr(row, name) for row in rows]
            return torch.tensor([each + [filler] * (longest - len(each)) for each in lists])

        ids, talk = joined("ids", self.config.text_config.pad_token_id), joined("talk", -1)
        after = joined("after", 0)
        video_start = rows[0].ids.index(self.config.video_token_id)
        most = int(after.max()) + 1
        alone = position_ids(
            video_start + math.prod(merged) + most, video_start, merged, batch.seconds_per_step
        )
        positions = alone[:, after + video_start + math.prod(merged)]
        positions[:, :, : video_start + math.prod(merged)] = alone[:, None, :-most]
        earlier = torch.ones(longest, longest, dtype=torch.bool).tril()
        known = (talk[:, None, :] == 0) | (talk[:, None, :] == talk[:, :, None])
        seen = earlier & known
        self.attention.spans = spans(seen, talk)
        out = self.model.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=seen[:, None],
            pixel_values_videos=pixels,
            video_grid_thw=grid,
            use_cache=False,
            output_hidden_states=True,
        )
        wanted = joined("labels", NOTHING)[:, 1:]
        asked_for = wanted != NOTHING
        logits = self.model.lm_head(out.last_hidden_state[:, :-1][asked_for])
        target, weight = wanted[asked_for], joined("weights", 0)[:, 1:][asked_for]
        loss = (functional.cross_entropy(logits, target, reduction="none") * weight).sum()
        topic = joined("topic", 0)[:, 1:][asked_for]
        right = logits.argmax(-1) == target
        found = {
            name: right[(topic == number) & (weight > 1)].float().mean().item()
            for number, name in enumerate(TOPICS)
        }
        false = joined("false", NOTHING)
        checked = false != NOTHING
        told = self.false(out.hidden_states[_FALSE_AFTER][checked]).squeeze(-1).float()
        said = false[checked].float()
        found["false words"] = ((told > 0) == (said > 0)).float().mean().item()
        missed = functional.binary_cross_entropy_with_logits(told, said)
        film = out.hidden_states[_WHEN_AFTER][:, video_start : video_start + math.prod(merged)]
        unknown = torch.zeros(())
        for name, moments in batch.facts.items():
            moment = torch.from_numpy(moments)
            known = moment != NOTHING
            told, true = self.when[name](film[known]).float(), moment[known]
            # Most things have no event, or none yet.
            late = torch.where(true > 0, 1.0, 0.2)
            unknown = unknown + (functional.cross_entropy(told, true, reduction="none") * late).mean()
            found[name] = ((told.argmax(-1) - true).abs() <= 1)[true > 0].float().mean().item()
        return loss / weight.sum() + _FALSE * missed + _WHEN * unknown, found

    def run(self, lesson: str, log: Any) -> None:
        """Give one lesson, resumed from its last checkpoint if there is one."""
        total = self.lengths[lesson]
        loss_of = self.vision_loss if lesson == "vision" else self.answer_loss
        modules = nn.ModuleList([self.model.model.visual, self.heads])
        if lesson == "answers":
            # The tower has learnt to see. With it frozen, a step costs little more than half.
            self.model.model.visual.requires_grad_(False)
            modules = nn.ModuleList([self.model.model.language_model, self.false, self.when])
        peak = 1.5e-3 if lesson == "vision" else 1e-3
        optimisers = optimisers_of(modules, peak)
        path = self.work / f"{lesson}.pt"
        done = 0
        if path.exists():
            state = torch.load(path, weights_only=True)
            done = state["done"]
            modules.load_state_dict(state["modules"])
            for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(kept)
        if done >= total:
            return
        scenes = self.scenes[lesson]
        batches = loader(lesson, scenes, done, self.generation)
        started, seen, losses = time.monotonic(), [], []
        modules.train()
        for step in range(done, total):
            with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
                loss, right = loss_of(next(batches))
            modules.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] = optimiser.defaults["lr"] * learning_rate(step / total)
                optimiser.step()
            seen.append(right)
            losses.append(loss.item())
            if (step + 1) % _LOG_EVERY == 0:
                means = {name: round(float(np.nanmean([r[name] for r in seen])), 3) for name in right}
                pace = (time.monotonic() - started) / (step + 1 - done)
                entry = {"lesson": lesson, "step": step + 1, "loss": round(np.mean(losses), 4)}
                print(json.dumps({**entry, **means, "s_a_step": round(pace, 2)}), file=log)
                log.flush()
                seen, losses = [], []
            if (step + 1) % _SAVE_EVERY == 0 or step + 1 == total:
                state = {
                    "done": step + 1,
                    "modules": modules.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                }
                torch.save(state, path.with_suffix(".part"))
                path.with_suffix(".part").replace(path)

    def blend(self, folder: Path, part: float) -> None:
        """Mix in a share of the weights that this training started from.

        A lesson that stresses one thing unteaches some of the rest; a mix loses little of either.
        Measured after ten yes/no questions a film, with 28% of the weights before: yes/no right 50%
        before, 90% after, 79% mixed; direction and event 95%, 90%, 96%.
        """
        before = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        now = self.model.state_dict()
        for name, weight in before.state_dict().items():
            now[name].lerp_(weight, part)

    def save(self, folder: Path) -> None:
        """Write the model as Hugging Face files, bf16 safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.to(torch.bfloat16).save_pretrained(folder)
        self.processor.save_pretrained(folder)


def _history(folder: Path | None) -> dict[str, Any] | None:
    """How a finished model was made, or None without a folder or a record in it."""
    path = folder / "training.json" if folder else None
    return json.loads(path.read_text()) if path and path.exists() else None


def main(argv: list[str] | None = None) -> int:
    """Train and save; see ``--help``."""
    parser = argparse.ArgumentParser(prog="python -m captionkit.demo.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the finished model")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and log")
    parser.add_argument(
        "--from",
        dest="origin",
        type=Path,
        help="folder of a finished model: start from its weights, without --vision-steps with the "
        "second lesson alone",
    )
    parser.add_argument(
        "--blend",
        type=float,
        default=0.0,
        help="with --from: share of its weights to keep",
    )
    parser.add_argument(
        "--vision-steps", type=int, help="steps of the first lesson; 2650, or 0 with --from"
    )
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--scenes", type=int, default=12, help="scenes in a step of the second lesson")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    vision_steps = options.vision_steps
    if vision_steps is None:
        vision_steps = 0 if options.origin else 2650
    trainer = Trainer(options.work, vision_steps, options.steps, options.scenes, options.origin)
    with (options.work / "train.jsonl").open("a") as log:
        for lesson in ("vision", "answers"):
            trainer.run(lesson, log)
    if options.origin and options.blend:
        trainer.blend(options.origin, options.blend)
    trainer.save(options.out)
    commit = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", "."],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    made: dict[str, Any] = {
        "command": " ".join(["python -m captionkit.demo.train", *(argv or sys.argv[1:])]),
        "commit": commit,
    }
    if before := _history(options.origin):
        made["from"] = before
    (options.out / "training.json").write_text(json.dumps(made, indent=1) + "\n")
    shutil.copy(options.work / "train.jsonl", options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
