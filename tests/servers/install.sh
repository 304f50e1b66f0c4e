#!/usr/bin/env bash
# Installs what the tests start, and the programs named: Apache Kafka's jars (Maven, into a cache), and by apt what is
# absent of redis-server, Java, Maven and Chromium (which looks at reports). Quick when all is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Program -> Debian package.
declare -A package=(
    [redis-server]=redis-server
    [java]=openjdk-17-jre-headless
    [javac]=openjdk-17-jdk-headless
    [mvn]=maven
    [chromium]=chromium
    [hey]=hey
)
missing=()
for program in redis-server java mvn chromium "$@"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if ((${#missing[@]})); then
    if [[ $(id -u) == 0 ]]; then as_root=(); else as_root=(sudo -n); fi
    echo "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi
.venv/bin/python -m tests.servers.kafka_jars
