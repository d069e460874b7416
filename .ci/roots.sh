# shellcheck shell=bash
# Minimal roots of Debian, for .ci/newcomer and .ci/packages, which source this file and set these variables before that: the
# title of the messages, the packages of a root, and the time limit of a command in a root.
: "${title:?}" "${packages:?}" "${limit_s:?}"

skip() {
  echo "$title: skipped, $1"
  exit 0
}

[[ $(id -u) == 0 ]] || skip 'only root can create them'
command -v apt-get >/dev/null || skip "Debian's packages are not available: there is no apt-get"
if ! command -v mmdebstrap >/dev/null; then
  { timeout 120 apt-get update -qq && timeout 300 apt-get install -y -qq mmdebstrap; } </dev/null >/dev/null 2>&1 ||
    skip 'mmdebstrap is missing and could not be installed'
fi
unshare --mount --pid --fork true 2>/dev/null || skip 'this machine does not allow new mount and process namespaces'

place=${ROOTS:-$(mktemp -d /var/tmp/syncd-roots.XXXXXX)}
mkdir -p "$place"
# The mounts of a root are in a namespace that ends with its processes, so no unmount is needed.
[[ -n ${ROOTS:-} ]] || trap 'rm -rf --one-file-system "$place"' EXIT

# The new root uses this machine's settings for access to Debian's packages.
apt_options=()
while read -r line; do
  apt_options+=("--aptopt=${line%;}")
done < <(apt-config dump | grep -E '^Acquire::(Check-Valid-Until|Check-Date|https?::Proxy) ' || true)

# Settings for access to the index of Python packages. No other variable of this machine is passed on.
passed_on=()
while IFS= read -r name; do
  case $name in
    PIP_CERT | SSL_CERT_FILE) passed_on+=("$name=/etc/ssl/certs/ca-certificates.crt") ;;
    PIP_FIND_LINKS | PIP_CONSTRAINT | PIP_CACHE_DIR) ;;  # paths of this machine
    PIP_* | http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY) passed_on+=("$name=${!name}") ;;
  esac
done < <(compgen -e)
certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

make_root() {
  local root=$1 suite=$2
  [[ ! -e $root/usr/bin/python3 ]] || return 0
  timeout 300 mmdebstrap --quiet --variant=minbase --include="$packages" "${apt_options[@]}" "$suite" "$root.tar" \
    </dev/null >"$root.log" 2>&1 || return 1
  mkdir -p "$root"
  tar -C "$root" --exclude='./dev/*' -xf "$root.tar" && rm "$root.tar"
}

configure() {
  local root=$1
  [[ ! -e $certificates ]] || cp "$certificates" "$root/etc/ssl/certs/ca-certificates.crt"
  cp --remove-destination "$(readlink -f /etc/resolv.conf)" "$root/etc/resolv.conf"
  [[ ! -e /etc/pip.conf ]] || cp /etc/pip.conf "$root/etc/pip.conf"
  grep -q ^newcomer: "$root/etc/passwd" || chroot "$root" useradd --create-home --shell /bin/bash newcomer
}

# Copy the last commit into the home directory of a user.
clone_into() {
  local root=$1 user=$2 home=$3
  rm -rf "$root$home/syncd"
  git clone --quiet --no-hardlinks . "$root$home/syncd"
  chroot "$root" chown -R "$user:" "$home/syncd"
}

# Run a command as the user, with the mounts and devices of a container.
inside() {
  local root=$1 user=$2 home=$3
  shift 3
  env -i "${passed_on[@]}" HOME="$home" USER="$user" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    timeout --kill-after=10 "$limit_s" unshare --mount --pid --fork --kill-child --propagation private bash -euc '
    root=$1
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for each in null zero full random urandom tty; do
      touch "$root/dev/$each"; mount --bind "/dev/$each" "$root/dev/$each"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
    ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
    for each in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${each#*:}" "$root/dev/${each%:*}"; done
    exec chroot --userspec="$USER:$USER" "$@"
  ' _ "$root" "$@" </dev/null
}
