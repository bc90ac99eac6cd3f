"""`readers.py ROOT DATA [EXPLAINED]`: DuckDB and pyarrow read the same rows, as `schemas/archive.md` documents them.

EXPLAINED holds what `keytrail explain --json` printed, one object a line: keytrail must show what the readers read.
The row digests of `schemas/manifest.md` are worked out anew and held to the log's entries.
Prints {rows, columns, values, nulls, objects, explained}.
"""

import datetime
import functools
import glob
import hashlib
import json
import os
import re
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from archive import by_duckdb, by_pyarrow, check, documented, files

TYPES = {
    "text": pa.string(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "bytes": pa.binary(),
    "time": pa.timestamp("us", tz="UTC"),
}
# Columns whose values are nearly all different: documented as plain and without statistics.
UNIQUE = {
    "event_original",
    "event_hash",
    "event_id",
    "keytrail_uid",
    "keytrail_group",
    "keytrail_input",
    "keytrail_ledger_envelope",
    "keytrail_ledger_leaf_hash",
    "keytrail_ledger_prev",
    "keytrail_operation_id",
}
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def day_of(micros):
    """The partition of a time; what lies before 2006 counts as no time."""
    if micros is None or micros < 1_136_073_600_000_000:
        return "undated"
    return (EPOCH + datetime.timedelta(microseconds=micros)).strftime("%Y-%m-%d")


def schema(path, columns):
    arrow = pq.read_schema(path)
    check(arrow.names == [name for name, _, _ in columns], f"{path}: columns differ from those documented")
    for field, (name, _, kind) in zip(arrow, columns):
        if kind == "list of texts":
            check(pa.types.is_list(field.type) and field.type.value_type == pa.string(), f"{path}: {name} is {field.type}")
            check(not field.type.value_field.nullable, f"{path}: items of {name} may be null")
        else:
            check(field.type == TYPES[kind], f"{path}: {name} is {field.type}, documented as {kind}")


def layout(path):
    """Metadata, compression and statistics of a file."""
    meta = pq.read_metadata(path)
    check(meta.created_by.split()[0] == "keytrail", f"{path}: created by {meta.created_by}")
    check(meta.metadata == {b"keytrail.schema": b"1"}, f"{path}: metadata {meta.metadata}")
    check(meta.format_version == "1.0", f"{path}: format {meta.format_version}")
    for group in range(meta.num_row_groups):
        check(meta.row_group(group).num_rows <= 65_536, f"{path}: a row group of {meta.row_group(group).num_rows} rows")
        for i in range(meta.num_columns):
            column = meta.row_group(group).column(i)
            name = column.path_in_schema.split(".")[0]
            check(column.compression == "ZSTD", f"{path}: {name} is {column.compression}")
            dictionary = "RLE_DICTIONARY" in column.encodings or "PLAIN_DICTIONARY" in column.encodings
            # A dictionary of booleans would be no smaller.
            if column.physical_type != "BOOLEAN":
                check(dictionary == (name not in UNIQUE), f"{path}: {name} has encodings {column.encodings}")
            statistics = column.statistics
            if name in UNIQUE:
                check(statistics is None or not statistics.has_min_max, f"{path}: {name} has statistics")
            elif statistics is None or not statistics.has_min_max:
                check(statistics and statistics.null_count == column.num_values, f"{path}: {name} lacks statistics")


def order(path, data):
    """Rows sorted by time, undated ones last, then uid; the name says the first time; returns the day's rows."""
    table = pq.read_table(path, columns=["timestamp", "keytrail_uid", "event_dataset"], partitioning=None)
    times = table["timestamp"].cast(pa.int64()).to_pylist()
    keys = [(t is None, t or 0, uid) for t, uid in zip(times, table["keytrail_uid"].to_pylist())]
    start = 0
    meta = pq.read_metadata(path)
    for group in range(meta.num_row_groups):
        end = start + meta.row_group(group).num_rows
        check(keys[start:end] == sorted(keys[start:end]), f"{path}: row group {group} is not sorted by time")
        start = end
    dataset, day, name = os.path.relpath(path, os.path.join(data, "archive")).split(os.sep)
    check({f"dataset={d}" for d in table["event_dataset"].to_pylist()} == {dataset}, f"{path}: rows of another dataset")
    check({f"day={day_of(t)}" for t in times} == {day}, f"{path}: rows of another day")
    dated = [t for t in times if day_of(t) != "undated"]
    first = (EPOCH + datetime.timedelta(microseconds=min(dated))).strftime("%Y%m%dT%H%M%SZ") if dated else "undated"
    check(re.fullmatch(first + r"-[0-9a-f]{16}\.parquet", name), f"{path}: expected a name that starts with {first}")


# What the row digest leaves out.
UNBOUND = {"event_original", "event_hash", "keytrail_uid", "event_ingested", "keytrail_group", "keytrail_input"}
# ... because tables said it, not the producer.
UNBOUND |= {"cloud_account_name", "keytrail_account_owner", "keytrail_account_tier", "keytrail_actor_person"}
UNBOUND |= {"keytrail_actor_privileged", "keytrail_actor_role", "keytrail_actor_service", "keytrail_actor_team"}
UNBOUND |= {"keytrail_key_declared_alias", "keytrail_key_declared_id", "keytrail_key_owner", "keytrail_key_purpose"}
UNBOUND |= {"keytrail_key_team", "keytrail_key_tier", "keytrail_source_site", "keytrail_source_zone", "keytrail_tables"}
UNBOUND |= {"source_as_number", "source_as_organization_name", "source_geo_city_name", "source_geo_country_iso_code"}


def behind_length(part):
    return len(part).to_bytes(4, "big") + part


def encoded(value, kind):
    if kind == "text":
        return value.encode()
    if kind == "list of texts":
        return b"".join(behind_length(item.encode()) for item in value)
    if kind == "boolean":
        return bytes([value])
    return value.to_bytes(8, "big", signed=True)


@functools.cache
def facets():
    """The columns of the two facets that `schemas/manifest.md` lists."""
    page = os.path.join(os.path.dirname(__file__), "..", "..", "schemas", "manifest.md")
    with open(page) as page:
        listed = page.read().split("The facets, each by ascending name")[1].split("##")[0]
    found = [re.findall("`([a-z_]+)`", item) for item in listed.split("\n- ")[1:]]
    check([names == sorted(names) for names in found] == [True, True], "the facets are not listed as they should be")
    return found


def digest(row, columns):
    """The digest of a row, as `schemas/manifest.md` defines it."""
    held = sorted((name, kind) for name, _, kind in columns if name not in UNBOUND and row[name] is not None)
    names = b"".join(behind_length(name.encode()) for name, _ in held)
    head = behind_length(b"keytrail/row/1") + len(held).to_bytes(4, "big") + names
    values = {name: behind_length(encoded(row[name], kind)) for name, kind in held}
    joined = [b"".join(values.pop(name, b"") for name in facet) for facet in facets()]
    hashes = b"".join(hashlib.sha256(facet).digest() for facet in joined)
    text = head + bytes(-len(head) % 64) + hashes + b"".join(values.values())
    text += bytes.fromhex(row["keytrail_uid"] + row["event_hash"])
    return hashlib.sha256(text).digest()


def root(leaves):
    """RFC 6962 root over hashes of leaves."""
    while len(leaves) > 1:
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(leaves[::2], leaves[1::2])]
        leaves = pairs + (leaves[-1:] if len(leaves) % 2 else [])
    return leaves[0]


