#!/bin/bash
# A run on two machines, which are two network namespaces with a cable between them (veth) and names of their own. Breaks
# if they do not find each other, if the result is another than one machine's, or if one of them waits for ever when the
# cable is pulled. Where the system allows no namespaces nothing is tested, which is said.
#
#     machines.sh ATELIER
here_too() { echo "NOT TESTED: a run on two machines; $1"; exit 0; }
if [ -z "${INSIDE:-}" ]; then
    command -v ip >/dev/null || here_too "there is no ip (iproute2)"
    for flags in -nu -rnu; do
        unshare $flags true 2>/dev/null || continue
        INSIDE=1 exec unshare $flags bash "$0" "$@"
    done
    here_too "no network namespace can be made here"
fi
. "$(dirname "$0")/common" "$1"
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
unset RANK LOCAL_RANK LOCAL_WORLD_SIZE ATELIER_TOKEN

hostname a
unshare -nu sh -c 'hostname b; echo; exec sleep 100000' >"$work/there" &
b=$!
trap 'kill $b 2>/dev/null; rm -rf "$work"' EXIT
until [ -s "$work/there" ]; do kill -0 $b 2>/dev/null || here_too "no second namespace can be made"; sleep 0.01; done
on_b() { nsenter -t $b -n -u "$@"; }
ip link set lo up
on_b ip link set lo up
ip link add cable type veth peer name elbac netns $b 2>"$work/err" || here_too "$(cat "$work/err")"
ip addr add 10.77.0.1/24 dev cable
on_b ip addr add 10.77.0.2/24 dev elbac
ip link set cable up
on_b ip link set elbac up

cat >"$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: $work/pictures}
method: {kind: lora, rank: 4}
train: {steps: 20, accumulate: 2, resolution: 32, threads: 1, timeout: 5}
optimizer: {lr: 1.0e-3, schedule: constant}
output: {save_every: 5, dir: $work/none}
YAML
pictures "$work/pictures" banana bell bicycle
export WORLD_SIZE=2 MASTER_ADDR=10.77.0.1 MASTER_PORT=29500
# both DIR WORD…: process 1 on b, and process 0 here; *_status are how they ended
both() {
    status_a=0 status_b=0
    RANK=1 on_b "$atelier" train "$work/run.yaml" --set output.dir="$work/$1" "${@:2}" >"$work/out" 2>"$work/err_b" &
    far=$!
    RANK=0 "$atelier" train "$work/run.yaml" --set output.dir="$work/$1" "${@:2}" >"$work/out" 2>"$work/err" &
    near=$!
}
wait_for_both() {
    wait $near || status_a=$?
    wait $far || status_b=$?
}

expect 0 env -u WORLD_SIZE "$atelier" train "$work/run.yaml" --set output.dir="$work/whole"
both two
wait_for_both
[ $status_a$status_b = 00 ] || { cat "$work/err_b"; fail "two machines: status $status_a and $status_b"; }
cmp "$work/whole/lora.safetensors" "$work/two/lora.safetensors" || fail "two machines: another result"

both cut --set train.steps=100000
until [ "$(cat "$work/cut/log.jsonl" 2>/dev/null | wc -l)" -ge 6 ]; do
    kill -0 $near 2>/dev/null || { cat "$work/err_b"; fail "ended before it began"; }
    sleep 0.01
done
ip link set cable down
wait_for_both
[ $status_a$status_b = 11 ] || fail "the cable is pulled: status $status_a and $status_b"
grep -q 'process 1 of 2 ([0-9]* on b) has not been heard of for 5 seconds' "$work/err" || fail "who is gone is not said"
unset WORLD_SIZE
"$atelier" train "$work/run.yaml" --set output.dir="$work/cut" --resume auto@5 >"$work/out" 2>"$work/err" || fail "going on alone"
cmp "$work/whole/lora.safetensors" "$work/cut/lora.safetensors" || fail "gone on alone: another result"
echo "two machines train what one does"
