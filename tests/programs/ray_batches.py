"""Caption videos by Ray Data alone, with a fake backend: ``ray_batches VIDEO...``; prints JSON."""

import sys

import ray
from fakes import FakeBackend

import captionkit as ck

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
captions = ck.scale.map_batches(ck.Recipe(prompt="Say it."), backend=FakeBackend())
films = ray.data.from_items([{"video": video} for video in sys.argv[1:]])
table = films.map_batches(captions, batch_size=1).to_pandas()
print(table.to_json(orient="records"))
