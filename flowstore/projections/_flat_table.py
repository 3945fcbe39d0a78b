"""Keeping a table of plain columns up to date with events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, cast
from uuid import UUID

import attrs

from flowstore.errors import RegistrationError
from flowstore.events import Event, EventStream, in_sequence
from flowstore.projections._options import AsyncOptions
from flowstore.projections._protocols import ProjectionSession
from flowstore.projections._row_rules import (
    Given,
    RowRule,
    Value,
    delete_rule,
    write_rule,
)
from flowstore.projections._shards import check_name, check_version
from flowstore.projections._signatures import check_event_type
from flowstore.projections._tables import Column, RowChange, Table, check_column_name, sql_type

__all__ = ["FlatTable"]


@attrs.define(eq=False)
class FlatTable:
    """Write events into the columns of a table, for those who read by SQL.

    Say what each event does by `on` and `delete_on`, then register it by `projections.add`. The
    table stands in the store's schema and is created when a store opens with it, with a column
    `tenant_id` in its primary key where tenants share tables. A rebuild deletes its rows first.

    Attributes:
        name: the table's name, and the one that progress, status and dead letters go by; from
            version 2 on the table is called as in `issues_v2`.
        key: the name of the key's column.
        key_type: the key's type: a Python class, or the name of a PostgreSQL type.
        columns: the types of all other columns by name, as `key_type`. A column that is
            incremented or decremented starts at 0, any other at null.
        key_from: what finds an event's row where `on` doesn't say otherwise: the name of a field,
            or a function of the event; None takes the stream's identity. An event for which it
            gives None changes nothing.
        version: of the rule, from 1; raising it gives a table and progress of their own.
        async_options: how it runs in the daemon.

    Raises:
        RegistrationError: a name or type can't be kept.
    """

    name: str = attrs.field(validator=check_name)
    key: str = attrs.field(kw_only=True)
    key_type: type | str = attrs.field(kw_only=True)
    columns: Mapping[str, type | str] = attrs.field(kw_only=True)
    key_from: Any = attrs.field(kw_only=True, default=None)
    version: int = attrs.field(kw_only=True, default=1, validator=check_version)
    async_options: AsyncOptions = attrs.field(kw_only=True, factory=AsyncOptions)
    _columns: dict[str, Column] = attrs.field(init=False, repr=False)
    _key: Column = attrs.field(init=False, repr=False)
    _rules: dict[type, RowRule] = attrs.field(init=False, repr=False, factory=dict[type, RowRule])
    _is_sealed: bool = attrs.field(init=False, repr=False, default=False)

    def __attrs_post_init__(self) -> None:
        where = f"flat table {self.name!r}"
        check_column_name(self._table_name, where)
        self._key = _column(self.key, self.key_type, f"{where}: the key")
        if not isinstance(cast("Any", self.columns), Mapping):
            raise RegistrationError(f"{where}: columns is {self.columns!r}: it maps names to types")
        self._columns = {
            name: _column(name, kind, f"{where}: the column {name!r}")
            for name, kind in self.columns.items()
        }
        if self.key in self._columns:
            raise RegistrationError(
                f"{where}: the column {self.key!r} is the key: leave it out of columns"
            )

    @property
    def consumes(self) -> tuple[type, ...]:
        """The event types that it has rules for."""
        return tuple(self._rules)

    @property
    def produces(self) -> None:
        """No documents."""
        return

    @property
    def table(self) -> Table:
        """The table as the rules need it."""
        counted = {column for rule in self._rules.values() for column in rule.add}
        columns = (
            attrs.evolve(column, counts=column.name in counted) for column in self._columns.values()
        )
        by_stream = self.key_from is None and any(rule.key is None for rule in self._rules.values())
        return Table(self._table_name, self._key, tuple(columns), keyed_by_stream=by_stream)

    def on(
        self,
        event_type: type,
        *,
        set: Given = None,  # noqa: A002 - the public name of the argument is fixed
        increment: Given = None,
        decrement: Given = None,
        insert: bool = True,
        key_from: Any = None,
    ) -> Self:
        """Say what a type of event does to its row.

        Args:
            event_type: the exact type.
            set: by column, the name of a field of the event, a function of the event, or a value
                that is no text; or only names of columns, which then are the fields' names too.
            increment: by column, the number to be added, in the same ways; or only names of
                columns, to which 1 is added. Null counts as 0.
            decrement: the same, subtracted.
            insert: make the row where there is none; otherwise nothing happens then.
            key_from: what finds the row, in place of the table's.

        Returns:
            This table.

        Raises:
            RegistrationError: the event type has a rule already, something named isn't there, or
                the table is registered already.
        """
        where = self._place(event_type)
        self._rules[event_type] = write_rule(
            self._columns,
            event_type,
            where,
            values=set,
            increment=increment,
            decrement=decrement,
            insert=insert,
            key_from=self._key_from(key_from),
        )
        return self

    def delete_on(self, event_type: type, *, key_from: Any = None) -> Self:
        """Say that a type of event deletes its row; a later event may make it again.

        Args:
            event_type: the exact type.
            key_from: what finds the row, in place of the table's.

        Returns:
            This table.

        Raises:
            RegistrationError: the event type has a rule already, the key isn't to be had, or the
                table is registered already.
        """
        where = self._place(event_type)
        self._rules[event_type] = delete_rule(event_type, where, self._key_from(key_from))
        return self

    def check(self) -> None:
        """Refuse a table that nothing happens to.

        Raises:
            RegistrationError: no event has a rule.
        """
        if not self._rules:
            raise RegistrationError(
                f"flat table {self.name!r} has no rules: say .on(EventType, ...) before it is"
                " registered"
            )

    def seal(self) -> None:
        """Take no more rules: what it does and consumes is settled once it is registered."""
        self._is_sealed = True

    async def apply(self, session: ProjectionSession, streams: Sequence[EventStream]) -> None:
        """Queue the events' changes, those of a row in sequence order."""
        table = self.table
        await session.create_table(table)
        # Rows are locked in the order of their keys, so that two sessions with the same ones can't
        # block each other for ever; the sort is stable, and rows know nothing of each other.
        changes = sorted(self._changes(in_sequence(streams)), key=lambda change: str(change.key))
        session.change_rows(table, *changes)

    async def teardown(self, session: ProjectionSession) -> None:
        """Queue the deletion of all rows."""
        table = self.table
        await session.create_table(table)
        session.empty_table(table)

    @property
    def _table_name(self) -> str:
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"

    def _place(self, event_type: Any) -> str:
        where = f"flat table {self.name!r}"
        if not isinstance(event_type, type):
            raise RegistrationError(f"{where}.on({event_type!r}): name an event's class")
        if self._is_sealed:
            raise RegistrationError(
                f"{where} is registered already, and can't take a rule for"
                f" {event_type.__qualname__} any more: say all .on and .delete_on before that"
            )
        check_event_type(event_type, where)
        if event_type in self._rules:
            raise RegistrationError(
                f"{where} has a rule for {event_type.__qualname__} already: an event has one"
            )
        return f"{where} on {event_type.__qualname__}"

    def _key_from(self, given: Any) -> Any:
        return self.key_from if given is None else given

    def _changes(self, events: Sequence[Event]) -> Iterator[RowChange]:
        for event in events:
            rule = self._rules.get(event.data.__class__)
            key = None if rule is None else self._key_of(rule.key, event)
            if rule is not None and key is not None:
                yield rule.change(event, key)

    def _key_of(self, source: Value | None, event: Event) -> Any:
        key = event.stream_id if source is None else source(event)
        # A column of text takes a stream's UUID as it is written.
        as_text = isinstance(key, UUID) and self._key.type != "uuid"
        return str(key) if as_text else key


def _column(name: Any, kind: Any, where: str) -> Column:
    check_column_name(name, where)
    return Column(name, sql_type(kind, where))
