-- From `items` (the columns of a row, value, fault) to `texts`: every link that running text holds.
-- A link's end is uncertain, and it may stand escaped in HTML or JSON: all readings are tried,
-- since a text only protects. Only the `chosen` one is reported where it names no declared store.
links AS (
    SELECT *,
        CASE WHEN fault IS NOT NULL OR is_absent(value) THEN NULL ELSE list_distinct(list_concat(
            -- up to a blank or quote; a link within a link by itself and together with what stands before it
            regexp_extract_all(value, '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            regexp_extract_all(
                regexp_replace(value, '($begin)', E'\n\\1', 'g'), '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            -- a quoted link may hold blanks; one without scheme is only known by its quote
            list_transform(
                regexp_extract_all(value, '(?:$begin|/storage/v1/)[^"<>\r\n]+"'), lambda link: rtrim(link, '"\')),
            regexp_extract_all(value, '["''(=]\s*((?:\\?/){2}[^\s"''<>()`]+)', 1),
            -- the parameter of another link
            list_transform(
                regexp_extract_all(value, '(?i)(?:https?|s3|gs)%3A%2F%2F[^\s"<>`&]+'), lambda link: decoded(link))
        )) END AS found
    FROM items
),
unescaped AS (
    SELECT * REPLACE (list_distinct(flatten(list_transform(found, lambda link: [
            link, html_text(link), json_text(link), html_text(json_text(link))
        ]))) AS found)
    FROM links
),
texts AS (
    SELECT row_id, dated_at, size_bytes, in_progress, value, fault,
        unnest(CASE
            WHEN found IS NULL THEN [{'url': NULL::VARCHAR, 'chosen': true}]
            ELSE list_filter(
                list_distinct(flatten(list_transform(found, lambda link: [
                    {'url': link, 'chosen': false},
                    {'url': rtrim(link, '.,;:!?''")]}*_~|\'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^'']*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^)]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^\]]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^}]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^|]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^,]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^;]*'), 'chosen': false},
                    {'url': rtrim(regexp_extract(link, '^[^\s''()\[\]{}|,;*\\]*'), '.:!?'), 'chosen': true}
                ]))),
                lambda t: regexp_matches(t.url, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//.|^/storage/v1/')
            )
        END, recursive := true)
    FROM unescaped
),
