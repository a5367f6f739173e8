"""What an engine is started with: `MemoryPlan`, made by `memory.plan_memory`."""

from __future__ import annotations

from dataclasses import dataclass

from captionkit.engine.caches import GIB, WINDOW_TOKENS


@dataclass(frozen=True)
class MemoryPlan:
    """What an engine is started with, and the figures behind it; sizes in bytes are those of one card.

    Parameters
    ----------
    card
        Name of the GPU or the processor.
    on_gpu
        Whether ``gpu_memory_utilization`` counts; on a CPU ``kv_bytes`` does.
    dtype
        vLLM's ``dtype``: ``auto``, ``bfloat16``, ``float16`` or ``float32``.
    quantization
        What vLLM is asked for: ``fp8_per_tensor``, or None to load the checkpoint as it is.
    notes
        Sentences on the precision, for a person.
    max_model_len, max_num_seqs, max_num_batched_tokens
        Tokens of the longest sequence, captions under way, and tokens of one step.
    video_tokens
        Tokens of the longest window.
    profile_video
        (frames, width, height) of the video that vLLM measures its tower with.
    gpu_memory_utilization
        Share of the GPU that vLLM counts: weights, activations, graphs, keys and values.
    encoder_tokens
        Encoded video tokens that stay on the card.
    processed_gib
        GiB of processed videos that stay in the machine's memory.
    weights_bytes, activation_bytes, kv_bytes, encoder_bytes, other_bytes
        Weights as loaded, the largest step, keys and values, encoded videos, and what CUDA, vLLM's
        graphs or Python take beside them.
    total_bytes, budget_bytes
        All memory of the card, and what the engine may take.
    kv_tokens
        Tokens whose keys and values fit.
    window_tokens
        Tokens of a window of the recipe at 24 frames a second, with prompt and captions.
    tensor_parallel, tensor_parallel_sizes
        GPUs that share the model, and the numbers of GPUs that could.
    """

    card: str
    on_gpu: bool
    dtype: str
    quantization: str | None
    notes: tuple[str, ...]
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    video_tokens: int
    profile_video: tuple[int, int, int]
    gpu_memory_utilization: float
    encoder_tokens: int
    processed_gib: float
    weights_bytes: int
    activation_bytes: int
    kv_bytes: int
    encoder_bytes: int
    other_bytes: int
    total_bytes: int
    budget_bytes: int
    kv_tokens: int
    window_tokens: int
    tensor_parallel: int
    tensor_parallel_sizes: tuple[int, ...]

    @property
    def windows_at_once(self) -> int:
        """Captions of the recipe's windows that run at once."""
        return max(1, min(self.max_num_seqs, self.kv_tokens // self.window_tokens))

    @property
    def cached_windows(self) -> int:
        """Windows of the reference (20 frames of 448 x 252) whose new prompts need no encoding."""
        return self.encoder_tokens // WINDOW_TOKENS

    def describe(self) -> list[str]:
        """Return the plan as lines for a person."""
        memory = f"kv_cache_memory_bytes {self.kv_bytes}"
        if self.on_gpu:
            memory = f"gpu_memory_utilization {self.gpu_memory_utilization}"
        lines = [
            f"weights {gib(self.weights_bytes)}, largest step {gib(self.activation_bytes)}, keys and "
            f"values {gib(self.kv_bytes)} ({self.kv_tokens:,} tokens), encoded videos "
            f"{gib(self.encoder_bytes)} ({self.cached_windows} windows), all else "
            f"{gib(self.other_bytes)}, of {gib(self.budget_bytes)} that the engine may take",
            f"windows of at most {self.video_tokens:,} video tokens (max_model_len "
            f"{self.max_model_len:,}), {self.windows_at_once} captions at once of windows with "
            f"{self.window_tokens:,} tokens, {self.processed_gib:g} GiB of processed videos in the "
            "machine's memory",
            f"vLLM is asked for max_model_len {self.max_model_len}, max_num_seqs {self.max_num_seqs}, "
            f"max_num_batched_tokens {self.max_num_batched_tokens}, {memory}",
        ]
        return [*lines, *self.notes]


def gib(size: int) -> str:
    """Return a size in bytes as text."""
    return f"{size / GIB:.1f} GiB"
