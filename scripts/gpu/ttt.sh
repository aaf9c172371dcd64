#!/usr/bin/env bash
# Test-time training against the published package on a GPU, random weights: `bash scripts/gpu/ttt.sh`; PEER_DIR holds the package.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for shape in ${SHAPES:-embedded qwen2.5-0.5b qwen2.5-1.5b}; do
    once "ttt_$shape" benchmarks/ttt_throughput.py --json --device cuda --shape "$shape" ${PEER_DIR:+--peer-dir "$PEER_DIR"}
done
once validate_ttt scripts/validate_gpu.py --json --model "${MODEL:-embedded}"
exit "$failed"
