"""Long values need little memory beyond themselves."""

import subprocess
import sys

_CUT = """
import resource

from normalizer.core.redaction.secret_values import unquoted_value_end

before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
text = '"a' * 1_000_000
assert unquoted_value_end(text, 0) == len(text)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
"""


def test_a_long_unquoted_value_needs_little_memory() -> None:
    """Each repetition of an atomic group holds a state, which would be 100 MB here."""
    added = subprocess.run(
        [sys.executable, "-c", _CUT], check=True, stdout=subprocess.PIPE, text=True
    )

    assert int(added.stdout) < 30_000
