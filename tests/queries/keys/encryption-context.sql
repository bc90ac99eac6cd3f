-- Which names are there in encryption contexts, with which keys, and how many contexts are there?
SELECT keytrail_key_id, regexp_replace(keytrail_encryption_context, '^[{]"([^"]+)":.*$', '\1') AS first_name,
  count(*) AS operations, count(DISTINCT keytrail_encryption_context) AS contexts
FROM events
WHERE keytrail_encryption_context LIKE '{"%'
GROUP BY 1, 2
ORDER BY operations DESC, keytrail_key_id NULLS LAST, first_name;
