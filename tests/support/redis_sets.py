"""Redis set-ups: a master with replicas and sentinels, and a cluster.

All servers listen on free ports of 127.0.0.1. The kernel ends them when the process of the tests ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from redis.crc import key_slot

from gateway.redis.cluster import CLUSTER_PARTITIONS, HashTags
from tests.support.redis import free_port, wait_until
from tests.support.redis_node import Node

SLOTS = 16384
MASTER = "quotas"
# A lower value causes false alarms on a busy machine.
NODE_TIMEOUT_MS = 1500
FAILOVER_MS = {"down-after-milliseconds": 500, "failover-timeout": 1500}


class SentinelSet:
    """One master, two replicas, three sentinels. `url` is the gateway's `redis_url`."""

    def __init__(self) -> None:
        # With these options a replica gets the data of its master at once, not after some seconds.
        quick = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]
        first = Node(quick)
        self.servers = [first, *(Node([*quick, "--replicaof", "127.0.0.1", str(first.port)]) for _ in range(2))]
        settings = [f"sentinel {name} {MASTER} {value}" for name, value in FAILOVER_MS.items()]
        watched = [f"sentinel monitor {MASTER} 127.0.0.1 {first.port} 2", *settings]
        self.sentinels = [Node([], sentinel_lines=watched) for _ in range(3)]
        self.url = f"redis+sentinel://{','.join(sentinel.address for sentinel in self.sentinels)}/{MASTER}/0"

    def __enter__(self) -> SentinelSet:
        return self

    def __exit__(self, *_: object) -> None:
        for node in [*self.servers, *self.sentinels]:
            node.end()

    def start(self) -> SentinelSet:
        """Starts all servers and waits until they know each other, so that a failover can happen."""
        for node in self.servers:
            node.start()
        wait_until(lambda: all(node.answers() for node in self.servers), "the servers answer")
        wait_until(lambda: in_step(self.servers[0]) == len(self.servers) - 1, "the replicas are in step")
        # Sentinels start after the replicas are connected, because a sentinel asks a healthy master for its replicas
        # only every ten seconds.
        for node in self.sentinels:
            node.start()
        wait_until(lambda: all(node.answers() for node in self.sentinels), "the sentinels answer")
        self.wait_until_ready(replicas=2)
        return self

    def wait_until_ready(self, replicas: int) -> None:
        wait_until(lambda: self._is_ready(replicas), "the sentinels know the servers")

    def _is_ready(self, replicas: int) -> bool:
        master = self.master
        if master is None or in_step(master) < replicas:
            return False
        states = [known_master(sentinel) for sentinel in self.sentinels if sentinel.runs]
        return all(
            state["flags"] == "master"
            and int(state["port"]) == master.port
            and int(state["num-slaves"]) >= replicas
            and int(state["num-other-sentinels"]) == len(states) - 1
            for state in states
        )

    @property
    def master(self) -> Node | None:
        """The master that the sentinels agree on; None as long as they don't agree."""
        ports = {int(known_master(sentinel)["port"]) for sentinel in self.sentinels if sentinel.runs}
        for node in self.servers:
            if ports == {node.port} and node.runs and node.ask("ROLE")[0] == b"master":
                return node
        return None

    def the_master(self) -> Node:
        master = self.master
        assert master is not None
        return master

    def wait_for_another_master(self, old: Node) -> Node:
        wait_until(lambda: self.master not in {None, old}, "another server is the master")
        return self.the_master()


def in_step(master: Node) -> int:
    """The number of replicas that are in sync with the master."""
    known = [value for name, value in master.ask("INFO", "replication").items() if name.startswith("slave")]
    return sum(isinstance(one, dict) and one.get("state") == "online" for one in known)


def known_master(sentinel: Node) -> Mapping[str, str]:
    words = [word.decode() for word in sentinel.ask("SENTINEL", "MASTER", MASTER)]
    return dict(zip(words[::2], words[1::2], strict=True))


