"""Servers of the laboratory, by a client that is not ours (openstacksdk).

servers.py boot COUNT PREFIX   boot servers PREFIX-1 … and wait until they run
servers.py log PREFIX          Nova's own log of each: JSON, name → list of [action, result]
servers.py delete PREFIX       delete them
"""

import json
import sys
import time

import openstack


def main(what, *arguments):
    cloud = openstack.connect()
    compute = cloud.compute
    prefix = arguments[-1] + "-"
    if what == "boot":
        image = cloud.image.find_image("os-old").id
        flavor = compute.find_flavor("lab.tiny").id
        wanted = [
            compute.create_server(
                name=f"{prefix}{number}",
                image_id=image,
                flavor_id=flavor,
                key_name="fleet-lab",
                networks="none",
                metadata={"role": arguments[-1], "number": str(number)},
            )
            for number in range(1, int(arguments[0]) + 1)
        ]
        for server in wanted:
            compute.wait_for_server(server, wait=300, interval=0.5)
        print(f"{len(wanted)} servers run")
    elif what == "log":
        found = {}
        for server in compute.servers(details=False):
            if server.name.startswith(prefix):
                found[server.name] = [
                    [action.action, action.request_id, action.message]
                    for action in compute.server_actions(server)
                ]
        json.dump(found, sys.stdout)
    elif what == "delete":
        doomed = [server for server in compute.servers(details=False) if server.name.startswith(prefix)]
        for server in doomed:
            compute.delete_server(server, force=False)
        for _ in range(300):
            if not any(server.name.startswith(prefix) for server in compute.servers(details=False)):
                break
            time.sleep(0.5)
    else:
        sys.exit(__doc__)


main(*sys.argv[1:])
