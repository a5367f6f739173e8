PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE captions (
    result INTEGER NOT NULL REFERENCES results ON DELETE CASCADE, stage INTEGER NOT NULL,
    prompt TEXT NOT NULL, prompt_text TEXT NOT NULL, text TEXT NOT NULL, finish_reason TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    queue_s REAL NOT NULL, first_token_s REAL NOT NULL, seconds REAL NOT NULL,
    rating INTEGER, edited_text TEXT, note TEXT,
    PRIMARY KEY (result, stage)
) WITHOUT ROWID;
INSERT INTO "captions" VALUES(1,1,'<chat>','Describe this video.','A boat.','stop',10,4,0,0.0,0.1,0.2,NULL,NULL,NULL);
INSERT INTO "captions" VALUES(1,2,'<chat>','Describe this video.','A red boat.','stop',10,4,0,0.0,0.1,0.2,4,NULL,NULL);
CREATE TABLE choices (
    id INTEGER PRIMARY KEY, run_a INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE,
    run_b INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, window_key TEXT NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('a', 'b', 'tie')), created TEXT NOT NULL,
    UNIQUE (run_a, run_b, window_key)
);
CREATE TABLE jobs (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, position INTEGER NOT NULL,
    repeat INTEGER NOT NULL, window_key TEXT NOT NULL REFERENCES windows,
    result INTEGER REFERENCES results ON DELETE SET NULL,
    PRIMARY KEY (run, position, repeat)
) WITHOUT ROWID;
INSERT INTO "jobs" VALUES(1,0,0,'film-0',1);
INSERT INTO "jobs" VALUES(1,1,0,'film-1',2);
INSERT INTO "jobs" VALUES(1,2,0,'film-2',NULL);
CREATE TABLE results (
    id INTEGER PRIMARY KEY, recipe_key TEXT NOT NULL, window_key TEXT NOT NULL,
    repeat INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0, error TEXT,
    warnings TEXT NOT NULL DEFAULT '[]', created TEXT NOT NULL
);
INSERT INTO "results" VALUES(1,'aaaa31b8590633c7','film-0',0,1,NULL,'[]','2026-11-26T02:19:41+00:00');
INSERT INTO "results" VALUES(2,'aaaa31b8590633c7','film-1',0,1,'broken file','["damaged"]','2026-11-26T02:19:41+00:00');
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, recipe TEXT NOT NULL, recipe_key TEXT NOT NULL,
    repeats INTEGER NOT NULL, batch_size INTEGER NOT NULL, created TEXT NOT NULL,
    busy_s REAL NOT NULL DEFAULT 0, note TEXT NOT NULL DEFAULT ''
);
INSERT INTO "runs" VALUES(1,'6a93033fe12f19b6','{"variant": "demo", "prompt": "short", "stage2_prompt": "More: {caption}", "sampling_fps": 2.0, "window_size": 256, "remainder_threshold": 128, "pixel_budget": null, "max_output_tokens": 64, "temperature": 0.1, "top_p": 0.001, "repetition_penalty": 1.05, "seed": null, "fp8": false, "schema": null}','aaaa31b8590633c7',1,16,'2026-11-26T02:19:41+00:00',0.0,'a run of captionkit 0.1');
CREATE TABLE windows (
    key TEXT PRIMARY KEY, video TEXT NOT NULL, path TEXT NOT NULL, clip TEXT NOT NULL,
    number INTEGER NOT NULL, start_frame INTEGER NOT NULL, end_frame INTEGER NOT NULL,
    start_s REAL NOT NULL, end_s REAL NOT NULL, source TEXT NOT NULL, note TEXT NOT NULL DEFAULT ''
);
INSERT INTO "windows" VALUES('film-0','film','film.mp4','clip',0,0,255,0.0,8.5,'{"width": 640, "height": 360, "fps": 30.0, "span": [0.0, 34.1]}','');
INSERT INTO "windows" VALUES('film-1','film','film.mp4','clip',1,0,255,8.5,17.0,'{"width": 640, "height": 360, "fps": 30.0, "span": [0.0, 34.1]}','');
INSERT INTO "windows" VALUES('film-2','film','film.mp4','clip',2,0,255,17.0,25.5,'{"width": 640, "height": 360, "fps": 30.0, "span": [0.0, 34.1]}','');
CREATE INDEX runs_by_key ON runs (key);
CREATE INDEX results_by_work ON results (recipe_key, window_key, repeat);
CREATE INDEX jobs_by_result ON jobs (result);
COMMIT;
PRAGMA user_version = 1;
