"""Holds the values of a peer's file against those of an archive: `differences.py ARCHIVE_GLOB PEER_FILE`.

Prints the number of rows that agree in all columns; exits with 1, and says which columns differ, where any does not.
"""

import sys

import duckdb

from columns import KINDS

archive, peer = sys.argv[1:]
con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'")
differing = ", ".join(f"count_if(a.{name} IS DISTINCT FROM p.{name}) AS {name}" for name in KINDS)
result = con.execute(
    f"""SELECT count(*), count(a.event_id), count(p.event_id), {differing}
        FROM read_parquet($archive) a FULL JOIN read_parquet($peer) p ON a.event_hash = p.event_hash""",
    {"archive": archive, "peer": peer},
).fetchone()
rows, ours, theirs, *counts = result
found = {name: count for name, count in zip(KINDS, counts) if count}
if found or not rows == ours == theirs:
    sys.exit(f"{rows} rows, {ours} of the archive, {theirs} of the peer; rows that differ by column: {found}")
print(rows)
