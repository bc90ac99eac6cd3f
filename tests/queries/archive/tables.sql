-- Which versions of which tables were events enriched with?
SELECT split_part(used, '@', 1) AS table_name, count(DISTINCT used) AS versions, count(*) AS events
FROM (SELECT unnest(keytrail_tables) AS used FROM events) AS uses
GROUP BY split_part(used, '@', 1)
ORDER BY table_name;
