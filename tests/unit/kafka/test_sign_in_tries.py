"""A sign-in that keeps being refused ends the process, and no other failure does."""

import asyncio
import ssl
from typing import Never

import asyncpg
import pytest
from structlog.testing import capture_logs

from normalizer.core.batch import Batch
from normalizer.errors import (
    BrokerSignInError,
    BrokerUnavailableError,
    FatalError,
    RetryableError,
    SignInRetryLimit,
    StoreSignInError,
    StoreSilentError,
    StoreUnavailableError,
)
from normalizer.postgres.database import PoolerRejectedError
from normalizer.runtime.logging_setup import OutageLogger, get_logger
from normalizer.store.connect_error import translate_connect_error
from normalizer.store.write_retry import write_with_retry
from tests.support.factories import envelope, make_batch

AWAY = BrokerUnavailableError("b:9092: TCP: no answer")
REFUSED = BrokerSignInError("b:9092: SASL: PLAIN: no")


def test_refusals_in_a_row_are_counted_and_an_outage_or_a_success_between_them_clears() -> None:
    tries = SignInRetryLimit()

    for error in [REFUSED] * 4 + [AWAY] + [REFUSED] * 4:
        tries.count_failure(error)
    tries.reset_count()
    for error in [REFUSED] * 4:
        tries.count_failure(error)

    with pytest.raises(FatalError, match=r"SASL: PLAIN: no\. .* rejected 5 times in a row"):
        tries.count_failure(REFUSED)


def test_silence_between_refusals_is_not_counted() -> None:
    """PgBouncer tries the server's sign-in every 15 s, and lets its clients wait meanwhile."""
    tries = SignInRetryLimit()
    silent = translate_connect_error(TimeoutError(), URL)
    assert isinstance(silent, RetryableError)

    for error in [REFUSED, silent] * 4:
        tries.count_failure(error)

    with pytest.raises(FatalError, match="rejected 5 times in a row"):
        tries.count_failure(REFUSED)


def test_an_outage_lasts_as_long_as_it_takes_but_not_one_of_refusals() -> None:
    outage = OutageLogger(get_logger())

    with capture_logs():
        for _ in range(50):
            outage.count_failure(AWAY)
        for _ in range(4):
            outage.count_failure(REFUSED)
        with pytest.raises(FatalError):
            outage.count_failure(REFUSED)


def test_an_error_after_a_silence_is_logged_too() -> None:
    outage = OutageLogger(get_logger())

    with capture_logs() as lines:
        outage.log_no_answer("no answer for 10 s")
        for _ in range(2):
            outage.count_failure(AWAY)
        outage.count_success()

    assert [(line["event"], line.get("why")) for line in lines if line["log_level"] != "debug"] == [
        ("outage.began", "no answer for 10 s"),
        ("outage.began", str(AWAY)),
        ("outage.ended", None),
    ]


URL = "postgresql://writer:hunter2@db/noetl"


class Refusing:
    """A database that lets nobody in."""

    def __init__(self, error: RetryableError) -> None:
        self.error = error
        self.tried = 0

    async def write(self, _: Batch, *, projections: bool = True) -> Never:
        del projections
        self.tried += 1
        raise self.error


async def test_a_batch_is_not_written_for_ever_where_the_sign_in_is_refused() -> None:
    error = translate_connect_error(
        refusal("28P01", 'password authentication failed for user "writer"'), URL
    )
    assert isinstance(error, RetryableError)
    database = Refusing(error)

    with pytest.raises(FatalError, match="rejected 5 times in a row"):
        await write_with_retry(
            database, make_batch(envelope()), stop=asyncio.Event(), draw=lambda: -1.0
        )

    assert database.tried == 5


def refusal(sqlstate: str, text: str) -> asyncpg.PostgresError:
    error: asyncpg.PostgresError = asyncpg.PostgresError.new(
        {"S": "FATAL", "V": "FATAL", "C": sqlstate, "M": text, "D": "detail", "H": "hint"}
    )
    return error


def untrusted() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


@pytest.mark.parametrize(
    ("error", "sentence", "kind"),
    [
        (
            untrusted(),
            "database: TLS: self-signed certificate: set sslrootcert in DATABASE_URL to the file",
            StoreSignInError,
        ),
        (
            refusal("28P01", 'password authentication failed for user "writer"'),
            'database: sign-in: password authentication failed for user "writer" (SQLSTATE 28P01)',
            StoreSignInError,
        ),
        (
            refusal("3D000", 'database "none" does not exist'),
            'database: sign-in: database "none" does not exist (SQLSTATE 3D000): check the name',
            StoreSignInError,
        ),
        (
            ConnectionError("PostgreSQL server at '/h:1' rejected SSL upgrade"),
            "database: TLS: the server does not offer TLS: turn ssl on at the server",
            StoreSignInError,
        ),
        (
            PoolerRejectedError("SASL authentication failed"),
            "database: sign-in through a pooler: SASL authentication failed (SQLSTATE 08P01)",
            StoreSignInError,
        ),
        (
            PoolerRejectedError('database "none" does not exist'),
            'database: sign-in through a pooler: database "none" does not exist (SQLSTATE 08P01)',
            StoreSignInError,
        ),
        (
            PoolerRejectedError("server login has been failing, cached error: connect failed"),
            "database: sign-in through a pooler: server login has been failing",
            StoreUnavailableError,
        ),
        (
            TimeoutError(),
            "database: no answer in time: is this port PostgreSQL's?",
            StoreSilentError,
        ),
        (
            TimeoutError(110, "timed out"),
            "database: TCP: TimeoutError: timed out",
            StoreSilentError,
        ),
        (
            refusal("08P01", "query_wait_timeout"),
            "database: SQLSTATE 08P01 (ProtocolViolationError)",
            StoreUnavailableError,
        ),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "database: TCP: ConnectionRefusedError: Connection refused",
            StoreUnavailableError,
        ),
        (
            refusal("57P03", "the database system is starting up"),
            "database: SQLSTATE 57P03 (CannotConnectNowError)",
            StoreUnavailableError,
        ),
    ],
)
def test_a_connection_that_fails_names_its_step(
    error: Exception, sentence: str, kind: type[RetryableError]
) -> None:
    found = translate_connect_error(error, URL)

    assert str(found).startswith(sentence)
    assert type(found) is kind
