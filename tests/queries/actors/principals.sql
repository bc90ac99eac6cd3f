-- Who operates on keys?
SELECT *
FROM principals
ORDER BY operations DESC, dataset, account NULLS LAST, actor NULLS LAST;
