"""Recomputes the inclusion proof of one event with hashlib alone; shares nothing with keytrail.

inclusion.py EXPLAIN.json ORIGINAL DATA: what `keytrail explain UID --json` and `--raw` printed, and the
data folder. original bytes -> event hash -> row path -> events root, which the manifest names that stands
in the log's entry bundle -> leaf path -> root of the checkpoint. Exit 1 with the first step that fails.
"""

import base64
import hashlib
import json
import pathlib
import sys


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_from(index, size, leaf, path):
    """RFC 9162 section 2.1.3.2."""
    check(index < size, "the leaf is not in the tree")
    fn, sn, r = index, size - 1, leaf
    for p in path:
        check(sn != 0, "the path is too long")
        if fn & 1 or fn == sn:
            r = sha256(b"\x01", p, r)
            while not fn & 1 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            r = sha256(b"\x01", r, p)
        fn, sn = fn >> 1, sn >> 1
    check(sn == 0, "the path is too short")
    return r


def entry(log, index, size):
    """Entry `index` of a C2SP tlog-tiles log of less than 256,000 entries."""
    name = f"tile/entries/{index // 256:03}"
    width = min(256, size - index // 256 * 256)
    bundle = (log / (name if width == 256 else f"{name}.p/{width}")).read_bytes()
    for _ in range(index % 256):
        bundle = bundle[2 + int.from_bytes(bundle[:2], "big"):]
    return bundle[2:2 + int.from_bytes(bundle[:2], "big")]


def check(good, what):
    if not good:
        sys.exit(f"not proven: {what}")


explained, original, data = json.load(open(sys.argv[1])), open(sys.argv[2], "rb").read(), pathlib.Path(sys.argv[3])
event, proof = explained["event"], explained["proof"]
hashes = lambda name: [bytes.fromhex(h) for h in proof[name]]

event_hash = sha256(original)
check(event_hash.hex() == event["hash"], "the hash of the original bytes")

events_root = root_from(proof["row"], proof["row_count"], sha256(b"\x00", event_hash), hashes("row_path"))
check(events_root.hex() == proof["events_root"], "the path from the row to the events root")

origin, size, root = (data / "log/checkpoint").read_text().split("\n")[:3]
check((origin, int(size), root) == (proof["origin"], proof["tree_size"], proof["root_hash"]), "the checkpoint")

leaf = entry(data / "log", proof["leaf_index"], int(size))
manifest = json.loads(leaf)
check(manifest["rows"]["events_root"] == events_root.hex(), "the manifest's events root")
check(manifest["rows"]["count"] == proof["row_count"], "the manifest's count")
check(manifest["object"]["key"] == proof["object"], "the manifest's object")
check(sha256((data / proof["object"]).read_bytes()).hex() == manifest["object"]["sha256"], "the object's hash")

log_root = root_from(proof["leaf_index"], int(size), sha256(b"\x00", leaf), hashes("leaf_path"))
check(base64.b64encode(log_root).decode() == root, "the path from the manifest to the log's root")
