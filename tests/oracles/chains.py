"""Leaf hashes of a chain's records, recomputed from the archive alone by a reader that knows nothing of keytrail.

`chains.py DATA`: prints a JSON list with an object for each row that has a place in a chain, in its order: source, epoch, seq, prev, leaf (computed from the bytes: envelope, line feed and line where there is an envelope, else the original), column (what the archive says), dataset.
"""

import glob
import hashlib
import json
import sys

import pyarrow.parquet as pq

LEDGER = [f"keytrail_ledger_{name}" for name in ("source", "epoch", "seq", "prev", "leaf_hash", "envelope")]

rows = []
for path in glob.glob(sys.argv[1] + "/archive/**/*.parquet", recursive=True):
    table = pq.ParquetFile(path).read(columns=["event_dataset", "event_original", *LEDGER])
    for row in table.to_pylist():
        if row["keytrail_ledger_source"] is None:
            continue
        envelope, original = row["keytrail_ledger_envelope"], row["event_original"]
        record = original if envelope is None else envelope + b"\n" + original
        source, epoch, seq, prev, column, _ = (row[name] for name in LEDGER)
        leaf = hashlib.sha256(b"\0" + record).hexdigest()
        rows.append({"source": source, "epoch": epoch, "seq": seq, "prev": prev, "leaf": leaf, "column": column,
                     "dataset": row["event_dataset"]})
print(json.dumps(sorted(rows, key=lambda r: (r["source"], r["epoch"], r["seq"]))))
