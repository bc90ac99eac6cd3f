-- A row an operation on a key, or on a secret in a store of secrets, as the weekly report counts them.
--
-- An operation is an event that tells how something ended. `key` is the key's id within its dataset (of Vault: its
-- mount and name), else its alias. `time` is null where the event has no time that can be read.
-- Runs in DuckDB and in `keytrail query` over a table or view `events` (schemas/query.md).
CREATE OR REPLACE VIEW key_operations AS
SELECT
  timestamp AS time,
  day,
  dataset,
  keytrail_source AS source,
  coalesce(cloud_account_id, cloud_project_id, orchestrator_cluster_name) AS account,
  cloud_region AS region,
  coalesce(user_name, keytrail_actor_arn, user_id) AS actor,
  keytrail_actor_person AS person,
  keytrail_actor_team AS actor_team,
  keytrail_actor_privileged AS actor_privileged,
  CASE
    WHEN keytrail_key_id IS NULL THEN keytrail_key_alias
    WHEN dataset = 'vault.audit' THEN concat(keytrail_key_store, keytrail_key_id)
    ELSE keytrail_key_id
  END AS key,
  keytrail_key_alias AS alias,
  keytrail_key_algorithm AS algorithm,
  keytrail_key_state AS state,
  keytrail_key_owner AS owner,
  keytrail_key_team AS team,
  keytrail_key_purpose AS purpose,
  keytrail_key_tier AS tier,
  keytrail_action_class AS class,
  event_action AS action,
  event_outcome AS outcome,
  coalesce(event_outcome = 'failure', false) AS failed,
  error_code AS error,
  source_ip,
  keytrail_uid AS uid
FROM events
WHERE keytrail_action_class IS NOT NULL
  AND coalesce(keytrail_phase, '') NOT IN ('RequestReceived', 'ResponseStarted', 'first', 'intent', 'request');