def manifests(data):
    """The log's entries, of less than 256,000, by the object that they name."""
    entries = os.path.join(data, "log", "tile", "entries")
    # A partial bundle that a wider one supersedes names the same objects.
    for path in glob.glob(os.path.join(entries, "**"), recursive=True):
        bundle = open(path, "rb").read() if os.path.isfile(path) else b""
        while bundle:
            end = 2 + int.from_bytes(bundle[:2], "big")
            manifest, bundle = json.loads(bundle[2:end]), bundle[end:]
            if manifest["object"]:
                yield manifest["object"]["key"], manifest


def sealed(data, columns):
    """Each object's rows have the roots that its manifest seals."""
    sealed = dict(manifests(data))
    check(len(sealed) == len(files(data)), f"{len(sealed)} objects are sealed, {len(files(data))} are there")
    for path in files(data):
        table = pq.read_table(path, partitioning=None)
        at = table.schema.get_field_index("timestamp")
        rows = table.set_column(at, "timestamp", table["timestamp"].cast(pa.int64())).to_pylist()
        expected = sealed[os.path.relpath(path, data)]["rows"]
        for name, leaves in ("events_root", [bytes.fromhex(r["event_hash"]) for r in rows]), ("rows_root", [digest(r, columns) for r in rows]):
            is_root = root([hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]).hex()
            check(is_root == expected[name], f"{path}: its {name} is {is_root}, the log seals {expected[name]}")


def explained(path, rows, columns):
    """What keytrail shows of an event is what the readers read; returns how many it showed."""
    column_of = {field: (name, kind) for name, field, kind in columns}
    lines = open(path, encoding="utf-8").read().splitlines()
    for line in lines:
        event = json.loads(line)["event"]
        row = rows[event["uid"]]
        shown = {"keytrail_uid": event["uid"], "event_hash": event["hash"], "keytrail_input": event["input"]}
        for field, value in event["fields"].items():
            name, kind = column_of[field]
            if kind == "time":
                value = datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
                value = (value - EPOCH) // datetime.timedelta(microseconds=1)
            shown[name] = value
        # The original is shown masked, and these two are the archive's own business.
        hidden = {"event_original", "event_ingested", "keytrail_group", "dataset", "day"}
        read = {n: v for n, v in row.items() if v is not None and n not in hidden}
        check(shown == read, f"{event['uid']}: explain shows\n{shown}\nreaders read\n{read}")
    return len(lines)


def main(root, data, explains=None):
    columns = documented(root)
    for path in files(data):
        schema(path, columns)
        layout(path)
        order(path, data)
    sealed(data, columns)
    duck, arrow = by_duckdb(data), by_pyarrow(data)
    check(duck.keys() == arrow.keys(), f"DuckDB reads {len(duck)} rows, pyarrow {len(arrow)}, or other ones")
    values = nulls = 0
    for uid, row in duck.items():
        check(row.keys() == arrow[uid].keys(), f"{uid}: the readers differ in columns")
        for name, value in row.items():
            check(value == arrow[uid][name], f"{uid}: {name}: DuckDB reads {value!r}, pyarrow {arrow[uid][name]!r}")
            values, nulls = values + 1, nulls + (value is None)
            check(value != [] and value != "", f"{uid}: {name} is empty, expected null")
        check(row["day"] == day_of(row["timestamp"]), f"{uid}: day={row['day']}, time {row['timestamp']}")
        check(row["dataset"] == row["event_dataset"], f"{uid}: dataset={row['dataset']}")
        check(row["event_hash"] == hashlib.sha256(row["event_original"]).hexdigest(), f"{uid}: event_hash is not the hash of the original")
    days = sorted({row["day"] for row in duck.values()})
    check("undated" not in days or days[-1] == "undated", "`undated` does not sort last")
    print(json.dumps({"rows": len(duck), "columns": len(columns), "values": values, "nulls": nulls, "objects": len(files(data)),
                      "days": days, "explained": explained(explains, duck, columns) if explains else 0}))


main(*sys.argv[1:])
