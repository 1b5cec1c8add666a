#!/bin/sh
# compile.sh REPORT NVCC ARGUMENT...: what ptxas says goes to REPORT; warnings and errors are shown.
report=$1
shift
"$@" >"$report" 2>&1
status=$?
grep -v -e '^ptxas info' -e 'stack frame' -e '^$' "$report" >&2
exit $status
