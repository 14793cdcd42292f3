"""Hosts in network namespaces of their own, joined by a bridge, with nft rules between them.

Everything lives in the namespace of this process, which `unshare --net` has made, and goes when it ends. May
import: the standard library.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

HUB = "10.77.0.1"
#: Set by the driver in a cell that has a network namespace of its own.
PRIVATE = "CHAOS_PRIVATE_NETWORK"


@functools.lru_cache(maxsize=1)
def missing() -> str:
    """Why this machine permits no network namespaces; an empty text if it does."""
    for tool in ("unshare", "nsenter", "ip", "nft"):
        if shutil.which(tool) is None:
            return f"there is no {tool} on this machine"
    test = (
        "ip link set lo up && ip link add chaos0 type bridge && ip link add chaos1 type veth peer name chaos2"
        " && nft add table inet chaos && mount -t tmpfs tmpfs /mnt"
    )
    ended = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", test], capture_output=True, text=True, timeout=20
    )
    return ended.stderr.strip() if ended.returncode else ""


def run(*command: str, inside: int | None = None, stdin: str | None = None) -> None:
    """Run a command, in the network of the process `inside` if that is given."""
    prefix = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    subprocess.run([*prefix, *command], check=True, capture_output=True, text=True, timeout=20, input=stdin)


class Hosts:
    """A bridge with hosts; this process is on `HUB`, host 0 on 10.77.0.10, and so on."""

    def __init__(self, count: int) -> None:
        self.holders: list[subprocess.Popen[bytes]] = []
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "chaos0", "type", "bridge")
        run("ip", "addr", "add", f"{HUB}/24", "dev", "chaos0")
        run("ip", "link", "set", "chaos0", "up")
        for index in range(count):
            self._add(index)

    def _add(self, index: int) -> None:
        # `cat` ends with this process; the namespace lives as long as somebody is in it.
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
        assert holder.stdout is not None
        holder.stdout.readline()
        self.holders.append(holder)
        run("ip", "link", "add", f"v{index}", "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        run("ip", "link", "set", f"v{index}", "master", "chaos0", "up")
        for command in ("link set lo up", f"addr add {self.address(index)}/24 dev eth0", "link set eth0 up"):
            run("ip", *command.split(), inside=holder.pid)

    @staticmethod
    def address(index: int) -> str:
        """The address of a host."""
        return f"10.77.0.{10 + index}"

    def prefix(self, index: int) -> list[str]:
        """What to put before a command that is to run on a host."""
        return ["nsenter", f"--net=/proc/{self.holders[index].pid}/ns/net"]

    def drop(self, index: int, *, incoming: str | None = None, outgoing: str | None = None) -> None:
        """Drop what comes to a host, goes from it, or both; a text such as "all" or "numgen random mod 10 0"."""
        rules = ["table inet chaos", "delete table inet chaos", "table inet chaos {"]
        for hook, match, interface in (("input", incoming, "iif"), ("output", outgoing, "oif")):
            if match is not None:
                match = "" if match == "all" else match
                rules.append(f"chain {hook} {{ type filter hook {hook} priority 0; {interface} != lo {match} drop; }}")
        self._nft(index, " \n".join([*rules, "}"]))

    def heal(self, index: int) -> None:
        """Let everything through again."""
        self._nft(index, "table inet chaos\ndelete table inet chaos")

    def kill_sockets(self, index: int) -> None:
        """Kill every established TCP connection of a host."""
        run("ss", "-K", "state", "established", inside=self.holders[index].pid)

    def _nft(self, index: int, rules: str) -> None:
        run("nft", "-f", "-", inside=self.holders[index].pid, stdin=rules)

    def close(self) -> None:
        """Let the namespaces go."""
        for holder in self.holders:
            holder.kill()
            holder.communicate()


def is_private() -> bool:
    """Whether this process lives in a network and a mount namespace of its own."""
    return bool(os.environ.get(PRIVATE))
