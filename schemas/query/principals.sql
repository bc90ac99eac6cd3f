-- A row an actor that operated on keys, within its dataset and account. Records of service events may name nobody:
-- then `actor` is null. `person` and `team` are what tables said last.
-- Runs in DuckDB and in `keytrail query` over the view `key_operations`.
CREATE OR REPLACE VIEW principals AS
SELECT
  dataset,
  account,
  actor,
  last(person ORDER BY time NULLS FIRST, uid) FILTER (WHERE person IS NOT NULL) AS person,
  last(actor_team ORDER BY time NULLS FIRST, uid) FILTER (WHERE actor_team IS NOT NULL) AS team,
  min(time) AS first_seen,
  max(time) AS last_seen,
  count(*) AS operations,
  count(*) FILTER (WHERE failed) AS failures,
  count(DISTINCT key) AS keys
FROM key_operations
GROUP BY dataset, account, actor;
