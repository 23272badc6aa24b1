"""The service: records of a consumer group in, canonical rows in PostgreSQL out.

service       the loop: fetch, normalize, store, advance; every step named, none done
critical_tasks  work that lasts as long as the service does
membership    the group merged, its partitions kept claimed and watched
ownership     which partitions are ours, by claims in PostgreSQL
intake        records normalized into a batch, heavy ones in a process of their own
batch_builder  chunks of partitions become a batch
file_replay   a file instead of a broker

How it goes
service_metrics  every name with what it means and what to do
commit_metrics  a committed transaction into counts
heartbeat     what this process owns and where its logs end, into the database
lag           where broker and database stand, asked at each scrape
monitor       /metrics, /livez, /readyz
probes        the HTTP server under them, on threads of its own
"""
