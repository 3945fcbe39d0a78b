"""A role that owns nothing runs a store with exactly what it was granted."""

import io
from contextlib import aclosing
from uuid import UUID, uuid4

import attrs
import psycopg
import pytest
import trio
from psycopg import sql
from psycopg.conninfo import make_conninfo

from flowstore.daemon import DaemonSettings, open_store
from flowstore.errors import FlowstoreError, InsufficientPrivilegeError
from flowstore.events import Archived, NewEvent
from flowstore.projections import AsyncOptions, FlatTable, Lifecycle
from flowstore.store import (
    Part,
    StoreOptions,
    apply_schema,
    assert_schema,
    open_event_store,
    patch_schema,
    schema_grants,
)
from flowstore.testing import RecordingProjection

SCHEMA = 'Odd "schema" %'


@attrs.frozen
class Opened:
    owner: str


@attrs.frozen
class Paid:
    amount: int


@attrs.define
class Balance:
    id: UUID
    amount: int = 0

    def apply(self, paid: Paid) -> None:
        self.amount += paid.amount


@attrs.define
class Owner:
    id: UUID
    name: str = ""

    def apply(self, opened: Opened) -> None:
        self.name = opened.owner


@attrs.define
class Note:
    id: str
    text: str = ""


@attrs.define
class Draft:
    id: int
    text: str = ""


def choke_on_thirteen(paid: Paid) -> Note:
    if paid.amount == 13:
        raise ValueError("thirteen")
    return Note(str(paid.amount))


def make_options(**more):
    options = StoreOptions(schema=SCHEMA, **more)
    options.events.mask(Opened, lambda opened: attrs.evolve(opened, owner="somebody"))
    options.projections.aggregate_streams_with(Owner, lifecycle=Lifecycle.INLINE)
    options.projections.aggregate_streams_with(Balance)
    options.projections.transform(choke_on_thirteen, async_options=AsyncOptions())
    table = FlatTable("payments", key="id", key_type=UUID, columns={"sum": int})
    options.projections.add(table.on(Paid, increment={"sum": "amount"}).delete_on(Opened))
    options.documents.type(Draft, optimistic_concurrency=True, indexes=["text"])
    return options


@pytest.fixture
def role(admin, dsn, fresh_names):
    """A role of the test's own, that has been granted nothing."""
    name = f"{next(fresh_names)} 'app'"
    admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    yield name
    admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def as_owner(dsn):
    """Run statements as the owner of everything."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection.execute


@pytest.fixture
async def granted(dsn, role, as_owner):
    """A schema that the role has all its grants on, and the role's DSN."""
    await apply_schema(dsn, make_options())
    # PUBLIC may execute functions by default: not here.
    as_owner(sql.SQL("revoke all on all functions in schema {} from public").format(
        sql.Identifier(SCHEMA)))  # fmt: skip
    as_owner(schema_grants(make_options(), role))
    yield make_conninfo(dsn, user=role)
    as_owner(sql.SQL("drop owned by {}").format(sql.Identifier(role)))


async def append(store, stream, *events, **marks):
    async with store.session(**marks) as session:
        session.events.append(stream, *events)
        await session.save_changes()


async def live(store):
    """Use everything a store has."""
    first, second, third = uuid4(), uuid4(), uuid4()
    await write_and_read(store, first)
    again = NewEvent(Paid(5), id=uuid4())
    for _ in range(2):
        await append(store, second, again)
    await store.import_events([(third, Paid(6)), (uuid4(), Archived("gone"))])
    assert await store.export_events(io.StringIO()) == 9
    mark = await store.high_water(leading_edge_buffer=0.001)
    assert mark >= 0
    assert (await store.look(0, limit=1))[1].ceiling <= await store.highest_sequence()
    halves = [
        await store.rebuilding.part_pages(
            RecordingProjection(), Part(each, 2), max_bytes=10**6
        ).fetch(0, mark)
        for each in (0, 1)
    ]
    assert {half.ceiling for half in halves} == {mark}
    assert await store.open_appends() == []
    async with store.listening():
        await store.wait_for_appends(0.01)
    await project(store, second)
    assert await store.mask_stream(first) == 1
    await store.skip_event(again.id)
    async with store.session() as session:
        await session.events.compact_stream(Balance, third)
        session.events.archive_stream(second)
        session.events.append(first, Archived("over"))
        await session.save_changes()
        assert await session.events.fetch_stream(second) == []
    await hand_over(store.dsn)


