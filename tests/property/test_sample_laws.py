"""The law of samples: no sample shows a secret, wherever in the record its name is."""

import json
from typing import Any, Final, NamedTuple

from hypothesis import example, given, strategies as st

from normalizer.core.decode.rejected_sample import MAX_SAMPLE_BYTES, sample_unless_secret
from normalizer.core.redaction.sanitize import Sanitizer
from tests.support import secret_corpus

SECRET: Final = "Zq7Wm4Xt9Lp2"
SANITIZER: Final = Sanitizer()

pads = st.integers(0, 3 * MAX_SAMPLE_BYTES).map(lambda size: "." * size)


class Arrangement(NamedTuple):
    """Members that make one of them secret, with others of any length between them."""

    members: dict[str, Any]
    secret: str

    def text(self, pads: list[str], indent: int | None) -> str:
        """The members as one JSON object."""
        padded: dict[str, Any] = {}
        for n, (key, value) in enumerate(self.members.items()):
            padded |= {f"pad{n}": pads[n % len(pads)], key: value}
        return json.dumps(padded, ensure_ascii=False, indent=indent)


def _in_any_order(members: dict[str, Any], secret: str = SECRET) -> st.SearchStrategy[Arrangement]:
    return st.permutations(list(members.items())).map(
        lambda pairs: Arrangement(dict(pairs), secret)
    )


arrangements = st.one_of(
    _in_any_order({"name": "DB_PASSWORD", "value": SECRET}),
    _in_any_order({"envName": "API_TOKEN", "envValue": SECRET}),
    _in_any_order({"type": "password", "default": SECRET}),
    _in_any_order({"op": "add", "path": "/db_password", "value": SECRET}),
    _in_any_order({"sensitive": True, "value": SECRET}),
    _in_any_order({"isSecret": True, "value": SECRET}),
    _in_any_order({"kind": "Secret", "data": {"user": SECRET}}),
    _in_any_order({"kty": "oct", "k": SECRET}),
    _in_any_order({"specversion": "1.0", "data_base64": SECRET}),
    st.sampled_from(list(secret_corpus.secrets())).map(
        lambda secret: Arrangement({"sent": secret.value}, secret.secret)
    ),
)


@given(
    arrangements,
    st.lists(pads, min_size=1, max_size=3),
    st.sampled_from([None, 0, 2]),
    st.integers(0, 3),
    st.sampled_from(["", "[", "{", "not JSON: ", '{"lines": [\n']),
    pads,
)
@example(
    Arrangement({"value": SECRET, "name": "DB_PASSWORD"}, SECRET),
    ["", "." * 4_200],
    None,
    0,
    "",
    "",
)
@example(
    Arrangement({"value": SECRET, "sensitive": True}, SECRET), ["", "." * 4_200], None, 1, "", ""
)
def test_no_sample_shows_a_secret_whose_name_is_anywhere_in_the_record(
    arrangement: Arrangement,
    pads: list[str],
    indent: int | None,
    texts: int,
    before: str,
    after: str,
) -> None:
    """Within up to three texts, in JSON that lacks its end or its beginning, in text around it."""
    text = arrangement.text(pads, indent)
    for _ in range(texts):
        text = json.dumps({"sent": text})

    sample = sample_unless_secret(f"{before}{text}{after}".encode(errors="replace"), SANITIZER)

    assert sample is None or arrangement.secret not in sample
