-- Which keys are to be deleted, and were they used since it was decided?
SELECT dataset, key, alias, owner, scheduled, last_seen, last_seen > scheduled AS touched_since
FROM keys
WHERE scheduled IS NOT NULL AND destroyed IS NULL AND (cancelled IS NULL OR cancelled < scheduled)
ORDER BY scheduled DESC, dataset, key;
