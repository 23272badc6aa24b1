"""Extends MkDocs: pages from outside of docs/, and links that fit the site.

Pages are written for the repository, where a link leads to a file. On the site a page that is
part of it gets a link, and any other file keeps its name without one.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs_site.reference import figures, generated

ROOT: Final = Path(__file__).parents[1]

OUTSIDE: Final = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "contract/README.md": "contract/index.md",
    "contract/CHANGELOG.md": "contract/changelog.md",
    "contract/evolution.md": "contract/evolution.md",
    **{
        f"contract/languages/{name}.md": f"contract/{name}.md"
        for name in ("csharp", "go", "java", "javascript", "python", "rust")
    },
    "contract/rust/README.md": "contract/crate.md",
    "deploy/flink/README.md": "flink.md",
    "deploy/helm/event-normalizer/README.md": "chart.md",
}
"""Pages of the repository outside of docs/, and their places on the site."""

_FENCED: Final = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"(?<!\!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_JOINED: Final = "e=e+s+o.id"
_SOURCE: Final = re.compile(r'(src|srcset)="docs/([^"]+)"')


BOOSTS: Final = {
    "operate/": 4.0,
    "producing": 6.0,
    "decisions/": 0.3,
    "reference/alerts": 2.0,
    "reference/questions": 2.0,
    "reference/": 0.3,
    "changelog": 0.2,
}
"""How much a page counts in the search, by how its place begins. An operator types a symptom,
and a newcomer asks how to send an event."""

SYNONYMS: Final = {
    "contract/csharp": "csharp",
    "operate/batch-waits": "deadlock lock locks poison skip",
    "operate/calls-fail": "hanging hung executions timeouts",
    "operate/job-interrupted": "backfill cancel resume",
    "operate/kafka-away": "brokers unavailable",
    "operate/lag": "backlog throughput latency",
    "operate/log-lines": "rotation logging",
    "operate/move": "replay reread migrate",
    "operate/not-assigned": "rebalancing members",
    "operate/number-looks-wrong": "duplicates duplicated",
    "operate/page-is-old": "frozen refresh slow timeout query load long",
    "operate/postgresql-away": "failover replica refused read-only",
    "operate/process-ends": "oom memory crash crashed crashing crashloop",
    "operate/quarantine": "quarantined reprocess dlq malformed",
    "operate/README": "readyz livez restart stop",
    "operate/records-expire": "lost reset",
    "operate/redact": "pii personal",
    "operate/retention": "purge prune cleanup",
    "operate/running": "pgbouncer pooler connections grant permission privileges readonly",
    "operate/sign-in": "credentials secret ssl expired",
    "operate/snapshot-held": "bloat",
    "operate/upgrade": "deploy version",
    "reference/alerts": "silence mute",
}
"""Words that operators type, by the page that they mean. The search knows a page by them too, and
nobody sees them. Without a stemmer it finds `executions` only where that very word stands."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every decision in the navigation."""
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert config.nav is not None
    for section in config.nav:
        for part in section.get("Why", ()):
            if isinstance(part, dict) and "Decisions" in part:
                part["Decisions"] = [f"decisions/{page.name}" for page in pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/ and the generated ones."""
    for origin, place in OUTSIDE.items():
        files.append(File.generated(config, place, content=(ROOT / origin).read_text()))
    for place, text in generated().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Point each link at the page of the site, or leave only its text."""
    place = page.file.src_uri
    for beginning, boost in BOOSTS.items():
        if place.startswith(beginning):
            page.meta["search"] = {"boost": boost}
            break
    if words := SYNONYMS.get(place.removesuffix(".md")):
        page.meta["tags"] = words.split()
    origin = _origin(place)

    def moved(match: re.Match[str]) -> str:
        text, target = match.groups()
        if origin is None or target.startswith(("https://", "http://", "#", "mailto:")):
            return match[0]
        name, _, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))
        found = OUTSIDE.get(wanted, wanted.removeprefix("docs/"))
        if files.get_file_from_path(found) is None:
            return text
        relative = posixpath.relpath(found, posixpath.dirname(place) or ".")
        return f"[{text}]({relative}{'#' + anchor if anchor else ''})"

    parts = _FENCED.split(markdown)
    parts[::2] = [_SOURCE.sub(r'\1="\2"', _LINK.sub(moved, part)) for part in parts[::2]]
    text = "\n".join(_indented("".join(parts).split("\n")))
    return f"{text}\n{figures()}\n" if place == "results.md" else text


def on_post_build(config: MkDocsConfig) -> None:
    """Repair how the search tells the nodes of its index apart (lunr 2.3.9, `TokenSet.toString`).

    It joins letters and ids without a separator, so it may take two nodes for one where words
    contain digits. Then a search for a number fails, and which one changes with each text.
    """
    (worker,) = Path(config.site_dir).glob("assets/javascripts/workers/search.*.min.js")
    script = worker.read_text()
    if script.count(_JOINED) != 1:
        raise PluginError(f"{worker.name} doesn't join letters and ids as lunr 2.3.9 does")
    worker.write_text(script.replace(_JOINED, f'{_JOINED}+","'))


def _indented(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines with four spaces inside a list, as Python-Markdown wants them."""
    width, in_block = 0, False
    for line in lines:
        in_block ^= line.startswith("```")
        if not in_block and (marker := re.match(r"(- |\d+\. )", line)):
            width = len(marker[1])
        elif not line.startswith(" ") and line:
            width = 0
        inside = width and not in_block and line.startswith(" " * width)
        yield f"    {line[width:]}" if inside else line


def _origin(place: str) -> str | None:
    """Return the path in the repository of a page of the site, or None for a generated one."""
    if place.startswith("reference/"):
        return None
    moved = {there: here for here, there in OUTSIDE.items()}
    return moved.get(place, f"docs/{place}")
