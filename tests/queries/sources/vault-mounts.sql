-- Which mounts of Vault are used, and how much?
SELECT keytrail_vault_mount_type, keytrail_vault_mount_point, count(*) AS records, count(DISTINCT keytrail_operation_id) AS calls,
  grouping(keytrail_vault_mount_point) AS is_sum
FROM events
WHERE dataset = 'vault.audit' AND keytrail_vault_mount_type IS NOT NULL
GROUP BY ROLLUP (keytrail_vault_mount_type, keytrail_vault_mount_point)
ORDER BY keytrail_vault_mount_type NULLS LAST, is_sum, keytrail_vault_mount_point NULLS LAST;
