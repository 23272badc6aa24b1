"""Keeps the rows that a dry run would have written, so that later records can merge into them.

The rows are in an SQLite database, so a dry run needs little memory for any number of rows. Its
temporary file has no name, so nothing is left behind, even after a crash.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self

import msgspec

from normalizer.core.identity.coordinates import Coordinates, source_coordinates
from normalizer.envelope import Envelope

_SCHEMA: Final = """
    create table event (
        event_id integer primary key, place blob not null, row blob not null, stored blob
    );
    create table assigned (place blob primary key, event_id integer not null);
    create table rejected (place blob primary key);
"""
_FIND: Final = (
    "select event_id, {column} from event where event_id in (select value from json_each(?))"
)

_row: Final[msgspec.msgpack.Decoder[Envelope]] = msgspec.msgpack.Decoder(Envelope)
_place: Final[msgspec.msgpack.Decoder[Coordinates]] = msgspec.msgpack.Decoder(Coordinates)


class Overlay:
    """Keeps the rows, ids, and rejections that a dry run would have stored.

    Leaving its `with` block deletes them.
    """

    def __init__(self) -> None:
        self._files = sqlite3.connect("", isolation_level=None)
        self._files.executescript(f"pragma journal_mode = off; pragma synchronous = off; {_SCHEMA}")
        self._assigned = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def find_coordinates_of_ids(self, event_ids: Sequence[int]) -> dict[int, Coordinates]:
        """Return the coordinates of those of these ids that would be stored."""
        return {
            event_id: _place.decode(coordinates)
            for event_id, coordinates in self._find("place", event_ids)
        }

    def get_rows(self, event_ids: Sequence[int]) -> dict[int, Envelope]:
        """Return those of these rows that would be stored or changed, in their new form."""
        return {event_id: _row.decode(row) for event_id, row in self._find("row", event_ids)}

    def keep_rows(
        self, new: Iterable[Envelope], changed: Iterable[tuple[Envelope, Envelope]]
    ) -> None:
        """Keep the rows that a batch would insert, and the rows that it would change.

        A changed row is given as (before, after). If several batches change the same row, the
        `before` of the first one is kept.
        """
        rows: list[tuple[Envelope, bytes | None]] = [(row, None) for row in new]
        rows += [(row, msgspec.msgpack.encode(stored)) for stored, row in changed]
        self._files.execute("begin")
        self._files.executemany(
            """
            insert into event (event_id, place, row, stored) values (?, ?, ?, ?)
            on conflict (event_id) do update set row = excluded.row
            """,
            (
                (
                    row.event_id,
                    msgspec.msgpack.encode(source_coordinates(row)),
                    msgspec.msgpack.encode(row),
                    stored,
                )
                for row, stored in rows
            ),
        )
        self._files.execute("commit")

    def new_rows(self) -> Iterator[Envelope]:
        """Yield every row that would be stored, in its final form, sorted by id."""
        for (row,) in self._files.execute(
            "select row from event where stored is null order by event_id"
        ):
            yield _row.decode(row)

    def rows_before_and_after(self) -> Iterator[tuple[Envelope, Envelope]]:
        """Yield every row that would be changed, as it is and in its final form, sorted by id."""
        for stored, row in self._files.execute(
            "select stored, row from event where stored is not null order by event_id"
        ):
            yield _row.decode(stored), _row.decode(row)

    def find_assigned_id(self, coordinates: Coordinates) -> int | None:
        """Return the id that would have been assigned at these coordinates, or None."""
        found = self._files.execute(
            "select event_id from assigned where place = ?", (msgspec.msgpack.encode(coordinates),)
        ).fetchone()
        return None if found is None else int(found[0])

    def assign_id(self, coordinates: Coordinates) -> int:
        """Assign an id below zero, in place of the one that the database would assign."""
        self._assigned -= 1
        self._files.execute(
            "insert into assigned values (?, ?)",
            (msgspec.msgpack.encode(coordinates), self._assigned),
        )
        return self._assigned

    def add_rejection(self, coordinates: Coordinates) -> bool:
        """Note a rejection. Returns whether it's the first at these coordinates."""
        return (
            self._files.execute(
                "insert or ignore into rejected values (?)", (msgspec.msgpack.encode(coordinates),)
            ).rowcount
            == 1
        )

    def _find(self, column: str, event_ids: Sequence[int]) -> list[tuple[int, bytes]]:
        wanted = msgspec.json.encode(event_ids).decode()
        return self._files.execute(_FIND.format(column=column), (wanted,)).fetchall()
