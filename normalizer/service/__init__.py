"""The service: records of a consumer group in, canonical rows in PostgreSQL out.

service       the loop: fetch, normalise, store, advance; every step named, none done
lasting       work that lasts as long as the service does
membership    the group joined, its partitions kept claimed and watched
ownership     which partitions are ours, by claims in PostgreSQL
intake        records normalised into a batch, heavy ones in a process of their own
filling       chunks of partitions become a batch
playback      a file instead of a broker

How it goes
metrics       every name with what it means and what to do
counting      a committed transaction into counts
heartbeat     what this process owns and where its logs end, into the database
standing      where broker and database stand, asked at each scrape
monitor       /metrics, /livez, /readyz
probes        the HTTP server under them, on threads of its own
"""
