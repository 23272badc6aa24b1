"""Finds out whether a port speaks TLS and which SASL mechanisms it offers. Sends no secret."""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import IllegalSaslStateError, KafkaError
from aiokafka.protocol.admin import SaslHandShakeRequest

STEP_S: Final = 5.0
FAILURES: Final = (KafkaError, OSError, TimeoutError, EOFError)
"""The errors that a connection or request of the client raises."""


async def speaks_tls(host: str, port: int) -> bool | None:
    """Return True if the port answers a TLS handshake, False for a plain request, else None."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # we send nothing but the handshake
    try:
        async with asyncio.timeout(STEP_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except FAILURES:
        plain = AIOKafkaConnection(host, port, request_timeout_ms=round(STEP_S * 1000))
        try:
            await plain.connect()
        except FAILURES:
            return None
        finally:
            plain.close()
        return False
    writer.close()
    return True


async def offered_mechanisms(
    host: str, port: int, options: Mapping[str, Any]
) -> frozenset[str] | None:
    """Return the port's SASL mechanisms, empty without SASL, or None without an answer."""
    without_sasl = {name: value for name, value in options.items() if not name.startswith("sasl_")}
    without_sasl["security_protocol"] = options["security_protocol"].removeprefix("SASL_")
    connection = AIOKafkaConnection(host, port, **without_sasl)
    try:
        await connection.connect()
        answer = await connection.send(SaslHandShakeRequest(options.get("sasl_mechanism", "")))
    except FAILURES:
        return None
    finally:
        connection.close()
    if answer.error_code == IllegalSaslStateError.errno:
        return frozenset()
    return frozenset(answer.enabled_mechanisms)
