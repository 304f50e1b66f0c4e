#!/usr/bin/env bash
# Installs what the tests start: Apache Kafka's jars (Maven, into a cache), and redis-server, Java, Maven and Chromium
# (which looks at reports) by apt where they are absent. Quick when all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v java >/dev/null || missing+=(openjdk-17-jre-headless)
command -v mvn >/dev/null || missing+=(maven)
command -v chromium >/dev/null || missing+=(chromium)
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]]; then as_root=(); else as_root=(sudo -n); fi
    echo "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
.venv/bin/python -m tests.servers.kafka_jars
