-- Which regions are used by which accounts, and which are outside the allowed ones?
SELECT events.cloud_account_id, events.cloud_region, allowed.region IS NULL AS outside, count(*) AS calls
FROM events
LEFT JOIN (VALUES ('us-east-1'), ('us-west-2'), ('eu-west-1'), ('eu-central-1')) AS allowed(region)
  ON allowed.region = events.cloud_region
WHERE events.cloud_region IS NOT NULL
GROUP BY events.cloud_account_id, events.cloud_region, allowed.region
ORDER BY outside DESC, calls DESC, events.cloud_account_id NULLS LAST, events.cloud_region;
