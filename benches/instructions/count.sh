#!/usr/bin/env bash
# Counts the instructions of a pick, a success, a failure, an ejection and a new set, at 10 and 1000 members, and prints
# them beside the committed figures. `--save` commits them to counts.txt instead. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."

saved=benches/instructions/counts.txt
save=
case ${1-} in
--save) save=yes ;;
'') ;;
*)
    echo "unknown option $1; the only one is --save" >&2
    exit 2
    ;;
esac
command -v valgrind >/dev/null || {
    echo "valgrind is not installed" >&2
    exit 1
}

# The path is the last word of a line like: Executable benches/instructions/main.rs (target/release/deps/instructions-1f)
bench=$(cargo bench --no-run --bench instructions 2>&1 | tee /dev/stderr | sed -n 's/^ *Executable .*(\(.*\))$/\1/p')

# Instructions per operation. The program says how often it did what; an ejection takes several failures.
count() {
    local operation=$1 members=$2 function=$1 out times total
    [ "$operation" != ejection ] || function=failure
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        --collect-atstart=no --toggle-collect="*counted_$function*" \
        "$bench" --bench "$operation" "$members" 2>&1)
    times=$(sed -n "s/^Count {.* $operation: \([0-9]*\).*/\1/p" <<<"$out")
    total=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\).*/\1/p' <<<"$out")
    if [ -z "$times" ] || [ "${total:-0}" -eq 0 ]; then
        printf '%s\n' "$out" >&2
        return 1
    fi
    echo $((total / times))
}

counts=$(mktemp)
trap 'rm "$counts"' EXIT
printf '%-10s %7s %12s %12s %7s\n' operation members instructions committed ratio
for members in 10 1000; do
    for operation in pick success failure ejection apply; do
        now=$(count "$operation" "$members")
        printf '%-10s %7s %12s\n' "$operation" "$members" "$now" >>"$counts"
        before=$(awk -v o="$operation" -v m="$members" '$1 == o && $2 == m { print $3 }' "$saved" 2>/dev/null || true)
        ratio=-
        [ -z "$before" ] || ratio=$(awk -v n="$now" -v b="$before" 'BEGIN { printf "%.3f", n / b }')
        printf '%-10s %7s %12s %12s %7s\n' "$operation" "$members" "$now" "${before:--}" "$ratio"
    done
done
[ -z "$save" ] || cp "$counts" "$saved"
