-- Which PKCS#11 errors does the HSM give, for which mechanism?
SELECT error_code, keytrail_mechanism, event_action, count(*) AS events, max(timestamp) AS last_seen
FROM events
WHERE error_code LIKE 'CKR\_%' ESCAPE '\'
GROUP BY ALL
ORDER BY events DESC, error_code, keytrail_mechanism NULLS LAST, event_action NULLS LAST;
