"""Tests: unit (no I/O), property (laws), rules (house style), integration, chaos (real stack).

They run the core as Python, which is what coverage and mutations measure; with TEST_CORE=compiled
the compiled one, where it was built from these sources.
"""

import os

if "PYTEST_VERSION" in os.environ and os.environ.get("TEST_CORE") != "compiled":
    os.environ["NORMALIZER_CORE"] = "python"  # before anything of the normalizer is imported
