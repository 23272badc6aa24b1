"""A session that retries transactions while the database is unreachable or busy."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Final, TypeVar

import asyncpg

from normalizer.errors import FatalError, RetryableError, StoreUnavailableError
from normalizer.runtime.backoff import backoff_delay_s
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.store.event_rows import RowRejectedError
from normalizer.store.session import RetryTransactionError, Session
from normalizer.store.sqlstate import QUERY_CANCELED

_T = TypeVar("_T")

_MAX_TIMEOUTS_IN_A_ROW: Final = 8
"""The most timeouts in a row of one piece of work. A database that's slow for a while causes fewer.
"""

_log: Final = get_logger()


class RetryingSession(Session):
    """A Session for long jobs, which retries after a deadlock, a lock timeout, or an outage.

    If the connection breaks during COMMIT, nobody knows whether the commit succeeded, so the work
    is done again. It must therefore have the same result if it runs twice.
    """

    def __init__(
        self,
        database_url: str,
        *,
        application_name: str,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(database_url, application_name=application_name, settings=settings)
        self._outage = OutageLogger(_log)
        self._has_answered = False

    async def run(
        self,
        work: Callable[[asyncpg.Connection], Awaitable[_T]],
        *,
        rolled_back: bool = False,
        if_slow: str = "",
    ) -> _T:
        """Run the work until it succeeds, and return its result.

        Raises FatalError if the database rejects a value, or if a statement times out
        _MAX_TIMEOUTS_IN_A_ROW times in a row. The error of a timeout ends with the advice in
        `if_slow`.

        Raises StoreUnavailableError only if the very first try of this session fails. The most
        likely cause is then a wrong address, which a retry wouldn't fix, and no work is lost.
        """
        timeouts = 0
        while True:
            try:
                # If the first try fails, there's no retry.
                with self._outage.log_if_no_answer() if self._has_answered else nullcontext():
                    answer = await self.run_in_transaction(work, rolled_back=rolled_back)
            except RowRejectedError as error:
                why = error.sqlstate or "it can't be encoded or decoded"
                raise FatalError(
                    f"database: PostgreSQL rejected a value that this process tried to store: {why}"
                ) from error
            except (RetryTransactionError, RetryableError) as error:
                failed = _retryable(error)
                if not self._has_answered:
                    raise failed from error
                ended = (
                    isinstance(failed, StoreUnavailableError) and failed.sqlstate == QUERY_CANCELED
                )
                timeouts = timeouts + 1 if ended else 0
                if timeouts == _MAX_TIMEOUTS_IN_A_ROW:
                    message = (
                        f"{failed}. This happened {timeouts} times in a row, so the statement "
                        "takes longer than its time limit"
                    )
                    raise FatalError(message, remedy=if_slow) from error
                await asyncio.sleep(backoff_delay_s(self._outage.count_failure(failed)))
            else:
                self._has_answered = True
                self._outage.count_success()
                return answer


def _retryable(error: RetryTransactionError | RetryableError) -> RetryableError:
    if isinstance(error, RetryableError):
        return error
    return StoreUnavailableError(
        "database: another transaction changed the same rows first, so this one was rolled back"
    )
