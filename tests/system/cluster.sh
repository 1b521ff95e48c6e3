# Make a Ganeti cluster of this node alone, in a Debian tree and namespaces of its own, and run what standard input has.
set -eu
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
hostname node1.example.org
ip link set lo up
ip link add br0 type bridge
ip address add 203.0.113.1/24 dev br0
# For backups. It has no name: the nodes' certificate has one of its own (ganeti.example.com), which would not match.
ip address add 192.0.2.1/24 dev br0
ip link set br0 up
cat >/etc/hosts <<'EOF'
127.0.0.1 localhost
203.0.113.1 node1.example.org node1
203.0.113.2 cluster.example.org
203.0.113.3 vm1.example.org
203.0.113.4 vm9.example.org
EOF
mkdir -p /srv/ganeti/file-storage
echo /srv/ganeti/file-storage >/etc/ganeti/file-storage-paths
{
	gnt-cluster init --no-ssh-init --no-etc-hosts --secondary-ip=192.0.2.1 --enabled-disk-templates=file \
		--file-storage-dir=/srv/ganeti/file-storage --enabled-hypervisors=kvm \
		--hypervisor-parameters kvm:vhost_net=False,serial_console=True --master-netdev=br0 \
		--nic-parameters mode=bridged,link=br0 cluster.example.org
	gnt-network add --network=203.0.113.0/24 --gateway=203.0.113.254 public
	gnt-network connect --nic-parameters=mode=bridged,link=br0 public
} >/root/cluster.log 2>&1 || {
	cat /root/cluster.log
	exit 1
}
cd /root
exec bash
