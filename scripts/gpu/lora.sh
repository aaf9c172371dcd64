#!/usr/bin/env bash
# LoRA from learning to undoing at the shape of Qwen2.5-0.5B in bf16, random weights: `bash scripts/gpu/lora.sh`.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
once lora_half_bf16 scripts/gpu/lora.py --model "${HALF:-qwen2.5-0.5b}" --dtype bfloat16
once lora_half_fp32 scripts/gpu/lora.py --model "${HALF:-qwen2.5-0.5b}" --dtype float32
exit "$failed"
