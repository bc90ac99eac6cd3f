-- Who is behind the names, as far as the table of principals knows?
SELECT keytrail_actor_person, keytrail_actor_team, keytrail_actor_privileged, user_name, count(*) AS events
FROM events
WHERE keytrail_actor_person IS NOT NULL
GROUP BY ALL
ORDER BY keytrail_actor_person, user_name NULLS FIRST, keytrail_actor_team NULLS FIRST, keytrail_actor_privileged NULLS FIRST;
