"""What a projection leaves for after the commit happens exactly when there was one."""

from uuid import UUID, uuid4

import attrs
import pytest
import trio

from flowstore.daemon import Store
from flowstore.errors import ConcurrencyError, DatabaseUnavailableError
from flowstore.events import in_sequence
from flowstore.projections import AsyncOptions, Lifecycle, Projections
from flowstore.store._progress import commit_page

PATIENCE = 60
"""Seconds after which something that a test waits for isn't going to happen."""


@attrs.frozen
class Counted:
    by: int = 1


@attrs.define
class Total:
    id: UUID
    number: int = 0


@attrs.define
class Telling:
    """Tells of every event after the commit, by a plain function and by an async one."""

    told: list = attrs.field(factory=list)
    fails: bool = False
    name: str = "telling"
    consumes: tuple = (Counted,)
    produces: type | None = None
    async_options: AsyncOptions = attrs.field(factory=AsyncOptions)

    def apply(self, session, streams):
        for event in in_sequence(streams):
            session.after_commit(lambda number=event.data.by: self.told.append(number))

            async def tell(number=event.data.by):
                await trio.lowlevel.checkpoint()
                self.told.append(-number)

            session.after_commit(tell)
        if self.fails:
            raise ZeroDivisionError


@pytest.fixture
def telling():
    return Telling()


def with_lifecycle(projection, lifecycle):
    projections = Projections()
    projections.add(projection, lifecycle=lifecycle)
    return projections


async def append(store, *events, stream=None):
    async with store.session() as session:
        session.events.append(stream or uuid4(), *events)
        await session.save_changes()


# -- inline --


async def test_an_inline_projections_effect_follows_the_sessions_own(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.INLINE)) as store:
        async with store.session() as session:
            session.after_commit(lambda: telling.told.append("session"))
            session.events.append(uuid4(), Counted(1), Counted(2))
            await session.save_changes()
            assert telling.told == ["session", 1, -1, 2, -2]
            await session.save_changes()
        assert telling.told == ["session", 1, -1, 2, -2]


async def test_an_inline_effect_happens_too_where_a_lock_is_held(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.INLINE)) as store:
        await append(store, Counted(1), stream=(stream := uuid4()))
        telling.told.clear()
        async with store.session() as session:
            await session.events.append_exclusive(stream, Counted(2))
            await session.save_changes()
        assert telling.told == [2, -2]


async def test_a_commit_that_fails_has_no_inline_effect_and_its_repetition_one(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.INLINE)) as store:
        telling.fails = True
        async with store.session() as session:
            session.events.append(uuid4(), Counted(1))
            with pytest.raises(ZeroDivisionError):
                await session.save_changes()
            assert telling.told == []
            telling.fails = False
            await session.save_changes()
        assert telling.told == [1, -1]


async def test_a_refused_commit_has_no_inline_effect(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.INLINE)) as store:
        await append(store, Counted(1), stream=(stream := uuid4()))
        telling.told.clear()
        async with store.session() as session:
            session.events.append(stream, Counted(2), expected_version=7)
            with pytest.raises(ConcurrencyError):
                await session.save_changes()
        assert telling.told == []


# -- in the daemon --


async def test_an_effect_happens_in_a_catch_up_and_never_in_a_rebuild(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.ASYNC)) as store:
        await append(store, Counted(1))
        async with store.build_projection_daemon() as daemon:
            await daemon.catch_up()
            assert telling.told == [1, -1]
            await daemon.rebuild("telling")
            await daemon.catch_up()
            assert telling.told == [1, -1]
            await append(store, Counted(2))
            await daemon.catch_up()
            assert telling.told == [1, -1, 2, -2]


class _Unlucky(Store):
    """Loses the reply to its first commits of effects, after they happened or before."""

    losses: list[str] = []  # noqa: RUF012  # set anew by each test

    async def commit_batch(self, session, **place):
        loss = self.losses.pop(0) if self.losses and session.queued.callbacks else None
        if loss == "committed":
            place.pop("rebuilding")
            await commit_page(self._engine, session, **place)
        if loss is not None:
            raise DatabaseUnavailableError("the connection was lost", sqlstate="08006")
        await super().commit_batch(session, **place)


@pytest.mark.parametrize("losses", [["committed"], ["before"], ["before", "committed"]], ids=str)
async def test_an_effect_happens_once_though_the_commits_reply_was_lost(serving, telling, losses):
    _Unlucky.losses = list(losses)
    async with serving(with_lifecycle(telling, Lifecycle.ASYNC), cls=_Unlucky) as store:
        await append(store, Counted(1))
        with trio.fail_after(PATIENCE):
            async with store.build_projection_daemon() as daemon:
                await daemon.start_all()
                await daemon.wait_for_non_stale_results()
                assert telling.told == [1, -1]
                await append(store, Counted(2))
                await daemon.wait_for_non_stale_results()
    assert telling.told == [1, -1, 2, -2]
    assert _Unlucky.losses == []


async def test_a_rebuild_whose_commits_reply_was_lost_has_no_effect(serving, telling):
    async with serving(with_lifecycle(telling, Lifecycle.ASYNC), cls=_Unlucky) as store:
        await append(store, Counted(1))
        _Unlucky.losses = ["committed"]
        async with store.build_projection_daemon() as daemon:
            await daemon.rebuild("telling")
    assert (telling.told, _Unlucky.losses) == ([], [])
