"""What the database knows of sources: live positions, generations, files that were short."""

from collections.abc import Callable

import msgspec

from normalizer.errors import ConfigurationError
from normalizer.files.lines import NAMED_BY_BYTES
from normalizer.jobs import statements
from normalizer.jobs.files import ShortFile
from normalizer.store.database import reading
from normalizer.store.store import Claim


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """As it was when a job began. `generations` gives the newest and how many there are."""

    live: tuple[Claim, ...]
    generations: dict[tuple[str, int], tuple[int, int]]
    short_files: tuple[ShortFile, ...]

    def generation_of(self, asked: int | None) -> Callable[[str, int], int]:
        """The generation that a record belongs to that names its topic and partition.

        Raises ConfigurationError where it may be one of several and none was asked for: records
        under the wrong one would pass for others that are stored already.
        """

        def generation(topic: str, partition: int) -> int:
            if asked is not None:
                return asked
            newest, generations = self.generations.get((topic, partition), (0, 1))
            if generations > 1:
                raise ConfigurationError(
                    f"{topic}[{partition}] was made anew, its newest generation is {newest}: say "
                    "with --generation which one these records were written in"
                )
            return newest

        return generation


async def look_up(database_url: str) -> Known:
    """Raises StoreUnavailable and FatalError."""
    async with reading(database_url) as connection:
        live = await connection.fetch(statements.LIVE_POSITIONS)
        generations = await connection.fetch(statements.GENERATIONS)
        short_files = await connection.fetch(statements.SHORT_FILES, NAMED_BY_BYTES)
    return Known(
        live=tuple(Claim(**row) for row in live),
        generations={
            (row["topic"], row["partition"]): (row["newest"], row["generations"])
            for row in generations
        },
        short_files=tuple(ShortFile(**row) for row in short_files),
    )
