#!/usr/bin/env bash
# The parts of scripts/gpu-check that need a device, most important first; started by that script, which exports
#   build out work plans_folder   where programs are, where results go, a folder of its own, where plans are kept
#   library_path                  LD_LIBRARY_PATH of our own programs
#   budget slower only dry        seconds in all; factor of all limits; regular expression of parts; 1: the recording device
# Every line of a result is in $out/results.jsonl as soon as it is printed, and the page is written anew after every part: a
# kill loses the part under way. What a part says on stderr is in $out/log.txt.
#
# A part has a reserve and a most. Its limit is its most, or what is left less the reserves of the parts behind it, but never
# less than its own reserve. The parts at the end have no reserve: they get what is left.
set -euo pipefail
here=tests/device/cuda
results=$out/results.jsonl
check=$build/$here/gpu_check watch=$build/$here/gpu_watch
kernels=$build/tests/device/kernels/gpu_kernels voxeld=$build/daemon/voxeld
big="six stages 128^3" small="Dataset004 3d_fullres"
device=cuda:0 quick=20 precision=bf16 follow_steps=200 record=$here/follow-cpu-fp32.json
ct=(--cases 8 --shape 160,208,208) patch=128,128,128 features=32,64,128,256,320,320 rounds=''
watched=45 hippocampus=Dataset004_Hippocampus hippocampus_plan=''
if ((dry)); then
  check=$build/$here/gpu_check_recorded kernels=$build/tests/device/kernels/kernels_dry
  device=cpu quick=2 precision=fp32 follow_steps=4 record=''
  ct=(--cases 5 --shape 24,24,24) patch=16,16,16 features=4,8 watched=2 hippocampus=Dataset902_Small
  rounds='"iterations_per_epoch": 3, "val_iterations_per_epoch": 1, '
  hippocampus_plan='"plan": {"batch_size": 2, "patch_size": [16, 16, 16], "features_per_stage": [4, 8]},'
fi
cores=$(nproc)
data=${VOXELD_TEST_DATA:-}
[[ -n $data ]] || for data in data ../shared/data; do [[ ! -d $data/$hippocampus ]] || break; done
export here results check watch kernels voxeld big small device quick precision follow_steps record patch features rounds watched
export hippocampus hippocampus_plan cores data
export VOXELD_CUDA_PLANS=$plans_folder VOXELD_MODULE_DIR=$build/daemon

ours() { # a program of ours, with the libraries that came with it
  LD_LIBRARY_PATH=$library_path "$@"
}

python() { # a Python program, 77 without one
  if command -v "${PYTHON:-python3}" >/dev/null; then "${PYTHON:-python3}" "$@"; else return 77; fi
}

# --- data, made beside the first parts ---

prepare() { # prepare DATASET ROOT: the store, where a training will look for it
  ours "$voxeld" prepare --raw "$2/$1" --out "$work/state/preprocessed/$1" --processes "$((cores > 4 ? cores / 2 : 2))" >&2
}

make_data() {
  mkdir -p "$work/raw"
  ours "$voxeld" phantom --out "$work/raw" --name Dataset901_CT --labels 3 --ct "${ct[@]}" >&2 && prepare Dataset901_CT "$work/raw" &&
    touch "$work/ct.ready"
  if ((dry)); then
    ours "$voxeld" phantom --out "$work/raw" --name "$hippocampus" --cases 5 --shape 20,22,20 >&2
    prepare "$hippocampus" "$work/raw" && touch "$work/hippocampus.ready"
  elif [[ -e $data/$hippocampus/dataset.json ]]; then
    mkdir -p "$work/raw" && cp -r "$data/$hippocampus" "$work/raw/"
    prepare "$hippocampus" "$work/raw" && touch "$work/hippocampus.ready"
  fi
}

ready() { # ready NAME: waits for it; the part's limit is the limit
  until [[ -e $work/$1.ready || -e $work/data.done ]]; do sleep 0.2; done
  [[ -e $work/$1.ready ]]
}

wait_for_data() {
  until [[ -e $work/data.done ]]; do sleep 0.2; done
  echo "{\"check\": \"data\", \"ready_after_seconds\": $((SECONDS_AT_START + SECONDS))}"
}

# --- trainings ---

