"""docs/operate: the walk walked as it stands, and every command it names."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import click
import pytest
import yaml
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from playwright.async_api import Page

from normalizer.cli import main as normalizer
from normalizer.embedded.free_ports import find_free_port
from normalizer.up import stack_files
from normalizer.up.stack_run import TOPIC_PARTITION_COUNT
from projector.cli import main as projector
from tests.integration.page.browsing import browsing, looking, serving
from tests.support.command_tree import subcommands
from tests.support.doc_pages import DOCS, Block, apply_diff, blocks, copy_tree
from tests.support.doc_shell import Shell, matches, typed_commands
from tests.support.service_runs import process, settings_for
from tests.support.stack import Database, Stack, Topic
from tests.support.table_rows import connected
from tests.support.waiting import until

PAGES = sorted(str(page.relative_to(DOCS)) for page in (DOCS / "operate").glob("*.md"))
ROOT = DOCS.parent
PROGRAMS = {"normalizer": normalizer, "projector": projector}


@pytest.fixture
async def tree(
    stack: Stack, database: Database, bootstrap_servers: str, admin: AIOKafkaAdminClient
) -> AsyncIterator[Path]:
    """The reader's tree, beside all that `make run ARGS=--no-traffic` runs."""
    copy = stack.folder / f"walk-{database.name}"
    copy_tree(copy, "normalizer", "projector", "simulator", "migrations")
    topic = Topic(name="noetl.events", partitions=TOPIC_PARTITION_COUNT)

    async def create() -> list[int]:
        answer = await admin.create_topics([NewTopic(topic.name, topic.partitions, 1)])
        return [code for _, code, *_ in answer.topic_errors]

    # Another test of this page may have a topic of this name now. Each deletes its own afterwards.
    await until(create, is_so=lambda codes: codes == [0], deadline_s=120)
    port = find_free_port(set())
    settings = settings_for(database, topic, bootstrap_servers, http_port=port)
    async with process(settings, sources=copy), serving(database.url) as api_url:
        (copy / ".noetl").mkdir()
        running = stack_files.RunningStack(
            database_url=database.url,
            bootstrap_servers=bootstrap_servers,
            api_url=api_url,
            topic=topic.name,
            group=settings.kafka_group_id,
            normalizer_url=f"http://127.0.0.1:{port}",
        )
        stack_files.write_stack_files(copy / ".noetl", running)
        yield copy
    await admin.delete_topics([topic.name])


def _environment(tree: Path) -> dict[str, str]:
    home = os.environ.get("HOME", "/")
    return {"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": str(tree)}


@pytest.mark.timeout(240)
async def test_the_walk_goes_as_it_is_written(tree: Path) -> None:
    shell = Shell(tree, _environment(tree))
    walked = seen = 0
    async with browsing() as browser, contextlib.AsyncExitStack() as opened:
        page: Page | None = None
        for block in _walk():
            match block.info.split():
                case ["console"]:
                    for one in typed_commands(block.text):
                        printed = await asyncio.to_thread(shell.run, one.command)
                        printed = _without_logs(printed)
                        assert matches(one.shown, printed), f"$ {one.command}\n{printed}"
                        walked += 1
                case ["page", panel]:
                    if page is None:
                        url = shell.run('echo "$PROJECTOR_URL"').strip()
                        page = await opened.enter_async_context(looking(browser, url))
                    await _until_shown(page, panel, block.text)
                    seen += 1
                case ["diff", name]:
                    apply_diff(tree / name, block.text)
                case _:
                    pass
    assert walked > 10
    assert seen > 1
    # The same stack answers the probes of compose.yaml, at its own addresses.
    for name, service in yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].items():
        if name in PROGRAMS:
            code = service["healthcheck"]["test"][-1]
            probe = re.sub(r"http://localhost:\d+", f"${{{name.upper()}_URL}}", code)
            assert probe != code
            await asyncio.to_thread(shell.run, f'python -c "{probe}"')


