-- Which addresses are seen in more than one dataset?
SELECT source_ip, array_agg(DISTINCT dataset ORDER BY dataset) AS datasets, count(*) AS events
FROM events
WHERE source_ip IS NOT NULL
GROUP BY source_ip
HAVING count(DISTINCT dataset) > 1
ORDER BY source_ip;
