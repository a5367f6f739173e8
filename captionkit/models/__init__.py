"""Models: which there are, the frames that they see, and their weights."""
