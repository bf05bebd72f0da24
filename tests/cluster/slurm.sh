#!/usr/bin/env bash
# A real Slurm of two nodes, n1 and n2, on this one machine, for tests. Needs root and Debian; no systemd.
#
#   slurm.sh start | stop | status     start is idempotent, and installs slurm-wlm and munge if missing
#   slurm.sh kill NODE | revive NODE   the node dies with all that runs on it, as by a power cut
#   slurm.sh env                       what a shell needs for sbatch to find it: eval "$(slurm.sh env)"
set -euo pipefail

STATE=/var/lib/tandem-slurm  # of the cluster; nothing of it lies in the repository
CONF=$STATE/slurm.conf
NODES=(n1 n2)
MARK="# tandem-slurm"        # of our line in /etc/hosts
export SLURM_CONF=$CONF

main() {
    case ${1:-} in
        start) start ;;
        stop) stop ;;
        status) answers && sinfo --Node --long ;;
        kill) kill_node "$(node "${2:-}")" ;;
        revive) revive "$(node "${2:-}")" ;;
        env) echo "export SLURM_CONF=$CONF" ;;
        *) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
}

start() {
    if answers; then
        for name in "${NODES[@]}"; do revive "$name"; done
        echo "the test cluster is up"
        return
    fi
    [[ $(id -u) == 0 ]] || die "the test cluster needs root, to start Slurm's daemons"
    install_slurm
    stop
    configure
    start_munge
    slurmctld
    until answers; do sleep 0.1; done
    for name in "${NODES[@]}"; do revive "$name"; done
    echo "the test cluster is up: eval \"\$($0 env)\""
}

stop() {
    for name in "${NODES[@]}"; do kill_node "$name"; done
    end TERM "$(daemons slurmctld.log)"
    end TERM "$(daemons munge/log)"
    [[ ! -d $STATE ]] || forget_hosts
    rm -rf "$STATE"
}

install_slurm() {
    ! command -v slurmctld slurmd sbatch munged >/dev/null || return 0
    command -v apt-get >/dev/null || die "Slurm is not installed, and there is no apt-get to do it"
    export DEBIAN_FRONTEND=noninteractive
    local packages=(slurm-wlm munge)
    apt_get install "${packages[@]}" || { apt_get update && apt_get install "${packages[@]}"; } ||
        die "apt-get could not install ${packages[*]}: $(tail -n 1 /tmp/tandem-slurm-apt.log)"
}

apt_get() {
    # A container's policy keeps the packages' own daemons from starting; elsewhere they find no
    # /etc/slurm/slurm.conf, and do not start either.
    apt-get -qq --yes --no-install-recommends "$@" >>/tmp/tandem-slurm-apt.log 2>&1
}

configure() {
    local host
    host=$(hostname --short)
    mkdir -p "$STATE"/{ctld,munge,n1,n2}
    forget_hosts
    echo "127.0.0.1 ${NODES[*]} $MARK" >>/etc/hosts
    cat >"$CONF" <<CONF
ClusterName=tandem
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# How long a requeued job waits before it starts again is this too: two minutes if nothing is said.
AuthInfo=socket=$STATE/munge/socket,cred_expire=5
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/%n.log
# No cgroups: a container may not make them.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# More than the machine may have: several tasks on each node, each with what is asked for by default.
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[17001-17002] CPUs=8 RealMemory=4000
# A node that dies is noticed within seconds, and is of use again once it is back.
SlurmdTimeout=10
ReturnToService=2
JobRequeue=1
KillWait=5
# A job in high takes the nodes from those in low, which get SIGTERM, and SIGKILL a while later.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=n[1-2] Default=YES PriorityTier=1 GraceTime=60
PartitionName=high Nodes=n[1-2] PriorityTier=2 PreemptMode=OFF
SchedulerParameters=sched_interval=1,bf_interval=1
CONF
}

start_munge() {
    dd if=/dev/urandom of="$STATE/munge/key" bs=128 count=1 status=none
    chown -R munge: "$STATE/munge"
    chmod 600 "$STATE/munge/key"
    chmod 755 "$STATE/munge"
    setpriv --reuid=munge --regid=munge --clear-groups munged --num-threads=2 \
        --socket="$STATE/munge/socket" --key-file="$STATE/munge/key" --pid-file="$STATE/munge/pid" \
        --log-file="$STATE/munge/log" --seed-file="$STATE/munge/seed"
}

revive() {
    [[ -n $(daemons "$1.log") ]] || slurmd -N "$1"
    until [[ $(state_of "$1") == @(IDLE|MIXED|ALLOCATED) ]]; do sleep 0.1; done
}

# First the daemons: what they were watching over must not be told as killed, but silent.
kill_node() {
    end KILL "$(daemons "$1.log")"
    end KILL "$(tasks "$1")"
}

# Processes that write this log. Of a node they are its slurmd and a slurmstepd for each step on it.
daemons() {
    find /proc/[0-9]*/fd -lname "$STATE/$1" 2>/dev/null | cut -d/ -f3 | sort -u
}

# What runs on a node for its jobs: processes that Slurm has told its name.
tasks() {
    grep -lzx "SLURMD_NODENAME=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 |
        while read -r pid; do
            ! grep -qzx "SLURM_CONF=$CONF" "/proc/$pid/environ" || echo "$pid"
        done
}

# Sends processes a signal and waits until they are gone; those that will not go are killed.
end() {
    local pid
    for pid in $2; do kill "-$1" "$pid" 2>/dev/null || true; done
    for pid in $2; do
        # A zombie has no program any more; who is to reap it is not our matter.
        for _ in {1..100}; do
            readlink "/proc/$pid/exe" >/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

answers() {
    command -v sinfo >/dev/null && [[ -e $CONF ]] && timeout 5 sinfo >/dev/null 2>&1
}

state_of() {
    timeout 5 scontrol show node "$1" | sed -n 's/^ *State=\([^ ]*\).*/\1/p'
}

forget_hosts() {
    # In place: in a container /etc/hosts is a mount, and cannot be renamed over.
    local kept
    kept=$(grep -v "$MARK\$" /etc/hosts) && echo "$kept" >/etc/hosts
}

node() {
    [[ " ${NODES[*]} " == *" ${1:-?} "* ]] || die "no such node: '$1'; there are ${NODES[*]}"
    echo "$1"
}

die() {
    echo "slurm.sh: $1" >&2
    exit 1
}

main "$@"
