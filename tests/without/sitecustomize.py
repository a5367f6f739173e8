"""Python runs this in every process whose PYTHONPATH begins with this folder."""

from left_out import apply

apply()
