-- From `texts` (the columns of a row, value, fault, url, chosen) to `meanings`: one line per meaning of a value.
-- Filled in by resolve.py: declared_hosts and plain are WHEN branches, is_url a condition, buckets a list.
-- Where an unencoded character leaves two readings, both are given: one that does not exist harms nothing.
split AS (
    SELECT *,
        $is_url AS is_url,
        regexp_extract(
            CASE WHEN starts_with(url, '/storage/v1/') THEN '//' || url ELSE url END,  -- a link within Supabase's host
            '^(?:([A-Za-z][A-Za-z0-9+.-]*):)?//([^/?#]*)(?:/([^?#]*))?',
            ['scheme', 'authority', 'path']
        ) AS part
    FROM texts
),
located AS (
    SELECT * EXCLUDE (part),
        lower(part.scheme) AS scheme,
        part.authority AS authority,
        lower(regexp_replace(part.authority, '^.*@', '')) AS host_port,  -- a password before '@' goes nowhere
        regexp_replace(lower(regexp_replace(part.authority, '^.*@', '')), ':\d*$', '') AS host,
        part.path AS own_path,
        unnest(CASE WHEN NOT is_url OR fault IS NOT NULL OR url IS NULL THEN [''] ELSE list_distinct([
            part.path,
            -- a '#' or '?' that nobody encoded, within a file name: a query has '=' or no extension
            part.path || regexp_extract(url, '^[^?#]*([?#][^=&]{0,200}\.[A-Za-z0-9]{1,8})$', 1)
        ]) END) AS path
    FROM split
),
addressed AS (
    SELECT *,
        CASE
            WHEN fault = $unread
                THEN list_transform($declared, lambda s: target('undeclared', s, NULL, value, fault))
            WHEN fault IS NOT NULL THEN [target('unresolvable', NULL, NULL, NULL, fault)]
            WHEN is_absent(value) THEN [target('no_key', NULL, NULL, NULL, NULL)]
            WHEN regexp_matches(url, '^(?i)(?:data|blob|javascript|mailto|about):')
                THEN [target('unresolvable', NULL, NULL, NULL,
                    'a ' || lower(regexp_extract(url, '^\w+')) || ': URL names no object')]
            $plain
            WHEN NOT is_url THEN [target('unresolvable', NULL, NULL, shown(url), 'not a URL')]
            $declared_hosts
            WHEN scheme IN ('s3', 's3a', 's3n', 'gs', 'gcs', 'r2')
                THEN [target('exact', NULL, authority, decoded(path), NULL)]
            WHEN scheme IN ('az', 'azure')  -- az://account/container/key and az://container/key
                THEN list_filter(
                    [in_host_or_path(authority, path), in_host_or_path('', path)],
                    lambda t, n: n = 1 AND list_contains($buckets, authority)
                        OR n = 2 AND (NOT list_contains($buckets, authority) OR list_contains($buckets, t.bucket))
                )
            WHEN scheme IN ('abfs', 'abfss', 'wasb', 'wasbs')  -- container@account
                THEN [in_host_or_path(regexp_extract(authority, '^[^@]*'), path)]
            WHEN scheme NOT IN ('http', 'https', '')
                THEN [target('unresolvable', NULL, NULL, decoded(path), 'no store has URLs of scheme ' || scheme)]

            -- Amazon: bucket.s3.region.../key, s3.region.../bucket/key; regional, dualstack, accelerated, FIPS, website
            WHEN regexp_matches(host, '^(?:.+\.)?s3(?:-[a-z0-9-]+)?(?:\.[a-z0-9-]+){0,2}\.amazonaws\.com(?:\.cn)?$')
                THEN [in_host_or_path(
                    regexp_extract(host, '^(.+)\.s3(?:-[a-z0-9-]+)?(?:\.[a-z0-9-]+){0,2}\.amazonaws\.com', 1), path)]
            -- Cloudflare R2: account.r2.../bucket/key, bucket.account.r2.../key, with or without a jurisdiction
            WHEN regexp_matches(host, '^[^.]+(?:\.(?:eu|fedramp))?\.r2\.cloudflarestorage\.com$')
                THEN [in_host_or_path('', path)]
            WHEN regexp_matches(host, '\.r2\.cloudflarestorage\.com$')
                THEN [in_host_or_path(
                    regexp_extract(host, '^(.+?)\.[^.]+(?:\.(?:eu|fedramp))?\.r2\.cloudflarestorage\.com$', 1), path)]
            -- Firebase /v0/b/bucket/o/encoded and Google's JSON interface
            WHEN regexp_matches(path, '^(?:v0|(?:download/)?storage/v1)/b/[^/]+/o/')
                THEN [in_host_or_path(
                    regexp_extract(path, '^(?:v0|(?:download/)?storage/v1)/b/([^/]+)/o/', 1),
                    regexp_extract(path, '(?s)^(?:v0|(?:download/)?storage/v1)/b/[^/]+/o/(.*)$', 1))]
            -- Google: storage.googleapis.com/bucket/key, bucket.storage.googleapis.com/key
            WHEN regexp_matches(host, '^(?:.+\.)?storage\.(?:googleapis|cloud\.google)\.com$')
                THEN [in_host_or_path(
                    regexp_extract(host, '^(.+)\.storage\.(?:googleapis|cloud\.google)\.com$', 1), path)]
            -- Azure: account.blob.core.windows.net/container/key
            WHEN regexp_matches(host, '^[a-z0-9-]+(?:\.z\d+)?\.(?:blob|dfs)\.(?:core\.[a-z.]+|storage\.azure\.net)$')
                THEN [in_host_or_path('', path)]
            -- Supabase, on its own and on custom domains
            WHEN regexp_matches(path, '^storage/v1/(?:s3|object|render/image)/')
                THEN [in_host_or_path('', regexp_extract(
                    path,
                    '(?s)^storage/v1/(?:s3|(?:object|render/image)'
                    || '(?:(?:/upload|/info)?/(?:public|sign|authenticated)|/info)?)/(.*)$',
                    1))]
            WHEN path <> own_path THEN []  -- another site's path is only compared: one reading is enough
            ELSE [target('external', NULL, NULL, decoded(path), host_port)]
        END AS targets,
        CASE WHEN $is_text AND NOT regexp_matches(url, '[?#]') OR fault IS NOT NULL OR is_absent(value) OR path <> own_path THEN []
        ELSE flatten(list_transform($declared, lambda s: list_transform(
            url_pieces(url), lambda piece: target('undeclared', s, NULL, piece, $unread)))) END AS pieces
    FROM located
),
meanings AS (
    SELECT row_id, dated_at, size_bytes, in_progress, value, chosen, unnest(list_concat(targets, pieces)) AS meaning
    FROM addressed
),
