# Sourced by the scripts beside it, from the repository's root: Python with what accrete needs, and `once` to run a step.
# Ends where a script names its steps.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PYTHON=${PYTHON:-python3}
RESULTS=${RESULTS:-runs/gpu}              # a step whose file is here already is not run again
WHEELS=${WHEELS:-runs/gpu/wheels}           # what wheels.sh fetched for a machine that reaches no index
STOP_AFTER=${STOP_AFTER:-540}             # seconds: after that no step is begun, and a step is stopped
EXTRA=${EXTRA:-}                          # more arguments for every step, e.g. EXTRA="--quick --device cpu"
export PYTHONPATH="src:benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
mkdir -p "$RESULTS"

# What accrete imports for learning. torch and transformers are the machine's own; the rest may have to be brought.
NEEDED="torch transformers peft pydantic yaml datasketch safetensors scipy charset_normalizer"
missing() { "$PYTHON" -c "
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])" $NEEDED; }

if [ -n "$(missing)" ]; then
    site=$(mktemp -d)
    if compgen -G "$WHEELS/*.whl" >/dev/null; then   # carried, see README.md
        "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl
    else
        "$PYTHON" -m pip install -q --no-compile --target "$site" "pydantic>=2" "datasketch>=2" "PyYAML>=6"
    fi
    export PYTHONPATH="$PYTHONPATH:$site"
    if [ -n "$(missing)" ]; then
        echo "Python lacks $(missing): carry the wheels (scripts/gpu/README.md)." >&2
        exit 1
    fi
fi

# once NAME COMMAND...: run COMMAND unless NAME.json is there; its JSON lines go to NAME.json, whole or not at all.
failed=0
once() {
    local name=$1 left=$((STOP_AFTER - SECONDS)); shift
    if [ -s "$RESULTS/$name.json" ]; then
        echo "== $name: done before"
    elif [ "$left" -lt 20 ]; then
        echo "== $name: left for the next call"
        failed=1
    else
        echo "== $name: $*"
        if timeout "$left" "$PYTHON" "$@" $EXTRA >"$RESULTS/$name.part"; then
            mv "$RESULTS/$name.part" "$RESULTS/$name.json"
        else
            echo "== $name: stopped or failed ($?)"
            failed=1
        fi
    fi
    if [ -s "$RESULTS/$name.json" ]; then
        cat "$RESULTS/$name.json"
        # What OUT names comes back from a lent machine; results made elsewhere stay where they are.
        if [ -n "${OUT:-}" ]; then cp "$RESULTS/$name.json" "$OUT/$name.json"; fi
    fi
}
