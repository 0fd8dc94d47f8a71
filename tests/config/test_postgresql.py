"""The pool of connections, and what its server does to those that lie idle."""

from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from config.postgresql import base

pytestmark = pytest.mark.django_db(transaction=True)


def backend_pid() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return int(pid)


@pytest.fixture
def pool() -> Any:
    database: Any = connection
    database.ensure_connection()
    database.close()
    return database.pool


def terminate(pid: int) -> None:
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as operator:
        operator.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def test_a_connection_is_lent_again(pool: Any) -> None:
    before = pool.get_stats()["connections_num"]
    for _ in range(20):
        backend_pid()
        connection.close()
    assert pool.get_stats()["connections_num"] == before


def test_connections_that_their_server_has_ended_are_not_lent(pool: Any) -> None:
    idle = [pool.getconn() for _ in range(pool.get_stats()["pool_available"])]
    ended = {each.info.backend_pid for each in idle}
    assert ended
    for each in idle:
        pool.putconn(each)
    for pid in ended:
        terminate(pid)
    assert backend_pid() not in ended


def lend_often() -> set[int]:
    """So often that each connection of the pool has its turn."""
    pids = set()
    for _ in range(20):
        pids.add(backend_pid())
        connection.close()
    return pids


def test_one_that_was_used_lately_is_not_asked(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lend_often()
    asked: list[Any] = []
    monkeypatch.setattr(ConnectionPool, "check_connection", staticmethod(asked.append))
    lend_often()
    assert asked == []


def test_one_that_lay_idle_for_long_is_asked_and_replaced_where_it_does_not_answer(
    pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def answer_but_the_first(idle: psycopg.Connection[Any]) -> None:
        asked.append(idle.info.backend_pid)
        if len(asked) == 1:
            raise psycopg.OperationalError("no answer")

    monkeypatch.setattr(base, "ASKED_AFTER_S", 0.0)
    monkeypatch.setattr(ConnectionPool, "check_connection", staticmethod(answer_but_the_first))
    lent = lend_often()
    assert len(asked) >= 20
    assert asked[0] not in lent
