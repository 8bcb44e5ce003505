"""The file people.sqlite: one table `persons` (columns as `Person`), built in one go, read only afterwards.

Plain sqlite3 and not `base.database`: this is the register's own data behind its own API, not a node's state; it is
built as a bulk load, and the process that reads it stays small.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from stelsel.base.errors import ConfigurationFault
from stelsel.demo.people.generate import REFERENCE_DAY, batches, generate
from stelsel.demo.people.person import Person
from stelsel.demo.people.rvig import LoadedRow, RowReport, read

_BATCH = 20_000
_NUMBERS = {"house_number", "secrecy"}
_COLUMNS = ", ".join(f"{name} {'INTEGER' if name in _NUMBERS else 'TEXT'} NOT NULL" for name in Person._fields)
_INSERT = f"INSERT INTO persons VALUES ({', '.join('?' * len(Person._fields))})"  # noqa: S608 - constants
_SELECT = f"SELECT {', '.join(Person._fields)} FROM persons"  # noqa: S608 - constants
_INDEXES = (
    "CREATE UNIQUE INDEX persons_by_number ON persons (burgerservicenummer)",
    "CREATE INDEX persons_by_address ON persons (postcode, house_number)",
    "CREATE INDEX persons_by_birth ON persons (birth_date)",
    "CREATE INDEX persons_by_municipality ON persons (municipality_code)",
)


@dataclass(frozen=True, slots=True)
class Built:
    """What went into a register: how many people, and which rows of a people file did not, and why."""

    people: int
    loaded_rows: int
    reports: tuple[RowReport, ...]


class Notable(NamedTuple):
    """A resident for the demo's list to choose from."""

    name: str
    burgerservicenummer: str


def build(
    path: Path,
    *,
    count: int = 10_000,
    seed: int = 1,
    people_file: Path | None = None,
    municipality_table: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Write a new register at `path`: the people of `people_file` first, then `count` synthetic residents.

    The file appears when it is whole; an earlier one is replaced. `progress(done, total)` is called after each
    batch; `total` counts the synthetic residents and the loaded rows. Raises `BadRequest` for a file that cannot be
    read or a `count` that cannot be met.
    """
    rows = list(read(people_file, municipality_table)) if people_file else []
    loaded = [row.person for row in rows if isinstance(row, LoadedRow)]
    taken = frozenset(person.burgerservicenummer for person in loaded)
    people = generate(count, seed, taken=taken)
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            # Nothing is lost when this breaks off: the file gets its name only when it is whole.
            for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536", "temp_store=FILE"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute(f"CREATE TABLE persons ({_COLUMNS}) STRICT")
            done = 0
            for batch in _all_batches(loaded, people):
                connection.execute("BEGIN")
                connection.executemany(_INSERT, batch)
                connection.execute("COMMIT")
                done += len(batch)
                if progress is not None:
                    progress(done, len(loaded) + count)
            for index in _INDEXES:
                connection.execute(index)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Built(done, len(loaded), tuple(row for row in rows if isinstance(row, RowReport)))


def _all_batches(loaded: list[Person], people: Iterator[Person]) -> Iterator[list[Person]]:
    if loaded:
        yield loaded
    yield from batches(people, _BATCH)


class Register:
    """Searches a register that was built before. Every search is one indexed query: at most milliseconds."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ConfigurationFault(f"{path}: there is no register here", next_step="build it first")
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
            self._connection.execute(f"{_SELECT} LIMIT 1").fetchone()
        except sqlite3.Error as error:
            raise ConfigurationFault(f"{path}: is not a register of people", next_step="build it again") from error

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def by_numbers(self, numbers: tuple[str, ...]) -> list[Person]:
        """The people with these burgerservicenummers, in the order asked; a number nobody has gives nothing."""
        return [person for number in numbers for person in self._find("burgerservicenummer = ?", (number,), 1)]

    def by_address(self, postcode: str, house_number: int, limit: int) -> list[Person]:
        """The people registered at a postcode and house number, at most `limit`."""
        return self._find("postcode = ? AND house_number = ?", (postcode, house_number), limit)

    def by_name_and_birth(self, family_name: str, birth_date: str) -> list[Person]:
        """The people born on a full date with a family name, whatever its capitals and accents.

        Seventeen million people share some 28,000 birth days, so the name is compared here, in a form that SQLite
        does not know.
        """
        wanted = comparable(family_name)
        born = self._find("birth_date = ?", (birth_date,), 100_000)
        return [person for person in born if comparable(person.family_name) == wanted]

    def _find(self, condition: str, values: tuple[str | int, ...], limit: int) -> list[Person]:
        query = f"{_SELECT} WHERE {condition} LIMIT ?"
        return [Person(*row) for row in self._connection.execute(query, (*values, limit))]


def comparable(text: str) -> str:
    """A name without capitals, accents and double spaces: `Béamont` and `BEAMONT` are the same."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(character for character in plain if not unicodedata.combining(character)).split())


def notable_people(path: Path, count: int, municipality_code: str = "0363") -> list[Notable]:
    """The first `count` living adults of a municipality who have a name, in the order of the register."""
    adult = REFERENCE_DAY.replace(year=REFERENCE_DAY.year - 18).isoformat()
    query = (
        f"{_SELECT} WHERE municipality_code = ? AND birth_date BETWEEN '1926' AND ? AND family_name <> '' "
        "AND given_names <> '' AND suspension = '' AND secrecy = 0 ORDER BY rowid LIMIT ?"
    )
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        people = [Person(*row) for row in connection.execute(query, (municipality_code, adult, count))]
    return [Notable(full_name(person), person.burgerservicenummer) for person in people]


def full_name(person: Person) -> str:
    """Given names, prefix and family name, those that are known."""
    return " ".join(part for part in (person.given_names, person.prefix, person.family_name) if part)
