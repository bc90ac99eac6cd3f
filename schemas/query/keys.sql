-- A row a key, within its dataset. What is said of it (alias, owner, ...) is what was said last; `created`, `rotated`,
-- `scheduled` (for deletion), `cancelled` (its deletion) and `destroyed` are times of operations that did not fail, as
-- seen in the archive. The counts by class add up to `operations`.
-- Runs in DuckDB and in `keytrail query` over the view `key_operations`.
CREATE OR REPLACE VIEW keys AS
SELECT
  dataset,
  key,
  last(alias ORDER BY time NULLS FIRST, uid) FILTER (WHERE alias IS NOT NULL) AS alias,
  last(algorithm ORDER BY time NULLS FIRST, uid) FILTER (WHERE algorithm IS NOT NULL) AS algorithm,
  last(state ORDER BY time NULLS FIRST, uid) FILTER (WHERE state IS NOT NULL) AS state,
  last(owner ORDER BY time NULLS FIRST, uid) FILTER (WHERE owner IS NOT NULL) AS owner,
  last(team ORDER BY time NULLS FIRST, uid) FILTER (WHERE team IS NOT NULL) AS team,
  last(purpose ORDER BY time NULLS FIRST, uid) FILTER (WHERE purpose IS NOT NULL) AS purpose,
  last(tier ORDER BY time NULLS FIRST, uid) FILTER (WHERE tier IS NOT NULL) AS tier,
  min(time) AS first_seen,
  max(time) AS last_seen,
  count(*) AS operations,
  count(*) FILTER (WHERE failed) AS failures,
  count(DISTINCT actor) AS actors,
  min(time) FILTER (WHERE class IN ('create', 'import') AND NOT failed) AS created,
  max(time) FILTER (WHERE class = 'rotate' AND NOT failed) AS rotated,
  max(time) FILTER (WHERE class = 'schedule-deletion' AND NOT failed) AS scheduled,
  max(time) FILTER (WHERE class = 'cancel-deletion' AND NOT failed) AS cancelled,
  max(time) FILTER (WHERE class = 'destroy' AND NOT failed) AS destroyed,
  count(*) FILTER (WHERE class IN ('encrypt', 'wrap', 'generate-data-key')) AS encryptions,
  count(*) FILTER (WHERE class IN ('decrypt', 'unwrap')) AS decryptions,
  count(*) FILTER (WHERE class IN ('sign', 'mac')) AS signatures,
  count(*) FILTER (WHERE class = 'verify') AS verifications,
  count(*) FILTER (WHERE class = 'derive') AS derivations,
  count(*) FILTER (WHERE class = 'export') AS exports,
  count(*) FILTER (WHERE class = 'access') AS reads,
  count(*) FILTER (WHERE class IN (
    'create', 'import', 'rotate', 'enable', 'disable', 'schedule-deletion', 'cancel-deletion', 'destroy',
    'policy-change', 'grant', 'alias-change', 'administer', 'audit-control')) AS changes
FROM key_operations
WHERE key IS NOT NULL
GROUP BY dataset, key;
