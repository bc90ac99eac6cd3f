"""Recomputes the numbers of reports by the SQL that they print, with DuckDB on the Parquet files.

    python report.py SCHEMA DATA reports/2023-W28/report.json...

Checks each against the JSON Schema first. Prints {"tables": N, "rows": N} of what agrees; the first report that
differs ends it, with each difference.
"""

import datetime
import json
import os
import sys

import duckdb
import jsonschema

checked = {"tables": 0, "rows": 0}


def recompute(path):
    report = json.load(open(path))
    jsonschema.validate(report, schema)
    con = duckdb.connect()
    for statement in report["method"]["setup"] if report["method"]["objects"] else []:
        # Each query would read all files anew; the rows are the same.
        con.execute(statement.replace("CREATE VIEW", "CREATE TABLE"))

    monday = datetime.date.fromisoformat(report["cover"]["from"][:10])
    weeks = [monday - datetime.timedelta(weeks=n) for n in range(12, -1, -1)]
    wrong = []

    def rows(name):
        """Rows of a query that the report prints; times as the report writes them."""
        if not report["method"]["objects"]:
            return []
        query = next(q for q in report["method"]["queries"] if q["name"] == name)
        con.execute(f"CREATE OR REPLACE TEMP TABLE result AS {query['sql']}")
        columns = [
            f"strftime(timezone('UTC', \"{c}\"), '%Y-%m-%dT%H:%M:%S.%fZ')" if t == "TIMESTAMP WITH TIME ZONE" else f'"{c}"'
            for c, t, *_ in con.execute("DESCRIBE result").fetchall()
        ]
        names = [row[0] for row in con.execute("DESCRIBE result").fetchall()]
        result = con.execute(f"SELECT {', '.join(columns)} FROM result")
        return [dict(zip(names, row)) for row in result.fetchall()]

    def same(what, report_says, duckdb_says):
        if report_says == duckdb_says:
            checked["tables"] += 1
            checked["rows"] += len(report_says)
        else:
            wrong.append(f"{what}\n  report {report_says}\n  duckdb {duckdb_says}")

    def only(row, *names):
        return {name: row[name] for name in names}

    def median(before):
        last = before[-4:]
        if any(n is None for n in last):
            return None
        return sum(sorted(last)[1:3]) // 2

    def by_week(found, number):
        """The number of each of the 13 weeks, null where the archive has no event."""
        return [found[w][number] if w in found and found[w]["events"] else None for w in weeks]

    figures = {row["week"]: row for row in rows("figures")}
    columns = {
        "events": "events",
        "operations": "operations",
        "key operations": "key_operations",
        "failures": "failures",
        "privileged operations": "privileged",
        "actors": "actors",
        "keys": "keys",
    }
    expected = []
    for name, column in columns.items():
        numbers = by_week(figures, column)
        expected.append(dict(name=name, count=numbers[-1] or 0, before=numbers[:-1], median=median(numbers[:-1])))
    same("figures", report["summary"]["figures"], expected)

    heard = {(s["dataset"], s["source"]): s for s in report["coverage"]["sources"]}
    numbers = ["events", "undeclared_events", "operations", "failures", "first", "last"]
    same(
        "sources",
        {of: only(s, *numbers) for of, s in heard.items() if s["events"]},
        {(r["dataset"], r["keytrail_source"]): only(r, *numbers) for r in rows("sources")},
    )
    same(
        "silence",
        {of: s["longest_silence_seconds"] for of, s in heard.items() if s["events"]},
        {(r["dataset"], r["keytrail_source"]): r["longest_silence_seconds"] for r in rows("silence")},
    )
    assert all(s["longest_silence_seconds"] == 604800 for s in heard.values() if not s["events"])
    numbers = ["events", "failures", "longest_silence_seconds"]
    same(
        "days",
        {(*of, d["day"]): only(d, *numbers) for of, s in heard.items() for d in s["days"] if d["events"]},
        {(r["dataset"], r["keytrail_source"], r["day"]): only(r, *numbers) for r in rows("days")},
    )
    same(
        "undated",
        report["coverage"]["undated"],
        [dict(source=r["keytrail_source"], dataset=r["dataset"], events=r["events"]) for r in rows("undated")],
    )

    classes = {(r["class"], r["week"]): r for r in rows("classes")}

    def count(table, name, week, column):
        if week not in figures:
            return None
        return table.get((name, week), {}).get(column, 0)

    expected = {}
    for name in {name for name, _ in classes}:
        before = [count(classes, name, w, "operations") for w in weeks[:-1]]
        expected[name] = dict(
            operations=count(classes, name, monday, "operations") or 0,
            failures=count(classes, name, monday, "failures") or 0,
            before=before,
            median=median(before),
        )
    same("classes", {c["class"]: only(c, "operations", "failures", "before", "median") for c in report["operations"]["classes"]}, expected)
    same("actors", report["operations"]["actors"], rows("actors"))

    keys = ["dataset", "key", "alias", "algorithm", "state", "operations", "failures", "first", "last", "created", "rotated"]
    keys += ["deletion_scheduled", "destroyed"]
    same("keys", [only(k, *keys) for k in report["keys"]["seen"]], [only(k, *keys) for k in rows("keys")])

    kinds = {(r["kind"], r["week"]): r for r in rows("privileged_kinds")}
    expected = []
    for kind in report["privileged"]["kinds"]:
        before = [count(kinds, kind["kind"], w, "operations") for w in weeks[:-1]]
        expected.append(
            dict(
                kind=kind["kind"],
                operations=count(kinds, kind["kind"], monday, "operations") or 0,
                failures=count(kinds, kind["kind"], monday, "failures") or 0,
                median=median(before),
            )
        )
    assert {kind for kind, _ in kinds} <= {kind["kind"] for kind in report["privileged"]["kinds"]}
    same("privileged kinds", report["privileged"]["kinds"], expected)
    same("privileged", report["privileged"]["groups"], rows("privileged"))

    for what, query, name in [
        ("sources", "failures_by_source", "keytrail_source"),
        ("actors", "failures_by_actor", "actor"),
        ("keys", "failures_by_key", "key"),
    ]:
        expected = []
        for r in rows(query):
            before = [r[f"before_{n}"] for n in (4, 3, 2, 1)]
            expected.append(
                dict(
                    dataset=r["dataset"],
                    account=r.get("account"),
                    name=r[name],
                    operations=r["operations"],
                    failures=r["failures"],
                    before=before,
                    median=median(before),
                )
            )
        same(f"failures of {what}", report["failures"][what], expected)
    if wrong:
        sys.exit(f"{path} differs:\n" + "\n".join(wrong))


schema = json.load(open(sys.argv[1]))
os.chdir(sys.argv[2])
for path in sys.argv[3:]:
    recompute(path)
print(json.dumps(checked))
