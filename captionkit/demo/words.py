"""Words that prompts are made of: what `wordings` fills its templates with and puts around them."""

import re

SLOTS: dict[str, tuple[str, ...]] = {
    "video": ("video", "clip", "scene", "footage", "film", "recording", "shot", "sequence", "window"),
    "this": ("this", "the", "this short", "the following", "the given"),
    "tell": (
        "describe",
        "tell me",
        "report",
        "write down",
        "explain",
        "state",
        "give me",
        "say",
        "note",
    ),
    "describe": ("describe", "caption", "explain", "narrate", "write about", "comment on", "annotate"),
    "list": ("list", "name", "enumerate", "give", "identify", "write down", "tell me", "tag"),
    "things": ("objects", "things", "items", "subjects", "objects and things"),
    "only": ("only", "just", "nothing but", "solely"),
    "seen": ("seen", "visible", "shown", "present", "on screen", "in view"),
    "brief": ("short", "brief", "concise", "one-line", "compact", "very short", "terse"),
    "briefly": (
        "briefly",
        "in a few words",
        "in one short sentence",
        "concisely",
        "in short",
        "in one line",
        "in under ten words",
        "in a nutshell",
        "in brief",
        "shortly",
    ),
    "long": (
        "detailed",
        "dense",
        "long",
        "exhaustive",
        "complete",
        "thorough",
        "rich",
        "full",
        "extensive",
    ),
    "fully": (
        "in detail",
        "in every detail",
        "in full detail",
        "at length",
        "thoroughly",
        "exhaustively",
        "as fully as you can",
        "in as much detail as possible",
        "completely",
        "with all details",
    ),
    "motion": (
        "motion",
        "movement",
        "movements",
        "action",
        "actions",
        "motion of the objects",
        "direction of motion",
        "activity",
    ),
    "place": (
        "background",
        "setting",
        "surroundings",
        "location",
        "place",
        "environment",
        "backdrop",
        "scenery",
        "landscape",
    ),
    "hour": ("time of day", "hour", "light", "daytime"),
    "camera": ("camera", "camera movement", "camera motion", "camera work", "pan of the camera"),
    "json": ("JSON", "json", "a JSON object", "JSON format", "valid JSON", "a JSON document"),
    "caption": ("caption", "description", "text", "summary", "annotation"),
    "fix": ("correct", "fix", "repair", "revise", "set right"),
    "wrong": ("mistakes", "errors", "wrong facts", "what is wrong", "false statements", "inaccuracies"),
    "add": ("add", "supply", "fill in", "include", "write down"),
    "missing": (
        "what is missing",
        "what it lacks",
        "missing details",
        "what was left out",
        "everything that is missing",
        "more detail",
        "the missing facts",
        "what it omits",
    ),
    "improve": (
        "improve",
        "expand",
        "extend",
        "enrich",
        "elaborate on",
        "complete",
        "refine",
        "rewrite and extend",
        "enhance",
    ),
}

BEFORE = (
    "you are a careful observer",
    "you are a helpful assistant",
    "watch closely",
    "look at {this} {video}",
    "here is a {video}",
    "please",
    "you see a {video}",
    "i have a question",
    "now",
    "watch the {video}",
    "you are an expert annotator of {video}s",
    "as a film editor",
    "hello",
)
# They fit before any request that is no question.
ASKING = ("could you", "can you", "i want you to", "your task is to", "try to", "please", "would you")
AFTER = (
    "be precise",
    "do not guess",
    "thank you",
    "answer in English",
    "use plain words",
    "please",
    "take your time",
    "stick to what you see",
    "no introduction",
    "be honest",
    "use simple language",
    "leave everything else out",
    "nothing else",
    "do not add anything else",
)
LOOSE = re.findall(
    r"\w+",
    """
    please now the a of this that and with in on look careful slowly people person animals weather
    story tone style formal simple like for who when why be good use words every second first last
    about mention should not also if any then observer expert editor you are your our task is to
    see watch blog customer child poem funny serious data label training robot street view
    audience reader one of my was been may can could would think believe know music sound voice
    news sport
    """,
)
