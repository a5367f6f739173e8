"""Sessions: videos and a model, with every result in a store."""

from captionkit.session.session import Session

__all__ = ["Session"]
