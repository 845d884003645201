# Makes and enters the environment of this checkout: a Python virtual environment with ROS 2 and our libraries, and
# the package built into it by colcon. Sourced by the other scripts; does nothing by itself.
#
#   medkit_setup [dev]   make what is missing (in about a second when nothing is)
#   medkit_enter         put it on PATH, PYTHONPATH and AMENT_PREFIX_PATH of this shell
#
# Where ROS 2 comes from: a sourced ROS 2 (ROS_DISTRO is set and a Python imports its rclpy), else the wheels that
# scripts/requirements/<distro>.txt pins. MEDKIT_DISTRO chooses the wheels (kilted, jazzy), MEDKIT_PYTHON the
# interpreter, MEDKIT_ENV_DIR the folder (default .venv in the checkout).
# Everything is said on standard error, so that the output of a command in the environment stays its own.

set -Eeuo pipefail
trap 'printf "[medkit] error: %s, line %s: a command failed: %s\n" "${BASH_SOURCE[0]##*/}" "$LINENO" "$BASH_COMMAND" >&2' ERR

MEDKIT_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
MEDKIT_ENVS=${MEDKIT_ENV_DIR:-$MEDKIT_ROOT/.venv}
MEDKIT_PACKAGE=medkit_gateway_py
# The executables that colcon installs are run by the Python that ran colcon. A colcon of the system would make that the
# system's Python, which does not see our libraries; so it is always run by the one of the environment.
MEDKIT_COLCON_COMMAND=(python -c 'import sys; from colcon_core.command import main; sys.argv[0] = "colcon"; sys.exit(main())')
MEDKIT_PYTHONS=(python3 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3)

say() { printf '[medkit] %s\n' "$*" >&2; }
die() { printf '[medkit] error: %s\n' "$*" >&2; exit 1; }
usage() { sed -n "/^# usage: /,/^\$/ s/^# \\{0,1\\}//p" "$1" | sed "s/^usage: /usage: .\//"; }

# --- which ROS 2, which Python ---------------------------------------------------------------------------------

# Leaves an environment of ours that this shell may already be in, so that one can call another.
_leave() {
  local name value part kept
  for name in PATH PYTHONPATH LD_LIBRARY_PATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH; do
    value=${!name:-}
    [[ $value == *"$MEDKIT_ENVS/"* ]] || continue
    kept=
    while IFS= read -r -d : part; do
      [[ $part == "$MEDKIT_ENVS/"* ]] || kept+=${kept:+:}$part
    done <<<"$value:"
    if [[ -n $kept ]]; then export "$name=$kept"; else unset "$name"; fi
  done
  unset _ROS_WHEELS_BOOTSTRAP_COMPLETE VIRTUAL_ENV PYTHONHOME COLCON_CURRENT_PREFIX
}

# Version of a Python as major.minor when we can use it; $2 is the highest minor version that will do.
_usable() {
  command -v "$1" >/dev/null 2>&1 || return 1
  "$1" -c 'import sys; v = sys.version_info; ok = (3, 10) <= v[:2] <= (3, int(sys.argv[1])); print("%d.%d" % v[:2]); sys.exit(not ok)' "$2" 2>/dev/null
}

_choose() {
  local candidate
  MEDKIT_SOURCED=
  MEDKIT_PY=
  if [[ -n ${ROS_DISTRO:-} && -n ${AMENT_PREFIX_PATH:-} ]]; then
    [[ -z ${MEDKIT_DISTRO:-} || $MEDKIT_DISTRO == "$ROS_DISTRO" ]] ||
      die "ROS 2 $ROS_DISTRO is sourced in this shell; for $MEDKIT_DISTRO from wheels, start from a shell without it"
    for candidate in ${MEDKIT_PYTHON:+"$MEDKIT_PYTHON"} "${MEDKIT_PYTHONS[@]}"; do
      _usable "$candidate" 99 >/dev/null || continue
      if "$candidate" -c 'import rclpy' >/dev/null 2>&1; then MEDKIT_PY=$candidate; break; fi
    done
    if [[ -n $MEDKIT_PY ]]; then
      MEDKIT_SOURCED=$ROS_DISTRO
      MEDKIT_NAME=ros-$ROS_DISTRO
    else
      say "warning: ROS_DISTRO=$ROS_DISTRO is set, but no Python here imports its rclpy: taking the wheels"
    fi
  fi
  if [[ -z $MEDKIT_SOURCED ]]; then
    MEDKIT_NAME=${MEDKIT_DISTRO:-kilted}
    [[ -f $MEDKIT_ROOT/scripts/requirements/$MEDKIT_NAME.txt && $MEDKIT_NAME =~ ^(kilted|jazzy)$ ]] ||
      die "no wheels for ROS 2 '$MEDKIT_NAME'; there are: kilted, jazzy"
  fi
  MEDKIT_VENV=$MEDKIT_ENVS/$MEDKIT_NAME
  MEDKIT_COLCON=$MEDKIT_VENV/colcon
}

