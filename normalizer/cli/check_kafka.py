"""Checks everything in Kafka that the service needs, for `normalizer check`.

It looks at the sign-in, the topics and their settings, and the consumer group, and changes nothing.
Each method yields the lines of one check.
"""

from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from normalizer.cli.check_result import CheckResult
from normalizer.config.settings import Settings
from normalizer.core.batch import last_record_or_none
from normalizer.errors import FatalError
from normalizer.kafka import (
    GrouplessClient,
    KafkaPartition,
    LogMismatch,
    OffsetBounds,
    acl_grant_command,
    find_log_mismatch,
    no_leader_error,
)

_NO_SUCH_GROUP: Final = frozenset({"Dead", ""})
"""The states that Kafka reports for a group that doesn't exist."""
_UNUSED: Final = "new: no process has joined it yet"


class KafkaCheck:
    """Checks everything in Kafka that the service needs."""

    def __init__(self, settings: Settings, log: GrouplessClient) -> None:
        self._settings = settings
        self._log = log
        self.cluster_id: str | None = None
        self.bounds: dict[KafkaPartition, OffsetBounds | None] = {}
        """The first offset and the end of every existing partition, or None if it has no leader."""
        self._servers = ",".join(settings.kafka_bootstrap_servers)
        self.trouble = (
            f"kafka {self._servers}",
            "see KAFKA_BOOTSTRAP_SERVERS and the security settings (`normalizer config`)",
        )

    async def check_connection(self) -> AsyncIterator[CheckResult]:
        """Connect, and report address, user, and encryption."""
        await self._log.check_sign_in()
        self.cluster_id = await self._log.cluster_id()
        settings = self._settings
        how: str = settings.kafka_security_protocol
        if how.startswith("SASL"):
            users = {
                "OAUTHBEARER": settings.kafka_sasl_oauthbearer_client_id,
                "AWS_MSK_IAM": "the AWS credentials",
            }
            mechanism = settings.kafka_sasl_mechanism
            how += f", {mechanism} as {users.get(mechanism, settings.kafka_sasl_username)}"
        yield CheckResult(self.trouble[0], f"cluster {self.cluster_id}, {how}")

    def _command(self, tool: str, topic: str, options: str) -> str:
        """Build the command line of one of Kafka's own tools."""
        return f"{tool} --bootstrap-server {self._servers} --topic {topic} {options}"

    async def check_topic(self, topic: str) -> AsyncIterator[CheckResult]:
        """Check that the topic exists and can be read, and report its retention."""
        try:
            partitions = await self._log.partitions(topic)
        except FatalError:
            message = (
                "this user may not describe the topic, so it's unknown whether the topic exists"
            )
            yield CheckResult(f"topic {topic}", message, acl_grant_command("topic", topic))
            return
        if not partitions:
            create = self._command("kafka-topics.sh", topic, "--create --partitions 6")
            before = (
                "if it was read before, with as many partitions as `normalizer position show` lists"
            )
            remedy = f"correct KAFKA_TOPICS, or create the topic: {create} ({before})"
            yield CheckResult(f"topic {topic}", "no such topic", remedy)
            return
        bounds = await self._log.reachable_offset_bounds(partitions)
        self.bounds |= dict.fromkeys(partitions) | bounds
        records = sum(bound.end - bound.start for bound in bounds.values())
        yield CheckResult(
            f"topic {topic}", f"{len(partitions)} partitions, {records} offsets in the log"
        )
        if away := partitions - bounds.keys():
            describe = self._command("kafka-topics.sh", topic, "--describe")
            yield CheckResult(f"topic {topic}", str(no_leader_error(away)), describe)
        async for finding in self._readable(topic, bounds):
            yield finding
        async for finding in self._retention(topic):
            yield finding

    async def check_group(self) -> AsyncIterator[CheckResult]:
        """Check that this user may see the group, and report its members."""
        group = self._settings.kafka_group_id
        try:
            state, members = await self._log.group_state_and_size(group)
        except FatalError as error:
            yield CheckResult(f"group {group}", str(error), acl_grant_command("group", group))
        else:
            said = _UNUSED if state in _NO_SUCH_GROUP else f"{state.lower()}, {members} members"
            yield CheckResult(f"group {group}", said)

    async def find_log_mismatch(
        self, partition: KafkaPartition, row: asyncpg.Record
    ) -> LogMismatch | None:
        """Return why a partition isn't the one that its position belongs to, or None if it is."""
        cluster_ids = (row["cluster_id"], self.cluster_id or "")
        if self.bounds.get(partition) is None and cluster_ids[0] == cluster_ids[1]:
            return None
        return await find_log_mismatch(
            self._log,
            partition,
            cluster_ids,
            next_offset=row["next_offset"],
            last=last_record_or_none(row["last_offset"], row["last_recorded_ms"], row["last_crc"]),
        )

    async def _readable(
        self, topic: str, bounds: dict[KafkaPartition, OffsetBounds]
    ) -> AsyncIterator[CheckResult]:
        filled = [
            partition for partition, bound in sorted(bounds.items()) if bound.end > bound.start
        ]
        if not filled:
            yield CheckResult(
                f"topic {topic}", "empty, so only the first record will show whether it may be read"
            )
            return
        partition = filled[0]
        try:
            await self._log.first_record_in_range(partition, *bounds[partition])
        except FatalError as error:
            yield CheckResult(f"topic {topic}", str(error), acl_grant_command("topic", topic))
        else:
            yield CheckResult(f"topic {topic}", "may be read")

    async def _retention(self, topic: str) -> AsyncIterator[CheckResult]:
        try:
            configs = await self._log.read_topic_config(topic)
        except FatalError:
            yield CheckResult(
                f"topic {topic}",
                "its settings are hidden, so the alert NormalizerRecordsExpire can't fire",
                acl_grant_command("topic", topic, "DescribeConfigs"),
            )
            return
        if "compact" in configs.get("cleanup.policy", ""):
            yield CheckResult(
                f"topic {topic}",
                "compacted, so Kafka deletes an event once a newer one has the same key",
                self._command(
                    "kafka-configs.sh", topic, "--alter --add-config cleanup.policy=delete"
                ),
            )
        kept_ms = int(configs.get("retention.ms", "-1"))
        kept = "indefinitely" if kept_ms < 0 else f"{kept_ms / 3_600_000:g} hours"
        most_bytes = int(configs.get("retention.bytes", "-1"))
        size = f", up to {most_bytes} bytes a partition" if most_bytes >= 0 else ""
        yield CheckResult(f"topic {topic}", f"records are kept {kept}{size}")
