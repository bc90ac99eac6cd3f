-- Which principals fail in more than a tenth of their key operations?
SELECT dataset, actor, operations, failures, CAST(failures AS DOUBLE) / operations AS rate
FROM principals
WHERE failures > 0 AND CAST(failures AS DOUBLE) / operations > 0.1
ORDER BY rate DESC, dataset, account NULLS LAST, actor NULLS LAST;
