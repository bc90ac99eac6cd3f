-- Which events have no time that can be read?
SELECT dataset, keytrail_source, event_action, count(*) AS events, count(timestamp) AS with_a_time
FROM events
WHERE day = 'undated'
GROUP BY ALL
ORDER BY dataset, keytrail_source, event_action NULLS LAST;
