#!/bin/bash
# The files beside the pages on several processes do what the pages say. Breaks if docs/slurm.sbatch does not train with
# the processes that srun starts, or does not requeue what was asked to stop; or if the tables of
# docs/several-processes.md are not what scripts/scaling.py prints.
#
#     launch_files.sh ATELIER
. "$(dirname "$0")/../checks" "$1"
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

# Slurm's own programs as far as the file calls them: two tasks here instead of eight elsewhere.
mkdir "$work/bin" "$work/pictures"
ln -s "$atelier" "$work/bin/atelier"
cat >"$work/bin/scontrol" <<'SH'
#!/bin/bash
case $1 in
show) echo 127.0.0.1 ;;
requeue) echo "requeued $2" >>"$WORK/requeued" ;;
esac
SH
cat >"$work/bin/srun" <<'SH'
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
worst=0
for ((task = 0; task < 2; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_STEP_NUM_TASKS=2 "$@" &
    tasks[task]=$!
done
echo "${tasks[@]}" >"$WORK/tasks"
for task in "${tasks[@]}"; do
    wait "$task" || { status=$?; [ $status -le $worst ] || worst=$status; }
done
exit $worst
SH
chmod +x "$work"/bin/{scontrol,srun}

for name in banana bell bicycle; do
    cp "$here/data/examples/$name.jpg" "$here/data/examples/$name.txt" "$work/pictures"
done
cat >"$work/run.yaml" <<YAML
model: {base: $here/tests/golden/models/sd1, dtype: f32}
dataset: {path: $work/pictures}
method: {kind: lora, rank: 4}
train: {steps: 4, accumulate: 2, resolution: 32}
output: {dir: $work/run}
YAML
# A port that others are unlikely to have: the file makes one of the job's number.
job() {
    unset RANK WORLD_SIZE MASTER_ADDR MASTER_PORT OMPI_COMM_WORLD_SIZE PMIX_RANK
    (cd "$work" && WORK=$work PATH=$work/bin:$PATH SLURM_JOB_NODELIST=a SLURM_JOB_ID=$$ SLURM_CPUS_PER_TASK=1 \
        bash "$here/docs/slurm.sbatch" run.yaml) >"$work/out" 2>"$work/err" </dev/null
}

bash -n "$here/docs/slurm.sbatch" || fail "docs/slurm.sbatch"
job || fail "the job: status $?: $(cat "$work/err")"
[ -s "$work/run/lora.safetensors" ] || fail "the job has no result"
grep -q 'processes: 2' "$work/err" || fail "the job has not trained with two processes: $(cat "$work/err")"
[ ! -e "$work/requeued" ] || fail "a job that is through was requeued"

rm -rf "$work/run" "$work/tasks"
sed -i 's/steps: 4/steps: 100000/' "$work/run.yaml"
job &
until [ "$(cat "$work/run/log.jsonl" 2>/dev/null | wc -l)" -ge 2 ]; do
    kill -0 $! 2>/dev/null || { fail "the job has ended: $(cat "$work/err")"; break; }
    sleep 0.02
done
read -ra tasks <"$work/tasks"
kill -USR1 "${tasks[@]}"
wait $!
status=$?
[ $status -eq 130 ] || fail "asked to stop: status $status: $(cat "$work/err")"
grep -q "requeued $$" "$work/requeued" || fail "the job that was asked to stop is not requeued"

if command -v python3 >/dev/null; then
    python3 "$here/scripts/scaling.py" | grep -v '^$' >"$work/tables"
    [ -s "$work/tables" ] || fail "scripts/scaling.py"
    while IFS= read -r line; do
        grep -qxF -- "$line" "$here/docs/several-processes.md" || fail "docs/several-processes.md has not: $line"
    done <"$work/tables"
fi
finish "the files beside the pages work"
