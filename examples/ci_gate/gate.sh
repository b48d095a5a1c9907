#!/bin/sh
# Let a deployment go on only where the tuned batch size is still right on this machine.
#
#     examples/ci_gate/gate.sh tuned/ rows.npy
#
# Run it where production runs, after a new driver, a new TensorFlow or a new machine. What
# `autotune verify` ends with decides:
#
#     0  it holds               the deployment goes on
#     1  slower, or fails       it stops: tune again on this machine
#     3  undecided              once more with three times the time; then it goes on, with a warning
#     2, 4 and others           it stops: something is wrong with the folder, the rows or the machine
#
# BUDGET is the time for probing, in seconds with an s ("20s"); AUTOTUNE is the command.
set -u

tuned=${1:?usage: gate.sh TUNED [ROWS]}
rows=${2:-}
budget=${BUDGET:-20s}

verify() {
    # AUTOTUNE may be several words, such as "python -m autotune.cli".
    ${AUTOTUNE:-autotune} verify "$tuned" ${rows:+--sample "$rows"} --budget "$1"
}

verify "$budget"
code=$?
if [ "$code" -eq 3 ]; then
    verify "$((3 * ${budget%s}))s"
    code=$?
fi
case $code in
0) echo "gate: the recommendation holds" ;;
3) echo "gate: warning: undecided, so the deployment goes on" >&2 && exit 0 ;;
*) echo "gate: stopped" >&2 ;;
esac
exit "$code"
