-- Two screenshots of each finished job. The archive is empty until something is archived.
SELECT 'screenshots' AS store, job || '/' || step || '.png' AS key, size_bytes,
       CAST(day || ' 10:0' || step || ':00Z' AS TIMESTAMPTZ) AS modified_at
FROM (VALUES ('job-0001', '2025-10-15'), ('job-0002', '2024-11-20'), ('job-0003', '2025-08-03')) AS j(job, day)
CROSS JOIN (VALUES (0, 201344), (2, 187520)) AS s(step, size_bytes)
