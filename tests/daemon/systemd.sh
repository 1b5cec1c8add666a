#!/usr/bin/env bash
# systemd-analyze on the unit: it must parse without a complaint, and stay as closed as it is.
#   systemd.sh SOURCE_DIR VOXELD
set -euo pipefail
unit=$1/systemd/voxeld.service
if ! command -v systemd-analyze >/dev/null; then
  [[ -n ${VX_SKIP_LOG:-} ]] && echo "systemd tests/daemon/systemd.sh" >>"$VX_SKIP_LOG"
  echo "skipped: systemd-analyze is not installed"
  exit 77
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# verify checks that the program exists: the one just built stands in for the installed one
sed "s|/usr/bin/voxeld|$2|" "$unit" >"$dir/voxeld.service"
out=$(systemd-analyze verify "$dir/voxeld.service" 2>&1)
if [[ -n $out ]]; then
  echo "$out"
  exit 1
fi
level=$(systemd-analyze security --offline=yes "$dir/voxeld.service" --no-pager | sed -n 's/.*Overall exposure level for .*: \([0-9.]*\) .*/\1/p')
echo "exposure level $level"
awk -v l="$level" 'BEGIN {exit !(l != "" && l <= 3.0)}'
for forbidden in MemoryDenyWriteExecute=yes ProtectProc= PrivateDevices=yes; do
  ! grep -q "^$forbidden" "$unit"
done
for needed in Type=notify KillMode=mixed Delegate=yes LimitNOFILE=65535 WatchdogSec= "DeviceAllow=char-nvidia"; do
  grep -q "^$needed" "$unit"
done
