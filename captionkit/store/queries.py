"""The store's longer queries, by name."""

COMPLETION = (
    "stage", "prompt", "prompt_text", "text", "finish_reason", "prompt_tokens", "output_tokens",
    "cached_tokens", "queue_s", "first_token_s", "seconds",
)  # fmt: skip

ADD_CAPTION = (
    f"INSERT OR REPLACE INTO captions (result, {', '.join(COMPLETION)}) "  # noqa: S608
    f"VALUES (?, {', '.join('?' * len(COMPLETION))})"
)

ADD_WINDOW = """
INSERT INTO windows (key, path, clip, start_frame, end_frame, start_s, end_s, source)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET path = excluded.path
"""

# Take over earlier captions of the same recipe on the same window and repeat, for free jobs.
TAKE_OVER = """
UPDATE jobs SET state = 1, result = (
    SELECT max(id) FROM results WHERE recipe_key = :recipe AND window_key = jobs.window_key
    AND results.repeat = jobs.repeat AND done AND error IS NULL)
WHERE run = :run AND state = 0 AND (owner IS NULL OR owner NOT IN (SELECT owner FROM workers))
    AND EXISTS (
    SELECT 1 FROM results WHERE recipe_key = :recipe AND window_key = jobs.window_key
    AND results.repeat = jobs.repeat AND done AND error IS NULL)
"""

# Delete the results of interrupted tries that TAKE_OVER has replaced.
DROP_REPLACED = """
DELETE FROM results WHERE recipe_key = ? AND NOT done
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE result = results.id)
"""

# Claim free jobs: open ones without an owner, or with an owner that `work.drop_dead` has dropped.
CLAIM = """
UPDATE jobs SET owner = :owner WHERE run = :run AND (repeat, position) IN (
    SELECT repeat, position FROM jobs WHERE run = :run AND state = 0 AND repeat = :repeat AND (
        owner IS NULL OR owner NOT IN (SELECT owner FROM workers))
    ORDER BY position LIMIT :count)
RETURNING position, repeat, window_key
"""

JOBS = """
SELECT position, jobs.repeat, jobs.window_key, state, error FROM jobs
LEFT JOIN results ON results.id = result WHERE run = ? ORDER BY jobs.repeat, position
"""

# Facts of a window that are not JSON must not cost the other windows.
_FPS = "CASE WHEN json_valid(source) THEN json_extract(source, '$.fps') END"

# Select one row for each window and stage, up to a position of the run; a failed window has one more
# row, with its error.
CAPTIONS = f"""
SELECT jobs.repeat, jobs.position, video, path, clip, number, windows.key, start_frame, end_frame,
    start_s, end_s, {_FPS}, stage, prompt_text, text, finish_reason,
    prompt_tokens, output_tokens, cached_tokens, queue_s, first_token_s, seconds, NULL, warnings,
    rating, edited_text, captions.note
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN results ON results.id = jobs.result
JOIN captions ON captions.result = jobs.result
WHERE jobs.run = :run AND jobs.position <= :last
UNION ALL
SELECT jobs.repeat, jobs.position, video, path, clip, number, windows.key, start_frame, end_frame,
    start_s, end_s, {_FPS},
    1 + (SELECT count(*) FROM captions WHERE captions.result = jobs.result), NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, error, warnings, NULL, NULL, NULL
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN results ON results.id = jobs.result
WHERE jobs.run = :run AND jobs.position <= :last AND error IS NOT NULL
ORDER BY 1, 2, 13
"""  # noqa: S608

# Select the position of a run's n-th window with a result.
LAST_OF_FIRST = """
SELECT max(position) FROM (
    SELECT DISTINCT position FROM jobs WHERE run = ? AND result NOT NULL ORDER BY position LIMIT ?)
"""

# Select, for each window, all stages of the newest run with a result.
STATES = """
SELECT newest.window_key, newest.run, error, done,
    CASE WHEN json_valid(recipe) THEN json_extract(recipe, '$.schema') END,
    stage, text, finish_reason, prompt_text, rating, edited_text, prompt, prompt_tokens,
    output_tokens, cached_tokens, first_token_s, seconds, captions.note
FROM (
    SELECT window_key, run, result, max(run * 1000 + repeat) FROM jobs
    WHERE result NOT NULL {only} GROUP BY window_key
) AS newest
JOIN runs ON runs.id = newest.run JOIN results ON results.id = newest.result
LEFT JOIN captions ON captions.result = newest.result
ORDER BY newest.window_key, stage
"""

HISTORY = """
SELECT runs.id, runs.created, recipe, count(*), sum(state = 1), sum(state = 2), busy_s, runs.note
FROM runs JOIN jobs ON jobs.run = runs.id GROUP BY runs.id ORDER BY runs.id DESC
"""

CAPTIONED_KEYS = "SELECT DISTINCT window_key FROM jobs WHERE run = ? AND state = 1"

CAPTIONED_BY_RECIPE = """
SELECT DISTINCT window_key FROM results WHERE recipe_key = ? AND done AND error IS NULL
"""

ANNOTATE = """
UPDATE captions SET {names} WHERE stage = ? AND result = (
    SELECT result FROM jobs WHERE run = ? AND position = ? AND repeat = ?)
"""

CHOOSE = """
INSERT INTO choices (run_a, run_b, window_key, choice, created) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_a, run_b, window_key)
DO UPDATE SET choice = excluded.choice, created = excluded.created
"""

WINDOWS_OF_A_RUN = """
SELECT DISTINCT key, video, number, source FROM jobs JOIN windows ON key = window_key WHERE run = ?
"""
