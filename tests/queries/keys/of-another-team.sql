-- Who uses keys of another team?
SELECT actor, person, actor_team, key, team, tier, count(*) AS operations
FROM key_operations
WHERE team IS NOT NULL AND actor_team IS DISTINCT FROM team
GROUP BY ALL
ORDER BY operations DESC, actor NULLS LAST, key, tier, team, person NULLS LAST, actor_team NULLS LAST;
