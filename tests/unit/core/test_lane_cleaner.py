"""Events that Python cleans for the native lane, and those that the lane leaves."""

from typing import Final

import msgspec
import pytest

from normalizer.core.decode.lane_cleaner import MAX_CLEANED_BYTES, LaneCleaner

CLEANER: Final = LaneCleaner(["iban"])
EVENT: Final = b'{"event_type":"a","execution_id":1,"context":%b}'
SENT: Final = EVENT % b'{"password":"p4ssw0rd-9"}'
AS_TEXT: Final = msgspec.json.encode(SENT.decode())
WRAPPED: Final = b'{"global_sequence":1,"payload":%b}' % AS_TEXT


@pytest.mark.parametrize(
    ("sent", "cleaned"),
    [
        (b'{"n":1}', b'{"n":1}'),
        (b'{"password":"p4ssw0rd-9"}', b'{"password":"[REDACTED]"}'),
        (b'{"iban":"x"}', b'{"iban":"[REDACTED]"}'),
        (b'{"password":"a","password":null}', b'{"password":null}'),
        (b'{"password":null,"e":1e-7}', b'{"password":null,"e":1e-7}'),
    ],
)
def test_an_event_is_cleaned(sent: bytes, cleaned: bytes) -> None:
    assert CLEANER.clean(EVENT % sent) == EVENT % cleaned


@pytest.mark.parametrize("batch", [b'{"events":[%b,%b]}', b'{"records":[%b,%b],"password":null}'])
def test_a_batch_is_cleaned(batch: bytes) -> None:
    plain, sent = EVENT % b'{"n":1}', EVENT % b'{"password":"p4ssw0rd-9"}'

    assert CLEANER.clean(batch % (plain, sent)) == batch % (
        plain,
        EVENT % b'{"password":"[REDACTED]"}',
    )


def test_text_without_a_sign_stays_whatever_it_is() -> None:
    assert CLEANER.clean(b"no JSON") == b"no JSON"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(EVENT % rb'{"pass\u0077ord":"x"}', id="an escape"),
        pytest.param(EVENT % rb'{"password":"x\u0000"}', id="unstorable"),
        pytest.param(EVENT % b'{"password":1e300}', id="an extreme exponent"),
        pytest.param(EVENT % (b'{"password":%b}' % (b"9" * 300)), id="many digits"),
        pytest.param(EVENT % (b'{"password":"%b"}' % (b"x" * MAX_CLEANED_BYTES)), id="long"),
        pytest.param(EVENT % (b'{"password":%b}' % (b"[" * 300 + b"]" * 300)), id="too deep"),
        pytest.param(EVENT % (b'{"password":%b' % (b"[" * 2_000)), id="too deep and cut off"),
        pytest.param(b'{"event_type":"a","password":"x"', id="cut off"),
        pytest.param(b'{"events":[%b,%b]}' % (SENT, AS_TEXT), id="a batch with a text"),
        pytest.param(b'{"events":[%b,%b]}' % (SENT, WRAPPED), id="a batch with a wrapper"),
        pytest.param(b'{"password":"x","events":[%b]}' % WRAPPED, id="a batch of wrappers"),
        pytest.param(b'{"password":"","events":["%b"]}' % (b"x" * 1_100), id="a batch of texts"),
        pytest.param(WRAPPED, id="a wrapper"),
        pytest.param(b'{"password":"x","global_sequence":1,"payload":"","events":[]}', id="both"),
        pytest.param(b'{"password":"x","op":"c","events":[]}', id="an envelope"),
        pytest.param(b'{"password":"x","execution_id":1}', id="no event"),
        pytest.param(b'"password=x"', id="a text"),
    ],
)
def test_other_text_with_a_sign_is_left(text: bytes) -> None:
    assert CLEANER.clean(text) is None


def test_headers_with_a_sign_are_suspicious() -> None:
    assert CLEANER.headers_may_hold_secret(b'{"name":"DB_PASSWORD","value":"x"}')
    assert not CLEANER.headers_may_hold_secret(b'{"name":"x"}')
