"""Every target of a link on the pages exists."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from normalizer.core.normalize import Normalizer
from normalizer.core.raw_record import RawRecord
from normalizer.envelope import Envelope, to_canonical
from projector.api.api_metrics import FRESHNESS_STATES
from tests.support.doc_pages import DOCS, apply_diff, blocks

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "contract").glob("*.md"),
        ROOT / "tests" / "vectors" / "README.md",
    ]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)

    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', text)
    for target in [*re.findall(r"\]\(([^)\s]+)\)", text), *pictures]:
        if target.startswith("https://"):
            continue
        name, _, part = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not part or part in set(_anchors(path.read_text())), target


def test_every_state_of_the_page_leads_to_a_page_of_operate() -> None:
    script = (ROOT / "projector" / "api" / "page" / "assets" / "guides.js").read_text()
    guides = dict(re.findall(r"^  (\w+): \"(.+)\",$", script, re.MULTILINE))

    assert {*FRESHNESS_STATES} - {"caught_up", "reading"} <= guides.keys()
    for target in guides.values():
        name, _, part = target.partition("#")
        text = (DOCS / "operate" / name).read_text()
        assert not part or part in set(_anchors(text)), target


def _anchors(text: str) -> Iterator[str]:
    """Those that are written out, and those that GitHub makes of headings."""
    yield from re.findall(r'<a id="([\w-]+)"></a>', text)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_index_of_docs_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()

    assert "docs/README.md" in (ROOT / "README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_the_index_lists_every_decision_by_its_title() -> None:
    index = (ROOT / "docs" / "README.md").read_text()

    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        number, _, title = page.read_text().splitlines()[0].removeprefix("# ").partition(". ")
        assert f"\n{number}. [{title}](decisions/{page.name})\n" in index


def test_the_two_records_of_the_readme_become_one_event() -> None:
    records = blocks("../README.md", "json record")
    (event,) = blocks("../README.md", "json event")

    for record in records:
        (outcome,) = Normalizer().normalize(
            RawRecord(
                value=record.text.encode(), topic="noetl.events", recorded_ms=1_783_674_000_100
            )
        )
        assert isinstance(outcome, Envelope)
        assert to_canonical(outcome).decode() == event.text.strip()
    assert len(records) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_names_is_there(page: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True)
    tracked = listed.stdout.decode().splitlines()

    for named in re.findall(r"`([\w/.-]+\.(?:py|sql|yml|yaml|ndjson))`", page.read_text()):
        if named not in WRITTEN_BY_THE_READER:
            assert any(f"/{name}".endswith(f"/{named}") for name in tracked), named


WRITTEN_BY_THE_READER = {"tests/vectors/scheduler.ndjson", "tests/vectors/status_calls.ndjson"}


def test_the_event_that_is_followed_becomes_what_the_flow_shows() -> None:
    record, event = (block.text.strip() for block in blocks("flow.md", "json"))

    (outcome,) = Normalizer().normalize(
        RawRecord(
            value=record.encode(),
            topic="noetl.events",
            partition=3,
            offset=1042,
            recorded_ms=1_783_674_000_100,
        )
    )

    assert isinstance(outcome, Envelope)
    assert to_canonical(outcome).decode() == event
    assert (outcome.shape, outcome.evidence) == ("executor", 222)


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_diff_of_a_page_fits_its_file(page: str, tmp_path: Path) -> None:
    """Without the servers that the tests need which walk these pages."""
    for block in blocks(page):
        match block.info.split():
            case ["diff", name]:
                changed = tmp_path / name
                if not changed.exists():
                    changed.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / name, changed)
                apply_diff(changed, block.text)
            case _:
                pass


def test_a_decision_has_a_number_of_its_own_which_is_its_files() -> None:
    titles = {path.name: path.read_text().split(".")[0] for path in ROOT.glob("docs/decisions/*")}

    assert titles == {name: f"# {int(name[:4])}" for name in titles}
    assert len({name[:4] for name in titles}) == len(titles), "two decisions with one number"
