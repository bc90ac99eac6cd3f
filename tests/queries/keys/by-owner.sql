-- How many keys does each owner answer for, and how busy are they?
SELECT coalesce(owner, '(nobody is declared)') AS owned_by, tier, count(*) AS keys, sum(operations) AS operations,
  sum(failures) AS failures, max(last_seen) AS last_seen
FROM keys
GROUP BY owner, tier
ORDER BY operations DESC, owned_by, tier NULLS LAST;
