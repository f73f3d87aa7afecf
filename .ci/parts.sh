# shellcheck shell=bash
# Parts of a run: each is timed, logged and counted, none is skipped, and the table at the end says what happened.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=${TROUPE_CI_LOGS:-$root/target/ci/logs}
mkdir -p "$logs"
cd "$root"
names=()
results=()
seconds=()
failures=0
# Where the programs of drills and simulations are.
drills=${CARGO_TARGET_DIR:-target}/drill

build_drills() {
    cargo build --profile drill -p troupe-tests --bins
}

# part NAME COMMAND...: runs a command, keeps its output, and goes on whatever became of it.
part() {
    local name=$1 log started result
    shift
    log="$logs/$(printf '%02d' "${#names[@]}")-${name//[^a-zA-Z0-9]/-}.log"
    started=$SECONDS
    printf '\n== %s: %s\n' "$name" "$*"
    # Not as the condition of an `if`: there bash ignores `set -e`, and a part that failed half way would pass.
    set +e
    ( set -euo pipefail; "$@" ) 2>&1 | tee "$log"
    local status=${PIPESTATUS[0]}
    set -e
    if [ "$status" -eq 0 ]; then
        result=ok
    else
        result=FAILED
        failures=$((failures + 1))
    fi
    names+=("$name")
    results+=("$result")
    seconds+=("$((SECONDS - started))")
}

# Prints what ran, and fails if any of it did.
finish() {
    local at
    printf '\n%-28s %8s  %s\n' part seconds result
    for at in "${!names[@]}"; do
        printf '%-28s %8s  %s\n' "${names[$at]}" "${seconds[$at]}" "${results[$at]}"
    done
    printf '%-28s %8s  %s\n' all "$SECONDS" "$([ "$failures" -eq 0 ] && echo ok || echo "$failures FAILED")"
    printf 'logs: %s\n' "$logs"
    [ "$failures" -eq 0 ]
}
