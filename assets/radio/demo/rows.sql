INSERT INTO voices VALUES ('en_GB-alba', 'Alba');
INSERT INTO programs VALUES ('99999999-0000-4000-8000-000000000001', 'Night Drive');
INSERT INTO djs VALUES ('88888888-0000-4000-8000-000000000001', 'Ada', 'en_GB-alba');

INSERT INTO assets (id, content_type, storage_path, content_hash, duration_sec, lufs_integrated, peak_db,
                    validation_status, created_at)
SELECT CAST('bbbbbbbb-0000-4000-8000-00000000000' || n AS uuid), 'speech',
       COALESCE(raw, 'final/bbbbbbbb-0000-4000-8000-00000000000' || n || '.wav'),
       MD5('a' || n) || MD5('b' || n), 60.0,
       CASE WHEN status = 'passed' THEN -16.0 END, CASE WHEN status = 'passed' THEN -1.5 END,
       status, CAST(created_at AS timestamptz)
FROM (VALUES
  (3, 'raw/1763250000000-def456.wav', 'passed',  '2025-11-16 00:00:00Z'),  -- mastered, still names raw
  (4, 'raw/1763420000000-ghi789.wav', 'pending', '2025-11-17 23:40:00Z'),  -- being mastered
  (5, 'raw/1763251000000-jkl012.wav', 'pending', '2025-11-16 00:00:00Z'),  -- mastering failed
  (6, NULL,                           'passed',  '2025-11-15 00:00:00Z'),  -- no file at all
  (7, NULL,                           'passed',  '2025-10-08 20:00:00Z'),
  (8, NULL,                           'passed',  '2025-11-07 20:00:00Z'),
  (9, NULL,                           'passed',  '2025-11-14 20:00:00Z')
) AS asset(n, raw, status, created_at);

INSERT INTO segments (id, program_id, dj_id, state, script_md, asset_id, duration_sec, last_error,
                      scheduled_start_ts, aired_at, created_at, updated_at)
SELECT CAST('cccccccc-0000-4000-8000-00000000000' || n AS uuid), '99999999-0000-4000-8000-000000000001',
       '88888888-0000-4000-8000-000000000001', state, CASE WHEN state <> 'queued' THEN '# Good evening' END,
       CAST('bbbbbbbb-0000-4000-8000-00000000000' || asset AS uuid), CASE WHEN asset IS NOT NULL THEN 60.0 END, error,
       CAST(created_at AS timestamptz) + INTERVAL '2 hours', CAST(aired_at AS timestamptz),
       CAST(created_at AS timestamptz), COALESCE(CAST(aired_at AS timestamptz), CAST(created_at AS timestamptz))
FROM (VALUES
  (1, 'ready',       NULL, NULL, '2025-11-13 00:00:00Z', NULL),            -- audio exists, nothing links it
  (2, 'queued',      NULL, NULL, '2025-11-17 23:30:00Z', NULL),
  (3, 'ready',       3,    NULL, '2025-11-16 00:00:00Z', NULL),
  (4, 'normalizing', 4,    NULL, '2025-11-17 23:40:00Z', NULL),
  (5, 'failed',      5,    'ffmpeg: loudnorm exited with code 1', '2025-11-16 00:00:00Z', NULL),
  (6, 'ready',       6,    NULL, '2025-11-15 00:00:00Z', NULL),
  (7, 'aired',       7,    NULL, '2025-10-08 20:00:00Z', '2025-10-09 00:00:00Z'),
  (8, 'aired',       8,    NULL, '2025-11-07 20:00:00Z', '2025-11-08 00:00:00Z'),
  (9, 'aired',       9,    NULL, '2025-11-14 20:00:00Z', '2025-11-15 00:00:00Z')
) AS segment(n, state, asset, error, created_at, aired_at);

INSERT INTO jobs (id, job_type, state, payload, created_at)
SELECT CAST('77777777-0000-4000-8000-00000000000' || n AS uuid), 'audio_finalize', state,
       JSONB_BUILD_OBJECT('asset_id', 'bbbbbbbb-0000-4000-8000-00000000000' || n), CAST(created_at AS timestamptz)
FROM (VALUES
  (3, 'completed', '2025-11-16 00:00:00Z'),
  (4, 'running',   '2025-11-17 23:40:00Z'),
  (5, 'failed',    '2025-11-16 00:00:00Z'),
  (6, 'completed', '2025-11-15 00:00:00Z'),
  (7, 'completed', '2025-10-08 20:00:00Z'),
  (8, 'completed', '2025-11-07 20:00:00Z'),
  (9, 'completed', '2025-11-14 20:00:00Z')
) AS job(n, state, created_at);

INSERT INTO music_tracks VALUES
  ('66666666-0000-4000-8000-000000000001', 'Night Drive', 'music/night-drive.mp3', 212.0, true, '2025-09-01 00:00:00Z');
INSERT INTO jingles VALUES
  ('55555555-0000-4000-8000-000000000001', 'Station ID', 'jingles/station-id.wav', 8.0, true, '2025-09-01 00:00:00Z');
