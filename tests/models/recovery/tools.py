"""The tools of the samples: the real contracts, as servers are sent them."""

from __future__ import annotations

from typing import Any

from poolcli.tools import contract, registry

SCHEMAS: list[dict[str, Any]] = [contract.schema(tool.contract) for tool in registry.load().values()]
BY_NAME: dict[str, dict[str, Any]] = {schema["function"]["name"]: schema for schema in SCHEMAS}
