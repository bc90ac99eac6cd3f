-- How much comes from sources that nobody declared?
SELECT keytrail_source, keytrail_undeclared, count(*) AS events,
  CAST(count(*) AS DOUBLE) / (SELECT count(*) FROM events) AS share
FROM events
GROUP BY keytrail_source, keytrail_undeclared
ORDER BY keytrail_source, keytrail_undeclared NULLS LAST;
