"""Confinement of the commands that a model runs."""

from poolcli.sandbox.base import NONE, Sandbox, default, wrap
from poolcli.sandbox.environment import command_environment

__all__ = ["NONE", "Sandbox", "command_environment", "default", "wrap"]