class Cluster:
    """Three masters with a third of the slots each. `url` is the gateway's `redis_url`."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self.nodes = [self._node() for _ in range(3)]
        self.url = f"redis+cluster://{','.join(node.address for node in self.nodes)}"
        self._ending = ExitStack()

    def _node(self) -> Node:
        # Without this option the port of the cluster bus would be `port` + 10000, which can be an ephemeral port.
        settings = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        settings += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0"]
        return Node([*settings, *self._options])

    def __enter__(self) -> Cluster:
        for node in self.nodes:
            self._ending.callback(node.end)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def start(self) -> Cluster:
        """Starts all nodes and waits until each one serves its slots."""
        for node in self.nodes:
            node.start()
        wait_until(lambda: all(node.answers() for node in self.nodes), "all nodes answer")
        third = -(-SLOTS // 3)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * third, min(SLOTS, (number + 1) * third) - 1)
        for node in self.nodes[1:]:
            self._introduce(node)
        wait_until(lambda: all(is_well(node, len(self.nodes)) for node in self.nodes), "the cluster is well")
        return self

    def _introduce(self, node: Node) -> None:
        node.ask("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, bus_port(self.nodes[0]))

    def add_replica(self, master: Node) -> Node:
        """Adds a replica of the master and waits until it is ready for a failover."""
        replica = self._node()
        self._ending.callback(replica.end)
        replica.start()
        wait_until(replica.answers, "the replica answers")
        self._introduce(replica)
        wait_until(lambda: id_of(master) in replica.ask("CLUSTER", "NODES").decode(), "the replica knows the master")
        replica.ask("CLUSTER", "REPLICATE", id_of(master))
        self.nodes.append(replica)
        wait_until(lambda: all(is_well(node, len(self.nodes)) for node in self.nodes), "all nodes know the replica")
        wait_until(lambda: replica.ask("INFO", "replication")["master_link_status"] == "up", "the replica is in step")
        wait_until(lambda: in_step(master) == 1, "the master knows it")
        return replica

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.runs]

    def node_of(self, text: str) -> Node:
        """The node that owns the slot of this text."""
        slot = slot_of(text)
        for first, last, (_, port, *_), *_ in self.running[0].ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def begin_to_move(self, text: str) -> tuple[Node, Node]:
        """Begins to migrate the slot of this text. Returns the node that has the slot and the one that gets it."""
        source = self.node_of(text)
        target = next(node for node in self.nodes if node is not source)
        target.ask("CLUSTER", "SETSLOT", slot_of(text), "IMPORTING", id_of(source))
        source.ask("CLUSTER", "SETSLOT", slot_of(text), "MIGRATING", id_of(target))
        return source, target

    def move_keys(self, text: str, source: Node, target: Node, count: int = 10_000) -> int:
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot_of(text), count)
        for key in keys:
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        return len(keys)

    def end_to_move(self, text: str, source: Node, target: Node) -> None:
        while self.move_keys(text, source, target):
            pass
        # The new owner learns of the move first, so that the slot always has an owner; then the old owner and all
        # others.
        for node in [target, source, *(node for node in self.running if node not in {source, target})]:
            node.ask("CLUSTER", "SETSLOT", slot_of(text), "NODE", id_of(target))

    def calls(self, command: str) -> list[int]:
        """The number of calls of the command on each node since `forget_calls`."""
        return [node.ask("INFO", "commandstats").get(f"cmdstat_{command}", {}).get("calls", 0) for node in self.running]

    def errors(self) -> set[str]:
        """The kinds of error replies of all nodes since `forget_calls`."""
        names = {name.removeprefix("errorstat_") for node in self.running for name in node.ask("INFO", "errorstats")}
        # redis-py sends a command that Redis 7.0 does not know, which counts as ERR.
        return names - {"ERR"}

    def forget_calls(self) -> None:
        for node in self.running:
            node.ask("CONFIG", "RESETSTAT")


def slot_of(text: str) -> int:
    return key_slot(HashTags(CLUSTER_PARTITIONS).tag_for(text).encode())


def id_of(node: Node) -> str:
    found: bytes = node.ask("CLUSTER", "MYID")
    return found.decode()


def bus_port(node: Node) -> int:
    (_, port) = node.ask("CONFIG", "GET", "cluster-port")
    return int(port)


def is_well(node: Node, nodes: int) -> bool:
    return serves(node) and int(node.ask("CLUSTER INFO")["cluster_known_nodes"]) == nodes


def serves(node: Node) -> bool:
    """Whether this node considers its cluster as working, so that it serves its slots."""
    return bool(node.ask("CLUSTER INFO")["cluster_state"] == "ok")
