"""The one error of this room."""


class VideoError(ValueError):
    """A video, or some frames of it, cannot be read; the message names the file and the reason."""
