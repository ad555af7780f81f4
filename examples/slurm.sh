#!/usr/bin/env bash
# Runs one training on several Slurm nodes, a task for each GPU. Before the time limit it saves and is requeued.
#SBATCH --job-name=mnli
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

set -o errexit -o nounset -o pipefail

out=${OUT:-/shared/runs/mnli} # on storage that all nodes share
python=${PYTHON:-.venv/bin/python}

# Proxies would intercept the traffic between hosts.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

status=0
srun --kill-on-bad-exit=0 --label "$python" -m train --task mnli --model roberta-large --precision bf16 \
  --out "$out" --hosts auto "$@" || status=$?

# 130: stopped by the signal, to be continued.
if [[ $status -eq 130 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
