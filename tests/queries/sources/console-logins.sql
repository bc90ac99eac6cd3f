-- Who logged in to the console, with a second factor or without?
SELECT CAST(timestamp AS DATE) AS date, user_name, event_outcome, bool_or(keytrail_actor_mfa) AS ever_with_mfa, count(*) AS logins
FROM events
WHERE event_action = 'ConsoleLogin'
GROUP BY 1, 2, 3
ORDER BY 1, 2 NULLS LAST, 3;
