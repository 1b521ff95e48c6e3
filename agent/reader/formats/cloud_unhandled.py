"""The keys at the top of ``#cloud-config`` that cloud-init documents and the agent does not handle.

Key: cloud-init's name with ``_`` for ``-``; value: the reason, for a message.
"""

from __future__ import annotations

_MANAGED = "configuration management is not set up: install and start it by packages and runcmd"
_REGISTERED = "the machine is not registered with a service of the network: do it by runcmd"
_LOGS = "the agent logs to the journal only"
_CLOUD_INIT = "about cloud-init's own stages"
_STAGES = "the agent's steps are not chosen by a document: their order and frequency are fixed"
_CONSOLE = "the agent prints no keys"
_ADDED = "the repositories of this package manager are not written: write its file by write_files"

#: Something that was delivered will not happen.
REFUSED = {
    "ansible": _MANAGED,
    "apk_repos": _ADDED,
    "apt_pipelining": "apt chooses by itself: write its option as apt.conf",
    "autoinstall": "the installer is not run",
    "byobu_by_default": "byobu is not configured: do it by runcmd",
    "chef": _MANAGED,
    "cloud_config_modules": _STAGES,
    "cloud_final_modules": _STAGES,
    "cloud_init_modules": _STAGES,
    "device_aliases": "disks are not set up by names of this document",
    "drivers": "no driver is fetched from the network: install it by packages or runcmd",
    "fan": "the network of fan is not configured: write its file by write_files",
    "grub_dpkg": "the disks of GRUB are not changed: run debconf-set-selections in bootcmd",
    "install_env": "the installer is not run",
    "landscape": _REGISTERED,
    "locale_configfile": "the locale is in the distribution's own file: write another by write_files",
    "lxd": "LXD is not initialised: run lxd init by runcmd",
    "manage_resolv_conf": "resolvers are part of the network document",
    "mcollective": _MANAGED,
    "network": "a network document is read beside the user data only: deliver it as network-config",
    "openssh": "settings of sshd are not written: write a drop-in by write_files",
    "output": "the output of commands goes to the journal only: redirect it in the commands",
    "puppet": _MANAGED,
    "random_seed": "the kernel gets no seed from a document: it has virtio-rng or the CPU's",
    "reporting": "results are in gandi-agent status and in the journal only",
    "resolv_conf": "resolvers are part of the network document",
    "rh_subscription": _REGISTERED,
    "rpi": "settings of a Raspberry Pi are not written",
    "rsyslog": "rsyslog is not configured: write its file by write_files",
    "salt_minion": _MANAGED,
    "snap": "snaps are not installed: run snap by runcmd",
    "spacewalk": _REGISTERED,
    "swap_file": "write it as swap",
    "system_info": "the distribution, its paths and the default account are the image's",
    "ubuntu_advantage": _REGISTERED,
    "ubuntu_autoinstall": "the installer is not run",
    "ubuntu_drivers": "no driver is fetched from the network: install it by packages or runcmd",
    "ubuntu_pro": _REGISTERED,
    "updates": "a changed network document is applied at the next boot, or when its drive is changed",
    "vendor_data2": "vendor data are used or not as a whole: write vendor_data",
    "wireguard": "no tunnel is made: write its file by write_files",
    "yum_repo_dir": _ADDED,
    "yum_repos": _ADDED,
    "zypper": _ADDED,
}

#: Nothing is missing without it.
HARMLESS = {
    "allow_userdata": "user data are always used",
    "authkey_hash": _CONSOLE,
    "datasource": "the agent finds the medium by itself",
    "datasource_list": "the agent finds the medium by itself",
    "def_log_file": _LOGS,
    "disable_ec2_metadata": "the agent asks no metadata service",
    "features": _CLOUD_INIT,
    "log_cfgs": _LOGS,
    "logcfg": _LOGS,
    "manual_cache_clean": "a new instance is found by its id",
    "migrate": _CLOUD_INIT,
    "no_ssh_fingerprints": _CONSOLE,
    "ssh_fp_console_blacklist": _CONSOLE,
    "ssh_key_console_blacklist": _CONSOLE,
    "ssh_publish_hostkeys": "there is no metadata service to publish them to",
    "ssh_quiet_keygen": _CONSOLE,
    "syslog_fix_perms": _LOGS,
    "version": "of the syntax",
}
