"""DuckDB answering the queries of a folder, one thread: `duckdb_query.py DATA FOLDER anew|kept`.

One connection, which reads footers of files anew for each query, as it does by default, or keeps them. A line a query, with tabs between its name, its rows, and the CPU seconds of one run,
as the mean of half a second of them, after one that does not count.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "oracles"))

from questions import connect, queries


def main(data, folder, footers):
    connections = {raw: connect(data, raw) for raw in (False, True)}
    for con in connections.values():
        con.execute("SET threads = 1")
        con.execute(f"SET parquet_metadata_cache = {str(footers == 'kept').lower()}")
    for query in queries(folder):
        con = connections[query.raw]
        rows = con.execute(query.sql).fetch_arrow_table().num_rows
        start, runs, spent = time.process_time(), 0, 0.0
        while spent < 0.5:
            con.execute(query.sql).fetch_arrow_table()
            runs += 1
            spent = time.process_time() - start
        print(query.name, rows, f"{spent / runs:.6f}", sep="\t")


main(*sys.argv[1:])
