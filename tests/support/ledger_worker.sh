# What the tests have run: sh ledger_worker.sh LEDGER MODE ARGUMENTS. Each line of the ledger says when, who, and what
# it did: CLOCK_BOOTTIME, pid, replica, word, more. Nothing is forked to write one: thousands of runs cost little.

ledger=$1 mode=$2
shift 2

note() {
  read -r now _ < /proc/uptime
  echo "$now $$ ${RECONCILER_REPLICA:--1} $*" >> "$ledger"
}

rest() { # a sleep that a signal interrupts, and that does not outlive us
  # KILL: what has just been forked and is not sleep yet may miss a TERM.
  sleep "${1:-1000}" & wait $! || kill -KILL $! 2> /dev/null
}

leave() { # leave CODE WORDS: the last line, and nobody left behind
  code=$1
  shift
  note "$@"
  kill -KILL $! 2> /dev/null
  exit "$code"
}

note start "${VERSION:-}"
case $mode in
  once) # one piece of work: exits with $1 after $2 seconds
    [ -z "${2:-}" ] || sleep "$2"
    leave "${1:-0}" end "${1:-0}"
    ;;
  steady) # until it is told to end
    trap 'leave 0 end TERM' TERM
    while :; do rest; done
    ;;
  stubborn) # hears and stays
    trap 'note ignored TERM' TERM
    while :; do rest; done
    ;;
  parent) # has a process in its session, and one in another that does not listen; ends alone
    trap 'note end TERM; exit 0' TERM
    setsid sh -c 'trap "" TERM; echo $$ > "$0"; while :; do sleep 1000; done' "$ledger.setsid.$RECONCILER_REPLICA" &
    sleep 1000 &
    note grandson $!
    while :; do wait; done
    ;;
  piece) # one piece of work that may not be interrupted: ends when the file $1 is there, with code $2 or by signal $2
    trap 'leave 1 signalled TERM' TERM
    while [ ! -e "$1" ]; do rest 0.05; done
    case ${2:-0} in
      [0-9]*) leave "${2:-0}" end "${2:-0}" ;;
      *) note end "$2"; kill -s "$2" $$ ;;
    esac
    ;;
  count) # print numbered lines until the file $1 is there, and note how many they were
    n=0
    while [ ! -e "$1" ] || [ $((n % 100)) != 0 ]; do
      n=$((n + 1))
      echo "$$ $n ............................................................"
      [ $((n % 100)) != 0 ] || rest 0.01
    done
    leave 0 end "$n"
    ;;
esac
