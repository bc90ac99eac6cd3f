"""Key-operation records that are almost right, judged by their JSON Schema and by keytrail.

`key_operations.py write ROOT FILE`: records of the examples and fixtures, each with one thing changed, one a line; the
same lines every time. `key_operations.py judge ROOT DATA FILE`: keytrail must have accepted nothing that the schema
refuses, and refused nothing that it allows but times, addresses and `1.0` for an integer, which JSON Schema cannot judge.
Prints {records, valid, accepted, stricter}.
"""

import copy
import hashlib
import json
import os
import random
import sys

from jsonschema import Draft202012Validator, FormatChecker

from archive import by_duckdb, check

SOURCES = ["examples/key-operation/hsm-gateway.ndjson", "tests/fixtures/key-operation/whole-epoch/input.ndjson",
           "tests/fixtures/key-operation/after-a-crash/input.ndjson"]
VALUES = [None, "", "x", "A" * 5000, "é", -1, 0, 1, 2**53, 2**63 - 1, 2**63, 2**64, 1.5, 1e400, True, False, [], {}, [1], ["x", "x"], {"x": 1}]


def records(root):
    for source in SOURCES:
        for line in open(os.path.join(root, source), encoding="utf-8"):
            yield json.loads(line)


def places(value, path=()):
    """Every member and item of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        yield (*path, key)
        yield from places(member, (*path, key))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def changed(record, path, rng):
    record = copy.deepcopy(record)
    parent = at(record, path[:-1])
    key, old = path[-1], parent[path[-1]]
    match rng.randrange(6):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent["unknown"] = old
        case 2 if isinstance(old, str):
            parent[key] = rng.choice([old + "x", old.upper(), old[:-1], " " + old, old + "\n"])
        case 3 if isinstance(old, int):
            parent[key] = rng.choice([old + 1, -old, str(old), float(old)])
        case 4 if isinstance(old, list):
            parent[key] = old + old
        case _:
            parent[key] = rng.choice(VALUES)
    return record


def lines(root):
    """(line, changed path), each line once."""
    rng = random.Random(61)
    seen = {}
    for record in records(root):
        for path in places(record):
            line = json.dumps(changed(record, path, rng), separators=(",", ":")).replace("Infinity", "1e400")
            seen.setdefault(line, path)
    return seen


def main(what, root, *rest):
    changes = lines(root)
    if what == "write":
        open(rest[0], "w", encoding="utf-8").write("\n".join(changes) + "\n")
        return
    data, file = rest
    check(open(file, encoding="utf-8").read().splitlines() == list(changes), "another file was read")
    schema = json.load(open(os.path.join(root, "schemas", "key-operation.v1.schema.json"), encoding="utf-8"))
    # Patterns are ECMA 262, where `$` is the end; in Python it also stands before a last line feed.
    schema = json.loads(json.dumps(schema).replace('$"', '\\\\Z"'))
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    accepted = {row["event_hash"] for row in by_duckdb(data).values()}
    valid = stricter = 0
    for line, path in changes.items():
        is_valid = validator.is_valid(json.loads(line))
        is_accepted = hashlib.sha256(line.encode()).hexdigest() in accepted
        valid += is_valid
        check(is_valid or not is_accepted, f"{path}: keytrail accepted what the schema refuses: {line}")
        if is_valid and not is_accepted:
            stricter += 1
            check(path[-1] in ("time", "ip") or isinstance(at(json.loads(line), path), float), f"{path}: keytrail refused what the schema allows: {line}")
    print(json.dumps({"records": len(changes), "valid": valid, "accepted": len(accepted), "stricter": stricter}))


main(*sys.argv[1:])
