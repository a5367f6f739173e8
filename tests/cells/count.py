# ruff: noqa: T201
# %%
import json
import threading

import ipywidgets.widgets.widget as registry
import psutil

children = psutil.Process().children(recursive=True)
print(json.dumps([len(registry._instances), threading.active_count(), len(children)]))
