"""How results and offsets reach Kafka: in one transaction, or one after the other (PROTOCOL 2.3, 7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from features.core.errors import FatalError, FencedError, RetriableError
from stream.codecs.alerts import Record
from stream.kafka.client import clients
from stream.kafka.client.bounded_call import Aside, NoReturn
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.client.errors import kafka_error, sort
from stream.kafka.client.producer import produce
from stream.settings.tables import Kafka
from stream.telemetry.moments import point

Outputs = list[tuple[str, list[Record]]]
"""Records by topic."""

_INIT_TIMEOUT = 30.0
_FLUSH_TIMEOUT = 120.0
_FENCED_LIMIT = 3
_FENCED_WITHIN = 60.0
_RETRY_PAUSE = 0.005
_STEP_TIMEOUT = 10.0
_PATIENCE = 20.0
_NO_RETURN_AFTER = 2 * _STEP_TIMEOUT


class Delivery(Protocol):
    """Brings one unit of work's outputs and offsets to Kafka. Used by one thread at a time.

    `deliver` may run beside the thread that consumes; `finish` and `finish_soon` follow it in that thread, because
    the client lets no other call to a consumer in while one is in `consume`, or in a rebalance callback.
    `settle_every` is how many seconds of delivered units one of them may wait to cover.
    """

    @property
    def settle_every(self) -> float:
        """Seconds between two `finish`; 0: one for each unit of work."""
        ...

    def open(self) -> None:
        """Get ready; ends what a crashed predecessor left open. May block."""
        ...

    def deliver(self, outputs: Outputs, offsets: list[TopicPartition], metadata: Any) -> None:
        """Outputs, and offsets unless `finish` commits them.

        An error means "unknown" (PROTOCOL 2.5): `reset`, then ask Kafka what was committed.
        """
        ...

    def finish(self, offsets: list[TopicPartition]) -> None:
        """Outputs and offsets are both committed when this returns; errors as in `deliver`."""
        ...

    def finish_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """As `finish`, without waiting: the answer comes at once or while the consumer consumes."""
        ...

    def reset(self) -> None:
        """Leave nothing of the last `deliver` under way. May block."""
        ...

    def close(self) -> None:
        """Give up what is open."""
        ...


class ExactlyOnce:
    """One transaction a unit of work."""

    settle_every = 0.0

    def __init__(self, kafka: Kafka, transactional_id: str) -> None:
        self._kafka = kafka
        self._id = transactional_id
        self._producer: Producer | None = None
        self._open = False
        self._fenced: list[float] = []
        self._aside = Aside()

    def open(self) -> None:
        """See Delivery; aborts an open transaction of this transactional id."""
        producer = clients.producer(self._kafka, "worker", self._id)
        _call(lambda: producer.init_transactions(_INIT_TIMEOUT), "opening transactions")
        self._producer = producer

    def deliver(self, outputs: Outputs, offsets: list[TopicPartition], metadata: Any) -> None:
        """See Delivery."""
        try:
            self._deliver(outputs, offsets, metadata)
        except FencedError as error:
            # A pause beyond the transaction's time-out looks the same; a true rival fences us again and again.
            now = time.monotonic()
            self._fenced = [at for at in self._fenced if now - at < _FENCED_WITHIN] + [now]
            if len(self._fenced) >= _FENCED_LIMIT:
                raise
            raise RetriableError(str(error)) from error

    def _deliver(self, outputs: Outputs, offsets: list[TopicPartition], metadata: Any) -> None:
        producer = self._producer
        if producer is None:
            raise RetriableError("no producer")
        _call(producer.begin_transaction, "beginning a transaction")
        self._open = True
        # Offsets first: this waits until the coordinator has completed the last transaction. A partition added
        # before that is answered CONCURRENT_TRANSACTIONS, and librdkafka tries that one again only after 20 ms.
        point("before_send_offsets")
        self._send_offsets(producer, offsets, metadata)
        point("after_send_offsets")
        for topic, records in outputs:
            self._produce(producer, topic, records)
        # What follows is the commit alone, also for whoever crashes here.
        _call(lambda: producer.flush(_STEP_TIMEOUT), "producing")
        point("before_commit")
        _call(lambda: producer.commit_transaction(_STEP_TIMEOUT), "committing a transaction")
        point("after_commit")
        self._open = False

    def _produce(self, producer: Producer, topic: str, records: list[Record]) -> None:
        try:
            produce(producer, topic, records)
        except FatalError as error:
            cause = error.__cause__
            if isinstance(cause, KafkaException) and kafka_error(cause).code() == KafkaError._FATAL:
                # Fenced meanwhile, as a rule; the client only says that it is at its end, the commit says why.
                _call(lambda: producer.commit_transaction(_STEP_TIMEOUT), f"producing to {topic}")
            raise

    def _send_offsets(self, producer: Producer, offsets: list[TopicPartition], metadata: Any) -> None:
        def send() -> None:
            producer.send_offsets_to_transaction(offsets, metadata, _STEP_TIMEOUT)

        try:
            _call(lambda: self._aside.call(send, _NO_RETURN_AFTER), "sending offsets")
        except NoReturn as error:
            # The next producer of this transactional id fences this one, so nothing of it can be committed later.
            self._discard()
            raise RetriableError("sending offsets: the client did not return") from error

    def finish(self, offsets: list[TopicPartition]) -> None:
        """See Delivery; the transaction held the offsets."""

    def finish_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """See Delivery."""
        del offsets  # the transaction held them
        answer: Future[None] = Future()
        answer.set_result(None)
        return answer

    def reset(self) -> None:
        """Abort if the client can, else a new producer (PROTOCOL 2.5)."""
        if self._producer is not None and not self._open:
            return
        producer = self._producer
        if producer is not None:
            try:
                _call(lambda: producer.abort_transaction(_STEP_TIMEOUT), "aborting a transaction")
                self._open = False
                return
            except (FencedError, RetriableError):
                self._discard()
        self.open()

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.purge()
        self._producer = None
        self._open = False

    def close(self) -> None:
        """See Delivery."""
        producer = self._producer
        if producer is not None and self._open:
            try:
                producer.abort_transaction(5.0)
            except KafkaException:
                producer.purge()
        self._producer = None
        self._aside.close()


class AtLeastOnce:
    """Outputs first, offsets a little later: a crash in between repeats outputs, never loses one."""

    settle_every = 0.1

    def __init__(self, kafka: Kafka, consumer: InputConsumer) -> None:
        self._kafka = kafka
        self._consumer = consumer
        self._producer: Producer | None = None

    def open(self) -> None:
        """See Delivery."""
        self._producer = clients.producer(self._kafka, "worker")

    def deliver(self, outputs: Outputs, offsets: list[TopicPartition], metadata: Any) -> None:
        """See Delivery."""
        del offsets, metadata  # the consumer's own commit carries them
        producer = self._producer
        if producer is None:
            raise RetriableError("no producer")
        failures: list[KafkaError] = []
        for topic, records in outputs:
            produce(producer, topic, records, failures)
        try:
            left = producer.flush(_FLUSH_TIMEOUT)
        except KafkaException as error:
            raise sort(error, "producing") from error
        if left:
            raise RetriableError("producing: not all was acknowledged in time")
        if failures:
            raise sort(failures[0], "producing")

    def finish(self, offsets: list[TopicPartition]) -> None:
        """See Delivery. A refused commit is as unknown as a lost answer (PROTOCOL 7)."""
        point("before_send_offsets")
        self._consumer.commit(offsets)
        point("after_commit")

    def finish_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """See Delivery. A broker answers a commit after several milliseconds, and events would wait for it."""
        point("before_send_offsets")
        answer = self._consumer.commit_soon(offsets)
        answer.add_done_callback(lambda _: point("after_commit"))
        return answer

    def reset(self) -> None:
        """See Delivery."""
        if self._producer is not None:
            self._producer.purge()
        self._flush(1.0)
        self.open()

    def close(self) -> None:
        """See Delivery."""
        self._flush(5.0)
        self._producer = None

    def _flush(self, seconds: float) -> None:
        """What is left is given up, whatever the client says of it."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.flush(seconds)


def _call(step: Callable[[], object], doing: str) -> None:
    """One step of a transaction; the client says which errors pass by trying again.

    Far beyond the transaction's own time-out the outcome is unknown (PROTOCOL 2.5), whatever the client says.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            step()
            return
        except KafkaException as error:
            if not kafka_error(error).retriable():
                raise sort(error, doing) from error
            if time.monotonic() > end:
                raise RetriableError(f"{doing}: no end after {_PATIENCE:g} s") from error
            time.sleep(_RETRY_PAUSE)
