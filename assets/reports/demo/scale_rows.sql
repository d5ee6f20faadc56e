-- Rows 1..:n, two to a delivery, six to a profile; every 500th (3, 503, ...) was never written.
INSERT INTO profiles (tracking_id, company_name, created_at)
WITH RECURSIVE i(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM i WHERE i < :n / 6)
SELECT 'SCALE' || i, NULL, '2025-06-01 00:00:00' FROM i;
INSERT INTO report_assets (id, tracking_id, delivery_id, file_type, size_bytes, created_at)
WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < :n)
SELECT 'asset_' || i, 'SCALE' || ((i - 1) / 6), 'scale_' || ((i + 1) / 2),
       CASE WHEN i % 2 = 1 THEN 'pdf' ELSE 'html' END, 1 + i % 1000, '2025-06-01 00:00:00'
FROM i WHERE i % 500 <> 3;
