"""riskstream inside Faust: an agent for an existing app, or an app of its own.

    import faust
    from stream.faust.app import riskstream_agent

    app = faust.App("fraud", broker="kafka://localhost:9092")
    riskstream_agent(app, "riskstream.toml")

At least once: a crash repeats alerts (same `alert_id`), it loses none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import faust

from features.core.errors import ConfigurationError, RetriableError
from stream.codecs.messages import RawMessage
from stream.faust.agent import open_face
from stream.kafka.batches.scored import Outputs
from stream.settings.config import Config, load

Result = TypeVar("Result")


def riskstream_agent(app: Any, config: Config | Path | str) -> Any:
    """Let `app` score the project's sources; returns the agent.

    The app's id must be the project's `kafka.group_id`: state is kept for that group's offsets.
    """
    settings = config if isinstance(config, Config) else load(config)
    if app.conf.id != settings.kafka.group_id:
        raise ConfigurationError(
            f"{settings.path}: kafka.group_id is {settings.kafka.group_id!r}, but the Faust app's id is "
            f"{app.conf.id!r}; give both one name"
        )
    scoring = _Scoring(app, settings)
    topic = app.topic(
        *scoring.face.topics,
        key_type=bytes,
        value_type=bytes,
        key_serializer="raw",
        value_serializer="raw",
        allow_empty=True,
    )

    async def riskstream(stream: Any) -> None:
        async for events in stream.take_events(
            settings.worker.batch_size, within=max(settings.worker.linger_ms, 1) / 1000
        ):
            await scoring.batch(events)

    app.on_partitions_revoked.connect(scoring.revoked, weak=False)
    app.on_before_shutdown.connect(scoring.close, weak=False)
    return app.agent(topic, name="riskstream")(riskstream)


def make_app(config: Config) -> Any:
    """A Faust app that does nothing but score the project's sources."""
    if config.kafka.properties:
        fix = "make the faust.App yourself and call riskstream_agent"
        raise ConfigurationError(f"{config.path}: kafka.properties are librdkafka's, not Faust's; {fix}")
    brokers = ";".join(f"kafka://{server.strip()}" for server in config.kafka.bootstrap_servers.split(","))
    app = faust.App(
        config.kafka.group_id,
        broker=brokers,
        store="memory://",
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset=config.worker.start,
        stream_wait_empty=False,
        web_enabled=False,
        datadir=str(config.root / ".faust"),
    )
    riskstream_agent(app, config)
    return app


def run_faust(config_file: Path) -> NoReturn:
    """Run that app until a signal; ends the process."""
    app = make_app(load(config_file))
    worker = faust.Worker(app, loglevel="warning", override_logging=False, redirect_stdouts=False)
    worker.execute_from_commandline()


class _Scoring:
    """Between Faust's loop and the one thread that scores."""

    def __init__(self, app: Any, config: Config) -> None:
        self._app = app
        self._closing = ExitStack()
        self.face = self._closing.enter_context(open_face(config))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._generation = 0

    async def batch(self, events: list[Any]) -> None:
        """Score, publish, commit, then let state go to Redis; an error stops the app, nothing acknowledged."""
        for event in events:
            event.message.incref()  # take_events acknowledges whatever happens; ours is the one that counts
        try:
            await self._batch(events)
        except Exception as error:
            await self._app.crash(error)
            raise

    async def _batch(self, events: list[Any]) -> None:
        generation = self._generation
        consumer = self._app.consumer
        partitions = [(assigned.topic, assigned.partition) for assigned in consumer.assignment()]
        messages = [_raw(event.message) for event in events]
        outputs = await self._run(lambda: self.face.score(messages, partitions))
        await self._publish(outputs)
        for event in events:
            for _ in range(2):
                event.ack()
        # The first may only have waited for a commit that was under way.
        await consumer.commit()
        await consumer.commit()
        last: dict[tuple[str, int], int] = {}
        for message in messages:
            last[message.topic, message.partition] = message.offset + 1
        if generation != self._generation:
            return
        stored = consumer._committed_offset
        if any((stored.get(faust.types.TP(*partition)) or 0) < offset for partition, offset in last.items()):
            raise RetriableError("the group's offsets were not stored")
        await self._run(lambda: self.face.committed(last))

    async def _publish(self, outputs: Outputs) -> None:
        """Send everything and wait until the brokers have it."""
        sent = [
            await self._app.producer.send(
                topic, record.key, record.value, None, None, list(record.headers or [])
            )
            for topic, records in outputs
            for record in records
        ]
        if sent:
            await asyncio.gather(*sent)

    async def revoked(self, *_: Any, **__: Any) -> None:
        """Partitions are taken away."""
        self._generation += 1
        await self._run(self.face.lose)

    async def close(self, *_: Any, **__: Any) -> None:
        """The app stops."""
        await self._run(self._closing.close)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _raw(message: Any) -> RawMessage:
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers
    return RawMessage(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        list(headers) if headers else None,
    )
