"""The loader that one writes in Python: orjson and pyarrow, one thread: `python_load.py lines|records INPUT OUTPUT`."""

import gzip
import hashlib
import sys

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from columns import COLUMNS

BATCH = 50_000


def records(layout, source):
    data = open(source, "rb").read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if layout == "records":
        for event in orjson.loads(data)["Records"]:
            yield event, orjson.dumps(event)
    else:
        for line in data.splitlines():
            yield orjson.loads(line), line


def column(event, path, kind):
    for step in path:
        if not isinstance(event, dict):
            return None
        event = event.get(step)
    return orjson.dumps(event).decode() if kind == "json" and event is not None else event


def main(layout, source, target):
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    types = {"bool": pa.bool_()}
    schema = pa.schema(
        [(name, types.get(kind, pa.string())) for name, _, kind in COLUMNS]
        + [("event_original", pa.binary()), ("event_hash", pa.string())]
    )
    total = 0
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=3) as writer:
        batch = [[] for _ in schema]

        def flush():
            writer.write_table(pa.table(batch, schema=schema))
            for values in batch:
                values.clear()

        for event, original in records(layout, source):
            for values, (_, path, kind) in zip(batch, COLUMNS):
                values.append(column(event, path, kind))
            batch[-2].append(original)
            batch[-1].append(hashlib.sha256(original).hexdigest())
            total += 1
            if total % BATCH == 0:
                flush()
        flush()
    print(total)


main(*sys.argv[1:])
