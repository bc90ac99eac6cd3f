-- How far does each chain of key operations reach, and is it without a hole?
SELECT keytrail_ledger_source, keytrail_ledger_epoch, min(keytrail_ledger_seq) AS first_seq, max(keytrail_ledger_seq) AS last_seq,
  count(DISTINCT keytrail_ledger_seq) AS records,
  max(keytrail_ledger_seq) - min(keytrail_ledger_seq) + 1 - count(DISTINCT keytrail_ledger_seq) AS missing
FROM events
WHERE keytrail_ledger_seq IS NOT NULL
GROUP BY keytrail_ledger_source, keytrail_ledger_epoch
ORDER BY keytrail_ledger_source, keytrail_ledger_epoch;
