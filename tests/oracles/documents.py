"""`documents.py ROOT`: the SQL of README.md and schemas/archive.md, run as it is written by DuckDB.

The data folder must be `trail` in the working folder, for so the documents have it. Prints {rows}: how many each gave.
"""

import json
import os
import re
import sys

import duckdb

from archive import check


def statements(root):
    readme = open(os.path.join(root, "README.md"), encoding="utf-8").read()
    archive = open(os.path.join(root, "schemas", "archive.md"), encoding="utf-8").read()
    shell = re.findall(r'^duckdb -c "(.*?)"$', readme, re.M | re.S)
    blocks = re.findall(r"^```sql\n(.*?)^```", archive, re.M | re.S)
    blocks = [s.query for block in blocks for s in duckdb.extract_statements(block)]
    check(shell and len(blocks) >= 4, "the documents hold no SQL")
    return shell + blocks


def main(root):
    con = duckdb.connect()
    counts = []
    for sql in statements(root):
        try:
            counts.append(con.execute(sql).fetch_arrow_table().num_rows)
        except duckdb.Error as e:
            sys.exit(f"oracle: {e}\nin\n{sql}")
    print(json.dumps({"rows": counts}))


main(*sys.argv[1:])
