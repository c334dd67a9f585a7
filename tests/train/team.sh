#!/bin/bash
# Processes that train together, each started by itself as on several machines: the same files however many they are, in
# every kind of run; one that does not fit is refused by name before the first step; one that is gone, at any message it
# sends or gets and at any file it writes, ends all, and the run goes on to the bytes that it would have had. Breaks if one
# of them computes, reads or writes something that the others do not know of.
#
#     team.sh ATELIER [STRIDE]    every STRIDE-th message, 1: all
. "$(dirname "$0")/common" "$1"
stride=${2:-23}
# gcc 12's leak checker falls over the thread-local memory of libraries opened late, as the launcher opens ours
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
unset RANK WORLD_SIZE ATELIER_TOKEN

mkdir "$work/others"
pictures "$work/pictures" banana bell bicycle butterfly cactus carrot
cp "$work"/pictures/b* "$work/others"
cp -r "$here/tests/golden/models/sd1" "$work/model"
cat > "$work/run.yaml" << YAML
model: {base: $work/model, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1}, augment: {flip: true}}
method: {kind: lora, rank: 4}
train: {steps: 4, batch: 1, accumulate: 5, resolution: 32, threads: 1, timeout: 60}
optimizer: {lr: 1.0e-3}
output: {save_every: 2, dir: $work/none}
YAML
cat > "$work/full.yaml" << YAML
model: {base: $work/model, dtype: f32}
dataset: {path: $work/pictures, caption: {dropout: 0.1}}
method: {kind: full, text_encoder: true}
train: {steps: 4, batch: 1, accumulate: 5, resolution: 32, threads: 1, timeout: 60, ema: 0.9}
optimizer: {lr: 1.0e-4}
output: {save_every: 2, dir: $work/none}
YAML

# one RANK SIZE CONFIG DIR WORD…: a process as torchrun starts it
one() {
    env ${environment[$1]:-ATELIER_NOTHING=} RANK=$1 WORLD_SIZE=$2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$atelier" train "$3" --set output.dir="$work/$4" "${@:5}" \
        > "$work/out.$1" 2> "$work/err.$1"
}
environment=()
# A port that nobody has now; another is taken where somebody was faster.
another_port() { port=$((20000 + RANDOM % 12000)); }
# all STATUS SIZE CONFIG DIR WORD…: so many of them, the same; $first and $second: words for process 0 or 1 alone; what all
# have said is in err. $status_of: whose status it is.
first=() second=() status_of=0
all() {
    local rank status pids
    while :; do
        another_port
        pids=()
        for ((rank = 0; rank < $2; rank++)); do
            local words=("${@:5}")
            [ $rank = 0 ] && words+=(${first[@]+"${first[@]}"})
            [ $rank = 1 ] && words+=(${second[@]+"${second[@]}"})
            one $rank "${@:2:3}" ${words[@]+"${words[@]}"} &
            pids+=($!)
        done
        statuses=()
        for rank in "${pids[@]}"; do
            status=0
            wait "$rank" || status=$?
            statuses+=($status)
        done
        cat "$work"/err.* > "$work/err"
        : > "$work/out"
        rm -f "$work"/err.*
        grep -q 'cannot be opened for the other processes' "$work/err" || break
    done
    [ "${statuses[$status_of]}" = "$1" ] || fail "process $status_of has status ${statuses[$status_of]}, not $1: $4"
}
says() { grep -q -- "$1" "$work/err" || fail "\"$1\" is not said"; }
# Everything that a run makes and that holds no times: their sums.
files_of() { (cd "$work/$1" && find . \( -name '*.safetensors' -o -name '*.png' \) | sort | xargs sha256sum); }
same() { cmp <(files_of "$1") <(files_of "$2") || fail "$2 has other files than $1"; }

# Alone and together ------------------------------------------------------------------------------------------------
same_for() { # NAME CONFIG WORD…
    local count
    expect 0 "$atelier" train "$work/$2.yaml" --set output.dir="$work/$1-1" "${@:3}"
    for count in 2 3 4; do
        all 0 $count "$work/$2.yaml" "$1-$count" "${@:3}"
        same "$1-1" "$1-$count"
    done
}
cp "$work/run.yaml" "$work/shown.yaml"
cat >> "$work/shown.yaml" << YAML
validation: {share: 0.34, every: 2}
preview: {every: 2, prompts: [a, b, c], steps: 2}
YAML
same_for shown shown
same_for half run --set model.dtype=bf16
same_for whole full --set train.reproducible=exact
cp "$work/run.yaml" "$work/moving.yaml"
sed -i 's/flip: true/flip: true, shift: 0.1/' "$work/moving.yaml" # nothing is cached
same_for moving moving --set train.cache_latents=false --set train.cache_text=false
mkdir "$work/drawn-1" "$work/drawn-2" "$work/drawn-3"
for count in 1 2 3; do # class pictures are drawn by all
    cp "$work/run.yaml" "$work/prior.yaml"
    echo "prior: {path: $work/drawn-$count/class, prompt: a dog, pictures: 5, steps: 1}" >> "$work/prior.yaml"
    if [ $count = 1 ]; then
        expect 0 "$atelier" train "$work/prior.yaml" --set output.dir="$work/prior-1"
    else
        all 0 $count "$work/prior.yaml" prior-$count
        same drawn-1 drawn-$count
        same prior-1 prior-$count
    fi
done

