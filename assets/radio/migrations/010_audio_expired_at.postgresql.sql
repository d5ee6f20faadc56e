-- Remembers that the audio of an aired segment was removed while its rows stay: column assets.audio_expired_at.
-- applied when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.assets')
--   AND attname = 'audio_expired_at' AND NOT attisdropped)
-- refuse when: SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('public.assets') AND NOT attisdropped
--   AND attname = 'audio_expired_at' AND atttypid <> 'timestamptz'::regtype)
--   -- public.assets has a column audio_expired_at of another type (TIMESTAMPTZ is wanted). Nothing was changed; rename that column first.
ALTER TABLE public.assets ADD COLUMN audio_expired_at TIMESTAMPTZ DEFAULT NULL;
