-- From `items` (the columns of a row, value, fault) to `texts`: every link that running text holds.
-- A link's end is uncertain, and it may stand escaped in HTML or JSON: all readings are tried,
-- since a text only protects. Only the `chosen` one is reported where it names no declared store.
links AS (
    SELECT * EXCLUDE (spelled), CASE WHEN spelled IS NULL THEN NULL ELSE list_distinct(list_concat(
            regexp_extract_all(value, '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            regexp_extract_all(
                regexp_replace(value, '($begin)', E'\n\\1', 'g'), '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            regexp_extract_all(value, '["''(=]\s*((?:\\?/){2}[^\s"''<>()`]+)', 1)
        )) END AS found,
        CASE WHEN spelled IS NULL THEN NULL
        ELSE list_distinct(flatten(list_transform(spelled, lambda value: list_concat(
            -- up to a blank or quote; a link within a link by itself and together with what stands before it
            regexp_extract_all(value, '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            regexp_extract_all(
                regexp_replace(value, '($begin)', E'\n\\1', 'g'), '(?:$begin|/storage/v1/)[^\s"<>`]+'),
            -- a quoted link may hold blanks
            list_transform(
                regexp_extract_all(value, '(?:$begin|/storage/v1/)[^"<>\r\n]+"'), lambda link: rtrim(link, '"\')),
            -- without scheme: known by what stands before it, or by looking like a host
            regexp_extract_all(value, '(?:^|[\s"''(=,:;>|])((?:\\?/){2}[^\s"''<>()`]+)', 1),
            list_transform(
                regexp_extract_all(value, '(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}(?::\d+)?\\?/[^\s"<>`]+'),
                lambda link: '//' || link),
            list_transform(regexp_extract_all(value, 'storage/v1/[^\s"<>`]+'), lambda link: '/' || link),
            -- the parameter of another link
            list_transform(
                regexp_extract_all(value, '(?i)(?:https?|s3|gs)%3A%2F%2F[^\s"<>`&]+'), lambda link: decoded(link))
        )))) END AS further
    FROM (
        SELECT *, CASE WHEN fault IS NOT NULL OR is_absent(value) THEN NULL ELSE list_distinct([
            value,
            -- escaped as a whole: HTML once or twice, JSON any number of times, a URL within a URL
            list_transform([html_text(value)], lambda v: html_text(v))[1],
            CASE WHEN contains(value, '\') THEN replace(regexp_replace(regexp_replace(
                value, '\\+u002[fF]', '/', 'g'), '\\+u003[aA]', ':', 'g'), '\', '') ELSE value END,
            list_transform([decoded(value)], lambda v: decoded(v))[1]
        ]) END AS spelled
        FROM items
    )
),
unescaped AS (
    SELECT * REPLACE (
        list_distinct(flatten(list_transform(found, lambda link: [
            link, html_text(link), json_text(link), html_text(json_text(link))
        ]))) AS found,
        list_distinct(flatten(list_transform(further, lambda link: [
            link, html_text(link), json_text(link), html_text(json_text(link))
        ]))) AS further)
    FROM links
),
texts AS (
    SELECT row_id, dated_at, size_bytes, in_progress, value, fault,
        unnest(CASE
            WHEN found IS NULL THEN [{'url': NULL::VARCHAR, 'chosen': true}]
            ELSE list_filter(
                list_distinct(list_concat(flatten(list_transform(list_concat(found, further), lambda link: [
                    {'url': link, 'chosen': false},
                    {'url': rtrim(link, '.,;:!?''")]}*_~|\'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^'']*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^)]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^\]]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^}]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^|]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^,]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^;]*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[^&]*'), 'chosen': false},
                    -- punctuation of other scripts, and letters right behind a link
                    {'url': regexp_extract(link, '^(?:[!-~]|[^\p{Z}\p{P}\p{C}])*'), 'chosen': false},
                    {'url': regexp_extract(link, '^[!-~]*'), 'chosen': false}
                ])), list_transform(found, lambda link:
                    {'url': rtrim(regexp_extract(link, '^[^\s''()\[\]{}|,;*\\]*'), '.:!?'), 'chosen': true}
                ))),
                lambda t: regexp_matches(t.url, '^(?:[A-Za-z][A-Za-z0-9+.-]*:)?//.|^/storage/v1/')
            )
        END, recursive := true)
    FROM unescaped
),
