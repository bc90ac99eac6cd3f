-- What was done to this key in its life, apart from being used?
SELECT time, action, class, outcome, state, actor, uid
FROM key_operations
WHERE key = '1234abcd-12ab-34cd-56ef-1234567890ab'
  AND class NOT IN ('encrypt', 'decrypt', 'sign', 'verify', 'mac', 'generate-data-key', 'access')
ORDER BY time NULLS FIRST, uid;