async def hand_over(dsn):
    """Append as beside a daemon, where nothing runs inline."""
    plain = StoreOptions(schema=SCHEMA, auto_create="none")
    async with open_event_store(dsn, plain) as store:
        with store.handing_over():
            await append(store, uuid4(), Paid(1))


async def write_and_read(store, first):
    async with store.session(user_name="ada") as session:
        session.events.start_stream(first, Opened("Ada"), Paid(1), Paid(13))
        session.store(Note("n", "text"), Draft(1, "draft"))
        session.delete_by_id(Note, "other")
        await session.save_changes()
        draft = await session.load(Draft, 1)
        draft.text = "again"
        session.store(draft)
        await session.events.append_optimistic(first, Paid(2))
        await session.save_changes()
        await session.events.append_exclusive(first, Paid(3))
        await session.save_changes()
        handle = await session.events.fetch_for_writing(Owner, first, exclusive=True)
        handle.append(Paid(4))
        await session.save_changes()
        assert await session.find(Note, text="text") == [Note("n", "text")]
        assert await session.query(Draft, "true") == [Draft(1, "again")]
        assert (await session.load(Owner, first)).name == "Ada"
        assert len(await session.events.fetch_stream(first)) == 6
        assert (await session.events.fetch_stream_state(first)).version == 6
        assert (await session.events.aggregate_stream(Balance, first)).amount == 23
        assert len(await session.events.query("type = 'paid'")) == 5
        session.delete(draft)
        session.delete_by_id(Owner, uuid4())
        await session.save_changes()
    async with store.session() as session:
        await session.events.fetch_for_writing(Owner, uuid4(), enforce_consistency=True)
        await session.save_changes()


async def project(store, second):
    sharing = DaemonSettings(mode="hot_cold", lease_time=0.3)
    async with store.build_projection_daemon(sharing) as daemon:
        await daemon.start_all()
        with trio.fail_after(60):
            await daemon.wait_for_non_stale_results()
        await append(store, second, Paid(7))
        with trio.fail_after(60):
            await daemon.wait_for_non_stale_results()
        [letter] = await store.dead_letters()
        await store.discard_dead_letter(letter)
        await daemon.stop_all()
    async with store.build_projection_daemon() as daemon:
        await daemon.rebuild(Balance)
        await daemon.rebuild("payments")
        await daemon.rewind(Balance, 0)
    # What daemons that share shards do at their end, and to one that was frozen.
    async with store.leases() as leases:
        assert (await leases.take("nobody's", 1.0)).taken
        await leases.leave("nobody's")
    assert await store.end_commits(RecordingProjection()) == 0
    async with store.session() as session:
        assert (await session.load(Balance, second)).amount == 12


@pytest.mark.parametrize("auto_create", ["none", "all"])
async def test_every_operation_works_with_the_grants_alone(granted, as_owner, role, auto_create):
    owned = """select count(*) from pg_class c join pg_roles r on r.oid = c.relowner
        where r.rolname = %s"""
    async with open_store(granted, make_options(auto_create=auto_create)) as store:
        await live(store)
    assert as_owner(owned, (role,)).fetchone() == (0,)


CHANGES = ["update {} set data = '{{}}'", "delete from {}", "truncate {}", "truncate {} cascade"]


@pytest.mark.parametrize("change", CHANGES)
async def test_no_grant_lets_a_role_change_events(granted, change):
    async with open_store(granted, make_options(auto_create="none")) as store:
        await append(store, stream := uuid4(), Paid(1), Paid(2))
        with pytest.raises(psycopg.Error) as caught:
            async with store.connection() as connection:
                await connection.execute(sql.SQL(change).format(sql.Identifier(SCHEMA, "events")))
        # UPDATE and DELETE are granted, for masks and compactions: triggers refuse all others.
        refused_by = "42501" if change.startswith("truncate") else "FS009"
        assert caught.value.sqlstate == refused_by
        assert len(await store.session().events.fetch_stream(stream)) == 2


