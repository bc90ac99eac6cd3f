"""The records of log files, cut out byte for byte by Python's own JSON reader: the oracle of main_job.rs.

    records.py FOLDER    prints the SHA-256 of each whole record below FOLDER, one a line

Knows nothing of keytrail: what is no whole JSON object is passed over up to the next line. Text of CloudHSM is cut at empty
lines.
"""

import gzip
import hashlib
import json
import pathlib
import sys

decoder = json.JSONDecoder()


def values(text, at, end="", between=" \t\r\n"):
    """(value, its text) of JSON values that follow each other from `at` on."""
    while True:
        while at < len(text) and text[at] in between:
            at += 1
        if at >= len(text) or text[at] == end:
            return
        try:
            value, stop = decoder.raw_decode(text, at)
        except ValueError:
            at = text.find("\n", at)
            if at < 0:
                return
            continue
        yield value, text[at:stop]
        at = stop


def records(text):
    if text.startswith("Time:"):
        # Blocks of CloudHSM, each behind an empty line.
        yield from ((None, block.strip()) for block in text.split("\n\n"))
        return
    for value, whole in values(text, 0, between=" \t\r\n\ufeff"):
        if isinstance(value, dict) and list(value) in (["Records"], ["records"]):
            yield from values(whole, whole.index("[") + 1, "]", " \t\r\n,")
        elif isinstance(value, list):
            yield from values(whole, 1, "]", " \t\r\n,")
        elif isinstance(value, dict) and "CloudTrailEvent" in value:
            yield value, value["CloudTrailEvent"]
        elif isinstance(value, dict):
            yield value, whole


for path in sorted(p for p in pathlib.Path(sys.argv[1]).rglob("*") if p.is_file()):
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    # Each byte stays itself.
    for _, record in records(data.decode("utf-8", "surrogateescape")):
        print(hashlib.sha256(record.encode("utf-8", "surrogateescape")).hexdigest())
