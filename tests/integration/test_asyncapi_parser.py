"""contract/asyncapi.yaml by AsyncAPI's own parser, which npm installs for this test alone."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.contract import FOLDER

PARSER: Final = "@asyncapi/parser@3.6.6"
CHECK: Final = """
import { fromFile, Parser } from "@asyncapi/parser";
const { document, diagnostics } = await fromFile(new Parser(), process.argv[2]).parse();
const errors = diagnostics.filter((found) => found.severity === 0);
console.log(JSON.stringify({ parsed: document !== undefined, errors }));
"""


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="no npm: apt-get install npm")
def test_the_asyncapi_document_is_one_by_its_own_parser(tmp_path: Path) -> None:
    (tmp_path / "check.mjs").write_text(CHECK)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", PARSER]
    subprocess.run(install, cwd=tmp_path, check=True)

    done = subprocess.run(
        ["node", "check.mjs", FOLDER / "asyncapi.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout) == {"parsed": True, "errors": []}
