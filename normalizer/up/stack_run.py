"""Runs the whole stack: starts its parts in order, watches them, and stops them."""

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from normalizer.config.passwords import mask_url_passwords
from normalizer.config.settings import Settings
from normalizer.embedded import (
    KAFKA_VERSION,
    KafkaBroker,
    KafkaRequirementMissingError,
    PostgresServer,
    ensure_kafka_jars,
)
from normalizer.errors import NormalizerError
from normalizer.kafka import GrouplessClient, optional_groupless_client
from normalizer.runtime.screen import Screen
from normalizer.runtime.signals import stop_on_signals
from normalizer.store.migrate import SchemaMismatchError, migrate
from normalizer.store.sqlstate import STATEMENT_ERRORS
from normalizer.up.call_summary import print_call_summary, print_call_summary_periodically
from normalizer.up.native_build_watch import NativeBuildWatch
from normalizer.up.stack_files import (
    SHELL_VARIABLES_FILE,
    RunningStack,
    lock_stack_folder,
    remove_stack_files,
    write_pgpass,
    write_stack_files,
)
from normalizer.up.stack_programs import FILE_REPLAY_TOPIC, StackProgramStarter, has_simulator
from normalizer.up.supervisor import Supervisor

TOPIC_PARTITION_COUNT: Final = 6

_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NO_FILE: Final = (
    "no traffic, because the simulator is part of the source and not of the wheel. To store your "
    "own records: normalizer backfill file FILE"
)


class UpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the command.

    `rate` is in events per second. If `for_s` is None, it runs until a signal.
    """

    folder: Path = Path(".noetl")
    kafka: bool = True
    traffic: bool = True
    rate: float = 200.0
    seed: int = 1
    for_s: float | None = None


async def up(
    options: UpOptions,
    *,
    environ: Mapping[str, str] = os.environ,
    screen: Screen | None = None,
) -> int:
    """Run the stack until a signal or for `for_s` seconds, and return the exit code.

    The first SIGINT, SIGTERM, or SIGHUP stops everything in order, and a second one ends everything
    at once. The exit code is 0 if it was stopped, either by a signal or after `for_s`.
    """
    run = _Run(options, environ, screen or Screen())
    code = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(run.run(), name="up")
            with stop_on_signals(running.cancel, abort=run.abort, signals=_STOP_SIGNALS):
                await asyncio.wait([running])
    except* SchemaMismatchError as errors:
        run.screen.print_line(_in_words(errors))
        code = 3
    except* BrokenPipeError:
        code = 1
    except* (NormalizerError, *STATEMENT_ERRORS) as errors:
        run.screen.print_line(_in_words(errors))
        code = 1
    return code


class _Run:
    def __init__(self, options: UpOptions, environ: Mapping[str, str], screen: Screen) -> None:
        self.screen = screen
        self._options = options
        self._environ = environ
        self._folder = options.folder.resolve()
        self._supervisor = Supervisor()
        self._lane_watch = NativeBuildWatch()

    async def run(self) -> None:
        """Start everything, keep it running until cancelled, then stop everything."""
        with lock_stack_folder(self._folder), self._without_stack_file():
            async with self._supervisor:
                stack, settings = await self._start_servers()
                await self._migrate(stack.database_url)
                async with optional_groupless_client(settings) as log:
                    await self._start_programs(stack, log)
                    self._write(stack)
                    # By default the page shows the last day. A new stack has data for only a few
                    # minutes of that, so the charts would look empty.
                    window = "/?last=15m" if log and self._sends_traffic else ""
                    self.screen.print_line(f"dashboard: {stack.api_url}{window}")
                    self.screen.print_line(
                        f"reading {stack.topic}; logs and stack.json: {self._folder}"
                    )
                    if stack.normalizer_url:
                        self.screen.print_line(
                            f"health: {stack.normalizer_url}/readyz, /livez, /metrics"
                        )
                    shell_file = shlex.quote(str(self._folder / SHELL_VARIABLES_FILE))
                    self.screen.print_line(f"for another shell: . {shell_file}")
                    self.screen.print_line("Ctrl-C stops it, and a second Ctrl-C ends it at once")
                    try:
                        await self._watch(stack)
                    finally:
                        self.screen.print_line("stopping")
                        await print_call_summary(stack.database_url, self.screen)
        self.screen.print_line("stopped")

    def abort(self) -> None:
        """End every process at once without waiting."""
        self._supervisor.abort()
        remove_stack_files(self._folder)

    @property
    def _sends_traffic(self) -> bool:
        return self._options.traffic and has_simulator()

    async def _migrate(self, database_url: str) -> None:
        """Migrate. Prints one line for all files, and each line that says what it waits for."""

        def report(line: str) -> None:
            if not line.startswith("applied "):
                self.screen.print_line(line)

        if applied := await migrate(database_url, report=report):
            self.screen.print_line(f"{len(applied)} migrations applied")

    async def _start_servers(self) -> tuple[RunningStack, Settings]:
        stack = await _start_postgres(self._folder, self._supervisor, self.screen.print_line)
        if not self._options.kafka:
            return stack, Settings()
        return stack, await _start_kafka(
            self._folder, stack, self._supervisor, self.screen.print_line
        )

    async def _start_programs(self, stack: RunningStack, log: GrouplessClient | None) -> None:
        if log is None:
            stack.topic = FILE_REPLAY_TOPIC
        programs = StackProgramStarter(self._folder, stack, self._supervisor, self._environ)
        stack.api_url = await programs.start_projector()
        if log is None:
            if has_simulator():
                await programs.backfill_traffic_file(
                    seed=self._options.seed, report=self.screen.print_line
                )
            else:
                self.screen.print_line(_NO_FILE)
            return
        await log.create_topic(stack.topic, partitions=TOPIC_PARTITION_COUNT)
        await programs.start_normalizer(len(await log.partitions(stack.topic)))
        if self._sends_traffic:
            await programs.start_traffic(rate=self._options.rate, seed=self._options.seed)
        elif self._options.traffic:
            self.screen.print_line(
                "no traffic, because the simulator is part of the source and not of the wheel. "
                "From the source: python -m simulator play --live "
                f"--bootstrap-servers={stack.bootstrap_servers} --rate={self._options.rate:g} "
                f"--topic={stack.topic}"
            )

    async def _watch(self, stack: RunningStack) -> None:
        """Watch the processes until cancelled, or until `for_s` is over.

        Raises EmbeddedError if a process fails.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.for_s), asyncio.TaskGroup() as tasks:
                keeping = self._supervisor.restart_ended_processes(
                    report=self.screen.print_line, started_again=lambda: self._write(stack)
                )
                tasks.create_task(keeping, name="keep running")
                tasks.create_task(
                    print_call_summary_periodically(stack.database_url, self.screen),
                    name="table of calls",
                )
                if stack.normalizer_url:
                    tasks.create_task(self._keep_using_new_lanes(), name="native lane")

    async def _keep_using_new_lanes(self) -> None:
        while True:
            await self._lane_watch.wait_for_new_lane()
            self.screen.print_line("core: native. The normalizer restarts with the lane just built")
            self._supervisor.restart("normalizer")

    def _write(self, stack: RunningStack) -> None:
        stack.pids = {"up": os.getpid(), **self._supervisor.pids_by_name}
        write_stack_files(self._folder, stack)

    @contextlib.contextmanager
    def _without_stack_file(self) -> Iterator[None]:
        """Remove stack.json before and after the block.

        It exists only while everything runs.
        """
        remove_stack_files(self._folder)
        try:
            yield
        finally:
            remove_stack_files(self._folder)


