-- From `meanings` to the answer. Filled in by resolve.py: stores lists (bucket, store), declared the
-- stores that the reference may claim in, is_prefix says whether it names folders.
placed AS (
    SELECT meanings.*,
        meaning.kind AS found,
        coalesce(meaning.store, named.store) AS store,
        CASE WHEN $is_prefix AND meaning.kind = 'exact' THEN rtrim(meaning.path, '/') || '/' ELSE meaning.path END AS path,
        CASE
            WHEN meaning.kind <> 'exact' THEN NULL
            WHEN meaning.store IS NULL AND meaning.bucket = '' THEN 'names no bucket'
            WHEN meaning.store IS NULL AND named.store IS NULL THEN 'undeclared bucket ' || meaning.bucket
            WHEN meaning.path = '' OR $is_prefix AND rtrim(meaning.path, '/') = '' THEN 'names no object'
        END AS wrong
    FROM meanings LEFT JOIN ($stores) AS named ON named.bucket = meaning.bucket
),
judged AS (
    SELECT *,
        CASE
            WHEN found <> 'exact' THEN found
            WHEN wrong IS NOT NULL THEN 'unresolvable'
            WHEN NOT list_contains($declared, store) THEN 'undeclared'
            WHEN $is_prefix THEN 'prefix'
            ELSE 'exact'
        END AS kind
    FROM placed
)
SELECT
    CASE WHEN kind IN ('exact', 'prefix', 'undeclared') THEN store END AS store,
    CASE WHEN kind = 'exact' THEN path END AS key,
    kind,
    CASE WHEN kind <> 'exact' THEN nullif(path, '') END AS value,
    row_id, dated_at, size_bytes, in_progress,
    coalesce(is_dirty(value) AND kind IN ('exact', 'prefix'), false) AS dirty,
    CASE
        WHEN kind = 'undeclared' AND found = 'exact' THEN 'names store ' || store || ', which the reference does not declare'
        ELSE coalesce(wrong, meaning.reason)
    END AS reason
FROM judged
WHERE chosen OR kind IN ('exact', 'prefix', 'undeclared')
