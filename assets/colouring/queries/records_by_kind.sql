SELECT kind, locale, COUNT(*) AS records, SUM(size_bytes) AS size_bytes
FROM assets
GROUP BY kind, locale
ORDER BY kind, locale
