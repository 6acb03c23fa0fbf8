#!/bin/bash
# Submits a run as shards that know nothing of each other, and the merge that begins when all of them are complete:
#
#   submit.sh SHARDS RUN [flags of `scottbench run`]
#   submit.sh 8 runs/main --preset scott-paper-coco2017 --device cuda
#
# RUN is a folder that all nodes see; the shards go to RUN.parts. Variables: SBATCH_FLAGS, flags of sbatch for both jobs
# (account, partition; --gpus-per-task=0 where there are none); MERGE_FLAGS, those of `scottbench merge` (--model of a run that has one).
set -eu

if [ $# -lt 2 ] || ! [ "$1" -gt 0 ] 2>/dev/null; then
    echo "usage: submit.sh SHARDS RUN [flags of scottbench run]" >&2
    exit 2
fi
shards=$1 run=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
read -ra flags <<<"${SBATCH_FLAGS:-}"
read -ra more <<<"${MERGE_FLAGS:-}"

array=$(sbatch --parsable "${flags[@]}" --array="1-$shards" "$here/shards.sbatch" "$run.parts" "$@")
array=${array%%;*} # a federation adds the cluster's name
merge=$(sbatch --parsable "${flags[@]}" --dependency="afterok:$array" --kill-on-invalid-dep=yes \
    "$here/merge.sbatch" "$run.parts" "$shards" "$run" "${more[@]}")
echo "shards $array, merge ${merge%%;*} -> $run"
