# The serving image: worker and HTTP. Training is another's work: EXTRAS=api,train adds it.
FROM python:3.11-slim
ARG EXTRAS=api
RUN useradd --create-home riskstream && mkdir /project && chown riskstream /project
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY features features
COPY models models
COPY riskstream riskstream
COPY stream stream
RUN pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"
USER riskstream
ENV PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba
CMD ["riskstream", "--help"]
