"""`query.py DATA ANSWERS [EARLIER]`: DuckDB answers queries of `tests/queries`, and its rows are keytrail's.

DATA is a data folder. ANSWERS holds what `keytrail query --format json` printed there, `<topic>/<name>.ndjson` each: of
all queries or of some. EARLIER holds the answers before the archive was rewritten, which have to be the same.

Rows are compared in order where the statement has an order, which then has to be total, and without regard to order
elsewhere. By DuckDB's types:

    integers, HUGEINT, DECIMAL without digits behind the point    equal JSON integers
    DOUBLE, FLOAT, other DECIMAL                                  JSON numbers, equal to 1e-9 of the value
    VARCHAR, BOOLEAN                                              equal
    TIMESTAMP WITH TIME ZONE                                      RFC 3339 in UTC, with Z, equal to the microsecond
    DATE                                                          YYYY-MM-DD
    BLOB                                                          lower-case hexadecimal
    lists                                                         arrays of the same

Prints {queries, rows, ordered, empty}: how many agree, with how many rows, how many of them with an order, and which
have no row and do not say so of themselves.
"""

import datetime
import json
import math
import os
import re
import sys

import duckdb
import pyarrow as pa

from archive import fail
from questions import connect, queries, views

DATE = r"(-?\d{4,})-(\d\d)-(\d\d)"
TIME = re.compile(DATE + r"T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?Z")


def days(text):
    """Days since 1970 of a date as keytrail prints it, also of one that Python has no year for; the text itself if it
    is none."""
    found = re.fullmatch(DATE, text) if isinstance(text, str) else None
    if not found:
        return text
    year, month, day = map(int, found.groups())
    # The calendar repeats itself every 400 years, which have 146,097 days.
    like = 2000 + year % 400
    return (datetime.date(like, month, day) - datetime.date(1970, 1, 1)).days - (like - year) // 400 * 146_097


def micros(text):
    """Microseconds since 1970 of a time as keytrail prints it; the text itself if it is none."""
    found = TIME.fullmatch(text) if isinstance(text, str) else None
    if not found:
        return text
    hours, minutes, seconds = map(int, found.groups()[3:6])
    of_day = (hours * 60 + minutes) * 60 + seconds
    return (days(text.split("T")[0]) * 86_400 + of_day) * 1_000_000 + int((found[7] or "0").ljust(6, "0"))


def is_fraction(kind):
    return pa.types.is_floating(kind) or (pa.types.is_decimal(kind) and kind.scale > 0)


def of_duckdb(value, kind):
    """A value as the comparison has it."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [of_duckdb(item, kind.value_type) for item in value]
    if is_fraction(kind):
        return float(value)
    if pa.types.is_decimal(kind):
        return int(value)
    if pa.types.is_binary(kind):
        return value.hex()
    if isinstance(value, (bool, int, str)):
        return value
    fail(f"DuckDB gives a {kind}, which has no form in JSON")


def of_keytrail(value, kind):
    if pa.types.is_list(kind) and isinstance(value, list):
        return [of_keytrail(item, kind.value_type) for item in value]
    if pa.types.is_timestamp(kind):
        return micros(value)
    if pa.types.is_date(kind):
        return days(value)
    if is_fraction(kind) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def by_duckdb(con, sql):
    """(names and types, rows)."""
    table = con.execute(sql).fetch_arrow_table()
    kinds = [(field.name, field.type) for field in table.schema]
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            if field.type.tz is None:
                fail(f"`{field.name}` is a time without a zone: cast it, so that both engines mean the same")
            table = table.set_column(i, field.name, table.column(i).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
        if pa.types.is_date(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.int32()))
    columns = [column.to_pylist() for column in table.columns]
    return kinds, [[of_duckdb(v, k) for v, (_, k) in zip(row, kinds)] for row in zip(*columns)]


def by_keytrail(path, kinds):
    """Rows of one answer; their columns have to be DuckDB's, in its order."""
    rows = []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            if list(row) != [name for name, _ in kinds]:
                return None, f"columns {list(row)}, DuckDB has {[name for name, _ in kinds]}"
            rows.append([of_keytrail(value, kind) for value, (_, kind) in zip(row.values(), kinds)])
    return rows, None


def same(a, b):
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-9) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def place(row):
    """An order of rows that does not hang on the last digits of their fractions."""
    exact = [value for value in row if not isinstance(value, float)]
    return json.dumps(exact), [value for value in row if isinstance(value, float)]


def difference(query, ours, theirs):
    """What differs first, or nothing."""
    if len(ours) != len(theirs):
        return f"{len(ours)} rows, DuckDB has {len(theirs)}: {ours[:3]} and {theirs[:3]}"
    if not query.ordered:
        ours, theirs = sorted(ours, key=place), sorted(theirs, key=place)
    for number, (a, b) in enumerate(zip(ours, theirs)):
        if not same(a, b):
            return f"row {number} is\n    {a}\n  DuckDB has\n    {b}"
    return None


# Names of types in `schemas/query.md`.
TYPES = {"VARCHAR": "text", "BIGINT": "integer", "BOOLEAN": "boolean", "TIMESTAMP WITH TIME ZONE": "time"}


def documented(con):
    """What differs between the views and the page that documents them."""
    for view, columns in views():
        found = [(name, TYPES.get(kind, kind)) for name, kind, *_ in con.execute(f"DESCRIBE {view}").fetchall()]
        if found != columns:
            yield f"schemas/query.md: `{view}` has {found}, the page says {columns}"


def main(data, answers, earlier=None):
    plain, raw = connect(data), connect(data, raw=True)
    for con in plain, raw:
        con.execute("SET parquet_metadata_cache = true")
    wrong, counts = list(documented(plain)), {"queries": 0, "rows": 0, "ordered": 0, "empty": []}
    for query in queries():
        if not os.path.exists(os.path.join(answers, query.name + ".ndjson")):
            continue
        try:
            kinds, theirs = by_duckdb(raw if query.raw else plain, query.sql)
        except duckdb.Error as e:
            wrong.append(f"{query.name}: DuckDB: {e}")
            continue
        for folder in filter(None, [answers, earlier]):
            path = os.path.join(folder, query.name + ".ndjson")
            ours, why = by_keytrail(path, kinds)
            why = why or difference(query, ours, theirs)
            if why:
                wrong.append(f"{query.name} ({path}): {why}")
        if query.finds_nothing and theirs:
            wrong.append(f"{query.name}: {len(theirs)} rows, and it says that it finds nothing")
        if not theirs and not query.finds_nothing:
            counts["empty"].append(query.name)
        counts["queries"] += 1
        counts["rows"] += len(theirs)
        counts["ordered"] += query.ordered
    if wrong:
        sys.exit("\n".join(wrong))
    print(json.dumps(counts))


main(*sys.argv[1:])
