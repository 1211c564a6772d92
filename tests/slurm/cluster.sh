#!/usr/bin/env bash
# The pipeline through a real SLURM cluster of one node on loopback, its records compared with those of a local run.
#
#   ACM_SLURM_TEST=1 tests/slurm/cluster.sh --disposable-machine [--profile FILE_OR_NAME] [--jobs KIND] [--reference FOLDER]
#     [--cpus N] [--python PYTHON] [-- ARGUMENT …]
#
# For disposable machines only: as root it installs Debian's packages slurm-wlm and munge, which stay, and starts munged, slurmctld
# and slurmd, which it stops. It writes /etc/slurm/slurm.conf, where there is none, and one temporary folder, and removes both. It
# may be run again at any time.
#   --profile     a file (default: tests/slurm/femto.yaml, a few minutes) or a name such as tiny
#   --jobs        the profile's `jobs`, of a profile that is a file and does not say (several, model or task; default: several)
#   --reference   the folder runs/<profile> of a finished local run; without it, the local run is made first
#   --cpus        CPUs that the node offers (default: all)
#   --python      an interpreter with requirements.lock and requirements-cluster.txt (default: .venv's)
#   --            more arguments of Snakemake's, for the run through SLURM
set -euo pipefail
set -m  # a background job is a process group, which can be ended as one

root=$(cd "$(dirname "$0")/../.." && pwd)
profile=$root/tests/slurm/femto.yaml kind=several reference="" cpus=$(getconf _NPROCESSORS_ONLN) python=$root/.venv/bin/python agreed="" child=""
while [ $# -gt 0 ]; do
  case $1 in
    --disposable-machine) agreed=yes; shift ;;
    --profile) profile=$2; shift 2 ;;
    --jobs) kind=$2; shift 2 ;;
    --reference) reference=$(cd "$2" && pwd); shift 2 ;;
    --cpus) cpus=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --) shift; break ;;
    *) echo "unknown argument $1; the head of $0 lists them." >&2; exit 2 ;;
  esac
done

skip() { echo "skipped: $1"; exit 0; }
[ "$agreed" = yes ] && [ "${ACM_SLURM_TEST:-}" = 1 ] || skip "it installs packages and starts daemons; ACM_SLURM_TEST=1 and --disposable-machine allow it."
[ "$(id -u)" = 0 ] || skip "not root."
command -v apt-get > /dev/null || skip "no apt-get: Debian or Ubuntu is needed."
conf=/etc/slurm/slurm.conf
[ ! -e "$conf" ] || grep -q "^# Written by tests/slurm/cluster.sh" "$conf" || skip "$conf exists: this machine belongs to a cluster."
"$python" -c "import snakemake_executor_plugin_slurm" 2> /dev/null || skip "$python lacks the plugin: pip install -r requirements-cluster.txt."

unset SLURM_CONF
if ! { command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; } > /dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge > /dev/null
fi

stop() {  # the daemons of the folder $1, which is removed
  for daemon in slurmd slurmctld munged; do
    pkill --pidfile "$1/$daemon.pid" --exact "$daemon" 2> /dev/null || true
  done
  sleep 2
  rm -rf "$1" "$conf"
}
[ ! -e "$conf" ] || stop "$(sed -n 's|^SlurmdSpoolDir=\(.*\)/spool$|\1|p' "$conf")"  # a run that was killed left it

work=$(mktemp -d /tmp/acm-slurm.XXXXXX)
chmod 755 "$work"
clean() {
  if [ -n "$child" ]; then  # interrupted: Snakemake, and with it what it started
    [ ! -e "$conf" ] || scancel --me || true
    kill -- -"$child" && sleep 10 || true
    kill -KILL -- -"$child" 2> /dev/null || true
  fi
  stop "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

start_cluster() {
  local host; host=$(hostname -s)
  mkdir "$work"/{state,spool,munge}
  chmod 700 "$work/munge"
  (umask 077; head -c 1024 /dev/urandom > "$work/munge/key")
  munged --force --key-file="$work/munge/key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munge/log" --seed-file="$work/munge/seed"
  mkdir -p "${conf%/*}"  # not elsewhere with SLURM_CONF: the plugin's job steps start srun without that variable
  cat > "$conf" << CONF
# Written by tests/slurm/cluster.sh, which removes it.
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=26817
SlurmdPort=26818
AuthInfo=socket=$work/munge.socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MinJobAge=600
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$(awk '/MemAvailable/ {print int($2 / 1024)}' /proc/meminfo) State=UNKNOWN
PartitionName=loopback Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  slurmctld
  slurmd
  for _ in $(seq 30); do
    sleep 1
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" != idle ] || { echo "cluster: $(sinfo --noheader --format='%N, %c CPUs, %m MB, %T')"; return; }
  done
  echo "the node did not come up:" >&2; tail -n 5 "$work"/slurm*.log >&2; exit 1
}

copy() {  # the tracked and the new files of the work tree, and the profile
  mkdir "$work/$1"
  (cd "$root" && git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- --ignore-failed-read -cf - 2> /dev/null) | tar -xf - -C "$work/$1"
  [ ! -f "$profile" ] || { cat "$profile"; grep -q ^jobs: "$profile" || echo "jobs: $kind"; } > "$work/$1/profiles/$name.yaml"
}

run() {  # in the copy $1, with the arguments after it
  local place=$work/$1 status=0
  shift
  (cd "$place" && PYTHONPATH=$place exec nice -n 5 "$python" -m snakemake --config profile="$name" --quiet rules "$@") &
  child=$!
  wait "$child" || status=$?
  child=""
  return $status
}

name=$(basename "${profile%.yaml}")
if [ -z "$reference" ]; then
  echo "local run of $name …"; copy local; SECONDS=0
  run local --cores "$cpus"
  echo "local run: $SECONDS s"; reference=$work/local/runs/$name
fi
start_cluster
echo "the same through SLURM …"; copy cluster; SECONDS=0
run cluster --workflow-profile cluster/slurm --retries 0 --slurm-status-command squeue --slurm-init-seconds-before-status-checks 2 "$@" ||
  { find "$work"/cluster/{runs/*/logs,.snakemake/slurm_logs} -name '*.log' -exec tail -n 15 {} + >&2; tail -n 15 "$work"/slurm{ctld,d}.log >&2; exit 1; }
echo "SLURM run: $SECONDS s"
jobs=$(grep -c "_slurm_rpc_submit_batch_job: JobId" "$work/slurmctld.log" || true)
PYTHONPATH=$work/cluster "$python" "$root/tests/slurm/compare.py" "$reference" "$work/cluster/runs/$name" --jobs "$jobs"
