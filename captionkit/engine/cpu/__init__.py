"""Everything that patches vLLM on a CPU, behind `install.install`; a GPU runs vLLM as it is.

The patches are written against the one vLLM version that the extras pin. Each says its reason, the
place upstream that it concerns, and the condition under which it goes.
"""
