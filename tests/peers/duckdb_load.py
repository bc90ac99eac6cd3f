"""DuckDB as a loader of CloudTrail events into Parquet, one thread: `duckdb_load.py lines|records INPUT OUTPUT`.

Each event is parsed once, by its known structure; the original and its SHA-256 are columns too.
"""

import json
import sys

import duckdb

from columns import COLUMNS

TYPES = {"text": "VARCHAR", "bool": "BOOLEAN", "time": "TIMESTAMP", "json": "JSON"}


def structure():
    """The nested structure that the columns need, as json_transform takes it."""
    root = {}
    for _, path, kind in COLUMNS:
        at = root
        for step in path[:-1]:
            at = at.setdefault(step, {})
        at[path[-1]] = TYPES[kind]
    return json.dumps(root)


def main(layout, source, target):
    con = duckdb.connect()
    con.execute("SET threads = 1")
    con.execute("SET preserve_insertion_order = true")
    columns = ", ".join(f"""e."{'"."'.join(path)}" AS {name}""" for name, path, _ in COLUMNS)
    events = {
        "lines": "SELECT json FROM read_ndjson_objects($source)",
        "records": """SELECT unnest(Records) AS json FROM read_json($source, format = 'unstructured',
                      columns = {Records: 'JSON[]'}, maximum_object_size = 2000000000)""",
    }[layout]
    con.execute(
        f"""COPY (SELECT {columns}, CAST(json AS BLOB) AS event_original, sha256(CAST(json AS VARCHAR)) AS event_hash
                  FROM (SELECT json, json_transform(json, '{structure()}') AS e FROM ({events})))
            TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3)""",
        {"source": source},
    )
    print(con.execute("SELECT count(*) FROM read_parquet($target)", {"target": target}).fetchone()[0])


main(*sys.argv[1:])
