"""A reader that knows the published schema only accepts everything the core makes of the play."""

import jsonschema
import msgspec

from normalizer.core.normalize import Normalizer
from normalizer.envelope import Envelope, to_canonical
from normalizer.json_schema import json_schema
from simulator.mix import Mix
from tests.support.simulator_pipeline import simulated_log


def test_the_schema_accepts_every_canonical_event() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    rich = Mix(in_flight=40, mutated=0.5, odd_text=0.2, secrets=0.3, poison=0.1, colliding=0.05)
    log, _ = simulated_log(rich, 4, 1_000)
    normalize = Normalizer().normalize

    events = 0
    for record in log:
        for outcome in normalize(record):
            if isinstance(outcome, Envelope):
                validator.validate(msgspec.json.decode(to_canonical(outcome)))
                events += 1

    assert events > 800
