# What the scripts that set something up share. To be sourced by one that has set `log`, the file for
# the output of quiet commands.

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
fail() { say "$*"; exit 1; }

# Runs a command quietly; shows the end of its log if it fails.
quietly() {
  if ! "$@" >"$log" 2>&1; then
    tail -n 25 "$log" >&2
    return 1
  fi
}