@pytest.mark.parametrize("change", CHANGES)
async def test_the_owner_can_not_change_events_by_mistake(dsn, as_owner, role, change):
    as_owner(sql.SQL("grant create on database {} to {}").format(
        sql.Identifier(psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]), sql.Identifier(role)))  # fmt: skip
    owner_dsn = make_conninfo(dsn, user=role)
    async with open_store(owner_dsn, make_options()) as store:
        await append(store, stream := uuid4(), Paid(1), Paid(2))
        with pytest.raises(psycopg.Error, match="append-only"):
            async with store.connection() as connection:
                await connection.execute(sql.SQL(change).format(sql.Identifier(SCHEMA, "events")))
        assert len(await store.session().events.fetch_stream(stream)) == 2
    as_owner(sql.SQL("drop owned by {} cascade").format(sql.Identifier(role)))


async def test_whoever_creates_the_schema_need_not_be_a_superuser(dsn, as_owner, role):
    owner_dsn = make_conninfo(dsn, user=role)
    with pytest.raises(InsufficientPrivilegeError) as caught:
        await apply_schema(owner_dsn, make_options())
    [grant] = caught.value.grants
    assert grant.startswith("GRANT CREATE ON DATABASE")
    as_owner(grant)
    await apply_schema(owner_dsn, make_options())
    async with open_store(owner_dsn, make_options()) as store:
        await live(store)
    await assert_schema(owner_dsn, make_options())
    as_owner(sql.SQL("drop owned by {} cascade").format(sql.Identifier(role)))


async def test_the_role_can_check_the_schema_and_ask_for_a_patch(granted):
    await assert_schema(granted, make_options())
    assert "nothing is lacking" in await patch_schema(granted, make_options())


GRANTS = schema_grants(make_options(), "ROLE").splitlines()
# Nothing calls what a trigger calls by itself; a trigger's function is checked when it is made.
NOT_MISSED = {"publish_bound_before_insert", "refuse_amendment", "check_amendment"}


def part_by_part():
    """Every single right of every grant."""
    for grant in GRANTS:
        rights, on = grant.removeprefix("GRANT ").removesuffix(";").split(" ON ", 1)
        if not any(f'"{name}"' in on for name in NOT_MISSED):
            for right in rights.split(", "):
                yield right, on


@pytest.mark.parametrize(("right", "on"), [*part_by_part()])
async def test_each_right_is_needed_and_its_lack_says_what_to_run(
    granted, as_owner, role, right, on
):
    quoted = sql.Identifier(role).as_string()
    on = on.replace('"ROLE"', quoted)
    as_owner(f"revoke {right} on {on.replace(' TO ', ' from ')}")
    told = await trouble_of(granted)
    assert told, f"nothing needed {right} on {on}"
    assert f"\n  GRANT {right} ON {on};" in told


async def trouble_of(dsn):
    """Live until something is refused, and give what was said of it; nothing if nothing is."""
    try:
        async with open_store(dsn, make_options(auto_create="none")) as store:
            await live(store)
    except (FlowstoreError, ExceptionGroup) as error:
        while isinstance(error, ExceptionGroup):
            [error] = error.exceptions
        return str(error)
    return ""


async def test_no_event_is_set_aside_for_a_right_that_was_not_granted(granted, as_owner, role):
    table = f"{sql.Identifier(SCHEMA, 'doc_balance').as_string()}"
    name = sql.Identifier(role).as_string()
    as_owner(f"revoke insert on {table} from {name}")
    async with open_store(granted, make_options(auto_create="none")) as store:
        await append(store, stream := uuid4(), Paid(1), Paid(2))
        async with store.build_projection_daemon() as daemon:
            await daemon.start(Balance)
            with trio.fail_after(60):
                async with aclosing(daemon.watch()) as statuses:
                    async for status in statuses:
                        if status.name == "Balance" and status.state == "failed":
                            break
            assert f"GRANT INSERT ON TABLE {table}" in f"{status.error} {status.reason}"
        assert await store.dead_letters() == []
        assert await store.progress(Balance) == 0
        as_owner(f"grant insert on {table} to {name}")
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()
        assert (await store.session().load(Balance, stream)).amount == 3
