FROM python:3.11-slim
RUN useradd --create-home riskstream && mkdir /project && chown riskstream /project
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY features features
COPY models models
COPY stream stream
RUN pip install --no-cache-dir --constraint constraints.txt '.[demo]'
USER riskstream
ENV PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=/tmp/numba
CMD ["riskstream", "--help"]
