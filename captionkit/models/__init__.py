"""Models: which there are, their weights, and Qwen-VL itself."""
