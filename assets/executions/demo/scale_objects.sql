-- Objects 1..:n; every 1000th (7, 1007, ...) was never uploaded.
SELECT 'screenshots' AS store, 'job-scale-' || (i // 100) || '/' || i || '.png' AS key,
       1 + i % 1000 AS size_bytes, TIMESTAMPTZ '2025-07-01 00:00:00Z' AS modified_at
FROM range(1, :n + 1) AS r(i)
WHERE i % 1000 <> 7
