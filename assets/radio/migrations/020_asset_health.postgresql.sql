-- Keeps broken audio off the air: table asset_health, written after each look at the bucket, and the view
-- playable_segments, which the playout endpoint reads instead of the ready segments.
-- applied when: SELECT (SELECT COUNT(*) FROM pg_attribute WHERE attrelid = to_regclass('public.asset_health')
--   AND attname IN ('asset_id', 'checked_at', 'effective_key', 'state', 'reason') AND NOT attisdropped) = 5
--   AND to_regclass('public.playable_segments') IS NOT NULL
-- refuse when: SELECT to_regclass('public.asset_health') IS NOT NULL AND (SELECT COUNT(*) FROM pg_attribute
--   WHERE attrelid = to_regclass('public.asset_health') AND NOT attisdropped AND (attname, atttypid) IN
--   (('asset_id', 'uuid'::regtype), ('checked_at', 'timestamptz'::regtype), ('effective_key', 'text'::regtype),
--   ('state', 'text'::regtype), ('reason', 'text'::regtype))) <> 5
--   -- a table public.asset_health of another shape is there. Nothing was changed; rename it first.

-- state: 'ok' (a file is there under effective_key), 'broken' (none is), 'unknown' (it could not be looked at).
-- No foreign key: what we know about an asset never keeps the application from deleting it.
CREATE TABLE IF NOT EXISTS public.asset_health (
  asset_id      UUID PRIMARY KEY,
  checked_at    TIMESTAMPTZ NOT NULL,
  effective_key TEXT,
  state         TEXT NOT NULL CHECK (state IN ('ok', 'broken', 'unknown')),
  reason        TEXT
);

-- A file that the record no longer means does not count: the key must be the final file's, or storage_path.
CREATE OR REPLACE VIEW public.playable_segments AS
SELECT s.*, h.effective_key, h.checked_at
FROM public.segments s
JOIN public.assets a ON a.id = s.asset_id
JOIN public.asset_health h ON h.asset_id = a.id
WHERE s.state = 'ready'
  AND h.state = 'ok'
  AND h.effective_key IN ('final/' || a.id || '.wav', a.storage_path);

-- The view shows what its reader may see, not what its owner may: possible since PostgreSQL 15.
DO $$
BEGIN
  IF current_setting('server_version_num')::int >= 150000 THEN
    EXECUTE 'ALTER VIEW public.playable_segments SET (security_invoker = true)';
  END IF;
END
$$;
