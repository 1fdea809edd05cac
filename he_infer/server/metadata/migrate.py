"""Brings a database to the present schema, with alembic. Loaded only where a migration is needed."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

_FOLDER = Path(__file__).parent / "migrations"


def scripts() -> ScriptDirectory:
    """The migrations that this release knows."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def upgrade(sql: sa.Connection, start: str) -> list[str]:
    """Run every migration after `start` within the connection's transaction: all of them, or none.

    Args:
        sql: a connection with a transaction begun, which holds off other processes.
        start: the revision that the database is at.

    Returns:
        The revisions that were run.
    """
    found = scripts()
    done: list[str] = []

    def steps(current: Any, _context: object) -> Any:
        planned = found._upgrade_revs("head", current)  # the call that alembic's own documentation shows
        done.extend(step.revision.revision for step in planned)
        return planned

    with EnvironmentContext(Config(), found, fn=steps) as environment:
        environment.configure(connection=sql, transactional_ddl=True)
        context = environment.get_context()
        if not context.get_current_heads():
            context.stamp(found, start)
        environment.run_migrations()
    return done