job() { # job DATASET EPOCHS WORKERS PLAN
  cat <<JSON
{"type": "train", "dataset": "$1", "configuration": "3d_fullres", "fold": 0, "results": {"name": "gpu-check"},
 "resources": {"device": "$device"}, "precision": "$precision", $4
 "training": {$rounds"epochs": $2, "seed": 1}, "loader": {"workers": $3, "tune": "off"}}
JSON
}

train() { # train NAME WATCH-OPTIONS -- JOB-ARGUMENTS
  local name=$1 options=()
  shift
  while [[ $1 != -- ]]; do options+=("$1"); shift; done
  shift
  job "$@" >"$work/$name.json"
  ours "$watch" "$name" "${options[@]}" -- "$voxeld" train "$work/$name.json" --state "$work/state" --data "$work/raw"
}

end_to_end() {
  ready ct || { echo '{"check": "end_to_end", "skipped": "the phantom was not prepared"}'; return 1; }
  train end_to_end --seconds "$watched" --limit "$((LIMIT - 6))" -- Dataset901_CT 1000 6 \
    "\"plan\": {\"batch_size\": 2, \"patch_size\": [$patch], \"features_per_stage\": [$features]},"
}

thousandths() { # thousandths KEY NETWORK PRECISION: the last figure of that name, times 1000; nothing where there is none
  local figure whole part
  figure=$({ grep "$2" "$results" | grep "$3" || true; } | tail -1 | sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p")
  [[ -n $figure ]] || return 0
  IFS=. read -r whole part <<<"$figure"
  part=${part}000
  echo $((10#$whole * 1000 + 10#${part:0:3}))
}

dice() { # a schedule as long as there is time for, from the step's own time; too long a guess is corrected once
  local left=$((LIMIT - 6)) step validate epoch epochs rc=0 workers=$((cores > 3 ? cores - 2 : 2)) try
  ready hippocampus || { echo "{\"check\": \"dice\", \"skipped\": \"no prepared $hippocampus (VOXELD_TEST_DATA)\"}"; return 1; }
  ((workers < 32)) || workers=32
  step=$(thousandths train_ms "$small" '"bf16"') validate=$(thousandths validate_ms "$small" '"bf16"')
  epoch=$(((250 * ${step:-8000} + 50 * ${validate:-4000}) / 1000 + 200)) # milliseconds
  for try in 1 2; do
    epochs=$(((left - SECONDS - 25) * 1000 / epoch))
    ((epochs >= 4 && !dry)) || epochs=4
    rc=0
    train dice --epochs "$epochs" --within "$((left - SECONDS - 15))" --limit "$((left - SECONDS))" -- \
      "$hippocampus" "$epochs" "$workers" "$hippocampus_plan" || rc=$?
    ((rc == 75 && try == 1)) || break
    epoch=$(($(thousandths epoch_seconds '"check": "dice"' too_slow) * 11 / 10))
  done
  return "$rc"
}

# --- the other parts ---

profile() {
  if ((dry)); then return 77; fi
  ours "$build/$here/gpu_plans" --device "$out/deviceprop.json"
}

kernel_tables() { # the kernels' own program, its text kept as it is
  ours "$kernels" >"$out/kernels.txt"
}

checks() {
  ours "$check" "$@"
}

half() { # every convolution in both types, the table kept as it is
  if ((dry)); then return 77; fi
  ours "$build/$here/gpu_convolutions" "$big" | tee "$out/convolutions.md" | grep '^{' || return
}

peer() { # PyTorch; its absence is no failure
  if ((dry)); then
    if [[ $3 == --compiled ]]; then return 77; fi
    set -- "$1" 2 "$3" --cpu
  fi
  python "$here/peer.py" "$@"
}

sanitized() { # sanitized COMMAND...
  local tool rc=0
  tool=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || {
    echo '{"check": "sanitizer", "skipped": "compute-sanitizer is not installed"}'
    return 77
  }
  VOXELD_CUDA_EAGER=1 ours "$tool" --error-exitcode 1 "$@" >"$work/sanitizer" 2>&1 || rc=$?
  tail -20 "$work/sanitizer" >&2
  if grep -q 'not supported' "$work/sanitizer"; then
    echo '{"check": "sanitizer", "skipped": "compute-sanitizer does not support this device or machine"}'
    rc=77
  fi
  return "$rc"
}

sanitized_step() { # plans are chosen beforehand: trying them all would take long under the tool
  checks determinism tiny 1 >/dev/null
  sanitized "$check" determinism tiny 1
}

# --- one after the other ---

names=() reserves=() mosts=() commands=()
part() { # part NAME RESERVE MOST COMMAND...
  if [[ -n $only && ! $1 =~ $only ]]; then return; fi
  names+=("$1") reserves+=("$2") mosts+=("$3")
  commands+=("$(printf '%q ' "${@:4}")")
}

page() { # page [--quiet]
  python "$here/report.py" --plans "$plans_folder" --kernels "$out/kernels.txt" --out "$out" "$@" "$results"
}

limit_of() { # limit_of I: seconds
  local behind=0 i left limit
  for ((i = $1 + 1; i < ${#names[@]}; i++)); do behind=$((behind + reserves[i])); done
  left=$((budget - SECONDS))
  limit=$((left - behind * slower))
  ((limit > reserves[$1] * slower)) || limit=$((reserves[$1] * slower))
  ((limit < mosts[$1] * slower)) || limit=$((mosts[$1] * slower))
  ((limit < left)) || limit=$left
  echo "$((limit > 0 ? limit : 0))"
}

# The shell of a part outlives a signal, so that what does not end with it is killed five seconds later, with the whole group.
run_part() { # run_part I
  local rc=0 start=$SECONDS before limit
  limit=$(limit_of "$1")
  before=$(wc -l <"$results")
  echo "=== ${names[$1]}" >>"$out/log.txt"
  if ((limit < 4)); then
    rc=124
  else
    LIMIT=$limit SECONDS_AT_START=$SECONDS timeout -k 5 "$limit" bash -c "trap : TERM; set -euo pipefail; ${commands[$1]}" \
      >>"$results" 2>>"$out/log.txt" </dev/null || rc=$?
  fi
  [[ ! -s $results || -z $(tail -c1 "$results") ]] || echo >>"$results" # a line that was cut off
  printf '{"check": "part", "name": "%s", "status": %d, "seconds": %d, "limit": %d}\n' "${names[$1]}" "$rc" $((SECONDS - start)) "$limit" \
    >>"$results"
  tail -n "+$((before + 1))" "$results" | { grep -v '"check": "device"' || true; } | cut -c1-400
  if ((rc != 0 && rc != 77)); then
    failed=1
    tail -3 "$out/log.txt" >&2
  fi
  page --quiet >/dev/null 2>>"$out/log.txt" || true
}

export -f ours python prepare ready wait_for_data job train end_to_end thousandths dice profile kernel_tables checks half peer sanitized sanitized_step

part profile 8 30 profile
part parity 25 60 checks parity
part kernels 20 60 kernel_tables
part determinism 8 30 checks determinism small "$((quick / 2))"
part data 5 60 wait_for_data
part "speed, 128^3" 60 150 checks speed "$big" "$quick"
part "layers, 128^3" 10 40 checks layers "$big" 10
part "graph, Hippocampus" 25 60 checks graph "$small" "$quick"
part "speed, Hippocampus" 10 40 checks speed "$small" "$((3 * quick))"
part "layers, Hippocampus" 6 30 checks layers "$small" 10
part follow 15 60 checks follow "$small" "$follow_steps" 2 ${record:+"$record"}
part "end to end" 68 90 end_to_end
part dice 75 120 dice
part "peer, 128^3" 25 50 peer "$big" 20 --eager
part "peer, Hippocampus" 12 40 peer "$small" 20 --eager
part "peer, compiled, 128^3" 0 120 peer "$big" 20 --compiled
part "peer, compiled, Hippocampus" 0 90 peer "$small" 20 --compiled
part "sanitizer, kernels" 0 90 sanitized "$kernels" --parity
part "sanitizer, a step" 0 60 sanitized_step
part fp16 0 90 half

failed=0
if [[ " ${names[*]} " =~ " data "|"end to end"|" dice " ]]; then
  set -m # a group of its own, to be ended as a whole
  { make_data || true; touch "$work/data.done"; } >>"$out/log.txt" 2>&1 </dev/null &
  maker=$!
  set +m
  trap 'kill -- -"$maker" 2>/dev/null || true' EXIT
fi
for ((i = 0; i < ${#names[@]}; i++)); do run_part "$i"; done
rc=0
page || rc=$?
if ((rc == 77)); then
  echo "gpu-check: no Python here: scripts/gpu-check --report makes the page of $results elsewhere"
fi
if ((dry)); then exit "$failed"; fi
exit "$((rc > 0 ? 1 : 0))"
