"""The SQL by which a PostgreSQL database tells of new rows. Only shown: we install nothing in a database."""

from reconciler.adapters.queues.sql import quoted


def notifying(table: str, channel: str) -> str:
    """What makes a database notify a channel whenever rows are put into a table. To be run by the table's owner."""
    name = "reconciler_notify_" + "".join(letter if letter.isalnum() else "_" for letter in channel)
    literal = channel.replace("'", "''")
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS\n"
        f"  $$ BEGIN PERFORM pg_notify('{literal}', ''); RETURN NULL; END $$;\n"
        f"CREATE TRIGGER {name} AFTER INSERT ON {quoted(table, chr(34))}\n"
        f"  FOR EACH STATEMENT EXECUTE FUNCTION {name}();\n"
    )
