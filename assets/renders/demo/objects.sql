-- Six renders, each dated by its completion, and three temporary files 70, 10 and 90 minutes old.
SELECT store, '11111111-1111-4111-8111-111111111111/' || file AS key, size_bytes, modified_at
FROM (VALUES
  ('videos', 'scene_1759320000001_test.mp4',  5242880, TIMESTAMPTZ '2025-10-01 11:56:19Z'),
  ('videos', 'scene_1759320000002_test.mp4',  5242880, TIMESTAMPTZ '2025-10-01 11:56:18Z'),
  ('videos', 'scene_1759320000003_test.mp4',  5242880, TIMESTAMPTZ '2025-10-01 11:56:17Z'),
  ('images', 'scene_1759320000004_test.png',   917504, TIMESTAMPTZ '2025-10-01 11:56:16Z'),
  ('videos', 'scene_1759310000005_saved.mp4', 7340032, TIMESTAMPTZ '2025-10-01 09:00:20Z'),
  ('videos', 'scene_1759320000006_young.mp4', 5242880, TIMESTAMPTZ '2025-10-01 11:59:20Z')
) AS render(store, file, size_bytes, modified_at)
UNION ALL BY NAME
SELECT 'temp' AS store, key, 65536 AS size_bytes, TIMESTAMPTZ '2025-10-01 12:00:00Z' - age AS modified_at
FROM (VALUES
  ('render_old.tmp', INTERVAL 70 MINUTES),
  ('render_new.tmp', INTERVAL 10 MINUTES),
  ('sub/old.tmp',    INTERVAL 90 MINUTES)
) AS temporary(key, age)
