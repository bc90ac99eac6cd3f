"""The queries of `tests/queries`, and DuckDB set up to answer them on the Parquet files of a data folder.

What the differential test and the bench of `keytrail query` share. The statements that make DuckDB's tables are
those that `schemas/query.md` gives to users.
"""

import glob
import os
import re

import duckdb

ROOT = os.path.normpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = os.path.join(ROOT, "tests", "queries")
PAGE = os.path.join(ROOT, "schemas", "query.md")


class Query:
    """A file of a folder such as `tests/queries`: the question in its first line, what is said about it below, and the
    statement."""

    def __init__(self, folder, path):
        self.name = os.path.relpath(path, folder).removesuffix(".sql")
        self.sql = open(path, encoding="utf-8").read()
        said = [line.removeprefix("--").strip() for line in self.sql.splitlines() if line.startswith("--")]
        self.question = said[0]
        self.finds_nothing = "finds nothing" in said
        self.raw = "with --raw" in said
        self.ordered = ordered(self.sql)


def ordered(sql):
    """Whether the statement itself, and not only a part in parentheses, has an order."""
    depth, top = 0, []
    for token in re.findall(r"--[^\n]*|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\w+|[()]", sql):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token[0] not in "-'\"()":
            top.append(token.upper())
    return ("ORDER", "BY") in zip(top, top[1:])


def queries(folder=FOLDER):
    return [Query(folder, path) for path in sorted(glob.glob(os.path.join(folder, "*", "*.sql")))]


def setup(data):
    """The statements of `schemas/query.md` that make DuckDB's tables, for this data folder."""
    page = open(PAGE, encoding="utf-8").read()
    block = re.search(r"<!-- setup of DuckDB -->\n+```sql\n(.*?)^```", page, re.M | re.S)[1]
    block = block.replace("'trail/archive", "'" + data.replace("'", "''") + "/archive")
    for line in re.split(r"^(\.read .*)$", block, flags=re.M):
        if line.startswith(".read "):
            yield open(os.path.join(ROOT, line.removeprefix(".read ").strip()), encoding="utf-8").read()
        elif line.strip():
            yield line


def views():
    """(view, [(column, type)...]) as `schemas/query.md` lists them."""
    page = open(PAGE, encoding="utf-8").read()
    section = page.split("<!-- views:")[1].split("<!-- end of views -->")[0]
    for part in section.split("\n### ")[1:]:
        yield re.match("`([a-z_]+)`", part)[1], re.findall(r"^\| `(\w+)` \| (\w+) \|", part, re.M)


def connect(data, raw=False):
    """DuckDB with the tables of a data folder, as `schemas/query.md` tells users to make them; `event_original` is in
    `events` with `raw` alone."""
    con = duckdb.connect()
    for statement in setup(data):
        con.execute(statement.replace(" EXCLUDE (event_original)", "") if raw else statement)
    return con
