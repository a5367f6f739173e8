"""Caption the videos of a folder with Ray: ``ray_job FOLDER OUTPUT ACTORS``; prints the summary."""

import json
import sys

import captionkit as ck
from captionkit.scale import caption_videos

if __name__ == "__main__":
    folder, output, actors = sys.argv[1:]
    recipe = ck.Recipe(prompt="short", stage2="Add what is missing: {caption}")
    done = caption_videos(folder, recipe, output, actors=int(actors), batch_size=2)
    print("SUMMARY", json.dumps(done))
