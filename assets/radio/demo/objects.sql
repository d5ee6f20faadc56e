-- Audio of 5 MB, library files of 10 MB. abc123 and the final of asset 1 have no record.
SELECT store, key, size_bytes, modified_at
FROM (VALUES
  ('audio', 'raw/1763000000000-abc123.wav', 5000000, TIMESTAMPTZ '2025-11-13 00:00:00Z'),
  ('audio', 'raw/1763250000000-def456.wav', 5000000, TIMESTAMPTZ '2025-11-16 00:00:00Z'),
  ('audio', 'raw/1763420000000-ghi789.wav', 5000000, TIMESTAMPTZ '2025-11-17 23:40:00Z'),
  ('audio', 'raw/1763251000000-jkl012.wav', 5000000, TIMESTAMPTZ '2025-11-16 00:00:00Z'),
  ('audio', 'final/bbbbbbbb-0000-4000-8000-000000000001.wav', 5000000, TIMESTAMPTZ '2025-11-13 00:05:00Z'),
  ('audio', 'final/bbbbbbbb-0000-4000-8000-000000000003.wav', 5000000, TIMESTAMPTZ '2025-11-16 00:05:00Z'),
  ('audio', 'final/bbbbbbbb-0000-4000-8000-000000000007.wav', 5000000, TIMESTAMPTZ '2025-10-08 20:05:00Z'),
  ('audio', 'final/bbbbbbbb-0000-4000-8000-000000000008.wav', 5000000, TIMESTAMPTZ '2025-11-07 20:05:00Z'),
  ('audio', 'final/bbbbbbbb-0000-4000-8000-000000000009.wav', 5000000, TIMESTAMPTZ '2025-11-14 20:05:00Z'),
  ('audio', 'music/night-drive.mp3',  10000000, TIMESTAMPTZ '2025-09-01 00:00:00Z'),
  ('audio', 'jingles/station-id.wav', 10000000, TIMESTAMPTZ '2025-09-01 00:00:00Z'),
  ('playout', 'cccccccc-0000-4000-8000-000000000007.wav', 5000000, TIMESTAMPTZ '2025-11-16 18:00:00Z'),
  ('playout', 'cccccccc-0000-4000-8000-000000000009.wav', 5000000, TIMESTAMPTZ '2025-11-16 23:00:00Z'),
  ('playout', 'cccccccc-0000-4000-8000-000000000003.wav', 5000000, TIMESTAMPTZ '2025-11-17 22:00:00Z'),
  ('tts_cache', 'a1b2.wav', 1200000, TIMESTAMPTZ '2025-11-15 23:00:00Z'),
  ('tts_cache', 'c3d4.wav', 1200000, TIMESTAMPTZ '2025-11-16 01:00:00Z')
) AS object(store, key, size_bytes, modified_at)
