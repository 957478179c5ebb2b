"""A flavor, two tiny images and a key pair, through the real APIs: seed.py URL PASSWORD NODES SINCE."""

import sys
import time

import openstack

url, password, nodes, since = sys.argv[1:5]


def connect(user, project):
    return openstack.connect(
        auth_url=url, username=user, password=password, project_name=project,
        user_domain_name="Default", project_domain_name="Default", region_name="RegionOne",
    )  # fmt: skip


admin = connect("admin", "admin")
tenant = connect("fleet", "fleet")
if not admin.compute.find_flavor("lab.tiny"):
    admin.compute.create_flavor(name="lab.tiny", ram=16, vcpus=1, disk=1)  # 0 is for administrators only
for name in ("os-old", "os-new"):
    if not admin.image.find_image(name):
        data = b"not a real disk: " + name.encode()
        admin.image.create_image(
            name=name, data=data, disk_format="raw", container_format="bare", visibility="public"
        )
if not tenant.compute.find_keypair("fleet-lab"):
    tenant.compute.create_keypair(name="fleet-lab")
unlimited = {"quota_set": {"instances": -1, "cores": -1, "ram": -1, "force": True}}
admin.compute.put(f"/os-quota-sets/{tenant.current_project_id}", json=unlimited).raise_for_status()
for _ in range(300):  # a server booted before a compute has reported in goes to ERROR at once
    up = [
        service.host
        for service in admin.compute.services(binary="nova-compute")
        if service.state == "up" and (service.updated_at or "") >= since
    ]
    if len(up) >= int(nodes) and len(list(admin.compute.hypervisors())) >= int(nodes):
        break
    time.sleep(0.2)
print("computes up:", ", ".join(up))
