#!/usr/bin/env bash
# Every method against its plain loop at the shapes of Qwen2.5-0.5B and 1.5B, random weights: `bash scripts/gpu/throughput.sh`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
HALF=${HALF:-qwen2.5-0.5b} LARGE=${LARGE:-qwen2.5-1.5b}
bench() { once "$1" benchmarks/learn_throughput.py --json --rounds 3 --model "${@:2}"; }

bench half_bf16 "$HALF" --dtype bfloat16
bench half_bf16_wide "$HALF" --dtype bfloat16 --items 256 --set batch_size=64 --set replay=64 --set kl_batch=64
bench half_fp32 "$HALF" --dtype float32
bench large_bf16 "$LARGE" --dtype bfloat16
bench large_bf16_wide "$LARGE" --dtype bfloat16 --items 256 --set batch_size=64 --set replay=64 --set kl_batch=64
exit "$failed"
