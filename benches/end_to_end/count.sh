#!/usr/bin/env bash
# Counts what one request costs the caller: instructions by default, or the system calls with `--syscalls`.
#
# `count.sh [--syscalls] [--in-flight N] [PROTOCOL CASE]`: PROTOCOL is http1, http2 or grpc, and CASE a name that the bench
# prints. Without them it counts ours and what the promises compare them with, at 64 in flight. Needs valgrind, or strace.
#
# The servers are processes of their own, which are not counted. System calls are the difference of a long run and a short
# one, so that the start of the process is not counted.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool=valgrind
in_flight=64
while [[ ${1-} == --* ]]; do
    case $1 in
    --syscalls) tool=strace ;;
    --in-flight) in_flight=$2 && shift ;;
    *)
        echo "unknown option $1" >&2
        exit 2
        ;;
    esac
    shift
done
command -v "$tool" >/dev/null || {
    echo "$tool is not installed" >&2
    exit 1
}

# The path is the last word of a line like: Executable benches/end_to_end/main.rs (target/release/deps/end_to_end-1f)
bench=$(cargo bench --no-run --bench end_to_end 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')

log=$(mktemp)
trap 'rm -f "$log" "$log".*' EXIT

instructions() {
    local requests=6400
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no --toggle-collect='*counted_requests*' \
        "$bench" --bench --count "$1" "$2" "$in_flight" "$requests" >"$log" 2>&1 || {
        cat "$log" >&2
        return 1
    }
    awk -v requests="$requests" '/Collected :/ { printf "%.0f\n", $4 / requests }' "$log"
}

# `strace -c` prints a table: % time, seconds, usecs/call, calls, errors, syscall. The errors may be absent.
traced() {
    strace -c -o "$log.$3" "$bench" --bench --count "$1" "$2" "$in_flight" "$3"
    awk '$1 ~ /^[0-9]/ && $NF != "total" { print $NF, $4 }' "$log.$3"
}

syscalls() {
    local short=6400 long=25600
    { traced "$1" "$2" "$short"; echo; traced "$1" "$2" "$long"; } |
        awk -v requests=$((long - short)) '
            NF == 0 { is_long = 1; next }
            { calls[$1] += is_long ? $2 : -$2 }
            END { for (name in calls) if (calls[name] / requests >= 0.005) printf "%s %.2f\n", name, calls[name] / requests }' |
        sort -k2,2nr | paste -sd' '
}

count() {
    case $tool in
    valgrind) printf '%-6s %-28s %8s\n' "$1" "$2" "$(instructions "$1" "$2")" ;;
    strace) printf '%-6s %-28s %s\n' "$1" "$2" "$(syscalls "$1" "$2")" ;;
    esac
}

if [ $# -gt 0 ]; then
    count "$1" "$2"
    exit
fi
count http1 'rolecall http::Client'
count http1 'hyper-util legacy, direct'
count http2 'rolecall http::Client'
count http2 'hyper SendRequest, direct'
count grpc 'rolecall grpc::Channel'
count grpc 'tonic balance_list'
count grpc 'tonic Channel, direct'
