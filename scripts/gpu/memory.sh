#!/usr/bin/env bash
# A step of sparse memory on a GPU at the widths of Qwen2.5-0.5B and 1.5B, against a dense gradient: `bash scripts/gpu/memory.sh`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
for width in ${WIDTHS:-896 1536}; do
    once "memory_step_$width" benchmarks/memory_step.py --json --device cuda --width "$width" --dense-gb 60 --steps 30
done
exit "$failed"
