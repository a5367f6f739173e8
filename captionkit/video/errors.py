"""The error of this room."""


class VideoError(ValueError):
    """Raised when a video or some of its frames cannot be read; names the file and the reason."""