def _in_words(errors: BaseExceptionGroup[BaseException]) -> str:
    """Return the first real error of nested exception groups, with passwords in URLs masked."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"error: {mask_url_passwords(str(error)) or type(error).__name__}"


async def _start_postgres(
    folder: Path, supervisor: Supervisor, report: Callable[[str], None]
) -> RunningStack:
    """Start PostgreSQL. Returns the stack so far, with the owner's database."""
    server = PostgresServer(folder / "postgres")
    await supervisor.start("postgres", server)
    url = await server.create_database("noetl")
    report(f"PostgreSQL on 127.0.0.1:{server.port}. To query it:")
    pgpass = write_pgpass(folder, url)
    psql = shlex.join([str(server.bin_dir / "psql"), _without_password(url)])
    report(f"  PGPASSFILE={shlex.quote(str(pgpass))} {psql}")
    return RunningStack(
        database_url=url, folders={"state": str(folder), "postgres": str(server.data_folder)}
    )


async def _start_kafka(
    folder: Path, stack: RunningStack, supervisor: Supervisor, report: Callable[[str], None]
) -> Settings:
    """Start Kafka and return its address.

    If parts are missing, it prints which, and returns none.
    """
    try:
        jars = await ensure_kafka_jars(report)
    except KafkaRequirementMissingError as missing:
        report(f"{missing} (until then use --no-kafka, which loads the same records from a file)")
        return Settings()
    broker = KafkaBroker(folder / "kafka", jars)
    await supervisor.start("kafka", broker)
    stack.bootstrap_servers = broker.bootstrap_servers
    stack.folders["kafka"] = str(broker.folder)
    report(f"Apache Kafka {KAFKA_VERSION} on {broker.bootstrap_servers}")
    return Settings(kafka_bootstrap_servers=(broker.bootstrap_servers,))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}").geturl()
