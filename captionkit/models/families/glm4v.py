"""GLM-4.1V, 4.5V and 4.6V: a budget a video, whole seconds in the prompt."""

from captionkit.models.families.base import GridFamily


class Glm4V(GridFamily):
    """Tokens of 28 x 28 pixels in two frames; the second of each pair follows it."""

    name = "GLM-4.1V, 4.5V and 4.6V"
    model_types = ("glm4v", "glm4v_moe")
    whole_video = True
    makes_largest_video = True
