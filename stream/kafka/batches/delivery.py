"""How results and offsets reach Kafka: in one transaction, or one after the other (PROTOCOL 2.3, 7).

ExactlyOnce delivers and commits in one step. AtLeastOnce delivers; GroupCommits commits what was delivered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from features.core.errors import FatalError, FencedError, RetriableError
from stream.codecs.alerts import Record
from stream.kafka.batches.scored import ScoredBatch
from stream.kafka.client import clients
from stream.kafka.client.bounded_call import BoundedCall, NoReturn
from stream.kafka.client.consumer import InputConsumer
from stream.kafka.client.errors import kafka_error, sort
from stream.kafka.client.producer import produce
from stream.settings.tables import Kafka
from stream.telemetry.moments import point

_INIT_TIMEOUT = 30.0
_FLUSH_TIMEOUT = 120.0
_FENCED_LIMIT = 3
_FENCED_WITHIN = 60.0
_RETRY_PAUSE = 0.005
_STEP_TIMEOUT = 10.0
_PATIENCE = 20.0
_NO_RETURN_AFTER = 2 * _STEP_TIMEOUT


class Delivery(Protocol):
    """Brings the outputs of scored batches to Kafka, one batch at a time, in a thread that may wait."""

    def open(self) -> None:
        """Get ready; ends what a crashed predecessor left open. May block."""
        ...

    def deliver(self, batch: ScoredBatch) -> None:
        """Return once Kafka has acknowledged the outputs. May block.

        An error means "unknown" (PROTOCOL 2.5): `reset`, then ask Kafka what was committed.
        """
        ...

    def reset(self) -> None:
        """Leave nothing of the last `deliver` under way. May block."""
        ...

    def close(self) -> None:
        """Give up what is open."""
        ...


class OffsetCommits(Protocol):
    """Commits the offsets of delivered batches, where their delivery does not.

    Called in the thread that consumes, because the client lets no other call to a consumer in while one is in `consume`
    or in a rebalance callback.
    """

    @property
    def every_s(self) -> float:
        """Seconds of delivered batches that one commit may cover."""
        ...

    def commit(self, offsets: list[TopicPartition]) -> None:
        """Return once the offsets are committed. A refused commit is as unknown as a lost answer (PROTOCOL 7)."""
        ...

    def commit_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """As `commit`, without waiting: the answer comes while the consumer consumes."""
        ...


class ExactlyOnce:
    """One transaction a batch, with its outputs and its offsets: what is delivered is committed."""

    def __init__(self, kafka: Kafka, transactional_id: str) -> None:
        self._kafka = kafka
        self._id = transactional_id
        self._producer: Producer | None = None
        self._open = False
        self._fenced: list[float] = []
        self._bounded = BoundedCall()

    def open(self) -> None:
        """See Delivery; aborts an open transaction of this transactional id."""
        producer = clients.producer(self._kafka, "worker", self._id)
        _call(lambda: producer.init_transactions(_INIT_TIMEOUT), "opening transactions")
        self._producer = producer

    def deliver(self, batch: ScoredBatch) -> None:
        """See Delivery."""
        try:
            self._deliver(batch)
        except FencedError as error:
            # A pause beyond the transaction's time-out looks the same; a true rival fences us again and again.
            now = time.monotonic()
            self._fenced = [at for at in self._fenced if now - at < _FENCED_WITHIN] + [now]
            if len(self._fenced) >= _FENCED_LIMIT:
                raise
            raise RetriableError(str(error)) from error

    def _deliver(self, batch: ScoredBatch) -> None:
        producer = self._producer
        if producer is None:
            raise RetriableError("no producer")
        _call(producer.begin_transaction, "beginning a transaction")
        self._open = True
        # Offsets first: this waits until the coordinator has completed the last transaction. A partition added
        # before that is answered CONCURRENT_TRANSACTIONS, and librdkafka tries that one again only after 20 ms.
        point("before_send_offsets")
        self._send_offsets(producer, batch)
        point("after_send_offsets")
        for topic, records in batch.outputs:
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

    def _send_offsets(self, producer: Producer, batch: ScoredBatch) -> None:
        def send() -> None:
            producer.send_offsets_to_transaction(batch.offsets, batch.group, _STEP_TIMEOUT)

        try:
            _call(lambda: self._bounded.call(send, _NO_RETURN_AFTER), "sending offsets")
        except NoReturn as error:
            # The next producer of this transactional id fences this one, so nothing of it can be committed later.
            self._discard()
            raise RetriableError("sending offsets: the client did not return") from error

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
        self._bounded.close()


class AtLeastOnce:
    """Outputs alone; their offsets follow (GroupCommits). A crash in between repeats outputs, never loses one."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer: Producer | None = None

    def open(self) -> None:
        """See Delivery."""
        self._producer = clients.producer(self._kafka, "worker")

    def deliver(self, batch: ScoredBatch) -> None:
        """See Delivery."""
        producer = self._producer
        if producer is None:
            raise RetriableError("no producer")
        failures: list[KafkaError] = []
        for topic, records in batch.outputs:
            produce(producer, topic, records, failures)
        try:
            unacknowledged = producer.flush(_FLUSH_TIMEOUT)
        except KafkaException as error:
            raise sort(error, "producing") from error
        if unacknowledged:
            raise RetriableError("producing: not all was acknowledged in time")
        if failures:
            raise sort(failures[0], "producing")

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
        """What is not acknowledged by then is given up, whatever the client says of it."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.flush(seconds)


class GroupCommits:
    """The consumer's own commits, for batches that AtLeastOnce has delivered."""

    every_s = 0.1

    def __init__(self, consumer: InputConsumer) -> None:
        self._consumer = consumer

    def commit(self, offsets: list[TopicPartition]) -> None:
        """See OffsetCommits."""
        point("before_send_offsets")
        self._consumer.commit(offsets)
        point("after_commit")

    def commit_soon(self, offsets: list[TopicPartition]) -> Future[None]:
        """See OffsetCommits. A broker answers after several milliseconds, and events would wait for it."""
        point("before_send_offsets")
        answer = self._consumer.commit_soon(offsets)
        answer.add_done_callback(lambda _: point("after_commit"))
        return answer


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