_choose_python() {
  local candidate
  if [[ -z $MEDKIT_PY ]]; then
    for candidate in ${MEDKIT_PYTHON:+"$MEDKIT_PYTHON"} "${MEDKIT_PYTHONS[@]}"; do
      if _usable "$candidate" 13 >/dev/null; then MEDKIT_PY=$candidate; break; fi
    done
    [[ -n $MEDKIT_PY ]] || die "no Python 3.10 to 3.13 found. On Debian: sudo apt-get install python3 python3-venv"
    [[ $(uname -m) == x86_64 ]] ||
      die "the ROS 2 wheels are for x86_64 and this is $(uname -m): source a ROS 2 installation and run this again"
  fi
  "$MEDKIT_PY" -c 'import venv, ensurepip' >/dev/null 2>&1 || medkit_apt python3-venv "Python's venv module"
  "$MEDKIT_PY" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    medkit_apt "python$(_usable "$MEDKIT_PY" 99)-venv" "Python's venv module" must
  "$MEDKIT_PY" -c 'import venv, ensurepip' >/dev/null 2>&1 || die "$MEDKIT_PY has no venv module, even now"
}

# medkit_apt PACKAGE WHAT [must]: installs a Debian package when this is root, else says the line to type.
medkit_apt() {
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "$2 is missing: apt-get install $1"
    { DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1" ||
      { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; }; } \
      </dev/null >/dev/null 2>&1 && return 0
  fi
  [[ ${3:-} != must ]] || die "$2 is missing. Install it, then run this again: sudo apt-get install $1"
  return 0
}

# --- what is there already -------------------------------------------------------------------------------------

_requirements() {
  [[ -n $MEDKIT_SOURCED ]] || echo "$MEDKIT_NAME.txt"
  echo build.txt
  echo runtime.txt
  [[ $1 != dev ]] || echo dev.txt
}

# The state that the libraries were installed for: place, kind of ROS, lists.
_stamp_libraries() {
  { echo "$MEDKIT_VENV ${MEDKIT_SOURCED:-wheels}"
    (cd "$MEDKIT_ROOT/scripts/requirements" && _requirements "$1" | xargs cat); } | sha256sum | cut -d' ' -f1
}

# The state that colcon built: links lead to the sources, so only these files and the names of the others count.
_stamp_build() {
  (cd "$MEDKIT_ROOT" && { cat setup.py setup.cfg package.xml
    find launch config resource "$MEDKIT_PACKAGE" \( -name '__pycache__' -prune \) -o \
      \( -path "$MEDKIT_PACKAGE/*.py" ! -name '__init__.py' \) -o -type f -print 2>/dev/null | LC_ALL=C sort || true
    cat "$MEDKIT_VENV/.libraries" 2>/dev/null || true; }) | sha256sum | cut -d' ' -f1
}

_is_ready() {
  local level=$1 stamp
  [[ -x $MEDKIT_VENV/bin/python && ! -e $MEDKIT_VENV.unfinished ]] || return 1
  stamp=$(cat "$MEDKIT_VENV/.libraries" 2>/dev/null) || return 1
  [[ $stamp == "$(_stamp_libraries dev)" || ($level != dev && $stamp == "$(_stamp_libraries runtime)") ]] || return 2
  [[ -f $MEDKIT_COLCON/install/local_setup.bash ]] || return 3
  [[ $(cat "$MEDKIT_VENV/.built" 2>/dev/null) == "$(_stamp_build)" ]] || return 3
}

# --- making it ---------------------------------------------------------------------------------------------------

# Shows what a long command is at: a line that changes on a terminal, else a line every five seconds.
_follow() {
  local line text shown=$SECONDS count=0 width=${COLUMNS:-79}
  while IFS= read -r line; do
    case $line in
      Collecting*) count=$((count + 1)); text="looking up ${line#Collecting } ($count)" ;;
      *Downloading*) text="fetching ${line#*Downloading }" ;;
      "Installing collected packages"*)
        text="unpacking $(tr -cd , <<<"$line" | wc -c) packages; the longest step"
        shown=0 ;;
      Starting*|Finished*) text=$line ;;
      *) continue ;;
    esac
    text=${text:0:$((width - 14))}
    if [[ -t 2 ]]; then
      printf '\r\033[K[medkit]   %s' "$text" >&2
    elif ((SECONDS >= shown + 5 || shown == 0)); then
      say "  $text"
      shown=$SECONDS
    fi
  done
  [[ ! -t 2 ]] || printf '\r\033[K' >&2
}

# _step LABEL COMMAND...: runs it, keeps all it prints in setup.log, shows its end when it fails.
_step() {
  local label=$1 began=$SECONDS log=$MEDKIT_ENVS/$MEDKIT_NAME.log
  shift
  say "$label"
  printf '\n== %s\n' "$*" >>"$log"
  if ! "$@" </dev/null 2>&1 9>&- | tee -a "$log" | _follow; then
    tail -n 25 "$log" | cut -c1-200 >&2
    die "that failed; everything it said is in $log. Run the same command again to go on"
  fi
  ((SECONDS - began < 3)) || say "  done in $((SECONDS - began)) s"
}

