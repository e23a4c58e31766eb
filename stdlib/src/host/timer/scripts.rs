//! What runs on a host for its timers. A timer lies in a folder of its own below the state folder: a file whose name is
//! its state (renamed, which needs no room on a full disk), copies of what lay there and of what shall lie there again,
//! and the text of the process that waits.

use crate::host::scripts::{held, parcel};

/// There is no such timer, or it is in another state.
pub(in crate::host) const OTHER: i32 = 78;

/// Whether the process of a timer in `$dir` lives: it must be that very process, since this boot.
macro_rules! alive {
    () => {
        r#"
boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown; }
alive() {
  [ "$(cat -- "$dir/boot" 2>/dev/null)" = "$(boot)" ] || return 1
  pid=$(cat -- "$dir/pid" 2>/dev/null) || return 1
  tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$(cat -- "$dir/id")"
}
up() { read -r up _ </proc/uptime && printf '%s\n' "${up%%.*}"; }
"#
    };
}

/// `state token key id marker seconds text count (path mode owner size)… command…`; on stdin as for `REPLACE`: the digest
/// that must be there for each file, then the contents that shall be there again.
pub(super) const ARM: &str = concat!(
    r#"
set -eu
umask 077
LC_ALL=C; export LC_ALL
state=$1; token=$2; key=$3; id=$4; marker=$5; seconds=$6; text=$7; count=$8; shift 8
mkdir -p -- "$state/timers"
"#,
    held!(),
    parcel!(),
    alive!(),
    r#"
dir=$state/timers/$key
new=$state/timers/.new
rm -rf -- "$new"
mkdir -- "$new"
trap 'rm -rf -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
wanted
i=0
while [ "$i" -lt "$count" ]; do
  path=$1; mode=$2; owner=$3; size=$4; shift 4
  compare "$i"
  facts='- -'; old=absent
  if [ "$now" != absent ]; then
    cat <"$path" >"$new/$i.new"
    facts=$(stat -c '%a %u:%g' -- "$path")
  fi
  if [ "$size" != - ]; then
    receive "$new/$i.old"
    old=$(sha256sum <"$new/$i.old"); old=${old%% *}
  fi
  printf '%s\n' "$path" "$mode" "$owner" "$want" "$old" "$facts" >"$new/$i.file"
  i=$((i + 1))
done
printf '%s\n' "$text" >"$new/text"
printf '%s\n' "$id" >"$new/id"
printf '%s\n' "$marker" >"$new/marker"
printf '%s\n' "$count" >"$new/count"
printf '%s\0' "$@" >"$new/restart"
boot >"$new/boot"
: >"$new/armed"
sync -- "$new"/* "$new"
# A timer that was armed for this before finds another id here, and ends.
rm -rf -- "$dir"
mv -T -- "$new" "$dir"
set -- sh "$dir/text" "$state" "$key" "$id" "$seconds"
# What runs in a login session may be ended with it; a unit of systemd's is not.
[ -d /run/systemd/system ] && systemd-run --quiet --collect --setenv="PATH=$PATH" --unit="rollover-timer-$id" -- "$@" \
  </dev/null >/dev/null 2>&1 9>&- || setsid -f "$@" </dev/null >/dev/null 2>&1 9>&-
tries=0
until alive && [ -s "$dir/end" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 400 ]; then rm -rf -- "$dir"; echo 'a timer cannot be started there' >&2; exit 1; fi
  sleep 0.05
done
"#
);

/// `state key id seconds`: the process that waits.
pub(super) const WAIT: &str = concat!(
    r#"
umask 077
LC_ALL=C; export LC_ALL
cd /
state=$1; key=$2; id=$3; seconds=$4
dir=$state/timers/$key
"#,
    alive!(),
    r#"
ours() { [ "$(cat -- "$dir/id" 2>/dev/null)" = "$id" ]; }
end=$(($(up) + seconds))
echo "$$" >"$dir/pid"
echo "$end" >"$dir/end.new"
mv -f -- "$dir/end.new" "$dir/end"
while [ "$(up)" -lt "$end" ]; do
  ours || exit 0
  sleep 0.5
done
# Puts one file back; the change of its own note's name is what is known of it.
back() {
  { IFS= read -r path; IFS= read -r mode; IFS= read -r owner; IFS= read -r want; } <"$dir/$1.file"
  if [ -e "$path" ]; then now=$(sha256sum < "$path"); now=${now%% *}; else now=absent; fi
  if [ "$now" != "$want" ]; then mv -f -- "$dir/$1.file" "$dir/$1.kept"; return 0; fi
  old=$dir/$1.old
  folder=$(dirname -- "$path")
  if [ ! -e "$old" ]; then
    rm -f -- "$path" || return 1
  else
    tmp=$old
    # On the same file system a rename is all it takes, also when the disk is full.
    if [ "$(stat -c %d -- "$old")" != "$(stat -c %d -- "$folder")" ]; then
      tmp=$folder/.rollover.$$.$1
      cat <"$old" >"$tmp" && sync -- "$tmp" || { rm -f -- "$tmp"; return 1; }
    fi
    if [ -e "$path" ]; then chown --reference="$path" -- "$tmp" && chmod --reference="$path" -- "$tmp"; fi
    if [ "$owner" != - ]; then chown -- "$owner" "$tmp"; fi
    if [ "$mode" != - ]; then chmod -- "$mode" "$tmp"; fi
    mv -fT -- "$tmp" "$path" || return 1
    rm -f -- "$old"
  fi
  mv -f -- "$dir/$1.file" "$dir/$1.done"
  sync -- "$folder"
}
exec 9>>"$state/lock"
flock 9
ours || exit 0
mv -f -- "$dir/armed" "$dir/firing"
count=$(cat -- "$dir/count")
tries=0
while :; do
  missing=0; i=0
  while [ "$i" -lt "$count" ]; do
    if [ -e "$dir/$i.file" ]; then back "$i" 2>>"$dir/log" || missing=1; fi
    i=$((i + 1))
  done
  tries=$((tries + 1))
  [ "$missing" = 1 ] && [ "$tries" -lt 720 ] || break
  # A full disk, say: it is tried again for an hour.
  flock -u 9
  sleep 5
  flock 9
  ours || exit 0
done
# What runs from now on was not started by the step that left its marker here.
rm -f -- "$state/restarts/$key"
flock -u 9
timeout -k 5 600 xargs -0 -a "$dir/restart" env -- </dev/null >>"$dir/log" 2>&1 9>&-
code=$?
flock 9
ours || exit 0
echo "$code" >"$dir/code"
mv -f -- "$dir/firing" "$dir/fired"
"#
);

/// `state`: what became of the timers, a word and its value a line.
pub(super) const LOOK: &str = concat!(
    r#"
LC_ALL=C; export LC_ALL
state=$1
[ -d "$state/timers" ] || exit 0
exec 9>>"$state/lock" || exit 1
flock -s -w 20 9 || { echo 'another process is changing this host' >&2; exit 75; }
"#,
    alive!(),
    r#"
for dir in "$state"/timers/*; do
  [ -e "$dir/id" ] || continue
  printf 'timer %s\n' "${dir##*/}"
  printf 'id %s\n' "$(cat -- "$dir/id")"
  printf 'marker %s\n' "$(cat -- "$dir/marker")"
  what=lost
  if [ -e "$dir/fired" ]; then what=fired
  elif alive; then if [ -e "$dir/firing" ]; then what=firing; else what=armed; fi
  fi
  printf 'state %s\n' "$what"
  if [ "$what" = armed ]; then printf 'left %s\n' "$(($(cat -- "$dir/end") - $(up)))"; fi
  if [ -s "$dir/code" ]; then printf 'code %s\n' "$(cat -- "$dir/code")"; fi
  for file in "$dir"/*.done "$dir"/*.kept; do
    [ -e "$file" ] || continue
    { IFS= read -r path; IFS= read -r _; IFS= read -r _; IFS= read -r _; IFS= read -r old; IFS= read -r facts; } <"$file"
    case $file in
      *.done) name=${file##*/}; printf 'done %s %s %s %s\n' "${name%.done}" "$old" "$facts" "$path";;
      *) printf 'kept %s\n' "$path";;
    esac
  done
done
"#
);

/// `state token key id states`: removes a timer that is in one of these states, with its copies.
pub(super) const DISARM: &str = concat!(
    r#"
set -eu
LC_ALL=C; export LC_ALL
state=$1; token=$2; key=$3; id=$4; wanted=$5
[ -d "$state" ] || exit 78
"#,
    held!(),
    alive!(),
    r#"
dir=$state/timers/$key
[ "$(cat -- "$dir/id" 2>/dev/null)" = "$id" ] || exit 78
what=lost
if [ -e "$dir/fired" ]; then what=fired
elif alive; then if [ -e "$dir/firing" ]; then what=firing; else what=armed; fi
fi
[ "$what" = "$wanted" ] || exit 78
gone=$state/timers/.gone
rm -rf -- "$gone"
mv -T -- "$dir" "$gone"
sync -- "$state/timers"
rm -rf -- "$gone"
"#
);
