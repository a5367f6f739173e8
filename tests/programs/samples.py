"""Caption the sample films with a new store (the argument); print the result as JSON."""

import json
import sys

import captionkit as ck

films = ck.samples()
session = ck.Session(films, store=sys.argv[1])
run = session.caption("short")
captions = run.captions.dropna(subset="text")
print(
    json.dumps(
        {
            "package": ck.__file__,
            "films": [str(film) for film in films],
            "windows": len(session.windows),
            "captions": len(captions),
        }
    )
)
