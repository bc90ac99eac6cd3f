"""`mappings.py ROOT DATA`: each column that a normalizer filled in some row stands in its mapping table, by its field's name.

In the tables a name that begins with a dot stands for the field before it with another end, and `x.*` for all below `x`.
Prints {normalizer: columns}.
"""

import json
import os
import re
import sys

from archive import by_duckdb, check, documented

# Set for every source alike, by what reads, judges and stores the events; the tables' headings name the values of some.
COMMON = {
    "event.dataset", "event.module", "event.hash", "event.original", "event.ingested", "keytrail.uid", "keytrail.source",
    "keytrail.input", "keytrail.schema", "keytrail.normalizer", "keytrail.undeclared", "keytrail.group",
}


def named(path):
    """Fields and prefixes (`x.`) that a mapping names."""
    fields, last = set(), ""
    for name in re.findall(r"`([@.\w*]+)`", open(path, encoding="utf-8").read()):
        if name.startswith(".") and last:
            # `.name` behind `a.b.c` is `a.b.name`; `.target.name` is `a.target.name` where that is a field.
            parts = last.split(".")
            fields |= {".".join(parts[:i]) + name for i in range(1, len(parts))}
        else:
            fields.add(name.removesuffix("*"))
            last = name if "." in name else last
    return fields


def main(root, data):
    field_of = {name: field for name, field, _ in documented(root)}
    filled = {}
    for row in by_duckdb(data).values():
        columns = filled.setdefault(row["keytrail_normalizer"].split("/")[0], set())
        columns |= {field_of[name] for name, value in row.items() if value is not None and name in field_of}
    for normalizer, fields in filled.items():
        names = named(os.path.join(root, "schemas", "mappings", f"{normalizer}.md"))
        prefixes = tuple(n for n in names if n.endswith("."))
        lacking = {f for f in fields - COMMON if f not in names and not f.startswith(prefixes)}
        check(not lacking, f"schemas/mappings/{normalizer}.md does not name {sorted(lacking)}")
    print(json.dumps({normalizer: len(fields) for normalizer, fields in sorted(filled.items())}))


main(*sys.argv[1:])
