# shellcheck shell=sh
# Sourced by the scripts of this OS definition (ganeti-os-interface(7)). Ganeti starts them with an environment that only
# it has made; what stands in it is data of users: it is quoted, and never part of a command. The node needs dpkg,
# util-linux, bubblewrap and python3 (3.11). See docs/ganeti.md.
set -eu

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
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

# Take the agent out of the package; $work becomes a folder that only root can enter, removed at the end.
unpack() {
	[ -f "$folder/gandi-agent.deb" ] || fail "$folder/gandi-agent.deb: missing: put the package there on each node"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	note "taking the agent out of $folder/gandi-agent.deb"
	dpkg-deb --fsys-tarfile "$folder/gandi-agent.deb" | tar -x -C "$work" --strip-components=4 ./usr/lib/gandi-agent/agent ||
		fail "$folder/gandi-agent.deb: contains no agent: put a newer package there"
	[ -f "$work/agent/image-configure" ] || fail "$folder/gandi-agent.deb: too old for this OS definition: put a newer one there"
}

# Run the package's agent on the node, for what is about variables alone.
agent() {
	(cd "$work" && python3 -B -m agent "$@")
}