_make_libraries() {
  local level=$1 lists=() name
  # pip would take what lies there for installed, and it is gone once our environment is entered.
  [[ -n $MEDKIT_SOURCED ]] || unset PYTHONPATH
  if [[ -e $MEDKIT_VENV.unfinished ]] || ! [[ -x $MEDKIT_VENV/bin/python && -f $MEDKIT_VENV/.libraries ]]; then
    [[ ! -e $MEDKIT_VENV ]] || { say "an earlier set-up did not finish: starting anew"; rm -rf "$MEDKIT_VENV"; }
    _choose_python
    : >"$MEDKIT_VENV.unfinished"
    _step "making a virtual environment in $MEDKIT_VENV ($("$MEDKIT_PY" -V))" \
      "$MEDKIT_PY" -m venv ${MEDKIT_SOURCED:+--system-site-packages} "$MEDKIT_VENV"
  fi
  : >"$MEDKIT_VENV.unfinished"
  while read -r name; do lists+=(-r "$MEDKIT_ROOT/scripts/requirements/$name"); done < <(_requirements "$level")
  if [[ -n $MEDKIT_SOURCED ]]; then name="the libraries (ROS 2 $MEDKIT_SOURCED is sourced)"
  else name="ROS 2 $MEDKIT_NAME and the libraries: some 300 MB, a few minutes the first time"; fi
  _step "installing $name" "$MEDKIT_VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
    --progress-bar off "${lists[@]}"
  # colcon warns of a prefix without these; the wheels have nothing to set up.
  [[ -n $MEDKIT_SOURCED ]] || touch "$MEDKIT_VENV/local_setup.sh" "$MEDKIT_VENV/local_setup.bash"
  _stamp_libraries "$level" >"$MEDKIT_VENV/.libraries"
  rm -f "$MEDKIT_VENV.unfinished"
}

_make_build() {
  local kind
  rm -f "$MEDKIT_VENV/.built"
  (
    cd "$MEDKIT_ROOT"
    _underlay
    kind=$("${MEDKIT_COLCON_COMMAND[@]}" --log-base /dev/null list --base-paths . --names-only || true)
    [[ $kind == "$MEDKIT_PACKAGE" ]] || die "colcon does not see the package: is package.xml valid?"
    _step "building the package with colcon" "${MEDKIT_COLCON_COMMAND[@]}" --log-base "$MEDKIT_COLCON/log" build --symlink-install \
      --base-paths . --build-base "$MEDKIT_COLCON/build" --install-base "$MEDKIT_COLCON/install"
  ) || exit 1
  _stamp_build >"$MEDKIT_VENV/.built"
}

# What lies below our package: the virtual environment, and the ROS 2 of it or of the sourced shell.
_underlay() {
  if [[ -z $MEDKIT_SOURCED ]]; then
    unset PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION
    export AMENT_PREFIX_PATH=$MEDKIT_VENV
    if [[ -n ${RMW_IMPLEMENTATION:-} && $RMW_IMPLEMENTATION != rmw_fastrtps_cpp ]]; then
      say "warning: RMW_IMPLEMENTATION=$RMW_IMPLEMENTATION is not among the wheels: using rmw_fastrtps_cpp"
      unset RMW_IMPLEMENTATION
    fi
  fi
  export VIRTUAL_ENV=$MEDKIT_VENV PATH=$MEDKIT_VENV/bin:$PATH
}

medkit_setup() {
  local level=${1:-runtime} why=0
  _leave
  _choose
  _is_ready "$level" || why=$?
  ((why)) || return 0
  trap 'trap - INT; printf "\n[medkit] interrupted; the next run makes it whole\n" >&2; kill -INT $$' INT
  mkdir -p "$MEDKIT_ENVS"
  exec 9>"$MEDKIT_ENVS/$MEDKIT_NAME.lock"
  if ! flock -n 9; then
    say "another run is setting up $MEDKIT_VENV: waiting for it"
    flock -w 1800 9 || die "the other run took more than half an hour: end it, then run this again"
  fi
  why=0
  _is_ready "$level" || why=$?
  # The tests' tools stay once they are there: an environment never goes back.
  [[ ! -f $MEDKIT_VENV/.dev ]] || level=dev
  if ((why == 1 || why == 2)); then _make_libraries "$level"; fi
  [[ $level != dev ]] || : >"$MEDKIT_VENV/.dev"
  ((why == 0)) || _make_build
  exec 9>&-
  trap - INT
}

medkit_enter() {
  _underlay
  set +u
  # shellcheck disable=SC1091
  source "$MEDKIT_COLCON/install/local_setup.bash"
  set -u
  export PATH=$MEDKIT_COLCON/install/$MEDKIT_PACKAGE/lib/$MEDKIT_PACKAGE:$PATH
}
