-- Remembers the rows that an archive writes for what only the archived value said (`register`): table registered_rows.
-- A restore takes back those that are as they were written.
-- applied when: SELECT to_regclass('public.registered_rows') IS NOT NULL
-- refuse when: SELECT to_regclass('public.registered_rows') IS NOT NULL AND (SELECT COUNT(*) FROM pg_attribute
--   WHERE attrelid = to_regclass('public.registered_rows') AND NOT attisdropped AND (attname, atttypid) IN
--   (('table_name', 'text'::regtype), ('row_id', 'text'::regtype), ('for_id', 'text'::regtype), ('row_hash', 'int8'::regtype))) <> 4
--   -- a table public.registered_rows of another shape is there. Nothing was changed; rename it first.
-- option register: makes the table; needed only where an archived column declares `register`.
-- waits for: register
CREATE TABLE public.registered_rows (
  table_name TEXT NOT NULL, row_id TEXT NOT NULL, for_id TEXT NOT NULL, row_hash BIGINT NOT NULL,
  registered_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (table_name, row_id));
CREATE INDEX registered_rows_for ON public.registered_rows (table_name, for_id);