async def test_the_first_look_ends_with_a_call_of_its_own(tree: Path) -> None:
    shell = Shell(tree, _environment(tree))
    (program,) = (one.text for one in blocks("start.md") if "aiokafka" in one.text)

    await asyncio.to_thread(shell.run, ". .noetl/env")
    sent = await asyncio.to_thread(shell.run, program)
    offset = sent.strip().rpartition(":")[2]
    for block in blocks("start.md", "console"):
        for one in typed_commands(block.text.replace("1042", offset)):
            printed = _without_logs(await asyncio.to_thread(shell.run, one.command))
            assert matches(one.shown, printed), f"$ {one.command}\n{printed}"

    request = 'curl -s "$PROJECTOR_URL/api/v1/error-rate-by-attempt?step=mine"'
    answer = await asyncio.to_thread(shell.run, request)
    (row,) = json.loads(answer)["rows"]
    assert (row["attempts"], row["calls"], row["failed"]) == (0, 1, 0)


async def _until_shown(page: Page, panel: str, words: str) -> None:
    """Nobody reloads. The browser decides about spaces. Hidden text is for screen readers."""

    async def shown() -> str:
        words = await page.evaluate(
            """([panel]) => {
                const seen = document.querySelector(panel).cloneNode(true);
                for (const one of seen.querySelectorAll(".hidden")) one.remove();
                return seen.textContent;
            }""",
            [panel],
        )
        return "".join(words.split())

    await until(shown, is_so=lambda text: "".join(words.split()) in text)


def _walk() -> Iterator[Block]:
    """The blocks from the first console on."""
    found = blocks("operate/quarantine.md")
    first = next(number for number, block in enumerate(found) if block.info == "console")
    yield from found[first:]


def _without_logs(printed: str) -> str:
    return "".join(line for line in printed.splitlines(True) if not line.startswith('{"timestamp"'))


def _commands(group: click.Group, name: str) -> Iterator[str]:
    for word, command in sorted(subcommands(group).items()):
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}"


async def test_every_query_of_the_page_runs(database: Database) -> None:
    queries = [query for page in PAGES for query in blocks(page, "sql")]
    async with connected(database) as connection:
        for query in queries:
            await connection.execute(query.text)
    assert len(queries) > 4


def test_every_command_has_its_line() -> None:
    table = (DOCS / "operate" / "commands.md").read_text()
    listed = set(re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE))

    every = {line for name, group in PROGRAMS.items() for line in _commands(group, name)}
    assert every - listed == set()
    assert {" ".join(word for word in line.split() if word[0] != "-") for line in listed} == every


def test_every_command_teaches_by_example() -> None:
    for name, group in PROGRAMS.items():
        for line in _commands(group, name):
            command: click.Command = group
            for word in line.split()[1:]:
                assert isinstance(command, click.Group)
                command = subcommands(command)[word]
            assert re.search(
                rf"^ *(\S+=\S+ |[^\n]*\| |)*{line}", command.help or "", re.MULTILINE
            ), f"{line} --help shows no example of itself"


@pytest.mark.parametrize(
    "page", ["README.md", *sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))]
)
def test_every_command_on_a_page_is_one_that_there_is(page: str) -> None:
    path = ROOT / page if page == "README.md" else DOCS / page
    for line in _typed_lines(path.read_text()):
        program, *words = line.split()
        command: click.Command = PROGRAMS[program]
        while isinstance(command, click.Group) and words and words[0][0] not in "-<>|.;,":
            commands = subcommands(command)
            assert words[0] in commands, f"{page}: {line}"
            command = commands[words.pop(0)]
        known = {name for option in command.params for name in option.opts} | {"--help", "-h"}
        known |= {"--version"} if command is PROGRAMS[program] else set()
        for word in words:
            if word in ("|", ">", "<", "&&", "#"):
                break
            if word.startswith("--"):
                assert word.partition("=")[0].rstrip(".,;)") in known, f"{page}: {line}"


def _typed_lines(text: str) -> Iterator[str]:
    """Lines of blocks, and words in backquotes, that begin with one of our programs."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in fenced for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", prose)]
    for line in lines:
        found = re.match(r"(?:\$ )?((?:normalizer|projector)(?: \S+)*)", line)
        if found is not None and not re.match(r"(normalizer|projector)([./]| =)", found[1]):
            yield found[1]
