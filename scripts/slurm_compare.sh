#!/usr/bin/env bash
# `accrete compare` on a Slurm cluster: a method for each task of a job array, then their results in one table.
#
#     scripts/slurm_compare.sh --stream temporal --limit 60 --methods all --out DIR     submits both jobs
#     scripts/slurm_compare.sh --merge --out DIR                                        joins what is there, now
#
# The options are those of `accrete compare`; --out, which all machines must see, is needed. Task i measures the i-th line of
# DIR/methods.txt into DIR/METHOD; the merge goes into DIR itself. Called again with the same options it goes on where it
# was. ACCRETE is the command (default: .venv/bin/accrete here, else accrete), SBATCH_OPTIONS are more options for sbatch
# ("--time=2:00:00 --gres=gpu:1"), and DRY_RUN=1 prints what would be submitted. Ends where Slurm takes over.
set -euo pipefail

fail() { echo "slurm_compare.sh: $1" >&2; exit "${2:-2}"; }

methods=all out='' merge='' rest=()
while [ $# -gt 0 ]; do
    case $1 in
        --methods | --out) [ $# -gt 1 ] || fail "$1 wants a value." ;;&
        --methods) methods=$2; shift 2 ;;
        --methods=*) methods=${1#*=}; shift ;;
        --out) out=$2; shift 2 ;;
        --out=*) out=${1#*=}; shift ;;
        --merge) merge=1; shift ;;
        -h | --help) sed -n '2,/^set /{/^set /d; s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
        *) rest+=("$1"); shift ;;
    esac
done
[ -n "$out" ] || fail "Name a folder that all machines see with --out."

if [ -z "${ACCRETE:-}" ]; then
    ACCRETE=accrete
    if [ -x .venv/bin/accrete ]; then ACCRETE=$PWD/.venv/bin/accrete; fi
fi
export ACCRETE

# --- one task: one method --------------------------------------------------------------------------------------------
if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    method=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" "$out/methods.txt")
    [ -n "$method" ] || fail "There is no method $SLURM_ARRAY_TASK_ID in $out/methods.txt."
    echo "$method" >&2
    own=()
    while [ ${#rest[@]} -gt 0 ]; do
        option=("${rest[0]}")
        if [ "${rest[0]}" = --set ]; then option=("${rest[@]:0:2}"); fi
        rest=("${rest[@]:${#option[@]}}")
        said="${option[*]}"
        case $said in
            "--set "*.*=* | --set=*.*=*)    # an option of another method, --set METHOD.key=value, is for that one's task
                said=${said#--set?} said=${said%%=*}
                if [ "${said%.*}" != "$said" ] && [ "${said%.*}" != "$method" ] && grep -qxF -- "${said%.*}" "$out/methods.txt"; then
                    continue
                fi ;;
        esac
        own+=("${option[@]}")
    done
    exec "$ACCRETE" compare ${own[@]+"${own[@]}"} --methods "$method" --out "$out/$method"
fi

# --- the last job: one table -----------------------------------------------------------------------------------------
if [ -n "$merge" ]; then
    [ -s "$out/methods.txt" ] || fail "There is no $out/methods.txt: nothing was submitted with this --out."
    found=() missing=0
    while read -r method; do
        if [ -s "$out/$method/results.json" ]; then
            found+=("$out/$method")
        else
            echo "slurm_compare.sh: $method has no results." >&2
            missing=1
        fi
    done <"$out/methods.txt"
    [ ${#found[@]} -gt 0 ] || fail "No method has results in $out."
    failed=0
    "$ACCRETE" compare --merge "${found[@]}" --out "$out" || failed=$?
    exit $((failed > missing ? failed : missing))
fi

# --- here: submit ----------------------------------------------------------------------------------------------------
[ -n "${DRY_RUN:-}" ] || command -v sbatch >/dev/null || fail "There is no sbatch here: this is no machine of a Slurm cluster." 1
stream=''    # what every task would stumble over is said here: they would an hour later
for ((i = 0; i < ${#rest[@]}; i++)); do
    case ${rest[i]} in
        --stream | --document) stream=${rest[i + 1]:-} ;;
        --stream=* | --document=*) stream=${rest[i]#*=} ;;
        *) continue ;;
    esac
    case ${rest[i]} in
        --stream*) "$ACCRETE" streams "$stream" >/dev/null || exit 2 ;;
        *) [ -e "$stream" ] || fail "There is no document $stream." ;;
    esac
done
[ -n "$stream" ] || fail "Name a stream with --stream, or a document with --document."
# The command's own Python where it lies beside it: what starts accrete need not be on the path of a cluster's machine.
python=$(dirname "$(command -v "$ACCRETE" || true)")/python
[ -x "$python" ] || python=$(command -v python3 || command -v python) || fail "There is no python here." 1
listed=$("$ACCRETE" methods --json) || exit 2
chosen=$("$python" -c '
import json, sys
known = [method["name"] for method in json.loads(sys.argv[1])]
asked = sys.argv[2].replace(",", " ").split()
wrong = [name for name in asked if name not in known and name != "all"]
if wrong or not asked:
    said = f"There is no method {wrong[0]}" if wrong else "There is no method to measure"
    sys.exit(f"slurm_compare.sh: {said}; known: {chr(32).join(known)}.")
print("\n".join(known if "all" in asked else dict.fromkeys(asked)))
' "$listed" "$methods") || exit 2
mkdir -p "$out"
out=$(cd "$out" && pwd)
printf '%s\n' "$chosen" >"$out/methods.txt"
last=$(($(wc -l <"$out/methods.txt") - 1))

submit() {
    if [ -n "${DRY_RUN:-}" ]; then
        printf '%q ' sbatch "$@" >&2
        echo >&2
        echo ID
    else
        sbatch "$@"
    fi
}

read -r -a more <<<"${SBATCH_OPTIONS:-}"
script=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")
common=(--parsable --export=ALL ${more[@]+"${more[@]}"})
array=$(submit "${common[@]}" --job-name=accrete --array="0-$last" --output="$out/%a.log" \
    "$script" ${rest[@]+"${rest[@]}"} --out "$out")
array=${array%%;*}    # a federation writes the cluster's name behind it
joined=$(submit "${common[@]}" --job-name=accrete-merge --dependency="afterany:$array" --output="$out/merge.log" \
    "$script" --merge --out "$out")
echo "Job $array measures $((last + 1)) methods, job ${joined%%;*} joins them: $out/results.json and $out/report.html."
