"""Confinement of the commands that a model runs."""

from poolcli.sandbox.base import (
    EXTERNAL,
    NONE,
    Confinement,
    Launch,
    Limits,
    Overlay,
    Sandbox,
    default,
    wrap,
)
from poolcli.sandbox.environment import command_environment

__all__ = [
    "EXTERNAL",
    "NONE",
    "Confinement",
    "Launch",
    "Limits",
    "Overlay",
    "Sandbox",
    "command_environment",
    "default",
    "wrap",
]
