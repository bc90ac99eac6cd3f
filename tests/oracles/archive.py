"""Reading a trail's archive with tools that know nothing of keytrail: DuckDB and pyarrow.

What the oracles beside it share. A row is a dict by column; times are microseconds since 1970-01-01.
"""

import glob
import os
import re
import sys

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

PARTITION = pa.schema([("dataset", pa.string()), ("day", pa.string())])


def fail(message):
    """Ends the oracle: the test shows what it printed."""
    sys.exit(f"oracle: {message}")


def check(holds, message):
    if not holds:
        fail(message)


def files(data):
    """The archive's objects, sorted by path."""
    return sorted(glob.glob(os.path.join(data, "archive", "**", "*.parquet"), recursive=True))


def documented(root):
    """(column, field, type) as the table in `schemas/archive.md` lists them, in its order."""
    text = open(os.path.join(root, "schemas", "archive.md"), encoding="utf-8").read()
    table = text.split("<!-- columns:")[1].split("<!-- end of columns -->")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| ([^|]+?) \|", table, re.M)
    check(len(rows) > 50, "no table of columns in `schemas/archive.md`")
    return rows


def table_sql(data):
    pattern = os.path.join(data, "archive", "**", "*.parquet").replace("'", "''")
    return f"read_parquet('{pattern}', hive_partitioning = true, hive_types = {{'day': VARCHAR}}, union_by_name = true)"


def by_duckdb(data):
    """All rows, by uid."""
    con = duckdb.connect()
    described = con.execute(f"DESCRIBE SELECT * FROM {table_sql(data)}").fetchall()
    names = [row[0] for row in described]
    columns = ", ".join(f"epoch_us({n}) AS {n}" if row[1].startswith("TIMESTAMP") else n for n, row in zip(names, described))
    rows = con.execute(f"SELECT {columns} FROM {table_sql(data)}").fetchall()
    return keyed((dict(zip(names, row)) for row in rows), "DuckDB")


def by_pyarrow(data):
    """All rows, by uid."""
    dataset = ds.dataset(files(data), format="parquet", partitioning=ds.partitioning(PARTITION, flavor="hive"),
                         partition_base_dir=os.path.join(data, "archive"))
    table = dataset.to_table()
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            check(field.type == pa.timestamp("us", tz="UTC"), f"`{field.name}` is {field.type}, expected microseconds in UTC")
            table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
    return keyed(table.to_pylist(), "pyarrow")


def keyed(rows, reader):
    out = {}
    for row in rows:
        check(out.setdefault(row["keytrail_uid"], row) is row, f"{reader} reads uid {row['keytrail_uid']} twice")
    return out
