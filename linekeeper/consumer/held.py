"""A claimed event about records, and what has been answered of what it waits for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from linekeeper.consumer.readers import ReadBatch
from linekeeper.consumer.reading import OutOfTime, ReadRefused, Records
from linekeeper.inbox.claim import Event
from linekeeper.inbox.plan import EventPlan, ReadRequest
from linekeeper.makini import MakiniError

TRIES_WITH_OTHERS = 3
"""How often one of several that have the same keys is tried, while another answers."""
LONG_PAUSE = 30.0
"""Seconds of a pause that Makini asked for, after which one of several isn't waited for."""


@dataclass(slots=True)
class HeldEvent:
    """A claimed event that is being worked on."""

    event: Event
    plan: EventPlan
    batches: Mapping[ReadRequest, ReadBatch]
    since: float
    """When it was claimed (`clock.monotonic`)."""
    failure: Exception | None = None
    """Why it can't even be planned."""

    @property
    def is_answered(self) -> bool:
        """Whether all that it waits for is there."""
        return all(batch.answer is not None for batch in self.batches.values())

    def wrong(self) -> list[Exception]:
        """Why some of its keys have no answer. A refused login is an answer."""
        failures = [self.failure] if self.failure is not None else []
        left = self.left_to_the_poll()
        for ask, keys in self.plan.reads.items():
            answer = self.batches[ask].answer
            if ask in left:
                continue
            if isinstance(answer, Records):
                failures += [answer.unread[key] for key in keys if key in answer.unread]
            elif isinstance(answer, Exception) and not isinstance(answer, ReadRefused):
                failures.append(answer)
        return failures

    def keys_to_list(self) -> set[str]:
        """Its keys that were too many to be read: they are read with the whole entity."""
        left: set[str] = set()
        for ask, keys in self.plan.reads.items():
            answer = self.batches[ask].answer
            if isinstance(answer, Records):
                left.update(key for key in keys if key in answer.to_list)
        return left

    def left_to_the_poll(self) -> set[ReadRequest]:
        """What isn't waited for, where the event named no connection.

        Those that can't be read for a while, as long as another that has the same keys answered:
        what Makini wants no call of for an hour must not delay the others' changes.
        """
        if len(self.plan.reads) < 2 or not self.plan.candidates:
            return set()
        return {
            ask
            for ask in self.plan.reads
            if isinstance(answer := self.batches[ask].answer, Records)
            and answer.unread
            and all(self._lasts(error) for error in answer.unread.values())
            and all(self._has_answer(key) for key in answer.unread if key in self.plan.candidates)
        }

    def _lasts(self, error: Exception) -> bool:
        if not isinstance(error, MakiniError | OutOfTime):
            return False
        if is_final(error) or self.event.attempts >= TRIES_WITH_OTHERS:
            return True
        return isinstance(error, MakiniError) and (error.retry_after or 0.0) > LONG_PAUSE

    def _has_answer(self, key: str) -> bool:
        return any(
            isinstance(answer := self.batches[ask].answer, Records) and key not in answer.unread
            for ask, keys in self.plan.reads.items()
            if key in keys
        )

    @property
    def may_step_aside(self) -> bool:
        """Whether what it waits for is its entity, while its connection answers."""
        answers = [batch.answer for batch in self.batches.values()]
        return self.event.aside is not None and all(
            isinstance(answer, Records) and answer.is_of_entity for answer in answers
        )

    def read(self) -> set[str]:
        """Its keys that every connection asked for them has answered."""
        done: set[str] = set()
        unread: set[str] = set()
        for ask, keys in self.plan.reads.items():
            answer = self.batches[ask].answer
            if isinstance(answer, Records):
                done.update(key for key in keys if key not in answer.unread)
                unread.update(key for key in keys if key in answer.unread)
            else:
                unread.update(keys)
        return done - unread


def is_final(error: Exception) -> bool:
    """Whether trying again can't help."""
    return isinstance(error, MakiniError) and not error.retryable
