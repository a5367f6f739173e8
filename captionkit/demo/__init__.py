"""The demo world: scenes with known truth, and the small model that is trained on them."""
