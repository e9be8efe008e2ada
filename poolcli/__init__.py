"""pool: a terminal coding agent for self-hosted models."""

__version__ = "0.1.0"
