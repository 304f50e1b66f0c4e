"""Writes the job's forest as an MLServer project; run by MLServer's own interpreter.

python make_project.py MODEL.SKOPS FOLDER PORT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import joblib
import skops.io

source, folder, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
forest = skops.io.load(source, trusted=["sklearn.tree._tree.Tree"])
forest.n_jobs = 1
joblib.dump(forest, folder / "model.joblib")
model = {
    "name": "forest",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib", "version": "1"},
}
server = {
    "debug": False,
    "host": "127.0.0.1",
    "http_port": port,
    "grpc_port": port + 1,
    "metrics_port": port + 2,
    "parallel_workers": 0,
    "logging_settings": None,
}
(folder / "model-settings.json").write_text(json.dumps(model))
(folder / "settings.json").write_text(json.dumps(server))
