-- What did people do who are declared privileged, with which keys?
SELECT person, class, count(*) AS operations, count(DISTINCT key) AS keys, array_agg(DISTINCT action ORDER BY action) AS actions
FROM key_operations
WHERE actor_privileged
GROUP BY person, class
ORDER BY person, class;
