-- Objects 1..:n; every 1000th (7, 1007, ...) was never uploaded.
SELECT 'reports' AS store,
       'reports/scale_' || ((i + 1) // 2) || '/asset_' || i || CASE WHEN i % 2 = 1 THEN '.pdf' ELSE '.html' END AS key,
       1 + i % 1000 AS size_bytes, TIMESTAMPTZ '2025-06-01 00:00:00Z' AS modified_at
FROM range(1, :n + 1) AS r(i)
WHERE i % 1000 <> 7
