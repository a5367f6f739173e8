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

# Select the newest caption of a recipe for a window, a repeat and the texts in its prompt.
EARLIER = """
SELECT max(id) FROM results WHERE recipe_key = :recipe AND window_key = jobs.window_key
    AND results.repeat = jobs.repeat AND results.texts = jobs.texts AND done AND error IS NULL
"""

# Take over earlier captions of the same work, for free jobs that need not wait for another one.
TAKE_OVER = f"""
UPDATE jobs SET state = 1, result = ({EARLIER})
WHERE run = :run AND state = 0 AND follows IS NULL
    AND (owner IS NULL OR owner NOT IN (SELECT owner FROM workers))
    AND ({EARLIER}) NOT NULL
"""  # noqa: S608

# The same for a job whose window before is captioned, with its texts.
TAKE_OVER_ONE = f"""
UPDATE jobs SET state = 1, texts = :texts, result = ({EARLIER.replace("jobs.texts", ":texts")})
WHERE run = :run AND repeat = :repeat AND position = :position AND state = 0
    AND (owner IS NULL OR owner NOT IN (SELECT owner FROM workers))
    AND ({EARLIER.replace("jobs.texts", ":texts")}) NOT NULL
"""  # noqa: S608

# Select the state and the last text of a job.
ENDED = """
SELECT state, (SELECT text FROM captions WHERE captions.result = jobs.result
    ORDER BY stage DESC LIMIT 1)
FROM jobs WHERE run = ? AND repeat = ? AND position = ?
"""

# Delete the results of interrupted tries that TAKE_OVER has replaced.
DROP_REPLACED = """
DELETE FROM results WHERE recipe_key = ? AND NOT done
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE result = results.id)
"""

# Claim free jobs: open ones without an owner, or with an owner that `work.drop_dead` has dropped. By
# itself SQLite takes the primary key, and reads all jobs that are done at each claim.
CLAIM = """
UPDATE jobs SET owner = :owner WHERE run = :run AND (repeat, position) IN (
    SELECT repeat, position FROM jobs INDEXED BY jobs_by_state
    WHERE run = :run AND state = 0 AND repeat = :repeat AND (
        owner IS NULL OR owner NOT IN (SELECT owner FROM workers)) AND (
        follows IS NULL OR EXISTS (SELECT 1 FROM jobs AS first WHERE first.run = jobs.run
            AND first.repeat = jobs.repeat AND first.position = jobs.follows AND first.state != 0))
    ORDER BY position LIMIT :count)
RETURNING position, repeat, window_key, follows
"""

JOBS = """
SELECT position, jobs.repeat, jobs.window_key, state, error FROM jobs
LEFT JOIN results ON results.id = result WHERE run = ? ORDER BY jobs.repeat, position
"""

# Facts of a window that are not JSON must not cost the other windows.
_FPS = "CASE WHEN json_valid(source) THEN json_extract(source, '$.fps') END"

# The window's note stands where the caption has none; the tags of both stand together.
_NOTE = "coalesce(captions.note, nullif(windows.note, ''))"
_TAGS = "nullif(trim(coalesce(captions.tags, '') || ', ' || windows.tags, ', '), '')"
_WINDOW = f"""jobs.run, jobs.repeat, jobs.position, video, path, clip, number, windows.key, start_frame,
    end_frame, end_frame - start_frame + 1, start_s, end_s, {_FPS}"""

# Select one row for each window and stage of some jobs; a failed window has one more row, with its
# error.
_CAPTIONS = f"""
SELECT {_WINDOW}, stage, prompt_text, text, finish_reason,
    prompt_tokens, output_tokens, cached_tokens, queue_s, first_token_s, seconds, NULL, warnings,
    rating, edited_text, {_NOTE}, {_TAGS}
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN results ON results.id = jobs.result
JOIN captions ON captions.result = jobs.result
WHERE {{which}}
UNION ALL
SELECT {_WINDOW},
    1 + (SELECT count(*) FROM captions WHERE captions.result = jobs.result), NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, error, warnings, NULL, NULL,
    nullif(windows.note, ''), nullif(windows.tags, '')
FROM jobs JOIN windows ON windows.key = jobs.window_key JOIN results ON results.id = jobs.result
WHERE {{which}} AND error IS NOT NULL
ORDER BY 1, 2, 3, 15
"""  # noqa: S608

# The captions of a run between two positions, of one repeat or all.
CAPTIONS = _CAPTIONS.format(
    which="""jobs.run = :run AND jobs.position BETWEEN :first AND :last
    AND (:repeat IS NULL OR jobs.repeat = :repeat)"""
)

ANY_CAPTION = """
SELECT 1 FROM jobs JOIN captions ON captions.result = jobs.result
WHERE run = :run AND (:stage IS NULL OR stage = :stage) LIMIT 1
"""

FAILURES = """
SELECT path, number, error FROM jobs
JOIN windows ON key = jobs.window_key JOIN results ON results.id = result
WHERE run = ? AND state = 2 ORDER BY jobs.repeat, position LIMIT ?
"""

LAST_POSITIONS = """
SELECT clip, max(position) FROM jobs JOIN windows ON key = window_key WHERE run = ? GROUP BY clip
"""

# The captions of each window in the newest run with a result.
LATEST = _CAPTIONS.format(
    which="""(jobs.run, jobs.position, jobs.repeat) IN (
    SELECT run, position, repeat FROM (
        SELECT run, position, repeat, max(run * 1000 + repeat) FROM jobs
        WHERE result NOT NULL GROUP BY window_key))"""
)