# Fast sums: the same again for the same processes, and a run that is gone on with by others.
all 0 3 "$work/full.yaml" fast
all 0 3 "$work/full.yaml" fast-again
same fast fast-again
all 0 2 "$work/full.yaml" fast-on --set train.steps=2 --set optimizer.schedule=constant
all 0 3 "$work/full.yaml" fast-on --resume auto --set optimizer.schedule=constant
says 'going on after step 2'

# Refused -----------------------------------------------------------------------------------------------------------
refused() { # WHAT IT SAYS
    all 2 2 "$work/run.yaml" none
    second=()
    says "$1"
    [ ! -e "$work/none/checkpoints" ] || fail "something was trained"
    rm -rf "$work/none"
}
second=(--set train.seed=43) && refused 'process 1 of 2 .*another configuration: train.seed is 43 here, and 42 in process 0'
second=(--set train.threads=2) && refused 'another configuration: train.threads is 2 here'
second=(--set model.dtype=bf16) && refused 'another configuration: model.dtype is bf16 here'
second=(--set steps=3) && refused 'process 1 of 2 .*steps'
sed "s|$work/pictures|$work/others|" "$work/run.yaml" > "$work/other.yaml"
two_files() { # OTHER WHAT IT SAYS
    another_port
    one 0 2 "$work/run.yaml" none &
    local zero=$! status=0
    one 1 2 "$work/$1.yaml" none || true
    wait $zero || status=$?
    cat "$work"/err.* > "$work/err"
    : > "$work/out"
    [ $status = 2 ] || fail "status $status"
    says "$2"
    rm -rf "$work/none"
}
two_files other "process 0 has built no dataset of this folder's name"
for name in pictures others; do
    expect 0 "$atelier" data build "$work/$name" --out "$work/$name.h5"
done
sed -i "s|$work/pictures|$work/pictures.h5|" "$work/run.yaml"
sed "s|$work/pictures.h5|$work/others.h5|" "$work/run.yaml" > "$work/other.yaml"
two_files other 'another model or dataset: dataset 1 is 4 pictures of sum .* here, and 6 pictures of sum'
cp -r "$work/model" "$work/model2"
file=$(find "$work/model2/unet" -name '*.safetensors')
printf '\1\2\3' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 64)) conv=notrunc 2> /dev/null
sed "s|$work/model,|$work/model2,|" "$work/run.yaml" > "$work/other.yaml"
two_files other 'another model or dataset: the model is sum'
environment[1]=ATELIER_ISA=baseline
[ "$(uname -m)" != x86_64 ] || refused 'process 1 of 2 .*another machine: what it computes on is cpu (baseline) here'
environment=()
all 2 6 "$work/run.yaml" none
says '6 processes for a step of 5 micro-batches'
says 'train.accumulate'

# A number that is none, in what one of them computes ------------------------------------------------------------------
cp -r "$work/model" "$work/large" # weights of 65504: too much for 16 bits
file=$(find "$work/large/unet" -name '*.safetensors')
printf '\377\173%.0s' {1..1024} | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") - 2048)) conv=notrunc 2> /dev/null
sed -e "s|$work/model,|$work/large,|" -e 's/dtype: f32/dtype: f16/' "$work/run.yaml" > "$work/large.yaml"
all 1 3 "$work/large.yaml" large
says 'step 1: the loss is [-a-z]*. It began in the forward pass, at .*The picture: '

# Gone in the middle of something -----------------------------------------------------------------------------------
cp "$work/run.yaml" "$work/short.yaml"
expect 0 "$atelier" train "$work/short.yaml" --set output.dir="$work/undisturbed"
# gone RANK BELOW N: that process is killed at its N-th message (BELOW: talk) or file operation; false: it has fewer
gone() {
    local rank pids=() status=()
    rm -rf "$work/gone" "$work/fault"
    another_port
    for rank in 0 1; do
        if [ $rank = "$1" ]; then
            FAULT_KIND=$4 FAULT_AT=$3 FAULT_BELOW=$2 FAULT_LOG=$work/fault LD_PRELOAD=$faults \
                one $rank 2 "$work/short.yaml" gone 2> /dev/null &
        else
            one $rank 2 "$work/short.yaml" gone &
        fi
        pids+=($!)
    done
    for rank in 0 1; do
        status[rank]=0
        wait "${pids[rank]}" 2> /dev/null || status[rank]=$?
    done
    cat "$work/err.$((1 - $1))" > "$work/err"
    [ -e "$work/fault" ] || return 1
    [ "${status[$((1 - $1))]}" = 1 ] || fail "the other has status ${status[$((1 - $1))]} after $(cat "$work/fault") ($3)"
}
goes_on() {
    expect 0 "$atelier" train "$work/short.yaml" --set output.dir="$work/gone" --resume auto
    cmp "$work/undisturbed/lora.safetensors" "$work/gone/lora.safetensors" ||
        fail "another result after $(cat "$work/fault")"
}
for rank in 0 1; do
    for ((n = 1 + rank; ; n += stride)); do # before its first message nobody knows of process 1
        gone $rank talk $n kill || break
        grep -qE "process $rank .*(has ended|cut the connection)|not to be reached|has sent process|these have not come|ended while all" \
            "$work/err" || fail "it is not said who is gone, after $(cat "$work/fault") ($n)"
        goes_on
    done
    [ $n -gt 2 ] || fail "no message of process $rank was counted"
done
for ((n = 1; ; n += stride)); do # while it saves, among other things
    gone 0 "$work/gone" $n kill || break
    goes_on
done
for ((n = 40; n < 60; n += 7)); do # a disk that is full
    gone 0 "$work/gone" $n enospc || break
    goes_on
done
