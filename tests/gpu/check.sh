#!/usr/bin/env bash
# Everything that needs a GPU, with each backend that is installed. Keep what it prints: docs/gpu.md
# says what is known of which GPU.
#
#     tests/gpu/check.sh > gpu.txt
set -uo pipefail
cd "$(dirname "$0")/../.."

failed=0
for backend in tensorflow jax torch; do
    python -c "import $backend" 2>/dev/null || { echo "== $backend is not installed"; continue; }
    export KERAS_BACKEND=$backend
    echo "== $backend: what autotune sees"
    python -m autotune.cli doctor || failed=1
    echo "== $backend: the checks"
    python -m pytest tests/gpu -q -rA -p no:cacheprovider || failed=1
    echo "== $backend: the demo"
    python -m autotune.cli demo --quiet || failed=1
    echo "== $backend: the watch's cost"
    python -m tests.benchmarks.watch || failed=1
done
exit $failed
