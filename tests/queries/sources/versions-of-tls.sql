-- Which calls still use an old version of TLS?
SELECT tls_version, tls_cipher, dataset, event_provider, count(*) AS calls
FROM events
WHERE tls_version IS NOT NULL AND NOT (tls_version = '1.3' OR tls_cipher LIKE 'TLS_AES%')
GROUP BY ALL
ORDER BY calls DESC, tls_version, tls_cipher NULLS LAST, dataset, event_provider NULLS LAST;
