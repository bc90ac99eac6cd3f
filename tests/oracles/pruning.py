"""`pruning.py DATA HOURS`: how much of an object a reader can skip by time, as pyarrow and DuckDB see its statistics.

Prints, of the largest object, {rows, groups, overlaps: neighbours whose times overlap by more than their common bound,
kept: row groups that a filter of HOURS hours about the middle leaves, matching: rows that it matches}.
"""

import datetime
import json
import os
import sys

import duckdb
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from archive import check, files


def main(data, hours):
    path = max(files(data), key=os.path.getsize)
    meta = pq.read_metadata(path)
    index = pq.read_schema(path).names.index("timestamp")
    statistics = [meta.row_group(g).column(index).statistics for g in range(meta.num_row_groups)]
    bounds = [(s.min, s.max) for s in statistics]
    seen = duckdb.execute(
        "SELECT stats_min_value::TIMESTAMPTZ::VARCHAR, stats_max_value::TIMESTAMPTZ::VARCHAR FROM parquet_metadata(?) "
        "WHERE path_in_schema = 'timestamp' ORDER BY row_group_id", [path]).fetchall()
    text = lambda t: t.astimezone(datetime.timezone.utc)
    parse = lambda t: datetime.datetime.fromisoformat(t.replace("+00", "+00:00"))
    check([(parse(a), parse(b)) for a, b in seen] == [(text(a), text(b)) for a, b in bounds], f"DuckDB reads other statistics: {seen}")
    # What a row group says of its times is what it holds.
    for group, (low, high) in enumerate(bounds):
        times = pq.ParquetFile(path).read_row_group(group, columns=["timestamp"])["timestamp"]
        check((pc.min(times).as_py(), pc.max(times).as_py()) == (low, high), f"row group {group}: its statistics are wrong")
    middle = bounds[0][0] + (max(b[1] for b in bounds) - bounds[0][0]) / 2
    half = datetime.timedelta(hours=float(hours)) / 2
    window = (pc.field("timestamp") >= middle - half) & (pc.field("timestamp") < middle + half)
    fragment = next(ds.dataset(path, format="parquet").get_fragments())
    kept = fragment.subset(window).num_row_groups
    matching = ds.dataset(path, format="parquet").count_rows(filter=window)
    brute = sum(middle - half <= t < middle + half for t in pq.read_table(path, columns=["timestamp"], partitioning=None)["timestamp"].to_pylist())
    check(matching == brute, f"the filter finds {matching} rows, reading them all {brute}")
    overlaps = sum(a[1] > b[0] for a, b in zip(bounds, bounds[1:]))
    print(json.dumps({"rows": meta.num_rows, "groups": meta.num_row_groups, "overlaps": overlaps, "kept": kept, "matching": matching}))


main(*sys.argv[1:])
