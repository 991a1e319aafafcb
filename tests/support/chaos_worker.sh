# The fastest piece of work that still writes down what it does: sh chaos_worker.sh DIR. See chaos_worker.py.
# It prints one line and exits with 0 or 3, by its pid. Nothing is forked, so thousands of runs cost little.

folder=$1

note() {
  read -r now _ < /proc/uptime
  echo "$now $$ $RECONCILER_PROGRAM $RECONCILER_REPLICA $RECONCILER_SPAWN_ID $*" >> "$folder/ledger"
}

note start "$RECONCILER_REVISION" "${VERSION:--}"
while [ -e "$folder/pause" ]; do sleep 0.05; done
echo "$RECONCILER_SPAWN_ID 1 ....................................."
code=$(($$ % 2 * 3))
trap '' TERM # from its last words on nothing but a KILL may make it end otherwise
note end "$code" -
exit "$code"
