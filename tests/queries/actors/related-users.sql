-- Which names are in the most events, whoever of callers, targets and sessions has them?
SELECT name, count(*) AS events, count(DISTINCT dataset) AS datasets
FROM (SELECT unnest(related_user) AS name, dataset FROM events) AS named
GROUP BY name
ORDER BY events DESC, name
LIMIT 20;
