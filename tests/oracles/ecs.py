"""`ecs.py DATA`: the rows hold what the Elastic Common Schema 9.4 allows (field reference, event.*, source.*, related.*).

Prints {rows, categories}.
"""

import ipaddress
import json
import sys

from archive import by_duckdb, check

KINDS = {"alert", "asset", "enrichment", "event", "metric", "state", "pipeline_error", "signal"}
OUTCOMES = {"success", "failure", "unknown", None}
# Allowed values of event.category, with the types that each expects.
CATEGORIES = {
    "api": {"access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"},
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "network": {"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"},
    "process": {"access", "change", "end", "info", "start"},
    "session": {"end", "info", "start"},
}
USERS = ("user_id", "user_name", "user_effective_name", "user_target_name")


def main(data):
    seen = set()
    rows = by_duckdb(data)
    for uid, row in rows.items():
        check(row["event_kind"] in KINDS, f"{uid}: event.kind {row['event_kind']}")
        check(row["event_outcome"] in OUTCOMES, f"{uid}: event.outcome {row['event_outcome']}")
        categories, types = set(row["event_category"] or []), set(row["event_type"] or [])
        check(categories and categories <= CATEGORIES.keys(), f"{uid}: event.category {categories}")
        expected = set().union(*(CATEGORIES[c] for c in categories))
        check(types and types <= expected, f"{uid}: event.type {types}, {categories} expect none of {types - expected}")
        seen |= categories
        missing = {row[u] for u in USERS if row[u]} - set(row["related_user"] or [])
        check(not missing, f"{uid}: related.user lacks {missing}")
        if row["source_ip"]:
            ipaddress.ip_address(row["source_ip"])
            check(row["source_ip"] in (row["related_ip"] or []), f"{uid}: related.ip lacks {row['source_ip']}")
            check(row["source_address"], f"{uid}: source.ip without source.address")
        for ip in row["related_ip"] or []:
            ipaddress.ip_address(ip)
        check(row["source_port"] is None or 0 < row["source_port"] < 65_536, f"{uid}: source.port {row['source_port']}")
    print(json.dumps({"rows": len(rows), "categories": sorted(seen)}))


main(*sys.argv[1:])
