"""Processes, event loops, networks and hardware: no knowledge of captions."""
