"""Says why a connection to PostgreSQL couldn't be opened, and what to do about it."""

import re
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from normalizer.config.tls_files import libpq_option
from normalizer.errors import (
    FatalError,
    NormalizerError,
    StoreSignInError,
    StoreSilentError,
    StoreUnavailableError,
)
from normalizer.postgres.database import PoolerRejectedError, TlsFileError, describe_server_error
from normalizer.runtime.logging_setup import describe_error_without_secrets
from normalizer.store.sqlstate import translate_error

_SIGN_IN_CLASSES: Final = frozenset({"28", "3D"})
_POOLER_REJECTS: Final = re.compile(
    r"authentication failed|auth failed|no such (?:user|database)|does not exist|pg_hba"
)
"""Words in a pooler's message if the password, user, or database is wrong. With any other message
the pooler may be waiting for its server, which is an outage."""
_NO_LINE_IN_PG_HBA: Final = "ClientAuthentication"
"""The server's function that searches pg_hba.conf. With the same SQLSTATE 28000 as other errors and
a translated message, only the function tells that no line of pg_hba.conf matched."""
_OTHER_HOST: Final = frozenset({62, 64})
"""OpenSSL's codes for a certificate that has another host name or IP address."""


def translate_connect_error(error: BaseException, database_url: str) -> NormalizerError:
    """Translate the error of a failed connection into one that says which step failed, and why.

    The result quotes the server's message. Later messages may quote data, but before the first
    statement a message can contain only names of users, hosts, and databases.
    """
    match error:
        case PoolerRejectedError():
            is_rejected = _POOLER_REJECTS.search(str(error))
            return (StoreSignInError if is_rejected else StoreUnavailableError)(
                describe_server_error(error),
                remedy="check the user, the password and the name of the database in DATABASE_URL, "
                "then the pooler's own lists of users and databases, and its log",
                sqlstate=error.sqlstate,
            )
        case asyncpg.PostgresError():
            return _rejection(error, database_url)
        case TlsFileError():
            return StoreUnavailableError(str(error))
        case ssl.SSLError():
            reason = getattr(error, "verify_message", "") or error.reason
            return StoreSignInError(f"database: TLS: {reason}", remedy=_trusting(error))
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            return StoreSignInError(
                "database: TLS: the server does not offer TLS",
                remedy="turn ssl on at the server, or set sslmode=prefer in DATABASE_URL, which "
                "works without",
            )
        case TimeoutError():
            # A pooler doesn't respond either while its server rejects the pooler's own sign-in.
            what = (
                f"TCP: {describe_error_without_secrets(error)}"
                if error.errno
                else "no answer in time"
            )
            return StoreSilentError(f"database: {what}", remedy=_reaching(error))
        case OSError():
            return StoreUnavailableError(
                f"database: TCP: {describe_error_without_secrets(error)}", remedy=_reaching(error)
            )
        case _:
            return translate_error(error)


def _rejection(error: asyncpg.PostgresError, database_url: str) -> NormalizerError:
    """Translate the server's error at the sign-in, with what to do about it."""
    code = error.sqlstate or ""
    said = f"database: sign-in: {error.args[0]} (SQLSTATE {code})"
    if code[:2] in _SIGN_IN_CLASSES:
        return StoreSignInError(said, remedy=_signing_in(error, database_url), sqlstate=code)
    match code:
        case "42501":
            address = urlsplit(database_url)
            name, user = address.path.lstrip("/"), address.username
            return FatalError(said, remedy=f"grant connect on database {name} to {user};")
        case "53300":
            remedy = "raise max_connections of the server, or end sessions that nobody needs"
        case "57P03":
            remedy = "wait until the server has started, or stopped"
        case "08003" | "08006":
            remedy = "is this port PostgreSQL's? See the port in DATABASE_URL, and the server's log"
        case _:
            return translate_error(error)
    return StoreUnavailableError(describe_server_error(error), remedy=remedy, sqlstate=code)


def _signing_in(error: asyncpg.PostgresError, database_url: str) -> str:
    if error.sqlstate == "3D000":
        return "check the name of the database in DATABASE_URL"
    if getattr(error, "server_source_function", None) != _NO_LINE_IN_PG_HBA:
        return "check the user and the password in DATABASE_URL"
    if libpq_option(database_url, "sslmode") == "disable":
        return (
            "sslmode=disable turns TLS off, which a hostssl line of pg_hba.conf asks for: set "
            "sslmode=require in DATABASE_URL"
        )
    return (
        "check the user and the name of the database in DATABASE_URL; if they are right, add a "
        "line for them and this host to pg_hba.conf of the server"
    )


def _trusting(error: ssl.SSLError) -> str:
    if getattr(error, "verify_code", None) in _OTHER_HOST:
        return (
            "name the host in DATABASE_URL as the server's certificate does, or set "
            "sslmode=verify-ca"
        )
    return (
        "set sslrootcert in DATABASE_URL to the file of the authority that signed the server's "
        "certificate"
    )


def _reaching(error: OSError) -> str:
    match error:
        case socket.gaierror():
            return "check the host in DATABASE_URL"
        case TimeoutError():
            return (
                "is this port PostgreSQL's? Check host and port in DATABASE_URL, and the firewalls "
                "on the way. A pooler doesn't answer either while it has no server connection"
            )
        case _:
            return "is PostgreSQL running there? Check host and port in DATABASE_URL"
