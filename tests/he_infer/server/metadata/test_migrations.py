"""Schemas of older releases are brought up to date with all they hold; newer ones are named and left alone."""

import sqlite3
import threading
import time
from pathlib import Path

import alembic.autogenerate
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext

from he_infer.errors import UnsupportedVersion
from he_infer.server import tokens
from he_infer.server.authentication import authenticate
from he_infer.server.metadata import Metadata, ObjectRecord, Quotas, migrate, schema
from he_infer.server.tokens import Scope
from he_infer.wire.refusals import Refused

# The statements that the first release ran, frozen: a database of before the migrations.
FIRST = """
CREATE TABLE schema_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE clients (client_id VARCHAR(32) NOT NULL, name VARCHAR(64) NOT NULL, created FLOAT NOT NULL,
    storage_quota BIGINT, daily_queries BIGINT, PRIMARY KEY (client_id), UNIQUE (name));
CREATE TABLE tokens (token_id VARCHAR(16) NOT NULL, client_id VARCHAR(32) NOT NULL, digest VARCHAR(64) NOT NULL,
    scopes VARCHAR(64) NOT NULL, created FLOAT NOT NULL, expires FLOAT, revoked FLOAT, PRIMARY KEY (token_id),
    FOREIGN KEY(client_id) REFERENCES clients (client_id));
CREATE TABLE keys (client_id VARCHAR(32) NOT NULL, plan VARCHAR(64) NOT NULL, key_id VARCHAR(32) NOT NULL,
    seal VARCHAR(32) NOT NULL, created FLOAT NOT NULL, PRIMARY KEY (client_id, plan),
    FOREIGN KEY(client_id) REFERENCES clients (client_id));
CREATE TABLE key_parts (key_id VARCHAR(32) NOT NULL, name VARCHAR(64) NOT NULL, size BIGINT NOT NULL,
    sha256 VARCHAR(64) NOT NULL, PRIMARY KEY (key_id, name));
CREATE TABLE nonces (client_id VARCHAR(32) NOT NULL, nonce VARCHAR(32) NOT NULL, expires FLOAT NOT NULL,
    PRIMARY KEY (client_id, nonce));
CREATE INDEX ix_nonces_expires ON nonces (expires);
CREATE TABLE queries (client_id VARCHAR(32) NOT NULL, day INTEGER NOT NULL, model VARCHAR(96) NOT NULL,
    images BIGINT NOT NULL, PRIMARY KEY (client_id, day, model));
CREATE TABLE objects (client_id VARCHAR(32) NOT NULL, object_id VARCHAR(32) NOT NULL, blob VARCHAR(128) NOT NULL,
    size BIGINT NOT NULL, sha256 VARCHAR(64) NOT NULL, created FLOAT NOT NULL, PRIMARY KEY (client_id, object_id),
    FOREIGN KEY(client_id) REFERENCES clients (client_id));
INSERT INTO schema_version VALUES (1);
"""
CLIENT, TOKEN = "c" * 32, "hei_0123456789abcdef_" + "A" * 43


def fill_first(url: str) -> None:
    """Make the first release's database with a client, a token, keys, a nonce, a count and two objects in it."""
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as sql:
        for statement in FIRST.strip().rstrip(";").split(";\n"):
            sql.exec_driver_sql(statement)
        far = time.time() + 1e6
        rows = {
            "clients": f"'{CLIENT}', 'St. Mary', 1.5, 1000, 20",
            "tokens": f"'0123456789abcdef', '{CLIENT}', '{tokens.digest(TOKEN)}', 'classify store', 2.5, {far}, NULL",
            "keys": f"'{CLIENT}', '{'p' * 64}', 'k1', 'tenseal-0', 3.5",
            "key_parts": "'k1', 'galois', 7, 'aa'",
            "nonces": f"'{CLIENT}', 'n1', {far}",
            "queries": f"'{CLIENT}', {int(time.time() // 86400)}, 'm', 5",
        }
        for table, values in rows.items():
            sql.exec_driver_sql(f"INSERT INTO {table} VALUES ({values})")
        for number in (1, 2):
            values = f"'{CLIENT}', '{number:032x}', 'objects/{CLIENT}/{number}', {number}, '{'0' * 64}', 4.5"
            sql.exec_driver_sql(f"INSERT INTO objects VALUES ({values})")
    engine.dispose()


def test_database_of_first_release_is_read_whole(database_url: str) -> None:
    fill_first(database_url)
    metadata = Metadata(database_url)
    caller = authenticate(metadata, TOKEN, Scope.STORE)
    assert (caller.client, caller.quotas) == ("St. Mary", Quotas(1000, 20, None, None))
    assert metadata.keys.list_all(CLIENT) == []  # keys of no set can be named by no request
    expected = [
        ObjectRecord(f"{number:032x}", f"objects/{CLIENT}/{number}", number, "0" * 64, 4.5, 1) for number in (1, 2)
    ]
    assert metadata.objects.list_page(CLIENT, "", 10) == expected
    with pytest.raises(Refused, match="accepted before"):
        metadata.queries.use_nonce(CLIENT, "n1", time.time(), time.time() + 60)
    assert metadata.queries.count(CLIENT, int(time.time() // 86400)) == 5
    metadata.objects.add(caller, ObjectRecord(f"{1:032x}", "objects/new", 3, "0" * 64, 5.5, 2))
    assert [entry.version for entry in metadata.objects.list_versions(CLIENT, f"{1:032x}")] == [1, 2]
    metadata.close()
    Metadata(database_url).close()  # a second opening finds nothing to do


@pytest.mark.parametrize("start", ["empty", "first release"])
def test_the_migrations_make_the_tables_that_the_code_uses(database_url: str, start: str) -> None:
    if start == "first release":
        fill_first(database_url)
    Metadata(database_url).close()
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as sql:
        context = MigrationContext.configure(sql, opts={"compare_type": True})
        differences = alembic.autogenerate.compare_metadata(context, schema.META)
        # alembic leaves its own table out of what it reads
        assert [step[:2] for step in differences if step[1] is not schema.REVISION] == []
        assert context.get_current_revision() == schema.HEAD
    engine.dispose()
    assert migrate.scripts().get_heads() == [schema.HEAD]


def test_a_newer_database_is_named_and_left_alone(database_url: str) -> None:
    Metadata(database_url).close()
    engine = sa.create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as sql:
        sql.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnsupportedVersion, match="9999"):
        Metadata(database_url)
    with engine.connect() as sql:
        assert sql.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "9999"
    engine.dispose()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "m.sqlite3"
    fill_first(f"sqlite:///{path}")
    with sqlite3.connect(path) as sql:  # two rows name one blob, which the new schema does not allow
        sql.execute("UPDATE objects SET blob = 'same'")
    before = sqlite3.connect(path).execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    with pytest.raises(Refused):
        Metadata.sqlite(path)
    assert sqlite3.connect(path).execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall() == before
    with sqlite3.connect(path) as sql:
        assert sql.execute("SELECT count(*) FROM objects").fetchone() == (2,)


def test_two_servers_that_start_at_once_migrate_once(database_url: str) -> None:
    fill_first(database_url)
    errors: list[BaseException] = []

    def start() -> None:
        try:
            Metadata(database_url).close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    metadata = Metadata(database_url)
    assert len(metadata.objects.list_page(CLIENT, "", 10)) == 2
    metadata.close()
