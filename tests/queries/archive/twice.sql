-- Is any event in the archive twice? None should be
-- finds nothing
SELECT keytrail_uid, count(*) AS rows
FROM events
GROUP BY keytrail_uid
HAVING count(*) > 1;
