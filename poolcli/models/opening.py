"""From the configured model reference to a model that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poolcli.config import Config
from poolcli.models.base import Model
from poolcli.models.reference import Demo, LocalFile, Remote, Scripted, parse

#: How the demonstration model is sampled unless a person says otherwise. Greedy, it repeats a failed edit for ever;
#: with some chance it tries another, and the checks tell which was right: 0.71 of unseen instances, not 0.58. The
#: seed makes a run repeatable.
DEMO_SAMPLING = {"temperature": 0.5, "min_p": 0.05, "seed": 1}


async def open_reference(config: Config, tools: Sequence[Mapping[str, Any]], *, log: Path) -> Model:
    """The configured model, its server started or asked once. `log` is for a server that pool starts.

    Raises UsageError for a reference that names nothing, ModelError for a server that does not answer.
    """
    match parse(config.model, config.base_url):
        case Scripted(file):
            from poolcli.models.scripted import open_scripted

            return await open_scripted(file, tools)
        case Demo():
            from poolcli.models.local import demo_model

            return await _local(demo_model(), config, tools, log, DEMO_SAMPLING)
        case LocalFile(path):
            return await _local(path, config, tools, log, {})
        case Remote(name, url):
            return await _remote(name, url, config, tools)


async def _local(
    gguf: Path, config: Config, tools: Sequence[Mapping[str, Any]], log: Path, sampling: Mapping[str, Any]
) -> Model:
    from poolcli.models.local import open_local

    return await open_local(
        gguf,
        tools,
        log=log,
        ctx=config.context,
        threads=config.threads,
        engine=config.server,
        extra_body={**sampling, **_sampling(config)},
        limits=_limits(config),
    )


async def _remote(name: str, url: str, config: Config, tools: Sequence[Mapping[str, Any]]) -> Model:
    from poolcli.models.openai import Endpoint, OpenAIModel

    endpoint = Endpoint(
        url,
        name,
        config.api_key,
        extra_body=_sampling(config),
        window=config.context,
        limits=_limits(config),
    )
    model = OpenAIModel(endpoint, tools)
    try:
        await model.probe()
    except BaseException:
        await model.aclose()
        raise
    return model


def _sampling(config: Config) -> dict[str, Any]:
    chosen = {"temperature": config.temperature, "seed": config.seed}
    return {name: value for name, value in chosen.items() if value is not None}


def _limits(config: Config) -> Any:
    from poolcli.models.endpoint import Limits

    return Limits(first=config.first_deadline, idle=config.idle_deadline, total=config.reply_deadline)
