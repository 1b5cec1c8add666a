# tests/bench/run cache --shapes [SAMPLES]: what reading a training sample costs for each codec, type and shape of chunks;
# one JSON line per way, for Hippocampus and for CT-sized phantoms, as they are and resampled. No target: the numbers
# behind core/cache/README.md.
set -euo pipefail
bin=$VX_BUILD_DIR/daemon/voxeld shapes=$VX_BUILD_DIR/tests/bench/bench_cache_shapes
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

store() { "$bin" prepare --raw "$1" --out "$2" --plans "$3" >/dev/null && echo "$2"/voxeld/*; }

data=${VOXELD_TEST_DATA:-../shared/data}/Dataset004_Hippocampus
if [[ -d $data ]]; then
  "$bin" plan "$data" >"$work/hippocampus.json"
  VXB_SET="Hippocampus" "$shapes" "$(store "$data" "$work/hippocampus" "$work/hippocampus.json")" 40,56,40 "${1:-1000}" 40
fi
"$bin" phantom --out "$work" --name Dataset901_CT --ct --cases 1 --shape 200,400,400 --spacing 1.5,0.8,0.8 --seed 5 >/dev/null
"$bin" plan "$work/Dataset901_CT" >"$work/ct.json"
"$bin" plan --plans-name resampled --spacing 1.6,0.85,0.85 "$work/Dataset901_CT" >"$work/resampled.json"
VXB_SET="CT phantom" "$shapes" "$(store "$work/Dataset901_CT" "$work/ct" "$work/ct.json")" 128,128,128 "$((${1:-1000} / 25))"
VXB_SET="CT phantom, resampled" \
  "$shapes" "$(store "$work/Dataset901_CT" "$work/resampled" "$work/resampled.json")" 128,128,128 "$((${1:-1000} / 25))"