# Select the position of a run's n-th window with a result.
LAST_OF_FIRST = """
SELECT max(position) FROM (
    SELECT DISTINCT position FROM jobs WHERE run = ? AND result NOT NULL ORDER BY position LIMIT ?)
"""

# Rank results of a window: the newest, or the best rated and of these the newest.
NEWEST = "run * 1000 + repeat"
BEST_RATED = (
    "(SELECT coalesce(max(rating), 0) FROM captions WHERE captions.result = jobs.result) "
    "* 1000000000000 + run * 1000 + repeat"
)

# Select runs and results with a rating, an edit, a note or a tag, by the index of these.
REVIEWED = """
SELECT window_key, run, jobs.result FROM captions JOIN jobs ON jobs.result = captions.result
WHERE rating NOT NULL OR edited_text NOT NULL OR captions.note NOT NULL OR captions.tags NOT NULL
"""

# Select the rated captions of runs, by the index of reviewed ones.
RATINGS = """
SELECT run, jobs.result, stage, rating FROM captions JOIN jobs ON jobs.result = captions.result
WHERE rating NOT NULL
"""

# Select, for each window, all stages of the result of highest rank.
STATES = """
SELECT newest.window_key, newest.run, newest.result, error, done,
    CASE WHEN json_valid(recipe) THEN json_extract(recipe, '$.schema') END,
    stage, text, finish_reason, prompt_text, rating, edited_text, prompt, prompt_tokens,
    output_tokens, cached_tokens, first_token_s, seconds, captions.note, captions.tags
FROM (
    SELECT window_key, run, result, max({rank}) FROM jobs
    WHERE result NOT NULL {only} GROUP BY window_key
) AS newest
JOIN runs ON runs.id = newest.run JOIN results ON results.id = newest.result
LEFT JOIN captions ON captions.result = newest.result
ORDER BY newest.window_key, stage
"""

# Reopen the job after another one in its film, if it was captioned with other texts.
REOPEN_NEXT = """
UPDATE jobs SET state = 0, result = NULL, owner = NULL
WHERE run = ? AND repeat = ? AND follows = ? AND state != 0 AND texts != ?
"""

# Reopen the failed jobs of a run, all or those of a window.
REOPEN = """
UPDATE jobs SET state = 0, result = NULL, owner = NULL
WHERE run = ? AND state = 2 AND window_key = ifnull(?, window_key)
"""

HISTORY = """
SELECT runs.id, runs.created, recipe, count(*), sum(state = 1), sum(state = 2), busy_s, runs.note
FROM runs JOIN jobs ON jobs.run = runs.id GROUP BY runs.id ORDER BY runs.id DESC
"""

MARKED = "SELECT key, note, tags FROM windows WHERE (note != '' OR tags != '') {only}"

CAPTIONED_KEYS = "SELECT window_key FROM jobs WHERE run = ? AND state = 1"

CAPTIONED_BY_RECIPE = """
SELECT DISTINCT window_key, texts FROM results WHERE recipe_key = ? AND done AND error IS NULL
"""

# Select the last stage's text of each window that a recipe has captioned; the newest result comes last.
FINAL_TEXTS = """
SELECT window_key, text FROM captions JOIN results ON results.id = captions.result
WHERE recipe_key = :key AND done AND error IS NULL AND (:stage IS NULL OR stage = :stage)
ORDER BY results.id, stage
"""

ADD_ANSWER = """
INSERT OR REPLACE INTO answers (window_key, asker, question, text, first_tokens, seconds, created)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""

ANSWERS = """
SELECT window_key, question, text, first_tokens FROM answers WHERE asker = ? AND window_key IN ({})
"""

# Delete the answers about windows that no run has.
DROP_ANSWERS = """
DELETE FROM answers WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.window_key = answers.window_key)
"""

CHOOSE = """
INSERT INTO choices (run_a, run_b, window_key, choice, created) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (run_a, run_b, window_key)
DO UPDATE SET choice = excluded.choice, created = excluded.created
"""

DELETE_UNTOUCHED = """
DELETE FROM runs WHERE id = ? AND note = ''
    AND NOT EXISTS (SELECT 1 FROM jobs WHERE run = runs.id AND (state != 0 OR result NOT NULL))
    AND NOT EXISTS (SELECT 1 FROM workers WHERE run = runs.id)
"""

# Steps of one person, or of all. A step whose captions were deleted has no changes left.
_STEPS = """FROM steps WHERE reviewer = ifnull(:reviewer, reviewer)
    AND EXISTS (SELECT 1 FROM changes WHERE changes.step = steps.id)"""

# ``undone`` is 1 for a step that can be made again, 2 for one that was undone before a later step.
STEPS = f"SELECT created, reviewer, what, undone {_STEPS} ORDER BY id DESC LIMIT :most"

LAST_STEP = f"SELECT id, what {_STEPS} AND NOT undone ORDER BY id DESC LIMIT 1"

UNDONE_STEP = f"""
SELECT id, what {_STEPS} AND undone = 1
    AND id > (SELECT ifnull(max(id), 0) {_STEPS} AND NOT undone) ORDER BY id LIMIT 1
"""

LEAVE_UNDONE = """
UPDATE steps SET undone = 2
WHERE undone = 1 AND id < :step AND reviewer = ifnull(:reviewer, reviewer)
"""

CHANGES = """
SELECT before, after, field, result, stage, window_key FROM changes WHERE step = ? ORDER BY rowid
"""
