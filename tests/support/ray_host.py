"""A search on a Ray cluster of two nodes, one of which is lost at its third evaluation; run by test_ray_cluster.py.

    python ray_host.py FOLDER

The run is FOLDER/run, each call a line of FOLDER/calls. In a process of its own, because a process joins one cluster
and Ray's nodes want its main thread.
"""

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

import nasbench as nb

SPACE = {"variants": ["se", "eca", "dual_pool"], "slots": ["stage1"], "compositions": ["none", "a"]}  # 4 plans


def main(folder: Path) -> None:
    calls = folder / "calls"
    calls.touch()

    def evaluate(plan):
        with calls.open("a") as file:
            file.write(json.dumps(plan) + "\n")
        if len(calls.read_text().splitlines()) == 3:  # the one that is lost is still at work then
            time.sleep(60)
        return {"score": float(len(str(plan))), "cost": float(len(plan))}

    def search():
        nb.search(
            SPACE, backbone="test_resnet", evaluate=evaluate, trials=4, sampler="random", seeds=1, engine="ray",
            objectives={"score": "maximize", "cost": "minimize"}, out=folder / "run",
        )  # fmt: skip

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    node = cluster.add_node(num_cpus=1)
    searching = threading.Thread(target=search)
    searching.start()
    while len(calls.read_text().splitlines()) < 3:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    searching.join()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
