-- j1..j4 are done and unsaved, j5 is saved, j6 is young, j7 failed, j8 has a URL that is none.
INSERT INTO render_jobs (id, user_id, status, output_url, error, created_at, completed_at)
SELECT CAST('aaaaaaaa-0000-4000-8000-00000000000' || n AS uuid), '11111111-1111-4111-8111-111111111111', status,
       CASE WHEN file LIKE 'scene%'
            THEN 'https://abcdefghijklmnopqrst.supabase.co/storage/v1/object/sign/'
                 || CASE WHEN file LIKE '%.png' THEN 'images' ELSE 'videos' END
                 || '/11111111-1111-4111-8111-111111111111/' || file || '?token=demo.signature'
            ELSE file END,
       error, CAST(created_at AS timestamptz), CAST(completed_at AS timestamptz)
FROM (VALUES
  (1, 'completed', 'scene_1759320000001_test.mp4',  NULL, '2025-10-01 11:55:59Z', '2025-10-01 11:56:19Z'),
  (2, 'completed', 'scene_1759320000002_test.mp4',  NULL, '2025-10-01 11:55:58Z', '2025-10-01 11:56:18Z'),
  (3, 'completed', 'scene_1759320000003_test.mp4',  NULL, '2025-10-01 11:55:57Z', '2025-10-01 11:56:17Z'),
  (4, 'completed', 'scene_1759320000004_test.png',  NULL, '2025-10-01 11:55:56Z', '2025-10-01 11:56:16Z'),
  (5, 'completed', 'scene_1759310000005_saved.mp4', NULL, '2025-10-01 09:00:00Z', '2025-10-01 09:00:20Z'),
  (6, 'completed', 'scene_1759320000006_young.mp4', NULL, '2025-10-01 11:59:00Z', '2025-10-01 11:59:20Z'),
  (7, 'failed',    NULL, 'render process exited with code 1', '2025-09-29 12:00:00Z', NULL),
  (8, 'completed', 'not-a-url',                     NULL, '2025-10-01 07:00:00Z', '2025-10-01 07:00:20Z')
) AS job(n, status, file, error, created_at, completed_at);
INSERT INTO user_assets (id, user_id, asset_type, file_name, file_size, bucket, storage_path, metadata, created_at) VALUES
  ('eeeeeeee-0000-4000-8000-000000000005', '11111111-1111-4111-8111-111111111111', 'generated_saved',
   'My scene', 7340032, 'videos', '11111111-1111-4111-8111-111111111111/scene_1759310000005_saved.mp4',
   '{"render_job_id": "aaaaaaaa-0000-4000-8000-000000000005", "source": "render"}', '2025-10-01 09:05:00Z');
