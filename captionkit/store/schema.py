"""The tables of the store, and the migrations from older versions.

``runs``
    A recipe on some windows.
``windows``
    The facts of each `sources.PlannedWindow`, by its key, which is its content.
``jobs``
    The windows of a run, named and numbered as in its session. ``state`` is 0 for an open job, 1 for
    captioned, 2 for failed. ``owner`` is the worker that claimed the job, valid while its lease in
    ``workers`` is. ``texts`` is the key of the texts that fill in the window's prompt (see
    `store.texts`), ``follows`` the position of the job that must end first, if the prompt has the
    caption of the window before.
``results``
    The result of a job, with the ``texts`` of its prompt. Jobs of several runs may share one result.
``captions``
    The stages of a result, with a person's rating, edit and note.
``choices``
    A person's preference between two runs for a window.
``steps``, ``changes``
    What people wrote into the columns of captions and windows, with the values before: the last steps
    can be undone, and no text is lost. See `store.reviews`.
``answers``
    What a model answered to a question about a window: to each claim of a caption, to each pair of
    captions. Asked once, whatever run the question comes from; see `store.answers`.
``verifications``
    How the claims of a run's captions were asked last, as JSON.
``prompts``
    Prompts that were saved by name.
``kept``
    What a workbench keeps for its next opening, as JSON by name; see `store.shelf`.
``workers``
    The workers on a run, with the expiry of each lease; see `store.work`.
"""

VERSION = 6

# Find the runs of a window: a page of windows is read from a store of a million captions at once.
_BY_WINDOW = "CREATE INDEX IF NOT EXISTS jobs_by_window ON jobs (window_key);"

_WORKERS = """
CREATE TABLE workers (
    owner TEXT PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    place TEXT NOT NULL, pid INTEGER NOT NULL, started REAL NOT NULL, lease REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX jobs_by_state ON jobs (run, state, repeat, position);
"""

_REVIEWS = """
CREATE TABLE steps (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, reviewer TEXT NOT NULL, what TEXT NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE changes (
    step INTEGER NOT NULL REFERENCES steps ON DELETE CASCADE,
    result INTEGER REFERENCES results ON DELETE CASCADE, stage INTEGER NOT NULL,
    window_key TEXT NOT NULL, field TEXT NOT NULL, before, after
);
CREATE INDEX changes_by_step ON changes (step);
CREATE INDEX changes_by_result ON changes (result);
CREATE INDEX captions_reviewed ON captions (result)
    WHERE rating NOT NULL OR edited_text NOT NULL OR note NOT NULL OR tags NOT NULL;
CREATE TABLE prompts (
    name TEXT PRIMARY KEY, prompt TEXT NOT NULL, stage2 TEXT, created TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE kept (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_ANSWERS = """
CREATE TABLE IF NOT EXISTS answers (
    window_key TEXT NOT NULL REFERENCES windows, asker TEXT NOT NULL, question TEXT NOT NULL,
    text TEXT NOT NULL, first_tokens TEXT, seconds REAL NOT NULL, created TEXT NOT NULL,
    PRIMARY KEY (window_key, asker, question)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS verifications (
    run INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE, how TEXT NOT NULL, created TEXT NOT NULL
);
"""

TABLES = f"""
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, recipe TEXT NOT NULL, recipe_key TEXT NOT NULL,
    repeats INTEGER NOT NULL, batch_size INTEGER NOT NULL, created TEXT NOT NULL,
    busy_s REAL NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX runs_by_key ON runs (key);
CREATE TABLE windows (
    key TEXT PRIMARY KEY, path TEXT NOT NULL, clip TEXT NOT NULL,
    start_frame INTEGER NOT NULL, end_frame INTEGER NOT NULL,
    start_s REAL NOT NULL, end_s REAL NOT NULL, source TEXT NOT NULL, note TEXT NOT NULL DEFAULT '',
    tags TEXT NOT NULL DEFAULT ''
);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, recipe_key TEXT NOT NULL, window_key TEXT NOT NULL,
    repeat INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, error TEXT,
    warnings TEXT NOT NULL DEFAULT '[]', created TEXT NOT NULL, texts TEXT NOT NULL DEFAULT ''
);
CREATE INDEX results_by_work ON results (recipe_key, window_key, repeat);
CREATE TABLE jobs (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, position INTEGER NOT NULL,
    repeat INTEGER NOT NULL, window_key TEXT NOT NULL REFERENCES windows,
    result INTEGER REFERENCES results ON DELETE SET NULL,
    state INTEGER NOT NULL DEFAULT 0, owner TEXT, video TEXT NOT NULL, number INTEGER NOT NULL,
    texts TEXT NOT NULL DEFAULT '', follows INTEGER,
    PRIMARY KEY (run, position, repeat)
) WITHOUT ROWID;
CREATE INDEX jobs_by_result ON jobs (result);
CREATE TABLE captions (
    result INTEGER NOT NULL REFERENCES results ON DELETE CASCADE, stage INTEGER NOT NULL,
    prompt TEXT NOT NULL, prompt_text TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    queue_s REAL NOT NULL, first_token_s REAL NOT NULL, seconds REAL NOT NULL,
    rating INTEGER, edited_text TEXT, note TEXT, tags TEXT,
    PRIMARY KEY (result, stage)
) WITHOUT ROWID;
CREATE TABLE choices (
    id INTEGER PRIMARY KEY, run_a INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    run_b INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, window_key TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie')), created TEXT NOT NULL,
    UNIQUE (run_a, run_b, window_key)
);
{_WORKERS}
{_REVIEWS}
{_BY_WINDOW}
{_ANSWERS}
"""

# Migrate a file from a version to the next one. Version 1 belongs to captionkit 0.1: its recipes
# have other names for three settings, its jobs have no state, and a window has one number in all runs.
MIGRATIONS: dict[int, str] = {
    1: f"""
ALTER TABLE jobs ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN owner TEXT;
ALTER TABLE jobs ADD COLUMN video TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET (video, number) = (SELECT video, number FROM windows WHERE key = window_key);
ALTER TABLE windows DROP COLUMN video;
ALTER TABLE windows DROP COLUMN number;
UPDATE jobs SET state = coalesce((
    SELECT CASE WHEN NOT done THEN 0 WHEN error IS NULL THEN 1 ELSE 2 END
    FROM results WHERE results.id = jobs.result), 0);
UPDATE runs SET recipe = json_remove(json_set(recipe,
    '$.model', json_extract(recipe, '$.variant'),
    '$.stage2', json_extract(recipe, '$.stage2_prompt'),
    '$.max_tokens', json_extract(recipe, '$.max_output_tokens')),
    '$.variant', '$.stage2_prompt', '$.max_output_tokens');
{_WORKERS}
""",  # noqa: S608
    2: f"""
ALTER TABLE windows ADD COLUMN tags TEXT NOT NULL DEFAULT '';
ALTER TABLE captions ADD COLUMN tags TEXT;
{_REVIEWS}
""",
    3: _BY_WINDOW,
    4: """
ALTER TABLE results ADD COLUMN texts TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN texts TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN follows INTEGER;
""",
    5: _ANSWERS,
}
