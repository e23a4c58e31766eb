//! What runs on a host: POSIX shell with GNU coreutils, texts that never change, arguments as parameters, contents and
//! digests on standard input.

/// Another process holds the lock of the host's state folder.
pub(super) const BUSY: i32 = 75;
/// A file is not what it must be; its path is the last line of stderr.
pub(super) const CONFLICT: i32 = 76;
/// The mark names another token.
pub(super) const FENCED: i32 = 77;
/// The input ended early.
pub(super) const SHORT: i32 = 74;

/// `facts path`: prints what a path is (facts, its owner by name, its real path), and sets `kind`. What it cannot tell is the script's end, with the path.
macro_rules! facts {
    () => {
        r#"
LC_ALL=C; export LC_ALL
facts() {
  if facts=$(stat -L --printf '%a %u:%g %s %F\n%U:%G' -- "$1" 2>&1); then :; else
    case $facts in *'No such file'*|*'Not a directory'*) kind=absent; echo absent; return;; esac
    printf '%s\n' "$facts" >&2; exit 1
  fi
  case ${facts%%'
'*} in *regular*) ;; *) kind=other; printf 'other %s\n' "$facts"; return;; esac
  real=$(readlink -f -- "$1") || exit 1
  [ -r "$1" ] || { printf '%s: Permission denied\n' "$1" >&2; exit 1; }
  kind=file
  printf 'file %s\n%s\n' "$facts" "$real"
}
"#
    };
}

/// `path most`: what it is, three lines; the bytes; or `absent`.
pub(super) const READ: &str = concat!(
    facts!(),
    r#"
facts "$1"
[ "$kind" = file ] || exit 0
exec head -c "$2" -- "$1"
"#
);

/// `most path…`: the same for each, the bytes in base64 on a line of their own.
pub(super) const READ_ALL: &str = concat!(
    facts!(),
    r#"
most=$1; shift
for path; do
  facts "$path"
  [ "$kind" = file ] || continue
  head -c "$most" -- "$path" | base64 -w 0 || exit 1
  echo
done
"#
);

/// `folder`: names, each ended by a zero byte; or `absent`.
pub(super) const LIST: &str = r#"
LC_ALL=C; export LC_ALL
[ -e "$1" ] || { printf 'absent\0'; exit 0; }
[ -d "$1" ] || { echo 'is not a folder' >&2; exit 1; }
cd -- "$1" || exit 1
printf 'folder\0'
find . -mindepth 1 -maxdepth 1 -printf '%f\0'
"#;

/// `state token command…`: runs the command if the mark names the token.
pub(super) const GUARD: &str = r#"
exec 9>>"$1/lock" || exit 1
flock -s -w 20 9 || { echo 'another process is changing this host' >&2; exit 75; }
grep -qF -- "\"$2\"" "$1/mark.json" 2>/dev/null || exit 77
exec 9>&-
shift 2
exec "$@"
"#;

/// Takes the lock of `$state`, and compares `$token` with the mark's unless it is `-`.
macro_rules! held {
    () => {
        r#"
exec 9>>"$state/lock"
flock -w 20 9 || { echo 'another process is changing this host' >&2; exit 75; }
if [ "$token" != - ]; then
  grep -qF -- "\"$token\"" "$state/mark.json" 2>/dev/null || exit 77
fi
"#
    };
}

/// What is sent for `$count` files: `wanted` reads the digest that each must have; `compare n`, with `$path` set, follows a
/// link, ends the script unless the file has it, and leaves it as `$want` and `$now`; `receive` puts the next `$size`
/// bytes into a file.
macro_rules! parcel {
    () => {
        r#"
wanted() {
  i=0
  while [ "$i" -lt "$count" ]; do
    IFS= read -r line || exit 74
    eval "want_$i=\$line"
    i=$((i + 1))
  done
}
compare() {
  if [ -L "$path" ]; then path=$(readlink -f -- "$path"); fi
  eval "want=\$want_$1"
  if [ -e "$path" ]; then now=$(sha256sum < "$path"); now=${now%% *}; else now=absent; fi
  if [ "$now" != "$want" ]; then printf '%s\n' "$path" >&2; exit 76; fi
}
receive() {
  head -c "$size" >"$1"
  if [ "$(stat -c %s -- "$1")" != "$size" ]; then exit 74; fi
}
"#
    };
}
pub(super) use {held, parcel};

