-- From `items` to the answer where the value is the key or token itself, byte for byte.
-- A template filled with a blank names no key; should the object exist all the same, it is protected.
-- A URL is no key: it may be signed, and the object it means would look unreferenced.
known AS (
    SELECT *, $kind = 'exact' AND regexp_matches(value, '^(?i)\s*(?:https?|s3[an]?|gs|gcs|r2|az|abfss?|wasbs?)://') AS is_url
    FROM items
),
judged AS (
    SELECT *,
        unnest(CASE
            WHEN fault = $unread THEN [meant('undeclared', value)]
            WHEN fault IS NOT NULL AND value IS NOT NULL THEN [meant('unresolvable', value), meant('undeclared', value)]
            WHEN fault IS NOT NULL THEN [meant('unresolvable', value)]
            WHEN value IS NULL OR value = '' THEN [meant('no_key', NULL)]
            WHEN hollow THEN [meant('no_key', NULL), meant('undeclared', value)]
            WHEN is_url THEN list_concat(
                [meant('unresolvable', value)],
                list_transform(url_pieces(value), lambda piece: meant('undeclared', piece))
            )
            ELSE [meant($kind, value)]
        END, recursive := true)
    FROM known
)
SELECT
    CASE WHEN kind IN ('exact', 'token', 'undeclared') THEN $store END AS store,
    CASE WHEN kind = 'exact' THEN value END AS key,
    kind,
    CASE kind
        WHEN 'token' THEN trimmed(value)
        WHEN 'undeclared' THEN piece
        WHEN 'unresolvable' THEN nullif(decoded(regexp_extract(value, '://[^/?#]*/([^?#]*)', 1)), '')
    END AS value,
    row_id, dated_at, size_bytes, in_progress,
    coalesce(is_dirty(value) AND kind IN ('exact', 'token'), false) AS dirty,
    CASE
        WHEN kind = 'undeclared' THEN coalesce(fault, CASE WHEN is_url THEN $unread ELSE 'made from a blank or null' END)
        WHEN kind = 'unresolvable' THEN coalesce(fault, 'a URL stands where a key should: declare the form url')
    END AS reason
FROM judged
