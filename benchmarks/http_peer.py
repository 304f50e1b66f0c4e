"""The peer of the HTTP benchmark: what one writes in an afternoon, FastAPI around scikit-learn.

python -m benchmarks.http_peer PORT
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import skops.io
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.job import model
from benchmarks.job.build import FOLDER
from benchmarks.job.spec import FEATURES

forest = skops.io.load(FOLDER / "model.skops", trusted=model.TRUSTED)
forest.n_jobs = 1
app = FastAPI()


class Rows(BaseModel):
    rows: list[dict[str, float]]


@app.get("/healthz")
async def healthz() -> dict[str, bool]:
    return {"alive": True}


@app.post("/predict")
async def predict(body: Rows) -> dict[str, Any]:
    matrix = np.array([[row[name] for name in FEATURES] for row in body.rows], np.float32)
    scores = forest.predict_proba(matrix)[:, 1]
    return {"predictions": [{"score": float(score)} for score in scores]}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
