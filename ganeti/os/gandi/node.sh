# shellcheck shell=sh
# Sourced by the scripts of this OS definition (ganeti-os-interface(7)). Ganeti starts them with an environment that only
# it has made; what stands in it is data of users: it is quoted, and never part of a command. The node needs dpkg,
# util-linux, bubblewrap and python3 (3.11). See docs/ganeti.md.
# SC2034: image-configure uses some of the variables.
# shellcheck disable=SC2034
set -eu

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022

# Provided by the operator on every node: gandi-agent.deb, and a document for each instance that needs one.
folder=${GANDI_AGENT_FOLDER:-/etc/ganeti/gandi-agent}

fail() {
	echo "gandi-agent: $1" >&2
	exit 1
}

# With DEBUG_LEVEL=1 the log names each step.
note() {
	[ "${DEBUG_LEVEL:-0}" = 0 ] || echo "gandi-agent: $1" >&2
}

# For a script that takes its input from variables alone.
by_variables() {
	usage="usage: ${0##*/}, by the variables of ganeti-os-interface(7)"
	case ${1-} in
	-h | --help)
		echo "$usage"
		exit 0
		;;
	esac
	[ $# -eq 0 ] || fail "$usage"
}

# Start the script again in a mount namespace of its own: however it ends, also by a kill, the disk is mounted nowhere
# then, and its loop device is gone.
alone() {
	[ -n "${GANDI_ALONE:-}" ] || exec env GANDI_ALONE=1 unshare --mount -- "$0" "$@"
}

check_instance() {
	[ -n "${INSTANCE_NAME:-}" ] || fail "INSTANCE_NAME: missing: Ganeti must set it"
	case $INSTANCE_NAME${OLD_INSTANCE_NAME:-} in
	*/* | .*) fail "INSTANCE_NAME: not a host name" ;;
	esac
	disk=${DISK_0_PATH:-}
	[ -n "$disk" ] || fail "DISK_0_PATH: missing: the instance needs a disk that its node can open"
	case $disk in
	/*) [ -b "$disk" ] || [ -f "$disk" ] || fail "DISK_0_PATH: neither a block device nor a file" ;;
	*) fail "DISK_0_PATH: not an absolute path" ;;
	esac
	[ "${DISK_0_ACCESS:-rw}" = rw ] || fail "DISK_0_ACCESS: the first disk is read-only: make it writable (gnt-instance modify --disk)"
}

# Leave nothing: a disk that is still mounted then is not removed, and unmounted with this script's namespace.
finish() {
	! mountpoint -q "$work/target" || umount "$work/target" || :
	rm -rf --one-file-system "$work"
}

# Take the agent out of the package; $work becomes a folder that only root can enter, removed at the end.
unpack() {
	[ -f "$folder/gandi-agent.deb" ] || fail "$folder/gandi-agent.deb: missing: put the package there on each node"
	work=$(mktemp -d)
	trap finish EXIT
	trap 'exit 1' HUP INT TERM
	note "taking the agent out of $folder/gandi-agent.deb"
	dpkg-deb --fsys-tarfile "$folder/gandi-agent.deb" | tar -x -C "$work" --strip-components=4 ./usr/lib/gandi-agent/agent ||
		fail "$folder/gandi-agent.deb: contains no agent: put a newer package there"
	[ -f "$work/agent/image-configure" ] || fail "$folder/gandi-agent.deb: too old for this OS definition: put a newer one there"
	ln -s agent/image-exec "$work/image-exec"
	# shellcheck source=agent/image-configure
	. "$work/agent/image-configure"
}

# Run the package's agent on the node, for what is about variables alone.
agent() {
	(cd "$work" && python3 -B -m agent "$@")
}

verify_parameters() {
	agent ganeti verify || fail "nothing was changed"
}

# Run the agent of the instance.
tool() {
	if [ "${DEBUG_LEVEL:-0}" = 0 ]; then
		inside gandi-agent "$@"
	else
		inside gandi-agent --debug "$@"
	fi
}

# Print the type of the filesystem that begins at byte $1 of the disk and has $2 bytes, nothing if there is none.
probe() {
	blkid -p -O "$1" -S "$2" -o value -s TYPE -- "$disk" || :
}

# Set $start, $length (bytes) and $type of the root filesystem: the whole disk, else the largest partition that can have
# one. The disk is the instance's, so its table may say anything; only numbers are taken from it.
find_root() {
	if [ -b "$disk" ]; then length=$(blockdev --getsize64 "$disk"); else length=$(stat -L -c %s -- "$disk"); fi
	start=0 largest=0 type=$(probe 0 "$length")
	[ -n "$type" ] || while read -r first sectors; do
		case $first$sectors in '' | *[!0-9]*) continue ;; esac
		[ "$sectors" -gt "$largest" ] || continue
		found=$(probe $((first * 512)) $((sectors * 512)))
		case $found in
		ext[234] | xfs | btrfs) start=$((first * 512)) largest=$sectors length=$((sectors * 512)) type=$found ;;
		esac
	done <<-END
		$(partx --noheadings --raw --output START,SECTORS -- "$disk" 2>/dev/null || :)
	END
	case $type in
	ext[234] | xfs | btrfs) note "the root filesystem: $type at byte $start, $length bytes" ;;
	*) fail "DISK_0_PATH: no root filesystem of ext2, ext3, ext4, xfs or btrfs on it" ;;
	esac
}

# Mount it at $TARGET, where only root can come, and without its devices and setuid programs.
mount_root() {
	TARGET=$work/target
	mkdir "$TARGET"
	mount -t "$type" -o "loop,offset=$start,sizelimit=$length,nosuid,nodev" -- "$disk" "$TARGET" ||
		fail "DISK_0_PATH: its $type filesystem cannot be mounted: is the instance stopped? is the filesystem whole?"
	check_isolation
	inside test -f /etc/passwd </dev/null || fail "DISK_0_PATH: no system on its $type filesystem"
}

# What was written is on the disk when this has returned.
unmount_root() {
	sync -f "$TARGET" || fail "DISK_0_PATH: what was written is not on the disk: see the node's kernel log"
	umount "$TARGET" || fail "DISK_0_PATH: its filesystem is still in use"
	rmdir "$TARGET"
}