/// `mounted path`: whether it is a mount, to which nothing can be renamed.
macro_rules! mounts {
    () => {
        r#"
mounted() { cut -d' ' -f5 /proc/self/mountinfo 2>/dev/null | grep -qxF -- "$(readlink -f -- "$1")"; }
"#
    };
}

/// `state token (path mode owner size)…`, where `-` stands for what is kept and a size of `-` removes; on stdin a line
/// for each file with the digest that must be there, then the contents one after the other.
pub(super) const REPLACE: &str = concat!(
    parcel!(),
    mounts!(),
    r#"
set -eu
umask 077
LC_ALL=C; export LC_ALL
state=$1; token=$2; shift 2
count=$(($# / 4))
mkdir -p -- "$state"
"#,
    held!(),
    r#"
clean() {
  n=0
  while [ "$n" -lt "$count" ]; do
    eval "left=\${tmp_$n:-}"
    if [ -n "$left" ]; then rm -f -- "$left"; fi
    n=$((n + 1))
  done
}
trap clean EXIT
trap 'exit 1' HUP INT TERM
wanted
i=0
while [ "$i" -lt "$count" ]; do
  path=$1; mode=$2; owner=$3; size=$4; shift 4
  compare "$i"
  # Nothing can be renamed to it: that would be found when the other file of a pair was renamed already.
  if [ -e "$path" ] && mounted "$path"; then printf '%s: Device or resource busy\n' "$path" >&2; exit 1; fi
  eval "path_$i=\$path"
  if [ "$size" != - ]; then
    dir=$(dirname -- "$path")
    top=$dir
    while [ ! -d "$top" ]; do top=$(dirname -- "$top"); done
    eval "top_$i=\$top"
    mkdir -p -- "$dir"
    tmp=$dir/.rollover.$$.$i
    rm -f -- "$tmp"
    (set -C; : > "$tmp")
    eval "tmp_$i=\$tmp"
    receive "$tmp"
    if [ -e "$path" ]; then
      chown --reference="$path" -- "$tmp"
      chmod --reference="$path" -- "$tmp"
    fi
    if [ "$owner" != - ]; then chown -- "$owner" "$tmp"; fi
    if [ "$mode" != - ]; then chmod -- "$mode" "$tmp"; fi
    sync -- "$tmp"
  fi
  i=$((i + 1))
done
i=0
while [ "$i" -lt "$count" ]; do
  eval "path=\$path_$i; tmp=\${tmp_$i:-}"
  if [ -n "$tmp" ]; then mv -fT -- "$tmp" "$path"; else rm -f -- "$path"; fi
  eval "tmp_$i="
  i=$((i + 1))
done
i=0
while [ "$i" -lt "$count" ]; do
  eval "path=\$path_$i; top=\${top_$i:-}"
  dir=$(dirname -- "$path")
  sync -- "$dir"
  # A folder that was made is an entry of the one above.
  while [ -n "$top" ] && [ "$dir" != "$top" ]; do dir=$(dirname -- "$dir"); sync -- "$dir"; done
  i=$((i + 1))
done
"#
);

/// `state token (from to)…`; on stdin two lines for each file, the digest that must lie at `from` and the one at `to`.
pub(super) const INSTALL: &str = concat!(
    mounts!(),
    r#"
set -eu
LC_ALL=C; export LC_ALL
state=$1; token=$2; shift 2
count=$(($# / 2))
mkdir -p -- "$state"
"#,
    held!(),
    r#"
lies() {
  if [ -e "$1" ]; then now=$(sha256sum < "$1"); now=${now%% *}; else now=absent; fi
  if [ "$now" != "$2" ]; then printf '%s\n' "$1" >&2; exit 76; fi
}
i=0
while [ "$i" -lt "$count" ]; do
  from=$1; to=$2; shift 2
  if [ -L "$to" ]; then to=$(readlink -f -- "$to"); fi
  IFS= read -r staged || exit 74
  IFS= read -r want || exit 74
  lies "$from" "$staged"
  lies "$to" "$want"
  if [ -e "$to" ] && mounted "$to"; then printf '%s: Device or resource busy\n' "$to" >&2; exit 1; fi
  eval "from_$i=\$from; to_$i=\$to"
  i=$((i + 1))
done
i=0
while [ "$i" -lt "$count" ]; do
  eval "from=\$from_$i; to=\$to_$i"
  mv -fT -- "$from" "$to"
  i=$((i + 1))
done
i=0
while [ "$i" -lt "$count" ]; do
  eval "to=\$to_$i"
  sync -- "$(dirname -- "$to")"
  i=$((i + 1))
done
"#
);
